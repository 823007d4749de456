"""URLs of the demo views and the REST list of bookings."""

from django.urls import path

from transactions import views  # noqa: F401  (defines the patterns)
from transactions.api import TransactionList
from transactions.patterns import PATTERNS

app_name = "transactions"
urlpatterns = [
    path("api/", TransactionList.as_view(), name="api"),
    *(path(f"{pattern.slug}/", pattern.view, name=pattern.name) for pattern in PATTERNS),
]
