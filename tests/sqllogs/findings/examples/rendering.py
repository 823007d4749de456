"""Queries that are sent while rendering, and those that belong there."""

from django import forms
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import JsonResponse
from django.shortcuts import render
from django.utils.functional import SimpleLazyObject
from rest_framework import serializers

from tests.sqllogs.advice_models import Author, Book, Cover, Note, Post, Publisher, Review, Tag, Topic
from tests.sqllogs.findings.examples import TEMPLATES, examples_of
from transactions.models import Account

bad, good = examples_of("rendering")
TEMPLATES["part.html"] = "published by {{ book.publisher.name }}"
TEMPLATES["list.html"] = "{% for book in books %}<li>{{ book.title }}{% endfor %}"
TEMPLATES["site.html"] = "<title>{% block title %}{% endblock %}</title>{% block content %}{% endblock %}"


@bad(template="<h1>{{ book.title }}</h1> by {{ book.author.name }}")
def relation_in_an_expression(request):
    return render(request, "relation_in_an_expression.html", {"book": Book.objects.get(pk=1)})


@bad(template="{% if books.exists %}There are books.{% endif %}")
def exists_in_a_condition(request):
    return render(request, "exists_in_a_condition.html", {"books": Book.objects.filter(price=2)})


@bad(template="{{ notes.count }} notes")
def count_in_an_expression(request):
    return render(request, "count_in_an_expression.html", {"notes": Note.objects.all()})


@bad(template="First: {{ author.books.first.title }}")
def first_of_a_relation(request):
    return render(request, "first_of_a_relation.html", {"author": Author.objects.get(pk=2)})


@bad(template="{% with last=topic.replies.first %}{{ last.text }}{% endwith %}")
def row_kept_by_with(request):
    return render(request, "row_kept_by_with.html", {"topic": Topic.objects.get(pk=1)})


@bad(template="{% if book.author.name %}by {{ book.author.name }}{% endif %}")
def relation_in_a_condition(request):
    return render(request, "relation_in_a_condition.html", {"book": Book.objects.get(pk=4)})


@good(
    template="{% with books=all|slice:':3' %}{% for book in books %}{{ book.title }}{% endfor %}{% endwith %}"
)
def first_rows_kept_by_with(request):
    return render(request, "first_rows_kept_by_with.html", {"all": Book.objects.filter(price=3)})


@bad()
def label_of_one_cover(request):
    cover = Cover.objects.get(pk=1)
    return JsonResponse({"label": f"{cover}, 12 EUR"})


@bad(template="<a href='/reviews/{{ review.pk }}/'>{{ review }}</a>")
def object_in_an_expression(request):
    return render(request, "object_in_an_expression.html", {"review": Review.objects.get(pk=1)})


class BookSerializer(serializers.ModelSerializer):
    author = serializers.CharField(source="author.name")

    class Meta:
        model = Book
        fields = ["title", "author"]


@bad()
def source_through_a_relation(request):
    books = Book.objects.order_by("pk")[:3]
    return JsonResponse(BookSerializer(books, many=True).data, safe=False)


class PublisherSerializer(serializers.ModelSerializer):
    number = serializers.SerializerMethodField()

    class Meta:
        model = Publisher
        fields = ["name", "number"]

    def get_number(self, publisher):
        return Book.objects.filter(publisher=publisher).count()


@bad()
def method_field_that_counts(request):
    publishers = Publisher.objects.order_by("pk")[:4]
    return JsonResponse(PublisherSerializer(publishers, many=True).data, safe=False)


class TaggedSerializer(serializers.ModelSerializer):
    tags = serializers.StringRelatedField(many=True)

    class Meta:
        model = Book
        fields = ["title", "tags"]


@bad()
def related_objects_of_each_row(request):
    return JsonResponse(TaggedSerializer(Book.objects.order_by("-pk")[:4], many=True).data, safe=False)


@bad(template="{{ book.title }} {% include 'part.html' %}")
def expression_of_an_included_template(request):
    return render(request, "expression_of_an_included_template.html", {"book": Book.objects.get(pk=3)})


@bad(template="{% with total=author.books.count %}{{ total }} books{% endwith %}")
def count_kept_with_a_name(request):
    return render(request, "count_kept_with_a_name.html", {"author": Author.objects.get(pk=4)})


@bad(
    template="{% extends 'site.html' %}{% block title %}"
    "{{ cover.book.title }}{% endblock %}{% block content %}x{% endblock %}"
)
def relation_in_the_title_of_a_site(request):
    return render(request, "relation_in_the_title_of_a_site.html", {"cover": Cover.objects.get(pk=2)})


@bad(template="<pre>{{ book.text }}</pre>")
def deferred_field_in_an_expression(request):
    return render(
        request, "deferred_field_in_an_expression.html", {"book": Book.objects.only("title").get(pk=5)}
    )


@bad(template="{{ author.books.all|length }} books")
def length_of_a_relation(request):
    return render(request, "length_of_a_relation.html", {"author": Author.objects.get(pk=6)})


