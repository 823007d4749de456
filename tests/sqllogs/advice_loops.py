"""Loops over the database, the advice that each must get, and the code with the advice followed.

Feeds tests/sqllogs/sql/test_remedies.py. A loop reads its rows from `q(Model)`; advice that belongs to a
queryset is inserted there as it was given. Where the loop itself must change, `followed` is the changed code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import django
from asgiref.sync import async_to_sync
from django import forms
from django.contrib.auth.models import Group
from django.core.paginator import Paginator
from django.db.models import Count, Exists, F, OuterRef, Q, Sum, prefetch_related_objects
from django.shortcuts import get_object_or_404
from django.template import Context, Engine
from rest_framework import serializers

from tests.sqllogs.advice_models import (
    ROWS,
    THROUGH,
    Author,
    Book,
    Club,
    Country,
    Cover,
    Employee,
    Note,
    Person,
    Post,
    Publisher,
    Reply,
    Review,
    Tag,
    Topic,
)  # fmt: skip

Query = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    run: Callable[[Query], Any]
    advice: tuple[tuple[str, str], ...]
    """Of each suspect: kind and code; for one without code, kind and the model or field."""
    fills: tuple[str, ...] = ()
    """What a reader writes for each `...` of the code."""
    followed: Callable[[Query], Any] | None = None
    """The loop where its own code changes; it must return the same."""


LOOPS: dict[str, Loop] = {}
UNSURE = ("", "")
"""In place of advice: none, or one that is marked as a guess."""


def loop(*advice: tuple[str, str], fills: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    def add(run):
        assert run.__name__ not in LOOPS
        LOOPS[run.__name__] = Loop(run=run, advice=advice, fills=fills)
        return run

    return add


def follow(name: str) -> Callable[[Any], Any]:
    """Give a loop's code after the advice was followed."""

    def add(run):
        one = LOOPS[name]
        LOOPS[name] = Loop(run=one.run, advice=one.advice, fills=one.fills, followed=run)
        return run

    return add


def join(name, on="Book"):
    return "select_related", f'shelf.{on}: select_related("{name}")'


def fetch(name, on="Author"):
    return "prefetch_related", f'shelf.{on}: prefetch_related("{name}")'


def render(text, **context):
    return Engine().from_string(text).render(Context(context))


# select_related: a foreign key or one-to-one relation that is followed.


@loop(join("author"))
def foreign_key(q):
    return [book.author.name for book in q(Book)]


@loop(join("publisher"))
def foreign_key_without_a_way_back(q):
    return [book.publisher.name for book in q(Book)]


@loop(join("cover"))
def backward_one_to_one(q):
    return [book.cover.colour for book in q(Book)]


@loop(join("book", "Cover"))
def forward_one_to_one(q):
    return [cover.book.title for cover in q(Cover)]


@loop(join("author"), join("author__country"))
def two_levels(q):
    return [book.author.country.name for book in q(Book)]


@loop(join("author__country"))
def level_behind_a_join(q):
    return [book.author.country.name for book in q(Book).select_related("author")]


@loop(join("author"), join("author__country"))
def property_of_many_levels(q):
    return [book.country_name for book in q(Book)]


@loop(join("book", "Review"), join("book__author", "Review"), join("book__author__country", "Review"))
def three_levels(q):
    return [review.book.author.country.name for review in q(Review)]


@loop(join("topic", "Reply"), join("topic__first_reply", "Reply"))
def back_and_forth(q):
    return [reply.topic.first_reply.text for reply in q(Reply)]


@loop(join("author"))
def template(q):
    return render("{% for book in books %}{{ book.author.name }}{% endfor %}", books=q(Book))


@loop(join("author"), join("publisher"))
def two_relations_of_a_template(q):
    text = "{% for book in books %}{{ book.author.name }} {{ book.publisher.name }}{% endfor %}"
    return render(text, books=q(Book))


class BookSerializer(serializers.ModelSerializer):
    author = serializers.CharField(source="author.name")

    class Meta:
        model = Book
        fields = ["title", "author"]


