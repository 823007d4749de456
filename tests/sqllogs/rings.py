"""Fixtures: an empty, migrated ring in a database of its own, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from sqllogs.models import SQLLog

ALIAS = "ring"


@contextmanager
def database(alias: str, settings_dict: dict[str, Any]) -> Iterator[str]:
    """Add an alias to Django's connections for a while."""
    known = connections.settings
    known[alias] = connections.configure_settings({"default": {}, alias: settings_dict})[alias]
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del known[alias]


@pytest.fixture(params=["sqlite", "postgresql"])
def ring_database(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """The Django settings of an empty database."""
    if request.param == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "ring.sqlite3"}
    postgresql = request.getfixturevalue("postgresql")
    return postgresql.create_database("ring")


@pytest.fixture
def ring_alias(ring_database: dict[str, Any], settings: Any, django_db_blocker: Any) -> Iterator[str]:
    """The alias of an empty, migrated ring of 100 rows, named by SQLLOGS and free to use."""
    settings.SQLLOGS = {"DATABASE": ALIAS, "CAPACITY_ROWS": 100}
    with django_db_blocker.unblock(), database(ALIAS, ring_database):
        call_command("migrate", database=ALIAS, verbosity=0)
        yield ALIAS


def seqs(alias: str) -> list[int]:
    """Return the numbers that are in the ring, oldest first."""
    return list(SQLLog.objects.using(alias).order_by("seq").values_list("seq", flat=True))
