"""Fixtures of the tests of `sqllogs`."""

import sys

import pytest

from sqllogs import guard
from tests.sqllogs.fake_ring import way
from tests.sqllogs.rings import empty_ring_database, migrated, ring_alias, ring_database

__all__ = ["empty_ring_database", "migrated", "ring_alias", "ring_database", "way"]


@pytest.fixture(autouse=True)
def _fresh_guard(monkeypatch):
    """Let each test log a fault that another has logged within the minute."""
    monkeypatch.setattr(guard, "_logged_at_s", {})


@pytest.fixture(autouse=True)
def _no_kept_answers():
    """Two tests may send the same request of two databases within a second."""
    if (access := sys.modules.get("sqllogs.api.access")) is not None:  # most tests need no API
        access.recent.clear()
    if (ring := sys.modules.get("sqllogs.read.ring")) is not None:
        ring.parts_cache.clear()


def pytest_collection_modifyitems(items):
    """Run a test on MariaDB once: its store is the one over the ORM in any case."""
    items[:] = [item for item in items if not _is_second_run(item)]


def _is_second_run(item):
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return parameters.get("ring_database") == "mariadb" and "orm" in parameters.values()