@loop(join("author"))
def serializer(q):
    return BookSerializer(q(Book), many=True).data


@loop(join("book", "Review"))
def text_of_a_model(q):
    return [str(review) for review in q(Review)]


@loop(join("group", "Review"))
def relation_to_an_installed_app(q):
    return [review.group.name for review in q(Review)]


@loop(join("country", "Employee"))
def relation_of_a_parent_model(q):
    return [employee.country.name for employee in q(Employee)]


@loop(join("employee", "Person"))
def child_of_a_parent_model(q):
    return [person.employee.desk for person in q(Person)]


@loop(join("author"))
def page_of_a_list(q):
    return [book.author.name for book in Paginator(q(Book).order_by("pk"), 10).page(1)]


@loop(join("author"))
def iterator(q):
    return [book.author.name for book in q(Book).iterator()]


@loop(join("author"))
def method_of_a_queryset_class(q):
    return [book.author.name for book in q(Book).affordable()]


@loop(join("author"))
def sorted_by_a_relation(q):
    return sorted(q(Book), key=lambda book: book.author.name)


# prefetch_related: the objects that refer to one.


@loop(fetch("books"))
def backward_foreign_key(q):
    return [[book.title for book in author.books.all()] for author in q(Author)]


@loop(fetch("review_set", "Book"))
def default_name(q):
    return [[review.pk for review in book.review_set.all()] for book in q(Book)]


@loop(fetch("tags", "Book"))
def many_to_many(q):
    return [[tag.name for tag in book.tags.all()] for book in q(Book)]


@loop(fetch("tagged", "Tag"))
def backward_many_to_many(q):
    return [[book.title for book in tag.tagged.all()] for tag in q(Tag)]


@loop(fetch("members", "Club"))
def many_to_many_through(q):
    return [[person.name for person in club.members.all()] for club in q(Club)]


@loop(fetch("clubs", "Person"))
def backward_many_to_many_through(q):
    return [[club.name for club in person.clubs.all()] for person in q(Person)]


@loop(fetch("target", "Note"))
def generic_foreign_key(q):
    return [note.target.name for note in q(Note).filter(text="of a group")]


@loop(fetch("notes", "Post"))
def generic_relation(q):
    return [[note.text for note in post.notes.all()] for post in q(Post)]


@loop(fetch("books"))
def length_of_all(q):
    return [len(author.books.all()) for author in q(Author)]


@loop(fetch("books"))
def truth_of_all(q):
    return [author.name for author in q(Author) if author.books.all()]


@loop(fetch("books"), fetch("books__tags"))
def two_levels_of_many(q):
    return [[[tag.name for tag in book.tags.all()] for book in author.books.all()] for author in q(Author)]


@loop(fetch("books"), fetch("books__publisher"))
def foreign_key_behind_many(q):
    return [[book.publisher.name for book in author.books.all()] for author in q(Author)]


@loop(fetch("books"))
def nested_template(q):
    text = "{% for author in authors %}{% for book in author.books.all %}{{ book }}{% endfor %}{% endfor %}"
    return render(text, authors=q(Author))


class AuthorSerializer(serializers.ModelSerializer):
    books = serializers.StringRelatedField(many=True)

    class Meta:
        model = Author
        fields = ["name", "books"]


@loop(fetch("books"))
def nested_serializer(q):
    return AuthorSerializer(q(Author), many=True).data


@loop(fetch("books"))
def titles_of_each(q):
    return [list(author.books.values_list("title", flat=True)) for author in q(Author)]


@follow("titles_of_each")
def titles_of_each_read(q):
    return [[book.title for book in author.books.all()] for author in q(Author)]


@loop(fetch("books"))
def iterator_of_each(q):
    return [[book.title for book in author.books.iterator()] for author in q(Author)]


@follow("iterator_of_each")
def iterator_of_each_read(q):
    return [[book.title for book in author.books.all()] for author in q(Author)]


def chosen(chain, name="books", on="Author", model="Book"):
    code = f'prefetch_related(Prefetch("{name}", queryset={model}.objects{chain}, to_attr="..."))'
    return "prefetch_related", f"shelf.{on}: {code}"


