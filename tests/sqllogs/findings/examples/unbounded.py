"""Whole tables that a request reads, and large results that are meant."""

import csv

from django import forms
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Count, Max, Sum
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from rest_framework import serializers

from tests.sqllogs.advice_models import Note
from tests.sqllogs.findings.examples import examples_of
from transactions.models import Account, Category, Transaction

bad, good = examples_of("unbounded")
ROWS = 2_500
"""Bookings on 1,300 accounts, of ten categories."""


def booking_json(booking):
    return {"id": booking.pk, "amount": str(booking.amount)}


@bad()
def json_of_all_bookings(request):
    return JsonResponse({"bookings": [booking_json(booking) for booking in Transaction.objects.all()]})


class BookingSerializer(serializers.ModelSerializer):
    class Meta:
        model = Transaction
        fields = ["amount", "timestamp"]


@bad()
def list_without_pagination(request):
    bookings = Transaction.objects.order_by("-timestamp")
    return JsonResponse(BookingSerializer(bookings, many=True).data, safe=False)


@bad(template="{% for one in bookings %}<tr><td>{{ one.amount }}{% endfor %}")
def table_of_all_bookings(request):
    bookings = Transaction.objects.select_related("category")
    return render(request, "table_of_all_bookings.html", {"bookings": bookings})


class BookingForm(forms.ModelForm):
    class Meta:
        model = Transaction
        fields = ["account", "amount"]


@bad(template="{{ form.as_p }}")
def drop_down_of_accounts(request):
    return render(request, "drop_down_of_accounts.html", {"form": BookingForm()})


@bad()
def ids_to_look_one_up(request):
    known = set(Account.objects.values_list("iban", flat=True))
    return JsonResponse({"is_known": request.GET.get("iban") in known})


@bad()
def sum_in_python(request):
    return JsonResponse({"total": str(sum(booking.amount for booking in Transaction.objects.only("amount")))})


@bad()
def raw_cursor(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, amount FROM transactions_transaction WHERE amount > %s", [0])
        return JsonResponse({"rows": len(cursor.fetchall())})


@bad()
def all_bookings_of_a_user(request):
    user = User.objects.prefetch_related("transaction_set").get(username="ann")
    return JsonResponse({"bookings": [booking_json(booking) for booking in user.transaction_set.all()]})


@bad()
def last_ten_of_a_list(request):
    newest = list(Transaction.objects.filter(category__gt=0).order_by("timestamp"))[-10:]
    return JsonResponse({"newest": [booking_json(booking) for booking in newest]})


@bad()
async def async_list(request):
    ids = [pk async for pk in Transaction.objects.values_list("pk", flat=True)]
    return JsonResponse({"ids": ids})


@bad()
def every_account_by_id(request):
    accounts = Account.objects.in_bulk()
    return JsonResponse({"currency": accounts[1].currency})


@bad()
def largest_in_python(request):
    largest = max(Transaction.objects.filter(user__username="ann"), key=lambda booking: booking.amount)
    return JsonResponse(booking_json(largest))


@bad()
def raw_queryset(request):
    bookings = Transaction.objects.raw("SELECT * FROM transactions_transaction ORDER BY amount")
    return JsonResponse({"amounts": [str(booking.amount) for booking in bookings]})


@good()
def one_page(request):
    page = Paginator(Transaction.objects.order_by("pk"), 100).get_page(3)
    return JsonResponse({"bookings": [booking_json(booking) for booking in page]})


@good()
def nine_hundred_rows(request):
    return JsonResponse({"ids": [one.pk for one in Transaction.objects.filter(pk__lte=900)]})


@good()
def limit_of_two_thousand(request):
    return JsonResponse(
        {"bookings": [booking_json(one) for one in Transaction.objects.order_by("pk")[:2000]]}
    )


@good(unit="command")
def command_over_all(request):
    return sum(booking.amount for booking in Transaction.objects.all())


@good(unit="task")
def task_over_all(request):
    return {booking.pk: booking.amount for booking in Transaction.objects.all()}


@good()
def sum_in_the_database(request):
    return JsonResponse({"total": str(Transaction.objects.aggregate(total=Sum("amount"))["total"])})


@good()
def groups_of_many_rows(request):
    groups = Category.objects.annotate(number=Count("transaction"), latest=Max("transaction__timestamp"))
    return JsonResponse({one.name: one.number for one in groups})


@good()
def streamed_export(request):
    class Echo:
        def write(self, line):
            return line

    writer = csv.writer(Echo())
    rows = Transaction.objects.values_list("pk", "amount").iterator(chunk_size=500)
    return StreamingHttpResponse((writer.writerow(row) for row in rows), content_type="text/csv")


@good()
def ids_chosen_by_the_client(request):
    chosen = list(range(1, 1251))  # as posted by "select all" of a client
    return JsonResponse({"ibans": [one.iban for one in Account.objects.filter(pk__in=chosen)]})


@good()
def portions_by_key(request):
    first = list(Transaction.objects.order_by("pk")[:700])
    second = list(Transaction.objects.filter(pk__gt=first[-1].pk).order_by("pk")[:700])
    return JsonResponse({"ids": [one.pk for one in first + second]})


@good()
def many_rows_written(request):
    notes = [Note(content_type_id=1, object_id=number, text="uploaded") for number in range(1200)]
    Note.objects.bulk_create(notes)
    Note.objects.filter(text="uploaded").delete()
    return JsonResponse({"created": len(notes)})


@good()
def many_rows_changed_and_deleted(request):
    Note.objects.bulk_create(
        [Note(content_type_id=1, object_id=number, text="old") for number in range(1100)]
    )
    changed = Note.objects.filter(text="old").update(text="older")
    deleted, _ = Note.objects.filter(text="older").delete()
    return HttpResponse(f"{changed} {deleted}")


@good(times=30)
def small_table_read_by_each_request(request):
    return JsonResponse({one.name: one.pk for one in Category.objects.all()})
