"""Bookings for the tests of `transactions`."""

import pytest

from transactions.generator import generate


@pytest.fixture
def bookings(db):
    """Write 120 invented bookings."""
    return [*generate(120, seed=1)]
