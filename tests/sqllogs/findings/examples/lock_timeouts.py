"""Waits for a lock that end with an error, and those that do not."""

from contextlib import suppress

from django.db import DatabaseError, IntegrityError, OperationalError, transaction
from django.db.models import F
from django.http import HttpResponse, JsonResponse

from tests.sqllogs.advice_models import Author, Book, Note, Post, Review, Tag
from tests.sqllogs.findings.examples import ALL, POSTGRESQL, SERVERS, examples_of
from tests.sqllogs.findings.examples.concurrency import (
    at_once,
    execute,
    locked_elsewhere,
    patient,
)
from transactions.models import Category

EVERY = (*ALL, "mariadb")


bad, good = examples_of("lock_timeout")


def lock_book():
    Book.objects.filter(pk=14).update(price=F("price"))


@bad(on=EVERY)
def row_updated_elsewhere(request):
    with locked_elsewhere(lock_book):
        Book.objects.filter(pk=14).update(price=3)


@bad(on=EVERY)
def row_saved_elsewhere(request):
    book = Book.objects.get(pk=14)
    with locked_elsewhere(lock_book):
        book.title = "changed"
        book.save()


@bad(on=SERVERS)
def row_to_be_locked(request):
    with locked_elsewhere(lock_book), transaction.atomic():
        Book.objects.select_for_update().get(pk=14)


@bad(on=EVERY)
def row_to_be_deleted(request):
    with locked_elsewhere(lambda: Note.objects.filter(pk=3).update(text="kept")):
        Note.objects.filter(pk=3).delete()


@bad(on=EVERY)
def unique_name_inserted_elsewhere(request):
    with locked_elsewhere(lambda: (Category.objects.create(name="green"), transaction.set_rollback(True))):
        Category.objects.create(name="green")


@bad(on=EVERY)
def got_or_created(request):
    with locked_elsewhere(lambda: (Category.objects.create(name="white"), transaction.set_rollback(True))):
        Category.objects.get_or_create(name="white")


@bad(on=EVERY)
def parent_locked_elsewhere(request):
    def sold_out():
        Book.objects.filter(pk=15).delete()
        transaction.set_rollback(True)

    with locked_elsewhere(sold_out):
        Review.objects.create(book_id=15, group_id=1)


@bad(on=EVERY)
def many_rows_of_which_one_is_locked(request):
    with locked_elsewhere(lock_book):
        Book.objects.filter(price__gte=0).update(price=F("price"))


@bad(on=EVERY, unit="task")
def rows_saved_at_once(request):
    books = list(Book.objects.filter(pk__in=[13, 14]))
    with locked_elsewhere(lock_book):
        Book.objects.bulk_update(books, ["price"])


@bad(on=POSTGRESQL, unit="command")
def migration_behind_a_long_report(request):
    with locked_elsewhere(lambda: list(Tag.objects.all())), transaction.atomic():
        execute("ALTER TABLE shelf_tag ADD COLUMN colour varchar(10)")


@bad(on=POSTGRESQL)
def whole_table_locked(request):
    with locked_elsewhere(lock_book), transaction.atomic():
        execute("LOCK TABLE shelf_book")


@bad(on=EVERY)
def tried_again_later(request):
    for around in (locked_elsewhere(lock_book), transaction.atomic()):
        with around, suppress(DatabaseError):
            Book.objects.filter(pk=14).update(price=F("price"))


@bad(on=("sqlite",))
def transaction_that_cannot_begin(request):
    with locked_elsewhere(lock_book), transaction.atomic():
        Author.objects.get(pk=1)


@bad(on=("sqlite",))
def any_other_table(request):
    with locked_elsewhere(lock_book):
        Tag.objects.create(name="another table")


@good(on=EVERY)
def lock_of_a_moment(request):
    with locked_elsewhere(lock_book, for_s=0.05), patient(), transaction.atomic():
        Book.objects.filter(pk=14).update(price=F("price"))
    return HttpResponse()


@good(on=SERVERS)
def answered_at_once(request):
    with locked_elsewhere(lock_book), transaction.atomic():
        try:
            Book.objects.select_for_update(nowait=True).get(pk=14)
        except OperationalError:
            transaction.set_rollback(True)
            return HttpResponse(status=409)


@good(on=SERVERS)
def next_job_of_a_queue(request):
    with locked_elsewhere(lambda: Note.objects.select_for_update().get(pk=4)), transaction.atomic():
        note = Note.objects.select_for_update(skip_locked=True).filter(pk__in=[4, 5]).first()
    return JsonResponse({"note": note.pk})


@good(on=SERVERS, also=("deadlock",))
def deadlock_in_place_of_a_timeout(request):
    def count(pks, meet):
        with transaction.atomic():
            for pk in pks:
                Post.objects.filter(pk=pk).update(name=F("name"))
                meet()

    at_once(lambda meet: count([5, 6], meet), lambda meet: count([6, 5], meet))


@good(on=POSTGRESQL)
def statement_that_takes_too_long(request):
    with transaction.atomic():
        execute("SET LOCAL statement_timeout = '50ms'")
        execute("SELECT pg_sleep(5)")


@good(on=EVERY)
def read_beside_a_writer(request):
    with locked_elsewhere(lock_book):
        return JsonResponse({"price": Book.objects.get(pk=14).price})


@good(on=SERVERS)
def another_row(request):
    with locked_elsewhere(lock_book):
        Book.objects.filter(pk=16).update(price=F("price") + 1)
    return HttpResponse()


@good(on=EVERY)
def name_exists_already(request):
    name = Category.objects.values_list("name", flat=True)[0]
    with suppress(IntegrityError), transaction.atomic():
        Category.objects.create(name=name)
    return HttpResponse(status=400)


@good(on=EVERY)
def nobody_else(request):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=14)
        book.save()
    return HttpResponse()


@good(on=POSTGRESQL)
def migration_that_does_not_wait(request):
    with locked_elsewhere(lambda: list(Tag.objects.all())), suppress(OperationalError), transaction.atomic():
        execute("LOCK TABLE shelf_tag IN ACCESS EXCLUSIVE MODE NOWAIT")


@good(on=EVERY)
def locked_before_and_free_again(request):
    with locked_elsewhere(lock_book):
        pass
    Book.objects.filter(pk=14).update(price=F("price"))
    return HttpResponse()


@good(on=EVERY)
def written_after_the_other_has_given_up(request):
    with locked_elsewhere(lambda: (lock_book(), transaction.set_rollback(True))):
        price = Book.objects.get(pk=14).price
    Book.objects.filter(pk=14, price=price).update(price=price + 1)
    return HttpResponse()


@good(on=EVERY)
def statement_with_a_mistake(request):
    with suppress(DatabaseError), transaction.atomic():
        execute("SELECT locked FROM shelf_book")
    return HttpResponse()


@good(on=("sqlite",))
def transactions_in_turn(request):
    for pk in range(1, 5):
        with transaction.atomic():
            Book.objects.filter(pk=pk).update(price=F("price"))
    return HttpResponse()


@good(on=("sqlite",))
def read_only_database(request):
    execute("PRAGMA query_only = ON")
    try:
        with suppress(OperationalError):
            Book.objects.filter(pk=14).update(price=1)
    finally:
        execute("PRAGMA query_only = OFF")
    return HttpResponse()


@good(on=("sqlite",))
def reader_of_a_table_that_is_rewritten(request):
    with locked_elsewhere(lambda: Note.objects.filter(pk=1).delete() and transaction.set_rollback(True)):
        return JsonResponse({"notes": [note.text for note in Note.objects.all()[:3]]})