@loop(chosen(".filter(price__gt=...)"), fills=("3", "chosen"))
def condition_beyond_the_key(q):
    return [[book.title for book in author.books.filter(price__gt=3)] for author in q(Author)]


@follow("condition_beyond_the_key")
def condition_beyond_the_key_followed(q):
    return [[book.title for book in author.chosen] for author in q(Author)]


@loop(chosen('.order_by("-price")'), fills=("chosen",))
def order_of_each(q):
    return [[book.title for book in author.books.order_by("-price")] for author in q(Author)]


@loop(chosen(".select_related(...)"), fills=('"publisher"', "chosen"))
def join_of_each(q):
    books = (author.books.select_related("publisher") for author in q(Author))
    return [[book.publisher.name for book in of_one] for of_one in books]


@follow("join_of_each")
def join_of_each_followed(q):
    return [[book.publisher.name for book in author.chosen] for author in q(Author)]


@loop(chosen('.order_by("price")[:...]'), fills=("2", "chosen"))
def some_of_each(q):
    return [[book.title for book in author.books.order_by("price")[:2]] for author in q(Author)]


for _name in ("order_of_each", "some_of_each"):
    follow(_name)(condition_beyond_the_key_followed)


@loop(chosen('.order_by("pk")[:1]'), fills=("chosen",))
def first_of_each(q):
    return [author.books.first().title for author in q(Author)]


@loop(chosen('.order_by("-pk")[:1]'), fills=("chosen",))
def last_of_each(q):
    return [author.books.last().title for author in q(Author)]


@loop(chosen('.order_by("-price")[:1]'), fills=("chosen",))
def dearest_of_each(q):
    return [author.books.order_by("-price").first().title for author in q(Author)]


@loop(chosen('.filter(title__startswith=...).order_by("pk")[:1]'), fills=('"book"', "chosen"))
def first_of_each_with_a_condition(q):
    return [author.books.filter(title__startswith="book").first().title for author in q(Author)]


@loop(chosen(".filter(...)"), fills=('Q(price=1) | Q(title__contains="2")', "chosen"))
def alternatives(q):
    condition = Q(price=1) | Q(title__contains="2")
    return [[book.title for book in author.books.filter(condition)] for author in q(Author)]


follow("alternatives")(condition_beyond_the_key_followed)


def chosen_replies(chain):
    return chosen(chain, "replies", "Topic", "Reply")


@loop(chosen_replies('.order_by("-text")[:1]'), fills=("chosen",))
def first_in_the_order_of_the_model(q):
    return [topic.replies.first().text for topic in q(Topic)]


@loop(chosen_replies('.order_by("text")[:1]'), fills=("chosen",))
def last_in_the_order_of_the_model(q):
    return [topic.replies.last().text for topic in q(Topic)]


@loop(fetch("replies", "Topic"))
def first_by_index(q):
    return [topic.replies.all()[0].text for topic in q(Topic)]


def first_reply_followed(q):
    return [topic.chosen[0].text for topic in q(Topic)]


for _name in ("first_in_the_order_of_the_model", "last_in_the_order_of_the_model"):
    follow(_name)(first_reply_followed)


@loop(chosen_replies('.order_by("-text")[:1]'), join("author", "Reply"), fills=("chosen",))
def relation_of_the_first(q):
    return [topic.replies.first().author.name for topic in q(Topic)]


@follow("relation_of_the_first")
def relation_of_the_first_followed(q):
    return [topic.chosen[0].author.name for topic in q(Topic)]


@loop(chosen_replies(".filter(topic__first_reply__text__startswith=...)"), fills=('"second"', "chosen"))
def condition_on_the_same_table_joined(q):
    replies = (topic.replies.filter(topic__first_reply__text__startswith="second") for topic in q(Topic))
    return [[reply.text for reply in of_one] for of_one in replies]


@follow("condition_on_the_same_table_joined")
def condition_on_the_same_table_joined_followed(q):
    return [[reply.text for reply in topic.chosen] for topic in q(Topic)]


