"""A COUNT of what is read anyway, and a COUNT that is needed."""

import io

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Count, Sum
from django.http import JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from rest_framework import serializers
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request

from sqllogs import unit_of_work
from tests.sqllogs.advice_models import Author, Book, Country, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import examples_of
from transactions.models import Account

bad, good = examples_of("count_and_list")


@bad(template="{{ number }} books{% for book in books %}{{ book.title }}{% endfor %}")
def number_for_the_title(request):
    books = Book.objects.order_by("title")
    return render(request, "number_for_the_title.html", {"books": books, "number": books.count()})


@bad(
    template="{{ books.count }} books{% for book in books %}{{ book.title }}{% endfor %}", also=("rendering",)
)
def counted_by_the_template(request):
    return render(request, "counted_by_the_template.html", {"books": Book.objects.filter(price__gt=3)})


@bad()
def counted_to_see_whether_there_are_any(request):
    notes = Note.objects.filter(text="of a post")
    titles = []
    if notes.count() > 0:
        titles = [note.object_id for note in notes]
    return JsonResponse({"titles": titles})


@bad()
def counted_afterwards(request):
    authors = Author.objects.filter(country__name__startswith="country")
    names = [author.name for author in authors]
    return JsonResponse(
        {"names": names, "number": Author.objects.filter(country__name__startswith="country").count()}
    )


@bad()
def books_of_an_author(request):
    author = get_object_or_404(Author, pk=1)
    books = [book.title for book in author.books.all()]
    return JsonResponse({"number": author.books.count(), "books": books})


class TagSerializer(serializers.ModelSerializer):
    class Meta:
        model = Tag
        fields = ["name"]


@bad()
def count_and_results(request):
    tags = Tag.objects.order_by("name")
    return JsonResponse({"count": tags.count(), "results": TagSerializer(tags, many=True).data})


@bad()
def ids_and_their_number(request):
    books = Book.objects.filter(author__name="author 2")
    return JsonResponse({"number": books.count(), "ids": list(books.values_list("pk", flat=True))})


@bad()
async def async_count_and_list(request):
    publishers = Publisher.objects.filter(name__startswith="publisher")
    return JsonResponse({"n": await publishers.acount(), "names": [one.name async for one in publishers]})


@bad()
def distinct_authors(request):
    authors = Author.objects.filter(books__price__gt=1).distinct()
    return JsonResponse({"number": authors.count(), "names": [author.name for author in authors]})


class Publishing(admin.ModelAdmin):
    def publish(self, request, queryset):
        message = f"Publishing {queryset.count()} posts"
        return message, [post.name for post in queryset]


@bad()
def admin_action(request):
    queryset = Post.objects.filter(pk__in=[1, 2, 3])
    message = Publishing(Post, admin.AdminSite()).publish(request, queryset)
    return JsonResponse({"message": message})


@bad()
def members_of_a_relation(request):
    book = Book.objects.get(pk=1)
    names = [tag.name for tag in book.tags.all()]
    return JsonResponse({"number": book.tags.count(), "names": names})


@good()
def page_with_its_total(request):
    page = Paginator(Book.objects.order_by("pk"), 5).get_page(2)
    return JsonResponse({"total": page.paginator.count, "titles": [book.title for book in page]})


@good()
def export_with_its_total(request):
    accounts = Account.objects.all()
    total = accounts.count()
    rows = (f"{account.iban}\n" for account in accounts.iterator())
    return StreamingHttpResponse(rows, headers={"X-Total": total})


@good()
def count_of_another_table(request):
    titles = [book.title for book in Book.objects.filter(price=3)]
    return JsonResponse({"titles": titles, "authors": Author.objects.count()})


@good()
def cheap_ones_of_all(request):
    cheap = [book.title for book in Book.objects.filter(price__lt=2)]
    return JsonResponse({"cheap": cheap, "all": Book.objects.count()})


@good()
def unread_beside_archived(request):
    unread = Note.objects.filter(text="unread").count()
    archived = [note.pk for note in Note.objects.filter(text="of a group")]
    return JsonResponse({"unread": unread, "archived": archived})


@good()
def number_in_each_tab(request):
    tabs = {text: Note.objects.filter(text=text).count() for text in ("of a group", "of a post", "draft")}
    shown = [note.pk for note in Note.objects.filter(text="of a post")]
    return JsonResponse({"tabs": tabs, "shown": shown})


@good(path="/admin/shelf/tag/")
@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    list_per_page = 5


@good(path="/admin/shelf/country/?q=1")
@admin.register(Country)
class CountryAdmin(admin.ModelAdmin):
    search_fields = ("name",)


