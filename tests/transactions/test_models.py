"""What the tables of the demo site refuse."""

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from transactions.models import Account, Category, Transaction


def test_an_amount_of_zero_is_refused_by_the_database(bookings):
    with pytest.raises(IntegrityError, match="transaction_amount_positive"), transaction.atomic():
        Transaction.objects.update(amount=0)


def test_an_account_with_bookings_cannot_be_deleted(bookings):
    with pytest.raises(ProtectedError):
        Transaction.objects.first().account.delete()


def test_models_tell_what_they_are(bookings):
    booking = Transaction.objects.first()
    assert str(booking) == f"{booking.type} of {booking.amount} on {booking.timestamp:%Y-%m-%d}"
    assert str(Account.objects.order_by("iban").first()) == "XX00DEMO00000000"
    assert str(Category.objects.order_by("name").first()) == "food"