def one_of_each(q):
    return [author.chosen[0].title for author in q(Author)]


for _name in ("first_of_each", "last_of_each", "dearest_of_each", "first_of_each_with_a_condition"):
    follow(_name)(one_of_each)


@loop(chosen(".filter(name__contains=...)", "tags", "Book", "Tag"), fills=('"tag"', "chosen"))
def condition_of_many_to_many(q):
    return [[tag.name for tag in book.tags.filter(name__contains="tag")] for book in q(Book)]


@follow("condition_of_many_to_many")
def condition_of_many_to_many_followed(q):
    return [[tag.name for tag in book.chosen] for book in q(Book)]


@loop(fetch("books"))
def filter_by_the_object(q):
    return [[book.title for book in Book.objects.filter(author=author)] for author in q(Author)]


follow("filter_by_the_object")(backward_foreign_key)


@loop(chosen(".filter(price__gt=...)"), fills=("3", "chosen"))
def filter_by_the_object_and_more(q):
    return [[book.title for book in Book.objects.filter(author=author, price__gt=3)] for author in q(Author)]


follow("filter_by_the_object_and_more")(condition_beyond_the_key_followed)


@loop(fetch("tags", "Book"))
def filter_many_to_many_by_the_object(q):
    return [[tag.name for tag in Tag.objects.filter(tagged=book)] for book in q(Book)]


follow("filter_many_to_many_by_the_object")(many_to_many)


@loop(("in_bulk", "shelf.Book: filter(publisher__in=...)"))
def filter_without_a_way_back(q):
    found = {one.pk: list(Book.objects.filter(publisher=one)) for one in Publisher.objects.all()}
    return [[book.title for book in books] for books in found.values()]


@follow("filter_without_a_way_back")
def filter_without_a_way_back_followed(q):
    publishers = list(Publisher.objects.all())
    found = {one.pk: [] for one in publishers}
    for book in Book.objects.filter(publisher__in=publishers):
        found[book.publisher_id].append(book)
    return [[book.title for book in books] for books in found.values()]


@loop(("prefetch_related", "shelf.Book"))
def prefetch_for_each(q):
    found = []
    for book in q(Book):
        prefetch_related_objects([book], "tags")
        found.append([tag.name for tag in book.tags.all()])
    return found


@follow("prefetch_for_each")
def prefetch_for_all(q):
    books = list(q(Book))
    prefetch_related_objects(books, "tags")
    return [[tag.name for tag in book.tags.all()] for book in books]


# annotate: a figure for each row.


def figure(code, on="Author"):
    return "annotate", f"shelf.{on}: annotate({code})"


COUNTED = figure('books_count=Count("books", distinct=True)')


@loop(COUNTED)
def count_of_each(q):
    return [author.books.count() for author in q(Author)]


@loop(COUNTED)
def count_by_filter(q):
    return [Book.objects.filter(author=author).count() for author in q(Author)]


@loop(COUNTED)
def count_in_an_async_loop(q):
    async def count():
        return [await author.books.acount() async for author in q(Author)]

    return async_to_sync(count)()


@loop(figure('books_count=Count("books", filter=Q(books__price__gt=...), distinct=True)'), fills=("3",))
def count_with_a_condition(q):
    return [author.books.filter(price__gt=3).count() for author in q(Author)]


def counted(q):
    return [author.books_count for author in q(Author)]


for _name in ("count_of_each", "count_by_filter", "count_in_an_async_loop", "count_with_a_condition"):
    follow(_name)(counted)


@loop(COUNTED)
def count_in_a_template(q):
    return render("{% for author in authors %}{{ author.books.count }}{% endfor %}", authors=q(Author))


@follow("count_in_a_template")
def count_in_a_template_followed(q):
    return render("{% for author in authors %}{{ author.books_count }}{% endfor %}", authors=q(Author))


@loop(figure('has_books=Exists(Book.objects.filter(author=OuterRef("pk")))'))
def whether_each_has_some(q):
    return [author.books.exists() for author in q(Author)]


@follow("whether_each_has_some")
def whether_each_has_some_followed(q):
    return [author.has_books for author in q(Author)]


