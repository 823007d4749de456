"""Serialization failures after which the same statement succeeded, often and seldom."""

from contextlib import suppress

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F, Sum
from django.http import HttpResponse

from sqllogs import unit_of_work
from tests.sqllogs.advice_models import Author, Book, Club, Country, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import POSTGRESQL, examples_of
from tests.sqllogs.findings.examples.concurrency import at_once, elsewhere, locked_elsewhere, patient
from tests.sqllogs.findings.examples.serialization import bought, isolated, retried, serializable
from transactions.models import Category

bad, good = examples_of("serialization_retried")


def buy_again(pk, failures=1):
    """Buy a book; as many attempts as given meet another buyer."""

    @retried
    def buy(attempt):
        with isolated():
            book = Book.objects.get(pk=pk)
            if attempt < failures:
                elsewhere(bought(pk))
            book.price += 1
            book.save()

    buy()


@bad(on=POSTGRESQL, times=5)
def book_that_everybody_buys(request):
    buy_again(1)
    return HttpResponse()


@bad(on=POSTGRESQL, unit="task", also=("n_plus_one",))
def counter_of_a_batch(request):
    for _ in range(6):
        for attempt in range(2):
            try:
                with isolated():
                    Publisher.objects.get(pk=1)
                    if attempt == 0:
                        elsewhere(lambda: Publisher.objects.filter(pk=1).update(name=F("name")))
                    Publisher.objects.filter(pk=1).update(name=F("name"))
                break
            except OperationalError:
                continue


@bad(on=POSTGRESQL, times=3)
def several_attempts_of_each(request):
    @retried
    def rename(attempt):
        with isolated():
            tag = Tag.objects.get(pk=2)
            if attempt < 2:
                elsewhere(lambda: Tag.objects.filter(pk=2).update(name="theirs"))
            tag.name = "ours"
            tag.save(update_fields=["name"])

    rename()
    return HttpResponse()


@bad(on=POSTGRESQL, times=6)
def retried_by_recursion(request):
    def take(attempt=0):
        try:
            with isolated():
                Club.objects.get(pk=1)
                if attempt == 0:
                    elsewhere(lambda: Club.objects.filter(pk=1).update(name=F("name")))
                return Club.objects.select_for_update().get(pk=1)
        except OperationalError:
            return take(attempt + 1)

    return HttpResponse(take().name)


@bad(on=POSTGRESQL, unit="command")
def rows_saved_at_once_again(request):
    for _ in range(5):

        @retried
        def save(attempt):
            with isolated():
                books = list(Book.objects.filter(pk__in=[4, 5]))
                if attempt == 0:
                    elsewhere(bought(4))
                Book.objects.bulk_update(books, ["price"])

        save()


@bad(on=POSTGRESQL, times=5)
def deleted_again(request):
    @retried
    def clear(attempt):
        with isolated():
            Note.objects.filter(text="of a post").exists()
            if attempt == 0:
                elsewhere(lambda: Note.objects.filter(text="of a post").update(object_id=F("object_id")))
            Note.objects.filter(text="of a post").delete()

    try:
        clear()
    finally:
        Note.objects.create(content_type_id=1, object_id=1, text="of a post")
    return HttpResponse()


@bad(on=POSTGRESQL, times=5)
def serializable_and_retried(request):
    @retried
    def move(attempt):
        with serializable():
            country = Country.objects.get(pk=1)
            if attempt == 0:
                elsewhere(lambda: Country.objects.filter(pk=1).update(name=F("name")))
            country.save()

    move()
    return HttpResponse()


@bad(on=POSTGRESQL, times=5)
def updated_or_created_again(request):
    @retried
    def store(attempt):
        with isolated():
            Author.objects.count()
            if attempt == 0:
                elsewhere(lambda: Author.objects.filter(pk=1).update(biography="theirs"))
            Author.objects.update_or_create(pk=1, defaults={"biography": "ours"})

    store()
    return HttpResponse()


