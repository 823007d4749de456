"""Loops over the database, and loops that look like them."""

import time

from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.paginator import Paginator
from django.db import connection, transaction
from django.db.models import Sum
from django.http import JsonResponse
from django.shortcuts import render
from rest_framework import serializers

from sqllogs import repeats_allowed, unit_of_work
from tests.sqllogs.advice_models import Author, Book, Club, Country, Cover, Note, Post, Publisher, Review, Tag
from tests.sqllogs.findings.examples import POSTGRESQL, examples_of

bad, good = examples_of("n_plus_one")


def book_json(book):
    return {"title": book.title, "author": book.author.name}


@bad()
def json_of_books(request):
    return JsonResponse({"books": [book_json(book) for book in Book.objects.all()]})


@bad(
    template="<table>{% for book in books %}"
    "<tr><td>{{ book }}<td>{{ book.publisher.name }}{% endfor %}</table>",
    also=("rendering",),
)
def table_of_books(request):
    return render(request, "table_of_books.html", {"books": Book.objects.order_by("title")})


@bad(
    template="{% for book in books %}{{ book }}: {% for tag in book.tags.all %}"
    "{{ tag.name }} {% endfor %}{% endfor %}"
)
def tags_of_books(request):
    return render(request, "tags_of_books.html", {"books": Book.objects.filter(price__gt=2)})


class CountrySerializer(serializers.ModelSerializer):
    class Meta:
        model = Country
        fields = ["name"]


class AuthorSerializer(serializers.ModelSerializer):
    country = CountrySerializer()
    books = serializers.SerializerMethodField()

    class Meta:
        model = Author
        fields = ["name", "country", "books"]

    def get_books(self, author):
        return 0


class AuthorWithBooksSerializer(AuthorSerializer):
    def get_books(self, author):
        return author.books.count()


@bad(also=("rendering",))
def nested_serializer(request):
    return JsonResponse(AuthorSerializer(Author.objects.all(), many=True).data, safe=False)


@bad(also=("rendering",))
def serializer_method_that_counts(request):
    authors = Author.objects.select_related("country")
    return JsonResponse(AuthorWithBooksSerializer(authors, many=True).data, safe=False)


@bad(also=("rendering",))
def labels_of_covers(request):
    return JsonResponse({"covers": [str(cover) for cover in Cover.objects.all()]})


@bad(path="/admin/shelf/book/")
@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ("title", "country")

    def country(self, book):
        return book.author.country


@bad(unit="command")
def command_that_saves_each(request):
    for book in Book.objects.all():
        book.title = book.title.strip()
        book.save(update_fields=["title"])


@bad(unit="task")
def import_of_tags(request):
    rows = ["tag 1", "tag 2", "tag 3", "tag 4", "tag 5", "tag 6"]
    return [Tag.objects.get_or_create(name=name)[0] for name in rows]


@bad()
def permissions_of_users(request):
    return JsonResponse(
        {user.username: user.has_perm("auth.add_user") for user in User.objects.filter(is_superuser=False)}
    )


@bad()
def authors_with_expensive_books(request):
    names = [author.name for author in Author.objects.all() if author.books.filter(price__gt=5).exists()]
    return JsonResponse({"authors": names})


@bad()
def newest_book_of_each_author(request):
    newest = {author.name: author.books.order_by("-pk").first() for author in Author.objects.all()}
    return JsonResponse({name: book.title for name, book in newest.items()})


@bad(unit="task")
def targets_of_notes(request):
    return [note.target.pk for note in Note.objects.all()]


@bad()
async def async_view(request):
    return JsonResponse({author.name: await author.books.acount() async for author in Author.objects.all()})


@bad()
def cart_in_the_session(request):
    cart = {1: 2, 4: 1, 5: 1, 9: 3, 12: 1, 14: 1}
    total = sum(number * Book.objects.get(pk=pk).price for pk, number in cart.items())
    return JsonResponse({"total": total})


@bad(unit="command")
def tag_added_to_each_book(request):
    tag = Tag.objects.get(pk=1)
    for book in Book.objects.filter(price__gte=3):
        book.tags.add(tag)


@bad()
def deferred_text(request):
    return JsonResponse({book.title: len(book.text) for book in Book.objects.only("title")})


@bad()
def latest_of_each_kind_from_a_service(request):
    def latest(country_id):
        return Author.objects.filter(country_id=country_id).order_by("-pk").values("name").first()

    return JsonResponse({str(pk): latest(pk) for pk in range(1, 8)})


@good()
def loop_of_four(request):
    return JsonResponse({author.name: author.country.name for author in Author.objects.all()[:4]})


@good()
def joined(request):
    return JsonResponse({"books": [book_json(book) for book in Book.objects.select_related("author")]})