@good(template="{% for book in books %}<li>{{ book.title }}{% empty %}none{% endfor %}")
def list_read_with_for(request):
    return render(request, "list_read_with_for.html", {"books": Book.objects.all()})


@good(template="{{ book.title }} by {{ book.author.name }}")
def joined_before(request):
    return render(request, "joined_before.html", {"book": Book.objects.select_related("author").get(pk=1)})


class ChoiceForm(forms.Form):
    publisher = forms.ModelChoiceField(Publisher.objects.all())
    tags = forms.ModelMultipleChoiceField(Tag.objects.all(), widget=forms.CheckboxSelectMultiple)


@good(template="<form>{{ form.as_p }}</form>")
def choices_of_a_form(request):
    return render(request, "choices_of_a_form.html", {"form": ChoiceForm()})


@good(template="{{ account.iban }} of {{ account.owner }}")
def user_in_an_expression(request):
    return render(request, "user_in_an_expression.html", {"account": Account.objects.get(pk=1)})


@good(template="Hello {{ user.username }}{% if perms.shelf.add_book %}, add a book{% endif %}")
def visitor_and_permissions(request):
    request.user = SimpleLazyObject(lambda: User.objects.get(username="ann"))
    return render(request, "visitor_and_permissions.html")


@good(template="{% load cache %}{% cache 60 authors %}{{ authors.count }} authors{% endcache %}")
def cached_part(request):
    return render(request, "cached_part.html", {"authors": Author.objects.all()})


@good()
def serializer_of_joined_rows(request):
    books = Book.objects.select_related("author")[:4]
    return JsonResponse(BookSerializer(books, many=True).data, safe=False)


@good()
def serializer_of_one_object(request):
    return JsonResponse(BookSerializer(Book.objects.get(pk=7)).data)


@good(
    template="{% for one in authors %}"
    "{{ one.name }}: {% for book in one.books.all %}{{ book }}{% endfor %}{% endfor %}"
)
def two_lists_prefetched(request):
    return render(request, "two_lists_prefetched.html", {"authors": Author.objects.prefetch_related("books")})


@good(template="{{ book.title }}: {% for tag in book.tags.all %}{{ tag.name }} {% endfor %}")
def relation_of_one_object_read_with_for(request):
    return render(request, "relation_of_one_object_read_with_for.html", {"book": Book.objects.get(pk=8)})


@good(template="{% if books %}<ul>{% for book in books %}<li>{{ book.title }}{% endfor %}</ul>{% endif %}")
def list_asked_whether_it_is_empty(request):
    return render(request, "list_asked_whether_it_is_empty.html", {"books": Book.objects.filter(price=1)})


@good(template="{{ books|length }} books{% for book in books %}<li>{{ book.title }}{% endfor %}")
def length_of_a_list_that_is_shown(request):
    return render(request, "length_of_a_list_that_is_shown.html", {"books": Book.objects.filter(price=5)})


@good(
    template="{% for post in page %}{{ post.name }}{% endfor %}"
    " page {{ page.number }} of {{ page.paginator.num_pages }}"
)
def page_of_a_list(request):
    page = Paginator(Post.objects.order_by("pk"), 3).get_page(1)
    return render(request, "page_of_a_list.html", {"page": page})


@good(template="{% include 'list.html' %}")
def list_of_an_included_template(request):
    return render(request, "list_of_an_included_template.html", {"books": Book.objects.filter(author=1)})


@good()
def labels_of_joined_covers(request):
    return JsonResponse({"covers": [str(cover) for cover in Cover.objects.select_related("book")[:4]]})


class NewReview(serializers.Serializer):
    book = serializers.PrimaryKeyRelatedField(queryset=Book.objects.all())


@good()
def input_of_a_serializer(request):
    review = NewReview(data={"book": 3})
    return JsonResponse({"is_valid": review.is_valid()})


@good(template="{{ book.title }}, {{ number }} reviews")
def figures_made_by_the_view(request):
    book = Book.objects.get(pk=2)
    return render(request, "figures_made_by_the_view.html", {"book": book, "number": book.review_set.count()})


# Written on 1 December 2026: what code of the application sends that an expression or a field calls.


@bad(template="{% if topic.has_replies %}Answered{% endif %}")
def property_that_sends_a_query(request):
    return render(request, "property_that_sends_a_query.html", {"topic": Topic.objects.get(pk=2)})


@bad(template="from {{ book.country_name }}")
def property_that_follows_relations(request):
    book = Book.objects.select_related("author").get(pk=7)
    return render(request, "property_that_follows_relations.html", {"book": book})


@bad(template="{% load shelf %}from {{ author|country_name }}")
def filter_that_follows_a_relation(request):
    return render(request, "filter_that_follows_a_relation.html", {"author": Author.objects.get(pk=3)})


class Row(serializers.ModelSerializer):
    is_reviewed = serializers.SerializerMethodField()

    class Meta:
        model = Book
        fields = ["title", "is_reviewed"]

    def get_is_reviewed(self, book):
        return book.review_set.exists()