@loop(figure('books_sum=Sum("books__price")'))
def sum_of_each(q):
    return [author.books.aggregate(total=Sum("price"))["total"] for author in q(Author)]


@follow("sum_of_each")
def sum_of_each_followed(q):
    return [author.books_sum for author in q(Author)]


@loop(figure('books_sum=Sum("books__price", filter=Q(books__price__gt=...), default=...)'), fills=("3", "0"))
def sum_with_a_default(q):
    return [
        author.books.filter(price__gt=3).aggregate(total=Sum("price", default=0))["total"]
        for author in q(Author)
    ]


@follow("sum_with_a_default")
def sum_with_a_default_followed(q):
    return [author.books_sum for author in q(Author)]


@loop(figure('books_sum=Sum("books__price"), books_count=Count("books__author")'))
def two_figures(q):
    asked = [author.books.aggregate(Sum("price"), Count("author")) for author in q(Author)]
    return [(one["price__sum"], one["author__count"]) for one in asked]


@follow("two_figures")
def two_figures_followed(q):
    return [(author.books_sum, author.books_count) for author in q(Author)]


@loop(figure("books_sum=Sum(...)"), fills=('F("books__price") * 2',))
def sum_of_an_expression(q):
    return [author.books.aggregate(total=Sum(F("price") * 2))["total"] for author in q(Author)]


follow("sum_of_an_expression")(sum_of_each_followed)


@loop(figure('books_count=Count("books", filter=Q(...), distinct=True)'), fills=("~Q(books__price=3)",))
def count_of_what_is_not_excluded(q):
    return [author.books.exclude(price=3).count() for author in q(Author)]


follow("count_of_what_is_not_excluded")(counted)


@loop(
    figure(
        'has_review_set=Exists(Review.objects.filter(book=OuterRef("pk"), group__name__startswith=...))',
        "Book",
    ),
    fills=('"group"',),
)
def condition_on_a_joined_table(q):
    reviews = (Review.objects.filter(book=book, group__name__startswith="group") for book in q(Book))
    return [of_one.exists() for of_one in reviews]


@follow("condition_on_a_joined_table")
def condition_on_a_joined_table_followed(q):
    return [book.has_review_set for book in q(Book)]


@loop(figure('annotated_has_replies=Exists(Reply.objects.filter(topic=OuterRef("pk")))', "Topic"))
def name_that_the_model_has_already(q):
    return [topic.has_replies for topic in q(Topic)]


@follow("name_that_the_model_has_already")
def name_that_the_model_has_already_followed(q):
    return [topic.annotated_has_replies for topic in q(Topic)]


@loop(join("topic", "Reply"), figure('topic_replies_count=Count("topic__replies", distinct=True)', "Reply"))
def count_of_the_owner(q):
    return [(reply.text, reply.topic.replies.count()) for reply in q(Reply)]


@follow("count_of_the_owner")
def count_of_the_owner_followed(q):
    return [(reply.text, reply.topic_replies_count) for reply in q(Reply)]


@loop(
    join("topic", "Reply"),
    figure(
        'has_topic_replies=Exists(Reply.objects.filter(..., topic=OuterRef("topic"), text__contains=...))',
        "Reply",
    ),
    fills=('Q(author=1) | Q(text__gt="a")', '"first"'),
)
def whether_the_owner_has_some(q):
    chosen = Q(author=1) | Q(text__gt="a")
    return [reply.topic.replies.filter(chosen, text__contains="first").exists() for reply in q(Reply)]


@follow("whether_the_owner_has_some")
def whether_the_owner_has_some_followed(q):
    return [reply.has_topic_replies for reply in q(Reply)]


@loop(figure('tags_count=Count("tags", distinct=True)', "Book"))
def count_of_many_to_many(q):
    return [book.tags.count() for book in q(Book)]


@follow("count_of_many_to_many")
def count_of_many_to_many_followed(q):
    return [book.tags_count for book in q(Book)]


