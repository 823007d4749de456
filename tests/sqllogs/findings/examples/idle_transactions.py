"""Transactions that are open while something slow is done, and slow work outside of them."""

import hashlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.db.models import F
from django.http import HttpResponse, JsonResponse

from tests.sqllogs.advice_models import Author, Book, Country, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import POSTGRESQL, examples_of

bad, good = examples_of("idle_transaction")
LONG_S = 1.15


def draw_invoice():
    """Stands for what needs a second: a PDF, a thumbnail, a report."""
    time.sleep(LONG_S)


def count_words():
    time.sleep(0.15)


@bad()
def invoice_drawn_in_a_transaction(request):
    with transaction.atomic():
        Post.objects.filter(pk=1).update(name="drawing")
        draw_invoice()
        Post.objects.filter(pk=1).update(name="drawn")
    return HttpResponse()


@bad()
@transaction.atomic
def slow_view_in_a_transaction(request):
    author = Author.objects.get(pk=1)
    draw_invoice()
    return JsonResponse({"name": author.name})


@bad(unit="command")
def slow_row_of_an_import(request):
    with transaction.atomic():
        for pk in (1, 2, 3):
            Book.objects.filter(pk=pk).update(price=F("price"))
            draw_invoice() if pk == 2 else count_words()


@bad(unit="task")
def lock_kept_for_the_work(request):
    with transaction.atomic():
        post = Post.objects.select_for_update().get(pk=2)
        draw_invoice()
        post.save()


@bad()
def program_run_in_a_transaction(request):
    with transaction.atomic():
        note = Note.objects.create(content_type_id=1, object_id=1, text="converting")
        subprocess.run(["sleep", str(LONG_S)], check=True)
        note.delete()
    return HttpResponse()


@bad()
def savepoint_with_slow_work(request):
    with transaction.atomic():
        tag = Tag.objects.create(name="slow")
        with transaction.atomic():
            draw_invoice()
            tag.delete()
    return HttpResponse()


@bad()
async def slow_transaction_of_an_async_view(request):
    @sync_to_async
    def work():
        with transaction.atomic():
            Publisher.objects.filter(pk=1).update(name="publisher 0")
            draw_invoice()

    await work()
    return HttpResponse()


@bad(unit="task")
def hashed_in_a_transaction(request):
    ends = time.monotonic() + LONG_S
    with transaction.atomic():
        Country.objects.filter(pk=1).exists()
        while time.monotonic() < ends:
            hashlib.sha256(bytes(1_000_000)).hexdigest()
        Country.objects.filter(pk=2).exists()


@bad()
def slow_failure(request):
    with suppress(ValueError), transaction.atomic():
        Tag.objects.create(name="never")
        draw_invoice()
        raise ValueError
    return HttpResponse()


@bad(unit="command")
def autocommit_switched_off(request):
    transaction.set_autocommit(False)
    try:
        Book.objects.filter(pk=4).update(price=F("price"))
        draw_invoice()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)


@bad(unit="task")
def result_of_a_thread_awaited(request):
    with ThreadPoolExecutor() as pool, transaction.atomic(durable=True):
        future = pool.submit(draw_invoice)
        Book.objects.filter(pk=5).update(price=F("price"))
        future.result()


@good()
def drawn_before(request):
    draw_invoice()
    with transaction.atomic():
        Post.objects.filter(pk=1).update(name="drawn")
    return HttpResponse()


@good()
def drawn_after(request):
    with transaction.atomic():
        Post.objects.filter(pk=1).update(name="wanted")
    draw_invoice()
    return HttpResponse()


@good(unit="task")
def drawn_on_commit(request):
    with transaction.atomic():
        Post.objects.filter(pk=1).update(name="wanted")
        transaction.on_commit(draw_invoice)


@good()
def short_work(request):
    with transaction.atomic():
        Post.objects.filter(pk=1).update(name="short")
        count_words()
        Post.objects.filter(pk=1).update(name="done")
    return HttpResponse()


@good(unit="command", also=("n_plus_one",))
def long_transaction_of_many_statements(request):
    with transaction.atomic():
        for pk in range(1, 9):
            Book.objects.filter(pk=pk).update(price=F("price"))
            count_words()


@good()
def drawn_after_a_rollback(request):
    with suppress(ValueError), transaction.atomic():
        Post.objects.filter(pk=1).update(name="refused")
        raise ValueError("no stock")
    draw_invoice()
    return HttpResponse(status=400)


@good(on=POSTGRESQL)
def one_slow_statement(request):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [LONG_S])
    return HttpResponse()


@good(unit="command")
def between_two_transactions(request):
    for name in ("begun", "done"):
        with transaction.atomic():
            Post.objects.filter(pk=3).update(name=name)
        time.sleep(LONG_S / 2)
    draw_invoice()


@good()
def without_a_transaction(request):
    post = Post.objects.get(pk=1)
    draw_invoice()
    post.save()
    return HttpResponse()


@good(on=POSTGRESQL)
def block_whose_first_statement_comes_late(request):
    with transaction.atomic():  # BEGIN is sent with the first statement
        draw_invoice()
        Post.objects.filter(pk=1).update(name="late")
    return HttpResponse()


@good(unit="task", also=("n_plus_one",))
def many_short_transactions(request):
    for pk in range(1, 9):
        with transaction.atomic():
            Tag.objects.filter(pk=pk).update(name=F("name"))
        count_words()


@good(unit="task")
def transaction_of_a_savepoint_ended(request):
    with transaction.atomic(), transaction.atomic():
        Tag.objects.filter(pk=1).update(name=F("name"))
    draw_invoice()
