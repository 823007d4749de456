"""Fixtures: an empty, migrated ring in a separate database, on SQLite and on PostgreSQL."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
    """The Django settings of the ring's database; `ring_alias` creates it, as a copy of a migrated one."""
    if request.param == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "ring.sqlite3"}
    return request.getfixturevalue("postgresql").settings_dict("ring")


@pytest.fixture
def empty_ring_database(ring_database: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """The same of a database that exists and has no tables."""
    if "postgresql" in ring_database["ENGINE"]:
        request.getfixturevalue("postgresql").create_database(ring_database["NAME"])
    return ring_database


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a migrated ring is copied from, by vendor, as soon as a test has needed one."""
    return {"folder": tmp_path_factory.mktemp("migrated")}


@pytest.fixture
def ring_alias(
    ring_database: dict[str, Any],
    migrated: dict[str, Any],
    request: pytest.FixtureRequest,
    settings: Any,
    django_db_blocker: Any,
) -> Iterator[str]:
    """The alias of an empty, migrated ring of 100 rows, named by SQLLOGS and free to use."""
    settings.SQLLOGS = {"DATABASE": ALIAS, "CAPACITY_ROWS": 100}
    with django_db_blocker.unblock():
        if "sqlite" in ring_database["ENGINE"]:
            path = migrated.get("sqlite") or migrated.setdefault("sqlite", _sqlite(migrated["folder"]))
            shutil.copy(path, ring_database["NAME"])
        else:
            cluster = request.getfixturevalue("postgresql")
            name = migrated.get("postgresql") or migrated.setdefault("postgresql", _postgresql(cluster))
            cluster.create_database(ring_database["NAME"], name)
        with database(ALIAS, ring_database):
            yield ALIAS


def _sqlite(folder: Path) -> Path:
    path = folder / "ring.sqlite3"
    with database(ALIAS, {"ENGINE": "django.db.backends.sqlite3", "NAME": path}):
        call_command("migrate", database=ALIAS, verbosity=0)
    return path


def _postgresql(cluster: Any) -> str:
    name = "migrated_ring"
    with database(ALIAS, cluster.create_database(name)):
        call_command("migrate", database=ALIAS, verbosity=0)
    return name


def seqs(alias: str) -> list[int]:
    """Return the numbers that are in the ring, oldest first."""
    return list(SQLLog.objects.using(alias).order_by("seq").values_list("seq", flat=True))