@loop(figure('has_tags=Exists(Tag.objects.filter(tagged=OuterRef("pk")))', "Book"))
def whether_each_has_a_tag(q):
    return [book.tags.exists() for book in q(Book)]


@follow("whether_each_has_a_tag")
def whether_each_has_a_tag_followed(q):
    return [book.has_tags for book in q(Book)]


# in_bulk: rows found one by one by their values.

KEYS = range(1, ROWS + 1)
BY_NAME = ("in_bulk", "shelf.Author: filter(name__in=...)")
BY_KEY = ("in_bulk", "shelf.Author: in_bulk(...)")
WANTED = [f"author {number}" for number in range(ROWS)]


@loop(BY_KEY)
def get_by_key(q):
    return [Author.objects.get(pk=key).name for key in KEYS]


@loop(BY_KEY)
def get_by_key_or_404(q):
    return [get_object_or_404(Author, pk=key).name for key in KEYS]


@loop(BY_KEY)
def get_by_key_in_an_async_loop(q):
    async def get():
        return [(await Author.objects.aget(pk=key)).name for key in KEYS]

    return async_to_sync(get)()


def in_bulk(q):
    found = Author.objects.in_bulk(KEYS)
    return [found[key].name for key in KEYS]


for _name in ("get_by_key", "get_by_key_or_404", "get_by_key_in_an_async_loop"):
    follow(_name)(in_bulk)


@loop(BY_KEY)
def first_by_key_with_a_subquery_in_its_columns(q):
    some = Exists(Book.objects.filter(author=OuterRef("pk"), price=1))
    return [Author.objects.annotate(some=some).filter(pk=key).first().name for key in KEYS]


follow("first_by_key_with_a_subquery_in_its_columns")(in_bulk)


@loop(BY_NAME)
def get_by_another_field(q):
    return [Author.objects.get(name=name).pk for name in WANTED]


@loop(BY_NAME)
def first_by_another_field(q):
    return [Author.objects.filter(name=name).first().pk for name in WANTED]


def by_name(q):
    found = {author.name: author for author in Author.objects.filter(name__in=WANTED)}
    return [found[name].pk for name in WANTED]


follow("get_by_another_field")(by_name)
follow("first_by_another_field")(by_name)


@loop(BY_NAME)
def whether_a_name_is_taken(q):
    return [Author.objects.filter(name=name).exists() for name in WANTED]


@follow("whether_a_name_is_taken")
def whether_a_name_is_taken_followed(q):
    taken = set(Author.objects.filter(name__in=WANTED).values_list("name", flat=True))
    return [name in taken for name in WANTED]


@loop(BY_KEY)
def reload_each(q):
    authors = list(q(Author))
    for author in authors:
        author.refresh_from_db()
    return [author.name for author in authors]


@follow("reload_each")
def reload_all(q):
    found = Author.objects.in_bulk([author.pk for author in q(Author)])
    return [author.name for author in found.values()]


@loop(BY_KEY)
def relation_of_unsaved_objects(q):
    return [Book(author_id=key).author.name for key in KEYS]


follow("relation_of_unsaved_objects")(in_bulk)


@loop(("in_bulk", "shelf.Tag.name"), ("bulk_create", "bulk_create(...)"))
def get_or_create_each(q):
    return [Tag.objects.get_or_create(name=f"new {number}")[0].name for number in range(ROWS)]


@follow("get_or_create_each")
def get_or_create_all(q):
    wanted = [f"new {number}" for number in range(ROWS)]
    known = set(Tag.objects.filter(name__in=wanted).values_list("name", flat=True))
    Tag.objects.bulk_create(Tag(name=name) for name in wanted if name not in known)
    return wanted


# ask_once: the same rows each time.


@loop(("ask_once", "shelf.Country"))
def one_row_for_each(q):
    return [(book.title, Country.objects.get(pk=1).name) for book in q(Book)]


@follow("one_row_for_each")
def one_row_once(q):
    country = Country.objects.get(pk=1)
    return [(book.title, country.name) for book in q(Book)]


@loop(("ask_once", ""))
def statement_without_values(q):
    return [(book.title, Country.objects.count()) for book in q(Book)]