@bad()
def method_field_of_a_class_with_any_name(request):
    return JsonResponse(Row(Book.objects.order_by("pk")[:3], many=True).data, safe=False)


class CoverRow(serializers.ModelSerializer):
    class Meta:
        model = Cover
        fields = ["colour"]

    def to_representation(self, cover):
        return {**super().to_representation(cover), "book": cover.book.title}


@bad()
def representation_of_ones_own(request):
    return JsonResponse(CoverRow(Cover.objects.order_by("pk")[:4], many=True).data, safe=False)


@good(template="{% load shelf %}{% all_tags as tags %}{% for tag in tags %}{{ tag.name }} {% endfor %}")
def tag_that_reads_a_list(request):
    return render(request, "tag_that_reads_a_list.html")


def first_topic():
    return Topic.objects.get(pk=1)


@good(template="{{ topic.name }}")
def lazy_row_of_the_context(request):
    return render(request, "lazy_row_of_the_context.html", {"topic": SimpleLazyObject(first_topic)})


# Jinja2: its templates are compiled to Python, so a query has a line of these.

TEMPLATES["site.jinja"] = "<title>{% block title %}{% endblock %}</title>\n{% block content %}{% endblock %}"


def jinja(request, text, **context):
    """Render a template of Jinja2 as a file would be."""
    name = f"{request.path.strip('/').replace('/', '_')}.jinja"
    TEMPLATES[name] = text
    return render(request, name, context, using="jinja")


@bad()
def jinja_relation(request):
    return jinja(
        request, "<h1>{{ book.title }}</h1>\n by {{ book.author.name }}", book=Book.objects.get(pk=1)
    )


@bad()
def jinja_count(request):
    return jinja(request, "{{ notes.count() }} notes", notes=Note.objects.all())


@bad()
def jinja_first_of_a_relation(request):
    return jinja(request, "First: {{ author.books.first().title }}", author=Author.objects.get(pk=2))


@bad()
def jinja_exists(request):
    books = Book.objects.filter(price=2)
    return jinja(request, "{% if books.exists() %}\nThere are books.{% endif %}", books=books)


@bad()
def jinja_row_kept_by_set(request):
    text = "{% set last = topic.replies.first() %}\n{{ last.text }}"
    return jinja(request, text, topic=Topic.objects.get(pk=1))


@bad()
def jinja_property(request):
    return jinja(request, "from {{ book.country_name }}", book=Book.objects.get(pk=2))


@bad()
def jinja_macro(request):
    text = "{% macro line(book) %}\nby {{ book.author.name }}{% endmacro %}{{ line(book) }}"
    return jinja(request, text, book=Book.objects.get(pk=3))


@bad()
def jinja_block(request):
    text = "{% extends 'site.jinja' %}\n{% block content %}\n{{ book.publisher.name }}{% endblock %}"
    return jinja(request, text, book=Book.objects.get(pk=4))


@bad()
def jinja_object(request):
    return jinja(request, "<a href='/reviews/'>{{ review }}</a>", review=Review.objects.get(pk=1))


@good()
def jinja_loop(request):
    books = Book.objects.filter(price=3)
    return jinja(
        request, "{% for book in books %}\n{{ loop.index }} {{ book.title }}{% endfor %}", books=books
    )


@good()
def jinja_loop_over_one_row(request):
    books = Book.objects.order_by("pk")
    return jinja(request, "{% for book in books[:1] %}\n{{ book.title }}{% endfor %}", books=books)


@good()
def jinja_length_and_loop(request):
    text = "{{ books|length }} books\n{% for book in books %}{{ book.title }}{% endfor %}"
    return jinja(request, text, books=Book.objects.filter(price=2))


@good()
def jinja_filters(request):
    text = "{% set books = all|list %}\n{{ books|map(attribute='title')|join(', ') }}"
    return jinja(request, text, all=Book.objects.filter(price=1))


@good()
def jinja_joined(request):
    return jinja(request, "{{ book.author.name }}", book=Book.objects.select_related("author").get(pk=1))


@good()
def jinja_condition(request):
    text = "{% if books %}\n{{ books|count }} books{% endif %}"
    return jinja(request, text, books=Book.objects.filter(price=1))


@good()
def jinja_user(request):
    return jinja(request, "{{ request.user.username }}")


@good()
def jinja_tags(request):
    book = Book.objects.get(pk=1)
    return jinja(request, "{% for tag in book.tags.all() %}\n{{ tag.name }}{% endfor %}", book=book)


@good()
def jinja_prefetched(request):
    text = "{% for author in authors %}\n{{ author.books.all()|length }}{% endfor %}"
    return jinja(request, text, authors=Author.objects.prefetch_related("books"))


@good()
def jinja_first_of_a_list(request):
    books = Book.objects.order_by("-pk")[:3]
    return jinja(
        request, "{{ (books|first).title }}\n{% for book in books %}{{ book }}{% endfor %}", books=books
    )