@good()
def length_of_the_list(request):
    books = Book.objects.filter(price=4)
    return JsonResponse({"number": len(books), "titles": [book.title for book in books]})


@good()
def exists_and_list(request):
    posts = Post.objects.filter(name__startswith="post")
    return JsonResponse({"any": posts.exists(), "names": [post.name for post in posts]})


@good()
def rest_framework_page(request):
    pagination = LimitOffsetPagination()
    pagination.default_limit = 4
    rows = pagination.paginate_queryset(Tag.objects.order_by("pk"), Request(request))
    return JsonResponse({"count": pagination.count, "results": TagSerializer(rows, many=True).data})


@good()
def counted_after_a_deletion(request):
    Tag.objects.create(name="obsolete")
    tags = Tag.objects.filter(name="obsolete")
    for tag in list(tags):
        tag.delete()
    return JsonResponse({"left": tags.count()})


@good()
def number_beside_each(request):
    authors = Author.objects.annotate(number=Count("books"))
    return JsonResponse({author.name: author.number for author in authors})


@good()
def sums_beside_the_list(request):
    books = Book.objects.filter(publisher__name="publisher 1")
    return JsonResponse({"total": books.aggregate(Sum("price")), "titles": [book.title for book in books]})


@good()
def number_and_sum(request):
    books = Book.objects.filter(publisher__name="publisher 1")
    return JsonResponse({"number": books.count(), "total": books.aggregate(Sum("price"))})


@good()
def some_by_id_and_all_counted(request):
    chosen = Book.objects.filter(pk__in=[1, 2, 3])
    return JsonResponse({"chosen": [book.title for book in chosen], "of": Book.objects.count()})


@good(unit="command")
def count_in_one_unit_and_list_in_another(request):
    with unit_of_work("task", "count"):
        number = Publisher.objects.count()
    with unit_of_work("task", "list"):
        return number, list(Publisher.objects.all())


@bad()
def listed_twice_and_counted(request):
    cheap = [book.title for book in Book.objects.filter(price=1)]
    dear = [book.title for book in Book.objects.filter(price=7)]
    return JsonResponse({"cheap": cheap, "dear": dear, "number": Book.objects.filter(price=1).count()})


@bad()
def counted_by_a_method_of_the_model(request):
    chosen = Author.objects.filter(pk__in=[1, 2], name__startswith="author")
    number = chosen.count()
    return JsonResponse(
        {"number": number, "names": list(chosen.order_by("-name").values_list("name", flat=True))}
    )


@bad(unit="task")
def counted_for_the_log_and_then_sent(request):
    drafts = Note.objects.filter(text="of a post").select_related("content_type")
    print(f"sending {drafts.count()}", file=io.StringIO())
    return [note.object_id for note in drafts]


@good()
def cheap_ones_and_the_number_of_dear_ones(request):
    cheap = [book.title for book in Book.objects.filter(price__gt=0, price__lt=3)]
    return JsonResponse({"cheap": cheap, "dear": Book.objects.filter(price__gt=3, price__lt=9).count()})


@good()
def books_of_one_author_and_number_of_another(request):
    mine, other = Author.objects.get(pk=1), Author.objects.get(pk=2)
    return JsonResponse({"mine": [book.title for book in mine.books.all()], "other": other.books.count()})


@good()
def members_of_one_club_and_number_of_another(request):
    first, second = Book.objects.get(pk=1), Book.objects.get(pk=5)
    return JsonResponse({"tags": [tag.name for tag in first.tags.all()], "others": second.tags.count()})


@good(unit="task")
def counted_again_when_it_is_done(request):
    names = [tag.name for tag in Tag.objects.filter(name="new")]
    Tag.objects.create(name="new")
    number = Tag.objects.filter(name="new").count()
    Tag.objects.filter(name="new").delete()
    return names, number


@good(unit="command")
def counted_before_they_are_deleted(request):
    obsolete = Tag.objects.filter(name="obsolete")
    Tag.objects.bulk_create(Tag(name="obsolete") for _ in range(3))
    number = obsolete.count()
    obsolete.delete()
    return number


@good()
def by_many_ids_and_by_others(request):
    listed = list(Book.objects.filter(author__in=[1, 2, 3]).values_list("title", flat=True))
    return JsonResponse({"listed": listed, "others": Book.objects.filter(author__in=[4, 5]).count()})


@good(unit="command")
def counted_to_show_the_progress(request):
    accounts = Account.objects.filter(currency="EUR")
    total = accounts.count()
    for number, account in enumerate(accounts.iterator(chunk_size=200)):
        print(f"{account.iban}: {number / total:.0%}", file=io.StringIO())