@follow("statement_without_values")
def statement_without_values_once(q):
    count = Country.objects.count()
    return [(book.title, count) for book in q(Book)]


class BookForm(forms.Form):
    author = forms.ModelChoiceField(Author.objects.order_by("pk"))


@loop(("ask_once", ""))
def choices_of_each_form(q):
    return [str(BookForm(prefix="form")["author"]) for _ in range(ROWS)]


@follow("choices_of_each_form")
def choices_of_all_forms(q):
    found = []
    choices = list(BookForm().fields["author"].choices)
    for _ in range(ROWS):
        form = BookForm(prefix="form")
        form.fields["author"].choices = choices
        found.append(str(form["author"]))
    return found


# load_field: a deferred field.


@loop(("load_field", "shelf.Book.text"))
def deferred_field(q):
    return [book.text for book in q(Book).defer("text")]


@follow("deferred_field")
def loaded_field(q):
    return [book.text for book in q(Book)]


@loop(("load_field", "shelf.Book.text"))
def field_beyond_only(q):
    return [book.text for book in q(Book).only("title")]


@follow("field_beyond_only")
def field_in_only(q):
    return [book.text for book in q(Book).only("title", "text")]


@loop(("load_field", "shelf.Author.biography"))
def deferred_field_of_a_joined_model(q):
    return [book.author.biography for book in q(Book).select_related("author").only("author__name")]


@follow("deferred_field_of_a_joined_model")
def loaded_field_of_a_joined_model(q):
    books = q(Book).select_related("author").only("author__name", "author__biography")
    return [book.author.biography for book in books]


@loop(("load_field", "shelf.Book.price"))
def column_left_out_by_raw(q):
    return [book.price for book in Book.objects.raw("SELECT id, title FROM shelf_book")]


@follow("column_left_out_by_raw")
def column_read_by_raw(q):
    return [book.price for book in Book.objects.raw("SELECT id, title, price FROM shelf_book")]


# Writes.

CREATE = ("bulk_create", "bulk_create(...)")


@loop(CREATE)
def create_each(q):
    return [Tag.objects.create(name=f"new {number}").name for number in range(ROWS)]


@loop(CREATE)
def save_each_new(q):
    tags = [Tag(name=f"new {number}") for number in range(ROWS)]
    for tag in tags:
        tag.save()
    return [tag.name for tag in tags]


@loop(CREATE)
def bulk_create_each(q):
    found = []
    for number in range(ROWS):
        found += Tag.objects.bulk_create([Tag(name=f"new {number}")])
    return [tag.name for tag in found]


def create_all(q):
    made = Tag.objects.bulk_create(Tag(name=f"new {number}") for number in range(ROWS))
    return [tag.name for tag in made]


for _name in ("create_each", "save_each_new", "bulk_create_each"):
    follow(_name)(create_all)


@loop(CREATE)
def create_each_of_a_related_set(q):
    book, group = Book.objects.get(pk=1), Group.objects.first()
    for _ in range(ROWS):
        book.review_set.create(group=group)
    return Review.objects.filter(book=book).count()


@follow("create_each_of_a_related_set")
def create_all_of_a_related_set(q):
    # Without reading book and group: their keys are enough.
    Review.objects.bulk_create(Review(book_id=1, group_id=1) for _ in range(ROWS))
    return Review.objects.filter(book_id=1).count()


@loop(("bulk_update", "shelf.Book"))
def save_each(q):
    for book in q(Book):
        book.price += 1
        book.save()
    return sorted(Book.objects.values_list("price", flat=True))


@loop(("bulk_update", "shelf.Book"))
def save_one_field_of_each(q):
    for book in q(Book):
        book.price += 1
        book.save(update_fields=["price"])
    return sorted(Book.objects.values_list("price", flat=True))


@loop(("bulk_update", "shelf.Book"))
def update_each(q):
    for book in q(Book):
        Book.objects.filter(pk=book.pk).update(price=book.price + 1)
    return sorted(Book.objects.values_list("price", flat=True))


