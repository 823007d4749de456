"""Transactions that the database cannot order, with and without another attempt."""

from contextlib import contextmanager, suppress
from functools import wraps

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import Count, F, Sum
from django.http import HttpResponse, JsonResponse

from tests.sqllogs.advice_models import Author, Book, Club, Country, Membership, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import POSTGRESQL, examples_of
from tests.sqllogs.findings.examples.concurrency import at_once, elsewhere, locked_elsewhere
from transactions.models import Category

bad, good = examples_of("serialization")
ATTEMPTS = 5


@contextmanager
def isolated(level="REPEATABLE READ"):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        yield


def serializable():
    return isolated("SERIALIZABLE")


def bought(pk):
    """What another process does meanwhile."""
    return lambda: Book.objects.filter(pk=pk).update(price=F("price") + 1)


def is_serialization_failure(exc):
    return getattr(exc.__cause__, "sqlstate", "") == "40001"


def retried(function):
    @wraps(function)
    def call(*arguments):
        for attempt in range(ATTEMPTS):
            try:
                return function(*arguments, attempt)
            except OperationalError as exc:
                if not is_serialization_failure(exc) or attempt == ATTEMPTS - 1:
                    raise
        return None

    return call


@bad(on=POSTGRESQL)
def lost_update(request):
    with isolated():
        book = Book.objects.get(pk=1)
        elsewhere(bought(1))
        book.price += 1
        book.save()


@bad(on=POSTGRESQL)
def counter_under_repeatable_read(request):
    with isolated():
        Author.objects.count()
        elsewhere(bought(2))
        Book.objects.filter(pk=2).update(price=F("price") + 1)


@bad(on=POSTGRESQL)
def row_deleted_meanwhile(request):
    note = Note.objects.create(content_type_id=1, object_id=1, text="deleted twice")
    with isolated():
        Note.objects.get(pk=note.pk)
        elsewhere(lambda: Note.objects.filter(pk=note.pk).delete())
        note.delete()


@bad(on=POSTGRESQL)
def lock_of_a_changed_row(request):
    with isolated():
        Country.objects.exists()
        elsewhere(bought(3))
        Book.objects.select_for_update().get(pk=3)


@bad(on=POSTGRESQL, unit="task")
def rows_saved_at_once(request):
    with isolated():
        books = list(Book.objects.filter(pk__in=[4, 5]))
        elsewhere(bought(5))
        Book.objects.bulk_update(books, ["price"])


@bad(on=POSTGRESQL)
def budget_of_two_requests(request):
    def spend(pk, meet):
        with serializable():
            total = Book.objects.filter(author=3).aggregate(total=Sum("price"))["total"]
            meet()
            Book.objects.filter(pk=pk).update(price=F("price") + total)

    first, second = Book.objects.filter(author=3)[:2]
    at_once(lambda meet: spend(first.pk, meet), lambda meet: spend(second.pk, meet))


@bad(on=POSTGRESQL)
def last_place_of_a_club(request):
    def join(person, meet):
        with serializable():
            number = Membership.objects.filter(club=1).count()
            meet()
            if number < 10:
                Membership.objects.create(club_id=1, person_id=person)

    at_once(lambda meet: join(1, meet), lambda meet: join(2, meet))


@bad(on=POSTGRESQL)
def created_if_missing(request):
    def create(meet):
        with serializable():
            is_missing = not Tag.objects.filter(name="only one").exists()
            meet()
            if is_missing:
                Tag.objects.create(name="only one")

    at_once(create, create)


@bad(on=POSTGRESQL, unit="command")
def updated_or_created(request):
    with isolated():
        Post.objects.count()
        elsewhere(lambda: Post.objects.filter(pk=1).update(name="theirs"))
        Post.objects.update_or_create(pk=1, defaults={"name": "ours"})


@bad(on=POSTGRESQL)
def given_up_after_two_attempts(request):
    for _ in range(2):
        with suppress(OperationalError), isolated():
            publisher = Publisher.objects.get(pk=1)
            elsewhere(lambda: Publisher.objects.filter(pk=1).update(name=F("name")))
            publisher.save()
    return HttpResponse(status=503)


@bad(on=POSTGRESQL)
def failure_that_is_swallowed(request):
    with suppress(OperationalError), isolated():
        Club.objects.get(pk=1)
        elsewhere(lambda: Club.objects.filter(pk=1).update(name="theirs"))
        Club.objects.filter(pk=1).update(name="ours")
    return HttpResponse()


