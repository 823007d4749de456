"""The bookings are the same for the same seed, and as many as asked for."""

import pytest
from django.contrib.auth.models import User

from transactions import generator
from transactions.generator import generate
from transactions.models import Account, Category, Transaction

pytestmark = pytest.mark.django_db


def written(count, seed):
    """Generate into an empty table and return what can be compared: no keys, which go on counting."""
    Transaction.objects.all().delete()
    [*generate(count, seed)]
    columns = (
        "user__username",
        "account__iban",
        "category__name",
        "type",
        "amount",
        "timestamp",
        "description",
    )
    return [*Transaction.objects.order_by("pk").values_list(*columns)]


def test_the_same_seed_gives_the_same_bookings():
    assert written(60, seed=1) == written(60, seed=1)


def test_another_seed_gives_other_bookings():
    assert written(60, seed=1) != written(60, seed=2)


def test_batches_change_nothing_but_the_steps(monkeypatch):
    whole = written(25, seed=1)
    monkeypatch.setattr(generator, "BATCH_ROWS", 10)
    Transaction.objects.all().delete()
    assert [*generate(25, seed=1)] == [10, 20, 25]
    assert written(25, seed=1) == whole


def test_a_second_run_reuses_customers_accounts_and_categories():
    [*generate(10, seed=1)]
    [*generate(10, seed=2)]
    assert (User.objects.count(), Account.objects.count(), Category.objects.count()) == (25, 50, 8)
    assert Transaction.objects.count() == 20


def test_customers_cannot_log_in(client):
    [*generate(1, seed=1)]
    assert not any(user.has_usable_password() for user in User.objects.all())
    assert not client.login(username="customer01", password="!")