@bad(on=POSTGRESQL, times=5)
def changed_by_raw_sql(request):
    @retried
    def count(attempt):
        with isolated(), connection.cursor() as cursor:
            cursor.execute("SELECT price FROM shelf_book WHERE id = %s", [6])
            if attempt == 0:
                elsewhere(bought(6))
            cursor.execute("UPDATE shelf_book SET price = price + 1 WHERE id = %s", [6])

    count()
    return HttpResponse()


@bad(on=POSTGRESQL, times=12)
def two_requests_that_take_turns(request):
    def spend(pk, meet):
        for attempt in range(4):
            with suppress(OperationalError), serializable():
                total = Book.objects.filter(author=4).aggregate(total=Sum("price"))["total"]
                if attempt == 0:
                    meet()
                Book.objects.filter(pk=pk).update(price=F("price") + total % 2)
                return

    first, second = Book.objects.filter(author=4)[:2]
    at_once(lambda meet: spend(first.pk, meet), lambda meet: spend(second.pk, meet))


@good(on=POSTGRESQL, times=3)
def three_failures(request):
    buy_again(7)
    return HttpResponse()


@good(on=POSTGRESQL, also=("n_plus_one",))
def four_failures_of_one_request(request):
    buy_again(8, failures=4)
    return HttpResponse()


@good(on=POSTGRESQL, times=8)
def no_conflict(request):
    @retried
    def count(attempt):
        with isolated():
            Book.objects.filter(pk=9).update(price=F("price") + 1)

    count()
    return HttpResponse()


@good(on=POSTGRESQL, times=6, also=("serialization",))
def never_retried(request):
    with isolated():
        post = Post.objects.get(pk=3)
        elsewhere(lambda: Post.objects.filter(pk=3).update(name="theirs"))
        post.save()


@good(on=POSTGRESQL, times=6)
def counted_under_read_committed(request):
    with transaction.atomic():
        Book.objects.get(pk=10)
        elsewhere(bought(10))
        Book.objects.filter(pk=10).update(price=F("price") + 1)
    return HttpResponse()


@good(on=POSTGRESQL, times=6)
def name_taken_and_read(request):
    name = Category.objects.values_list("name", flat=True)[0]
    category, _ = Category.objects.get_or_create(name=name)
    with suppress(IntegrityError), transaction.atomic():
        Category.objects.create(name=category.name)
    return HttpResponse()


@good(on=POSTGRESQL, times=5, also=("lock_timeout",))
def timeouts_that_are_retried(request):
    with locked_elsewhere(bought(11)), suppress(OperationalError), isolated():
        Book.objects.filter(pk=11).update(price=F("price") + 1)
    Book.objects.filter(pk=11).update(price=F("price") + 1)
    return HttpResponse()


@good(on=POSTGRESQL, times=5, also=("deadlock",))
def deadlocks_that_are_retried(request):
    def count(pks, meet):
        for _ in range(2):
            with patient(), suppress(OperationalError), transaction.atomic():
                for pk in pks:
                    Book.objects.filter(pk=pk).update(price=F("price") + 1)
                    meet()
                return

    at_once(lambda meet: count([12, 13], meet), lambda meet: count([13, 12], meet))


@good(on=POSTGRESQL, unit="task", also=("serialization",))
def tried_again_by_the_next_task(request):
    for attempt in range(6):
        with suppress(OperationalError), unit_of_work("task", "charge"), isolated():
            tag = Tag.objects.get(pk=3)
            if attempt < 5:
                elsewhere(lambda: Tag.objects.filter(pk=3).update(name=F("name")))
            tag.save()


@good(on=POSTGRESQL, times=6)
def row_locked_before_it_is_changed(request):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=14)
        book.price += 1
        book.save()
    elsewhere(bought(14))
    return HttpResponse()


@good(on=POSTGRESQL, times=2)
def rare_and_of_two_statements(request):
    buy_again(15)
    with isolated():
        Publisher.objects.filter(pk=2).update(name=F("name"))
    return HttpResponse()
