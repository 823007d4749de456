"""Loops over the database, bad ones and ones that are meant; feeds tests/sqllogs/read/test_n_plus_one.py."""

from contextlib import suppress

from django.core.paginator import Paginator
from django.db import DatabaseError, connections, models, transaction
from django.db.models import Sum

import sqllogs

ALIAS = "application"
TIMES = 7


class Author(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "application"

    def __str__(self):
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "application"

    def __str__(self):
        return self.name


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    tags = models.ManyToManyField(Tag, related_name="tagged")
    title = models.CharField(max_length=50)
    order = models.IntegerField(default=0)

    class Meta:
        app_label = "application"

    def __str__(self):
        return self.title


class Cover(models.Model):
    book = models.OneToOneField(Book, models.CASCADE)
    colour = models.CharField(max_length=50)

    class Meta:
        app_label = "application"

    def __str__(self):
        return self.colour


MODELS = (Author, Tag, Book, Cover)


def authors():
    return Author.objects.using(ALIAS)


def books():
    return Book.objects.using(ALIAS)


def populate():
    """Give each of some authors a book, with a tag and a cover."""
    for number in range(TIMES):
        author = authors().create(name=f"author {number}")
        book = books().create(author=author, title=f"book {number}", order=number)
        book.tags.create(name=f"tag {number}")
        Cover.objects.using(ALIAS).create(book=book, colour="red")
    books().bulk_create(
        Book(author=author, title=f"more {number}", order=100 + number) for number in range(50)
    )


# Bad: each of these is one statement for each row, and could be one for all.


def foreign_key():
    for book in books()[:TIMES]:
        str(book.author)


def backward_foreign_key():
    for author in authors():
        list(author.books.all())


def many_to_many():
    for book in books()[:TIMES]:
        list(book.tags.all())


def backward_many_to_many():
    for tag in Tag.objects.using(ALIAS):
        list(tag.tagged.all())


def backward_one_to_one():
    for book in books().order_by("pk")[:TIMES]:
        str(book.cover)


def count_of_each():
    for author in authors():
        author.books.count()


def sum_of_each():
    for author in authors():
        author.books.aggregate(Sum("order"))


def whether_each_has_some():
    for author in authors():
        author.books.exists()


def newest_of_each():
    for author in authors():
        author.books.order_by("-order").first()


def newest_of_each_before_a_time():
    for author in authors():
        author.books.filter(order__lt=1000).order_by("-order").first()


def filtered_list_of_each():
    for author in authors():
        list(author.books.filter(title__in=["a", "b"]))


def by_another_column():
    for number in range(TIMES):
        authors().get(name=f"author {number}")


def save_each():
    for book in books()[:TIMES]:
        book.save(using=ALIAS)


def create_each():
    for number in range(TIMES):
        authors().create(name=f"new {number}")


def delete_each():
    for key in Cover.objects.using(ALIAS).values_list("pk", flat=True):
        Cover.objects.using(ALIAS).filter(pk=key).delete()


# Meant: portions, pages, queues, retries, and what surrounds a loop's own work.


def bulk_create_in_batches():
    books().bulk_create(
        (Book(author_id=1, title="b", order=number) for number in range(8 * TIMES)), batch_size=8
    )


def executemany_in_batches():
    with connections[ALIAS].cursor() as cursor:
        for _ in range(TIMES):
            cursor.executemany("INSERT INTO application_tag (name) VALUES (%s)", [("a",), ("b",)])


def update_in_portions():
    keys = list(books().values_list("pk", flat=True)[:28])
    for portion in _batched(keys, 4):
        books().filter(pk__in=portion).update(order=1)


def read_in_portions():
    keys = list(books().values_list("pk", flat=True)[:28])
    for portion in _batched(keys, 4):
        books().in_bulk(portion)


def _batched(values, size):
    return [values[first : first + size] for first in range(0, len(values), size)]


def pages_by_offset():
    for page in Paginator(books().order_by("pk"), 8):
        list(page)


def pages_by_key():
    last = 0
    for _ in range(TIMES):
        last = [book.pk for book in books().filter(pk__gt=last).order_by("pk")[:8]][-1]


def iterator_in_chunks():
    for _ in books().iterator(chunk_size=5):
        pass


def savepoint_around_each():
    with transaction.atomic(using=ALIAS):
        for _ in range(TIMES):
            with transaction.atomic(using=ALIAS):
                pass


def retry_of_what_fails():
    for _ in range(TIMES):
        with suppress(DatabaseError), connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT name FROM missing WHERE id = %s", [1])


def four_times_only():
    for book in books()[:4]:
        str(book.author)


def prefetched():
    for author in authors().prefetch_related("books__tags"):
        [list(book.tags.all()) for book in author.books.all()]


def joined():
    for book in books().select_related("author", "cover").filter(cover__isnull=False):
        str(book.author)


def allowed_block():
    with sqllogs.repeats_allowed():
        foreign_key()


@sqllogs.repeats_allowed()
def allowed_function():
    foreign_key()


BAD = {
    foreign_key: ("select_related", "application.Author", "application.Book.author"),
    backward_foreign_key: ("prefetch_related", "application.Book", "application.Author.books"),
    many_to_many: ("prefetch_related", "application.Tag", "application.Book.tags"),
    backward_many_to_many: ("prefetch_related", "application.Book", "application.Tag.tagged"),
    backward_one_to_one: ("select_related", "application.Cover", "application.Book.cover"),
    count_of_each: ("annotate", "application.Book", "application.Author.books"),
    sum_of_each: ("annotate", "application.Book", "application.Author.books"),
    whether_each_has_some: ("annotate", "application.Book", "application.Author.books"),
    newest_of_each: ("prefetch_related", "application.Book", "application.Author.books"),
    newest_of_each_before_a_time: ("prefetch_related", "application.Book", "application.Author.books"),
    filtered_list_of_each: ("prefetch_related", "application.Book", "application.Author.books"),
    by_another_column: ("in_bulk", "application.Author", "application.Author.name"),
    save_each: ("bulk_update", "application.Book", None),
    create_each: ("bulk_create", "application.Author", None),
    delete_each: ("bulk_delete", "application.Cover", None),
}
"""What each is to be told: remedy, model and relation."""

MEANT = (
    bulk_create_in_batches,
    executemany_in_batches,
    update_in_portions,
    read_in_portions,
    pages_by_offset,
    pages_by_key,
    iterator_in_chunks,
    savepoint_around_each,
    retry_of_what_fails,
    four_times_only,
    prefetched,
    joined,
    allowed_block,
    allowed_function,
)