@good(
    template="{% for book in books %}{{ book }}{% for tag in book.tags.all %}"
    "{{ tag.name }}{% endfor %}{% endfor %}"
)
def prefetched(request):
    return render(request, "prefetched.html", {"books": Book.objects.prefetch_related("tags")})


@good(unit="command")
def export_by_pages(request):
    pages = Paginator(Book.objects.order_by("pk"), 3)
    return [[book.title for book in page.object_list] for page in pages]


@good(unit="command")
def export_by_key(request):
    last, titles = 0, []
    while books := list(Book.objects.filter(pk__gt=last).order_by("pk")[:3]):
        titles += [book.title for book in books]
        last = books[-1].pk
    return titles


@good(unit="command")
def batches_of_ids(request):
    ids = list(range(1, 22))
    batches = [ids[start : start + 3] for start in range(0, 21, 3)]
    return [Book.objects.in_bulk(batch) for batch in batches]


@good(unit="task")
def import_in_batches(request):
    publishers = [Publisher(name=f"imported {number}") for number in range(24)]
    Publisher.objects.bulk_create(publishers, batch_size=4)


@good(unit="task", on=POSTGRESQL)
def worker_of_a_queue(request):
    done = []
    for _ in range(6):
        with transaction.atomic():
            job = Note.objects.select_for_update(skip_locked=True).exclude(pk__in=done).first()
            done.append(job.pk)
    return done


@good()
def dashboard_of_counts(request):
    models = (Author, Book, Club, Country, Cover, Post, Publisher, Review)
    return JsonResponse({model.__name__: model.objects.count() for model in models})


@good(unit="task")
def six_tasks(request):
    for number in range(1, 7):
        with unit_of_work("task", "send_one"):
            Author.objects.get(pk=number)


@good(unit="task")
def steps_in_savepoints(request):
    def clean_titles():
        Book.objects.filter(title="").update(title="untitled")

    def clean_names():
        Author.objects.filter(name="").update(name="unknown")

    def clean_tags():
        Tag.objects.filter(name="").delete()

    def clean_clubs():
        Club.objects.filter(name="").update(name="unnamed")

    def clean_posts():
        Post.objects.filter(name="").update(name="untitled")

    with transaction.atomic():
        for step in (clean_titles, clean_names, clean_tags, clean_clubs, clean_posts):
            with transaction.atomic():
                step()


@good(unit="command")
def meant_and_marked(request):
    with repeats_allowed():
        for author in Author.objects.all():
            author.save(update_fields=["name"])


@good()
def two_short_loops(request):
    names = [author.country.name for author in Author.objects.all()[:3]]
    again = [author.country.name for author in Author.objects.order_by("name")[:3]]
    return JsonResponse({"names": names + again})


@good()
def cached_countries(request):
    def country(pk):
        return cache.get_or_set(f"country {pk % 2}", lambda: Country.objects.get(pk=pk % 2 + 1).name)

    return JsonResponse({author.name: country(author.pk) for author in Author.objects.all()})


@good()
def one_query_for_all_permissions(request):
    user = User.objects.filter(is_superuser=False).first()
    codes = Permission.objects.values_list("codename", flat=True)[:20]
    return JsonResponse({code: user.has_perm(f"auth.{code}") for code in codes})


@good(unit="command")
def old_rows_deleted_in_portions(request):
    Tag.objects.bulk_create(Tag(name="expired") for _ in range(24))
    while ids := list(Tag.objects.filter(name="expired").values_list("pk", flat=True)[:4]):
        Tag.objects.filter(pk__in=ids).delete()


@bad()
def sum_of_each_price(request):
    sums = [Book.objects.filter(price=price).aggregate(sum=Sum("price"))["sum"] for price in range(12)]
    return JsonResponse({"sums": sums})


@bad()
def literals_in_a_cursor(request):
    titles = []
    with connection.cursor() as cursor:
        for pk in range(1, 8):
            cursor.execute(f"SELECT title FROM {Book._meta.db_table} WHERE author_id = {pk}")
            titles += [title for (title,) in cursor.fetchall()]
    return JsonResponse({"titles": titles})


@good(unit="task")
def waiting_for_the_state_of_a_row(request):
    post = Post.objects.get(pk=1)
    for _ in range(6):
        post.refresh_from_db()
        time.sleep(0.25)


@good()
def six_random_books(request):
    return JsonResponse({"titles": [Book.objects.order_by("?").first().title for _ in range(6)]})


@good(unit="command")
def tags_prefetched_by_an_iterator(request):
    return [list(book.tags.all()) for book in Book.objects.prefetch_related("tags").iterator(chunk_size=3)]
