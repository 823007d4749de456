"""Requests that lock the same rows in different orders, and those that do not."""

from contextlib import suppress

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.http import HttpResponse, JsonResponse

from tests.sqllogs.advice_models import Author, Book, Club, Note, Post, Publisher, Review, Tag
from tests.sqllogs.findings.examples import POSTGRESQL, SERVERS, examples_of
from tests.sqllogs.findings.examples.concurrency import (
    at_once,
    execute,
    locked_elsewhere,
    patient,
)
from transactions.models import Category

bad, good = examples_of("deadlock")


@bad(on=SERVERS)
def transfers_in_both_directions(request):
    def transfer(source, target, meet):
        with transaction.atomic():
            Book.objects.select_for_update().get(pk=source)
            meet()
            Book.objects.select_for_update().get(pk=target)

    at_once(lambda meet: transfer(1, 2, meet), lambda meet: transfer(2, 1, meet))


@bad(on=SERVERS)
def rows_saved_in_the_order_given(request):
    def save(authors, meet):
        with transaction.atomic():
            for author in authors:
                author.save()
                meet()

    first, second = Author.objects.filter(pk__in=[1, 2])
    at_once(lambda meet: save([first, second], meet), lambda meet: save([second, first], meet))


@bad(on=SERVERS)
def counters_raised_in_any_order(request):
    def count(pks, meet):
        with transaction.atomic():
            for pk in pks:
                Book.objects.filter(pk=pk).update(price=F("price") + 1)
                meet()

    at_once(lambda meet: count([3, 4], meet), lambda meet: count([4, 3], meet))


@bad(on=SERVERS)
def two_tables_locked_in_both_orders(request):
    def book_first(meet):
        with transaction.atomic():
            book = Book.objects.select_for_update().get(pk=5)
            meet()
            Publisher.objects.select_for_update().get(pk=book.publisher_id)

    def publisher_first(meet):
        with transaction.atomic():
            publisher = Publisher.objects.select_for_update().get(pk=2)
            meet()
            Book.objects.filter(pk=5, publisher=publisher).update(price=F("price") + 1)

    Book.objects.filter(pk=5).update(publisher=2)
    at_once(book_first, publisher_first)


@bad(on=SERVERS)
def deletions_in_both_orders(request):
    def delete(pks, meet):
        with transaction.atomic():
            for pk in pks:
                Note.objects.filter(pk=pk).delete()
                meet()
            transaction.set_rollback(True)

    at_once(lambda meet: delete([1, 2], meet), lambda meet: delete([2, 1], meet))


@bad(on=SERVERS)
def unique_names_inserted_in_both_orders(request):
    def create(names, meet):
        with transaction.atomic():
            for name in names:
                Category.objects.create(name=name)
                meet()
            transaction.set_rollback(True)

    at_once(lambda meet: create(["red", "blue"], meet), lambda meet: create(["blue", "red"], meet))


@bad(on=POSTGRESQL)
def tables_locked_in_both_orders(request):
    def lock(tables, meet):
        with transaction.atomic():
            for table in tables:
                execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
                meet()

    tables = ["shelf_club", "shelf_post"]
    at_once(lambda meet: lock(tables, meet), lambda meet: lock(tables[::-1], meet))


@bad(on=SERVERS)
def shared_lock_that_both_raise(request):
    shared = "FOR SHARE" if connection.vendor == "postgresql" else "LOCK IN SHARE MODE"

    def reserve(meet):
        with transaction.atomic():
            ((price,),) = execute(f"SELECT price FROM shelf_book WHERE id = %s {shared}", 6)
            meet()
            Book.objects.filter(pk=6).update(price=price + 1)

    at_once(reserve, reserve)


@bad(on=("mariadb",))  # PostgreSQL checks Django's foreign keys at the end
def child_inserted_then_parent_locked(request):
    def review(meet):
        with transaction.atomic():
            Review.objects.create(book_id=7, group_id=1)
            meet()
            book = Book.objects.select_for_update().get(pk=7)
            book.price += 1
            book.save()

    at_once(review, review)


@bad(on=POSTGRESQL)
def advisory_locks_in_both_orders(request):
    def work(numbers, meet):
        with transaction.atomic():
            for number in numbers:
                execute("SELECT pg_advisory_xact_lock(%s)", number)
                meet()

    at_once(lambda meet: work([1, 2], meet), lambda meet: work([2, 1], meet))


@bad(on=SERVERS)
def deadlock_that_is_retried(request):
    def rename(pks, meet):
        for _ in range(2):
            with suppress(OperationalError), transaction.atomic():
                for pk in pks:
                    Tag.objects.filter(pk=pk).update(name=F("name"))
                    meet()
                return

    at_once(lambda meet: rename([1, 2], lambda: meet()), lambda meet: rename([2, 1], lambda: meet()))


