"""Queries that are asked again with the same values, and those that only look so."""

import time
from functools import cache, cached_property

from django import forms
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db import connection, transaction
from django.db.models import Count
from django.http import JsonResponse
from django.shortcuts import render
from django.views.generic import DetailView
from rest_framework import serializers

from sqllogs import repeats_allowed, unit_of_work
from tests.sqllogs.advice_models import Author, Book, Country, Note, Post, Publisher, Tag
from tests.sqllogs.findings.examples import POSTGRESQL, examples_of
from transactions.models import Category

bad, good = examples_of("same_values")


def current_country():
    return Country.objects.get(name="country 1")


def currency_of_visitor():
    return Country.objects.get(name="country 1").name


def language_of_visitor():
    return Country.objects.filter(name="country 1").get().name


@bad()
def configuration_read_by_each_helper(request):
    return JsonResponse({"a": current_country().pk, "b": currency_of_visitor(), "c": language_of_visitor()})


@bad(
    template="{{ author.books.count }} books{% if author.books.count > 1 %}"
    ", all {{ author.books.count }} are good{% endif %}",
    also=("rendering",),
)
def count_in_a_template(request):
    return render(request, "count_in_a_template.html", {"author": Author.objects.get(pk=1)})


class Shelf:
    def __init__(self, author):
        self.author = author

    @property
    def books(self):
        return list(self.author.books.all())


@bad()
def property_that_asks(request):
    shelf = Shelf(Author.objects.get(pk=2))
    prices = [book.price for book in shelf.books]
    return JsonResponse({"number": len(shelf.books), "total": sum(prices), "first": shelf.books[0].title})


def is_editor(user):
    return user.groups.filter(name="editors").exists()


@bad()
def group_of_the_user(request):
    user = User.objects.get(username="ann")
    buttons = {name: is_editor(user) for name in ("edit", "publish", "delete")}
    return JsonResponse(buttons)


@bad()
def condition_that_does_not_depend_on_the_row(request):
    titles = []
    for book in Book.objects.all()[:4]:
        is_new = Tag.objects.filter(name="tag 1").exists()
        titles.append({"title": book.title, "is_new": is_new})
    return JsonResponse({"titles": titles})


@bad()
def queryset_copied_by_all(request):
    cheap = Book.objects.filter(price__lt=3)
    cheapest = min(book.price for book in cheap.all())
    dearest = max(book.price for book in cheap.all())
    return JsonResponse({"from": cheapest, "to": dearest, "titles": [book.title for book in cheap.all()]})


class Line(serializers.Serializer):
    amount = serializers.IntegerField()

    def validate_amount(self, amount):
        if amount > Author.objects.aggregate(n=Count("pk"))["n"]:
            raise serializers.ValidationError("Too many.")
        return amount


@bad()
def limit_read_for_each_line(request):
    lines = Line(data=[{"amount": number} for number in range(4)], many=True)
    return JsonResponse({"is_valid": lines.is_valid()})


@bad()
def refreshed_by_each_step(request):
    post = Post.objects.get(pk=1)

    def is_published():
        post.refresh_from_db()
        return bool(post.name)

    def is_long():
        post.refresh_from_db()
        return len(post.name) > 3

    def is_own():
        post.refresh_from_db()
        return post.pk == 1

    return JsonResponse({"ok": is_published() and is_long() and is_own()})


class AuthorPage(DetailView):
    model = Author
    template_name = "detail_view_that_gets_again.html"

    def get_context_data(self, **context):
        title = f"About {self.get_object().name}"
        return super().get_context_data(title=title, initial=self.get_object().name[0], **context)


@bad(template="{{ title }} {{ initial }} {{ object.name }}")
def detail_view_that_gets_again(request):
    return AuthorPage.as_view()(request, pk=1).render()


class BookForm(forms.Form):
    country = forms.ModelChoiceField(Country.objects.all())


@bad(template="{{ formset }}")
def choices_of_each_form(request):
    formset = forms.formset_factory(BookForm, extra=4)()
    return render(request, "choices_of_each_form.html", {"formset": formset})


@bad(unit="task")
def feature_flag_for_each_recipient(request):
    def flag(name):
        return Category.objects.filter(name=name).exists()

    return [author.name for author in Author.objects.all() if flag("new mail")]


@bad()
async def settings_of_a_tenant_asked_by_each_part(request):
    async def setting():
        return (await Publisher.objects.aget(pk=3)).name

    return JsonResponse({"logo": await setting(), "footer": await setting(), "menu": await setting()})


@good()
def asked_twice(request):
    before = Country.objects.get(name="country 2")
    after = Country.objects.get(name="country 2")
    return JsonResponse({"is_same": before == after})


@good()
def different_rows(request):
    return JsonResponse({str(pk): Country.objects.get(pk=pk).name for pk in (1, 2, 3, 4)})


@good()
def read_again_after_each_change(request):
    values = []
    for number in range(4):
        Post.objects.filter(pk=2).update(name=f"version {number}")
        values.append(Post.objects.get(pk=2).name)
    return JsonResponse({"values": values})


@good()
def asked_again_on_purpose(request):
    with repeats_allowed():
        return JsonResponse({"values": [Country.objects.get(pk=5).name for _ in range(4)]})


@good(unit="task", on=POSTGRESQL)
def locked_in_each_transaction(request):
    for _ in range(4):
        with transaction.atomic():
            Publisher.objects.select_for_update().get(pk=1)


@good(unit="command")
def waiting_for_another_process(request):
    for _ in range(4):
        if Note.objects.filter(text="ready").exists():
            break
        time.sleep(0.5)


@good()
def kept_by_the_process(request):
    @cache
    def country():
        return Country.objects.get(name="country 3")

    return JsonResponse({"values": [country().pk for _ in range(5)]})


class CachedShelf(Shelf):
    @cached_property
    def books(self):
        return list(self.author.books.all())


@good()
def property_that_keeps(request):
    shelf = CachedShelf(Author.objects.get(pk=3))
    return JsonResponse({"n": len(shelf.books), "first": shelf.books[0].title, "last": shelf.books[-1].title})


@good()
def three_random_books(request):
    return JsonResponse({"titles": [Book.objects.order_by("?").first().title for _ in range(3)]})


@good(on=POSTGRESQL)
def next_invoice_numbers(request):
    numbers = []
    for _ in range(3):
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval('shelf_book_id_seq')")
            numbers.append(cursor.fetchone()[0])
    return JsonResponse({"numbers": numbers})


@good()
def pages_of_a_list(request):
    pages = Paginator(Book.objects.order_by("pk"), 5)
    return JsonResponse({"pages": [[book.pk for book in pages.page(number)] for number in (1, 2, 3)]})


@good(times=4)
def once_in_each_request(request):
    return JsonResponse({"name": Country.objects.get(name="country 4").name})


@good()
def same_statement_of_other_users(request):
    users = User.objects.order_by("pk")[:4]
    return JsonResponse({user.username: is_editor(user) for user in users})


@good(unit="task")
def units_of_their_own(request):
    for _ in range(4):
        with unit_of_work("task", "one mail"):
            Publisher.objects.get(pk=2)
