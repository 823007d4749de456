"""Three pages, each with one mistake."""

from urllib.request import urlopen

from django.conf import settings
from django.db import transaction
from django.http import JsonResponse

from tests.incidents.shop.models import Order, Stock

NEWEST = 20


def newest(request):
    """Release 1.4.2 has lost select_related."""
    orders = Order.objects.order_by("-pk")[:NEWEST]
    if settings.SQLLOGS["RELEASE"] == "1.4.1":
        orders = orders.select_related("customer")
    return JsonResponse({"names": [order.customer.name for order in orders]})


def of_customer(request, customer):
    """Fast as long as there is an index."""
    orders = Order.objects.filter(customer=customer)
    return JsonResponse({"amounts": [order.amount for order in orders]})


def pay(request):
    """Hold the stock's row while a slow service answers."""
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get()  # held
        with urlopen(settings.PAYMENT_URL, timeout=120) as answer:
            answer.read()
        stock.left -= 1
        stock.save(update_fields=["left"])
    return JsonResponse({"left": stock.left})


def reserve(request):
    """Wait for the stock's row."""
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get()  # waits
    return JsonResponse({"left": stock.left})