@bad(on=SERVERS)
def list_and_single_row(request):
    def newest_first(meet):
        with transaction.atomic():
            list(Club.objects.filter(pk=2).select_for_update())
            meet()
            list(Club.objects.filter(pk__in=[1, 2]).order_by("pk").select_for_update())

    def oldest_first(meet):
        with transaction.atomic():
            Club.objects.select_for_update().get(pk=1)
            meet()
            Club.objects.filter(pk=2).update(name="renamed")

    at_once(newest_first, oldest_first)


@good(on=SERVERS)
def transfers_locked_in_one_order(request):
    def transfer(source, target, meet):
        meet()
        with patient(), transaction.atomic():
            list(Book.objects.select_for_update().filter(pk__in=[source, target]).order_by("pk"))
            Book.objects.filter(pk=source).update(price=F("price") + 1)
            Book.objects.filter(pk=target).update(price=F("price") + 1)

    at_once(lambda meet: transfer(1, 2, meet), lambda meet: transfer(2, 1, meet))


@good(on=SERVERS)
def wait_that_succeeds(request):
    with (
        locked_elsewhere(lambda: Author.objects.select_for_update().get(pk=1), for_s=0.05),
        patient(),
        transaction.atomic(),
    ):
        Author.objects.filter(pk=1).update(name="author 0")
    return HttpResponse()


@good(on=SERVERS)
def refused_without_waiting(request):
    elsewhere = locked_elsewhere(lambda: Author.objects.select_for_update().get(pk=2))
    with elsewhere, suppress(OperationalError), transaction.atomic():
        Author.objects.select_for_update(nowait=True).get(pk=2)
    return HttpResponse(status=409)


@good(on=SERVERS)
def locked_rows_skipped(request):
    with locked_elsewhere(lambda: Post.objects.select_for_update().get(pk=1)), transaction.atomic():
        post = Post.objects.select_for_update(skip_locked=True).order_by("pk").first()
        Post.objects.filter(pk=post.pk).update(name="taken")
    return HttpResponse()


@good(on=SERVERS, also=("lock_timeout",))
def waited_too_long(request):
    with locked_elsewhere(lambda: Book.objects.select_for_update().get(pk=8)):
        Book.objects.filter(pk=8).update(price=1)


@good(on=SERVERS)
def name_taken_by_another(request):
    def create(meet):
        meet()
        with suppress(IntegrityError), patient(), transaction.atomic():
            Category.objects.create(name="taken by the first")

    at_once(create, create)
    Category.objects.filter(name="taken by the first").delete()


@good(on=POSTGRESQL)
def cancelled_by_the_limit_of_a_statement(request):
    with locked_elsewhere(lambda: Book.objects.select_for_update().get(pk=9)), transaction.atomic():
        execute("SET LOCAL statement_timeout = '100ms'")
        Book.objects.filter(pk=9).update(price=1)


@good(on=SERVERS)
def other_rows_of_one_table(request):
    def rename(pk, meet):
        with transaction.atomic():
            Book.objects.filter(pk=pk).update(price=F("price"))
            meet()
            Book.objects.filter(pk=pk).update(price=F("price") + 1)

    at_once(lambda meet: rename(10, meet), lambda meet: rename(11, meet))


@good(on=POSTGRESQL)
def one_lock_before_all_others(request):
    def work(pks, meet):
        meet()
        with patient(), transaction.atomic():
            execute("SELECT pg_advisory_xact_lock(7)")
            for pk in pks:
                Tag.objects.filter(pk=pk).update(name=F("name"))

    at_once(lambda meet: work([3, 4], meet), lambda meet: work([4, 3], meet))


@good(on=SERVERS)
def both_orders_one_after_the_other(request):
    for pks in ([1, 2], [2, 1]):
        with transaction.atomic():
            for pk in pks:
                Book.objects.select_for_update().get(pk=pk)
    return HttpResponse()


@good(on=POSTGRESQL)
def lock_tried_and_not_got(request):
    with locked_elsewhere(lambda: execute("SELECT pg_advisory_xact_lock(9)")):
        ((is_locked,),) = execute("SELECT pg_try_advisory_lock(9)")
    return JsonResponse({"is_locked": is_locked})


@good(on=SERVERS)
def rows_read_in_both_orders(request):
    def copy(source, target, meet):
        with transaction.atomic():
            price = Book.objects.get(pk=source).price
            meet()
            Book.objects.filter(pk=target).update(price=price)

    at_once(lambda meet: copy(1, 2, meet), lambda meet: copy(2, 1, meet))


@good(on=SERVERS)
def each_in_its_own_transaction(request):
    def count(pks, meet):
        for pk in pks:
            Book.objects.filter(pk=pk).update(price=F("price") + 1)
            meet()

    at_once(lambda meet: count([12, 13], meet), lambda meet: count([13, 12], meet))
