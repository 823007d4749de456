"""List the bookings as JSON: paginated, filtered by django-filter, one query for the rows of a page."""

import django_filters
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import filters, generics, pagination, permissions, serializers, throttling

from transactions.models import Account, Category, Transaction


class TransactionSerializer(serializers.ModelSerializer[Transaction]):
    account = serializers.CharField(source="account.iban")
    currency = serializers.CharField(source="account.currency")
    category = serializers.CharField(source="category.name")
    user = serializers.CharField(source="user.username")

    class Meta:
        model = Transaction
        fields = (
            "id", "timestamp", "type", "amount", "currency", "account", "category", "user", "description",
        )  # fmt: skip


class TransactionFilter(django_filters.FilterSet):
    """Filter by the values shown in the list, not by primary keys."""

    account = django_filters.ModelChoiceFilter(queryset=Account.objects.all(), to_field_name="iban")
    category = django_filters.ModelChoiceFilter(queryset=Category.objects.all(), to_field_name="name")
    currency = django_filters.ChoiceFilter(choices=Account.Currency, field_name="account__currency")
    min_amount = django_filters.NumberFilter(field_name="amount", lookup_expr="gte")
    max_amount = django_filters.NumberFilter(field_name="amount", lookup_expr="lte")
    after = django_filters.IsoDateTimeFilter(field_name="timestamp", lookup_expr="gte")
    before = django_filters.IsoDateTimeFilter(field_name="timestamp", lookup_expr="lt")

    class Meta:
        model = Transaction
        fields = ("type",)


class Pages(pagination.PageNumberPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class Throttle(throttling.AnonRateThrottle):
    """Enough for the traffic generator, too little to be a denial of service; per process."""

    rate = "100/second"


class TransactionList(generics.ListAPIView[Transaction]):
    """Bookings, newest first. Anyone may read them, because they are random."""

    # Set here explicitly, so that the project's defaults cannot open or close this list.
    authentication_classes = ()
    permission_classes = (permissions.AllowAny,)
    throttle_classes = (Throttle,)
    pagination_class = Pages
    filter_backends = (DjangoFilterBackend, filters.OrderingFilter)
    filterset_class = TransactionFilter
    ordering_fields = ("timestamp", "amount", "id")
    ordering = ("-timestamp", "-id")
    serializer_class = TransactionSerializer

    def get_queryset(self) -> QuerySet[Transaction]:
        return Transaction.objects.select_related("account", "category", "user")