def save_all(q):
    books = list(q(Book))
    for book in books:
        book.price += 1
    Book.objects.bulk_update(books, ["price"])
    return sorted(Book.objects.values_list("price", flat=True))


for _name in ("save_each", "save_one_field_of_each", "update_each"):
    follow(_name)(save_all)


@loop(("bulk_delete", "shelf.Cover"))
def delete_each(q):
    for cover in q(Cover):
        cover.delete()
    return Cover.objects.count()


@loop(("bulk_delete", "shelf.Cover"))
def delete_each_by_key(q):
    for key in Cover.objects.values_list("pk", flat=True):
        Cover.objects.filter(pk=key).delete()
    return Cover.objects.count()


def delete_all(q):
    Cover.objects.filter(pk__in=list(Cover.objects.values_list("pk", flat=True))).delete()
    return Cover.objects.count()


follow("delete_each")(delete_all)
follow("delete_each_by_key")(delete_all)

ADD = ("bulk_create", "Book.tags.through.objects.bulk_create(..., ignore_conflicts=True)")


@loop(ADD)
def add_to_each(q):
    tag = Tag.objects.get(pk=1)
    for book in q(Book):
        book.tags.add(tag)
    return THROUGH.objects.filter(tag_id=1).count()


@follow("add_to_each")
def add_to_all(q):
    THROUGH.objects.bulk_create((THROUGH(book=book, tag_id=1) for book in q(Book)), ignore_conflicts=True)
    return THROUGH.objects.filter(tag_id=1).count()


@loop(("bulk_delete", "Book.tags.through.objects.filter(...).delete()"))
def clear_each(q):
    for book in q(Book):
        book.tags.clear()
    return THROUGH.objects.count()


@follow("clear_each")
def clear_all(q):
    THROUGH.objects.filter(book__in=q(Book)).delete()
    return THROUGH.objects.count()


# Found by trying what was not in the corpus.


@loop(("annotate", 'shelf.Author: annotate(books_count=Count("books__price", distinct=True))'))
def different_prices_of_each(q):
    return [author.books.values("price").distinct().count() for author in q(Author)]


@follow("different_prices_of_each")
def different_prices_counted(q):
    return [author.books_count for author in q(Author)]


@loop(join("cover"))
def one_to_one_by_first(q):
    return [Cover.objects.filter(book=book).first().colour for book in q(Book)]


@follow("one_to_one_by_first")
def one_to_one_by_its_attribute(q):
    return [book.cover.colour for book in q(Book)]


@loop(
    (
        "prefetch_related",
        (
            "shelf.Book: "
            'prefetch_related(Prefetch("cover", queryset=Cover.objects.filter(colour=...), to_attr="..."))'
        ),
    ),
    fills=("'red'", "red_cover"),
)
def one_to_one_with_a_condition(q):
    return [Cover.objects.filter(book=book, colour="red").first().colour for book in q(Book)]


@follow("one_to_one_with_a_condition")
def one_to_one_prefetched_with_a_condition(q):
    return [book.red_cover.colour for book in q(Book)]


KEY_IS_DEFERRED = () if django.VERSION >= (6, 1) else (("load_field", "shelf.Book.author"),)
"""From 6.1 on, a related manager knows the key of its rows without reading it."""


@loop(
    (
        "prefetch_related",
        'shelf.Author: prefetch_related(Prefetch("books", queryset=Book.objects.only(...), to_attr="..."))',
    ),
    *KEY_IS_DEFERRED,
    fills=("'title', 'author'", "titled"),
)
def key_left_out_by_only(q):
    return [[book.title for book in author.books.only("title")] for author in q(Author)]


@follow("key_left_out_by_only")
def key_in_only(q):
    return [[book.title for book in author.titled] for author in q(Author)]


@loop(chosen(".filter(title__endswith=...)"), fills=("' 1'", "second"))
def one_row_of_each_by_get(q):
    return [Book.objects.get(author=author, title__endswith=" 1").pk for author in q(Author)]


@follow("one_row_of_each_by_get")
def one_row_of_each_prefetched(q):
    return [author.second[0].pk for author in q(Author)]
