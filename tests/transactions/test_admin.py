"""The bookings in the admin: the same number of queries for one row as for a hundred."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from transactions.models import Transaction


@pytest.mark.parametrize("model", ["transaction", "account", "category"])
def test_each_list_is_shown(admin_client, bookings, model):
    assert admin_client.get(f"/admin/transactions/{model}/").status_code == 200


def test_the_list_joins_what_it_shows(admin_client, bookings):
    def count_queries():
        with CaptureQueriesContext(connection) as queries:
            admin_client.get("/admin/transactions/transaction/")
        return len(queries)

    many = count_queries()
    Transaction.objects.exclude(pk=Transaction.objects.first().pk).delete()
    assert count_queries() == many


def test_search_finds_an_account(admin_client, bookings):
    iban = Transaction.objects.first().account.iban
    assert iban in admin_client.get("/admin/transactions/transaction/", {"q": iban}).text
