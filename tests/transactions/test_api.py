"""The REST list of bookings."""

import pytest
from django.core.cache import cache

from transactions.api import Throttle
from transactions.models import Transaction

URL = "/transactions/api/"


@pytest.fixture(autouse=True)
def _no_throttling_by_other_tests():
    cache.clear()


def test_a_page_is_a_count_and_one_statement(client, bookings, django_assert_num_queries):
    with django_assert_num_queries(2):
        page = client.get(URL).json()
    assert page["count"] == 120
    assert len(page["results"]) == 50
    assert page["next"].endswith("?page=2")


def test_the_newest_come_first(client, bookings):
    times = [row["timestamp"] for row in client.get(URL).json()["results"]]
    assert times == sorted(times, reverse=True)


def test_ordering_by_amount(client, bookings):
    amounts = [float(row["amount"]) for row in client.get(URL, {"ordering": "amount"}).json()["results"]]
    assert amounts == sorted(amounts)


def test_ordering_by_a_password_is_ignored(client, bookings):
    assert client.get(URL, {"ordering": "user__password"}).json() | {"next": 0} == client.get(URL).json() | {
        "next": 0
    }


def test_a_page_is_capped(client, bookings):
    assert len(client.get(URL, {"page_size": 10**9}).json()["results"]) == 120
    assert client.get(URL, {"page_size": 10**9}).renderer_context["view"].paginator.max_page_size == 500


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("type", "deposit", "type"),
        ("category", "food", "category"),
        ("account", "XX00DEMO00000000", "account"),
        ("currency", "USD", "currency"),
    ],
)
def test_filters_by_value(client, bookings, key, value, field):
    rows = client.get(URL, {key: value}).json()["results"]
    assert rows
    assert {row[field] for row in rows} == {value}


def test_filters_by_range(client, bookings):
    amount, time = Transaction.objects.values_list("amount", "timestamp").first()
    exact = {"min_amount": amount, "max_amount": amount, "after": time.isoformat()}
    assert client.get(URL, exact).json()["count"] == 1
    assert client.get(URL, {"before": time.isoformat(), "after": time.isoformat()}).json()["count"] == 0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page=99999999999999999999", 404),
        ("account=%00", 400),  # PostgreSQL refuses NUL
        ("category=<script>", 400),
        ("min_amount=NaN", 400),
        ("min_amount=1e400", 400),
        ("max_amount=1e30", 200),  # more digits than the column has
        ("after=yesterday", 400),
        ("type=", 200),  # an empty value is no filter
    ],
)
def test_bad_values_are_no_server_errors(client, bookings, query, status):
    assert client.get(f"{URL}?{query}").status_code == status


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_writing_is_not_allowed(client, bookings, method):
    assert getattr(client, method)(URL).status_code == 405


def test_too_many_requests_are_refused(client, bookings, monkeypatch):
    monkeypatch.setattr(Throttle, "rate", "2/minute")
    assert [client.get(URL).status_code for _ in range(3)] == [200, 200, 429]


def test_a_browser_gets_the_browsable_list(client, bookings):
    response = client.get(URL, headers={"Accept": "text/html"})
    assert response.status_code == 200
    assert "<title>" in response.text
