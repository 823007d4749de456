"""Fixtures of the tests of `sqllogs`."""

import pytest

from sqllogs import guard
from tests.sqllogs.fake_ring import way
from tests.sqllogs.rings import empty_ring_database, migrated, ring_alias, ring_database

__all__ = ["empty_ring_database", "migrated", "ring_alias", "ring_database", "way"]


@pytest.fixture(autouse=True)
def _fresh_guard(monkeypatch):
    """Let each test log a fault that another has logged within the minute."""
    monkeypatch.setattr(guard, "_logged_at_s", {})