@bad(on=POSTGRESQL)
def found_at_the_end_of_the_transaction(request):
    def rename(pk, meet):
        with serializable():
            names = list(
                Publisher.objects.filter(name__startswith="publisher").values_list("name", flat=True)
            )
            Publisher.objects.filter(pk=pk).update(name=f"publisher {len(names)}{pk}")
            meet()

    at_once(lambda meet: rename(3, meet), lambda meet: rename(4, meet))


@good(on=POSTGRESQL)
def second_attempt_succeeds(request):
    @retried
    def buy(attempt):
        with isolated():
            book = Book.objects.get(pk=6)
            if attempt == 0:
                elsewhere(bought(6))
            book.price += 1
            book.save()

    buy()
    return HttpResponse()


@good(on=POSTGRESQL)
def third_attempt_succeeds(request):
    @retried
    def rename(attempt):
        with isolated():
            post = Post.objects.get(pk=2)
            if attempt < 2:
                elsewhere(lambda: Post.objects.filter(pk=2).update(name="theirs"))
            Post.objects.filter(pk=post.pk).update(name="ours")

    rename()
    return HttpResponse()


@good(on=POSTGRESQL)
def read_committed(request):
    with transaction.atomic():
        Book.objects.get(pk=7)
        elsewhere(bought(7))
        Book.objects.filter(pk=7).update(price=F("price") + 1)
    return HttpResponse()


@good(on=POSTGRESQL)
def report_of_one_moment(request):
    with isolated():
        before = Book.objects.aggregate(total=Sum("price"))["total"]
        elsewhere(bought(8))
        after = Book.objects.aggregate(total=Sum("price"))["total"]
    return JsonResponse({"is_same": before == after})


@good(on=POSTGRESQL)
def serializable_without_conflict(request):
    def count(pk, meet):
        with serializable():
            meet()
            Book.objects.filter(pk=pk).update(price=F("price") + 1)

    count(9, lambda: None)
    count(10, lambda: None)
    return HttpResponse()


@good(on=POSTGRESQL)
def locked_first(request):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=11)
        book.price += 1
        book.save()
    elsewhere(bought(11))
    return HttpResponse()


@good(on=POSTGRESQL, also=("deadlock",))
def deadlock_under_repeatable_read(request):
    def count(pks, meet):
        with isolated():
            for pk in pks:
                Book.objects.filter(pk=pk).update(price=F("price") + 1)
                meet()

    at_once(lambda meet: count([12, 13], meet), lambda meet: count([13, 12], meet))


@good(on=POSTGRESQL, also=("lock_timeout",))
def timeout_under_repeatable_read(request):
    with locked_elsewhere(bought(14)), isolated():
        Book.objects.filter(pk=14).update(price=F("price") + 1)


@good(on=POSTGRESQL)
def not_waited_for_under_serializable(request):
    with locked_elsewhere(bought(15)), suppress(OperationalError), serializable():
        Book.objects.select_for_update(nowait=True).get(pk=15)
    return HttpResponse(status=409)


@good(on=POSTGRESQL)
def name_that_exists(request):
    name = Category.objects.values_list("name", flat=True)[0]
    with suppress(IntegrityError), serializable():
        Category.objects.create(name=name)
    return HttpResponse(status=400)


@good(on=POSTGRESQL, unit="task")
def one_after_the_other(request):
    for _ in range(3):
        with serializable():
            Tag.objects.filter(pk=1).update(name=F("name"))


@good(on=POSTGRESQL)
def other_rows_changed_meanwhile(request):
    with isolated():
        Author.objects.annotate(number=Count("books")).count()
        elsewhere(bought(16))
        Book.objects.filter(pk=17).update(price=F("price") + 1)
    return HttpResponse()


@good(on=POSTGRESQL)
def retry_of_the_whole_service(request):
    class Purchase:
        attempts = 0

        def run(self):
            self.attempts += 1
            with serializable():
                self.book = Book.objects.select_for_update().get(pk=18)
                if self.attempts == 1:
                    raise OperationalError("connection lost")
                self.book.save()

    purchase = Purchase()
    with suppress(OperationalError):
        purchase.run()
    purchase.run()
    return HttpResponse()
