"""Examples of several kinds on PostgreSQL and MariaDB, written on 1 December 2026 before they were run."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby, islice
from urllib.request import urlopen

from django.contrib.auth.models import User
from django.core.mail import send_mail
from django.core.serializers import serialize
from django.db import DatabaseError, connection, transaction
from django.db.models import F, OuterRef, Prefetch, Q, Subquery
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.generic import ListView

from tests.sqllogs.advice_models import Author, Book, Country, Note, Post, Publisher, Review, Tag
from tests.sqllogs.findings.examples import SERVERS, examples_of
from tests.sqllogs.findings.examples.concurrency import execute, locked_elsewhere, patient
from tests.sqllogs.findings.examples.outside_calls import SERVICE
from transactions.models import Account, Category, Transaction

LONG_S = 1.2

# Shape.

bad, good = examples_of("unbounded")


@bad(on=SERVERS)
def fixture_of_all_accounts(request):
    return HttpResponse(serialize("json", Account.objects.filter(currency__gt="")))


@bad(on=SERVERS)
def grouped_in_python(request):
    rows = Transaction.objects.order_by("category_id").values_list("category_id", "amount")
    return JsonResponse({key: len(list(some)) for key, some in groupby(rows, lambda row: row[0])})


@bad(on=SERVERS)
def distinct_values_by_a_set(request):
    return JsonResponse(
        {"amounts": len({str(amount) for (amount,) in Transaction.objects.values_list("amount")})}
    )


@bad(on=SERVERS)
def first_page_by_islice(request):
    return JsonResponse({"ibans": [one.iban for one in islice(Account.objects.order_by("iban").all(), 20)]})


@bad(on=SERVERS)
def union_of_two_lists(request):
    small, large = Transaction.objects.filter(amount__lt=1300), Transaction.objects.filter(amount__gte=1300)
    return JsonResponse({"ids": [one.pk for one in small.union(large, all=True)]})


@bad(on=SERVERS)
def list_per_owner_by_prefetch(request):
    owners = User.objects.filter(username="ann").prefetch_related(
        Prefetch("accounts", to_attr="all_accounts")
    )
    return JsonResponse({owner.username: len(owner.all_accounts) for owner in owners})


class Bookings(ListView):
    model = Transaction
    template_name = "list_view_without_paginate_by.html"


@bad(on=SERVERS, template="{% for one in object_list %}{{ one.amount }} {% endfor %}")
def list_view_without_paginate_by(request):
    return Bookings.as_view()(request).render()


@good(on=SERVERS)
def subquery_per_category(request):
    newest = Transaction.objects.filter(category=OuterRef("pk")).order_by("-timestamp").values("amount")[:1]
    return JsonResponse(
        {one.name: str(one.newest) for one in Category.objects.annotate(newest=Subquery(newest))}
    )


@good(on=SERVERS)
def lines_streamed_as_json(request):
    rows = Transaction.objects.values_list("pk", "amount").iterator(chunk_size=300)
    return StreamingHttpResponse(
        (f"[{pk},{amount}]\n" for pk, amount in rows), content_type="application/jsonl"
    )


@good(on=SERVERS)
def eight_hundred_of_a_range(request):
    return JsonResponse(
        {"ids": list(Account.objects.filter(pk__range=(100, 900)).values_list("pk", flat=True))}
    )


@good(on=SERVERS, unit="task")
def nightly_statement_of_all(request):
    totals = {}
    for one in Transaction.objects.select_related("account"):
        totals[one.account.iban] = totals.get(one.account.iban, 0) + one.amount
    return totals


@good(on=SERVERS)
def raw_page(request):
    rows = execute("SELECT id, amount FROM transactions_transaction ORDER BY id LIMIT 1200")
    return JsonResponse({"rows": len(rows)})


# Transactions.

bad, good = examples_of("idle_transaction")


def crane_moves():
    time.sleep(LONG_S)


@bad(on=SERVERS)
def retry_pause_in_the_transaction(request):
    with transaction.atomic():
        Post.objects.filter(pk=3).update(name="docking")
        for _ in range(3):
            time.sleep(0.1)
        crane_moves()
    return HttpResponse()


@bad(on=SERVERS, unit="task")
def report_computed_between_two_writes(request):
    with transaction.atomic():
        names = list(Author.objects.values_list("name", flat=True))
        crane_moves()
        Note.objects.create(content_type_id=1, object_id=9, text=", ".join(names)[:40]).delete()


@bad(on=SERVERS)
def pool_of_threads_awaited_under_a_lock(request):
    with ThreadPoolExecutor(2) as pool, transaction.atomic():
        Publisher.objects.select_for_update().get(pk=4)
        list(pool.map(lambda _: crane_moves(), range(2)))
    return HttpResponse()


@bad(on=SERVERS)
def generator_that_sleeps_in_a_transaction(request):
    def steps():
        for name in ("one", "two"):
            yield name
            time.sleep(LONG_S if name == "one" else 0)

    with transaction.atomic():
        for name in steps():
            Tag.objects.filter(name=name).exists()
    return HttpResponse()


@bad(on=SERVERS, unit="command")
def durable_block_of_a_command(request):
    with transaction.atomic(durable=True):
        Country.objects.filter(pk=3).update(name=F("name"))
        crane_moves()


@good(on=SERVERS)
def computed_before_the_first_statement(request):
    with transaction.atomic():
        crane_moves()
        Post.objects.filter(pk=3).update(name="docked")
    return HttpResponse()


@good(on=SERVERS)
def slow_statement_of_the_database(request):
    with transaction.atomic():
        execute("SELECT pg_sleep(1.2)" if connection.vendor == "postgresql" else "SELECT SLEEP(1.2)")
    return HttpResponse()


@good(on=SERVERS, unit="task")
def slow_work_after_the_commit_of_each(request):
    for pk in (1, 2):
        with transaction.atomic():
            Book.objects.filter(pk=pk).update(price=F("price"))
        time.sleep(0.7)


@good(on=SERVERS)
def wait_for_a_lock_of_a_second(request):
    def held():
        Book.objects.filter(pk=3).update(price=F("price"))

    with patient(), locked_elsewhere(held, for_s=1.1), transaction.atomic():
        Book.objects.filter(pk=3).update(price=F("price"))
    return HttpResponse()


bad, good = examples_of("outside_call")


@bad(on=SERVERS)
def tariff_read_in_a_transaction(request):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=5)
        with urlopen(SERVICE["url"]) as answer:
            book.price = len(answer.read())
        book.save(update_fields=["price"])
    return HttpResponse()


@bad(on=SERVERS, unit="task")
def mail_of_a_task_in_a_transaction(request):
    with transaction.atomic():
        Post.objects.filter(pk=4).update(name="told")
        send_mail("Berth", "Free.", "a@example.com", ["b@example.com"])


@good(on=SERVERS)
def tariff_read_before(request):
    with urlopen(SERVICE["url"]) as answer:
        price = len(answer.read())
    with transaction.atomic():
        Book.objects.filter(pk=5).update(price=price)
    return HttpResponse()


@good(on=SERVERS, unit="task")
def mail_after_a_failed_transaction(request):
    with suppress(DatabaseError), transaction.atomic():
        Post.objects.filter(pk=4).update(name="x" * 500 if connection.vendor == "postgresql" else None)
    send_mail("Berth", "Taken.", "a@example.com", ["b@example.com"])


bad, good = examples_of("lock_timeout")


@bad(on=SERVERS)
def counter_raised_behind_a_holder(request):
    with locked_elsewhere(lambda: Post.objects.select_for_update().get(pk=5)):
        Post.objects.filter(pk=5).update(name=F("name"))


@bad(on=SERVERS, unit="task")
def row_of_a_join_locked(request):
    with locked_elsewhere(lambda: Author.objects.filter(pk=2).update(name="author 1")), transaction.atomic():
        list(Book.objects.select_related("author").select_for_update().filter(author_id=2))


@bad(on=SERVERS)
def bulk_update_behind_a_holder(request):
    tags = list(Tag.objects.order_by("pk")[:3])
    with locked_elsewhere(lambda: Tag.objects.filter(pk=tags[1].pk).update(name=F("name"))):
        Tag.objects.bulk_update(tags, ["name"])


@good(on=SERVERS)
def other_row_of_the_join(request):
    with locked_elsewhere(lambda: Author.objects.filter(pk=2).update(name="author 1")), transaction.atomic():
        Author.objects.select_for_update().get(pk=3)


@good(on=SERVERS)
def job_taken_if_it_is_free(request):
    with locked_elsewhere(lambda: Post.objects.select_for_update().get(pk=5)), transaction.atomic():
        list(Post.objects.select_for_update(skip_locked=True).filter(pk__lte=6)[:1])


# Repetition.

bad, good = examples_of("n_plus_one")


@bad(on=SERVERS)
def balance_of_each_account(request):
    accounts = Account.objects.order_by("pk")[:6]
    return JsonResponse({one.iban: one.transaction_set.count() for one in accounts})


@bad(on=SERVERS)
def recursive_tree(request):
    def reviews_of(pk, depth):
        found = list(Review.objects.filter(book_id=pk))
        return found + (reviews_of(pk + 1, depth - 1) if depth else [])

    return JsonResponse({"reviews": len(reviews_of(1, 6))})


@bad(on=SERVERS, unit="task")
def flag_saved_for_each_user(request):
    for user in User.objects.filter(username__startswith="user"):
        user.first_name = "seen"
        user.save(update_fields=["first_name"])


@bad(on=SERVERS)
def deleted_one_by_one(request):
    notes = Note.objects.bulk_create([Note(content_type_id=1, object_id=n, text="gone") for n in range(6)])
    for note in Note.objects.filter(text="gone") if notes else ():
        note.delete()
    return HttpResponse()


@bad(on=SERVERS)
def sorted_by_a_relation(request):
    books = sorted(Book.objects.all(), key=lambda book: book.author.name)
    return JsonResponse({"titles": [book.title for book in books]})


@bad(on=SERVERS)
def get_or_create_for_each_word(request):
    for word in ["bow", "stern", "port", "keel", "mast"]:
        Tag.objects.get_or_create(name=word)
    Tag.objects.filter(name__in=["bow", "stern", "port", "keel", "mast"]).delete()
    return HttpResponse()


@good(on=SERVERS)
def books_by_author_in_one_query(request):
    wanted = Author.objects.filter(pk__lte=7).prefetch_related("books")
    return JsonResponse({one.name: len(one.books.all()) for one in wanted})


@good(on=SERVERS)
def conditions_in_one_filter(request):
    wanted = Q()
    for name in ["bow", "stern", "port", "keel", "mast", "hull"]:
        wanted |= Q(name=name)
    return JsonResponse({"tags": Tag.objects.filter(wanted).count()})


@good(on=SERVERS)
def four_of_a_menu(request):
    return JsonResponse({str(pk): Country.objects.get(pk=pk).name for pk in range(1, 5)})


@good(on=SERVERS, unit="command")
def rows_written_in_batches(request):
    for begin in range(0, 3000, 500):
        Note.objects.bulk_create(
            [Note(content_type_id=1, object_id=begin + n, text="batch") for n in range(500)], batch_size=500
        )
    Note.objects.filter(text="batch").delete()


bad, good = examples_of("same_values")


@bad(on=SERVERS)
def permission_of_each_button(request):
    def may(name):
        return User.objects.filter(username="ann", groups__name="editors").exists() and bool(name)

    return JsonResponse({name: may(name) for name in ("load", "unload", "weigh")})


@bad(on=SERVERS)
def queryset_tested_counted_and_read(request):
    posts = Post.objects.filter(name__gt="")
    return JsonResponse(
        {"a": len(posts.all()), "b": len(posts.all()), "c": [one.name for one in posts.all()]}
    )


@good(on=SERVERS)
def evaluated_once(request):
    posts = list(Post.objects.filter(name__gt=""))
    return JsonResponse({"a": len(posts), "b": bool(posts), "c": [one.name for one in posts]})


@good(on=SERVERS)
def read_again_after_an_insert(request):
    counts = []
    for number in range(4):
        tag = Tag.objects.create(name=f"new {number}")
        counts.append(Tag.objects.filter(name__startswith="new").count())
        tag.delete()
    return JsonResponse({"counts": counts})


bad, good = examples_of("count_and_list")


@bad(on=SERVERS)
def number_above_the_list(request):
    books = Book.objects.filter(price__gte=1).order_by("title")
    return JsonResponse({"number": books.count(), "titles": [book.title for book in books]})


@bad(on=SERVERS)
def number_of_an_author_s_books(request):
    author = Author.objects.get(pk=1)
    return JsonResponse({"titles": [one.title for one in author.books.all()], "number": author.books.count()})


@good(on=SERVERS)
def number_and_first_three(request):
    books = Book.objects.filter(price__gte=1).order_by("title")
    return JsonResponse({"number": books.count(), "titles": [book.title for book in books[:3]]})


@good(on=SERVERS)
def number_of_others(request):
    dear = [book.title for book in Book.objects.filter(price__gte=3)]
    return JsonResponse({"dear": dear, "authors": Author.objects.count()})
