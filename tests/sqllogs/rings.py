"""Fixtures: an empty, migrated ring in a separate database, on SQLite, PostgreSQL or MariaDB."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

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
        BaseDatabaseWrapper.close(connections[alias])  # SQLite's own leaves a database in memory open
        del connections[alias]
        del known[alias]


def _ring_database(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """The Django settings of the ring's database; `ring_alias` creates it, as a copy of a migrated one."""
    if request.param == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "ring.sqlite3"}
    return request.getfixturevalue(request.param).settings_dict("ring")


ring_database = pytest.fixture(params=["sqlite", "postgresql"], name="ring_database")(_ring_database)
ring_on_every_database = pytest.fixture(params=["sqlite", "postgresql", "mariadb"], name="ring_database")(
    _ring_database
)
"""For the folders whose tests may differ on MariaDB: there the store is written over the ORM."""
on_indexed_stores = pytest.mark.parametrize("ring_database", ["sqlite", "postgresql"], indirect=True)
"""For what the ORM's store does not have: statements and an index of its own."""


@pytest.fixture
def empty_ring_database(ring_database: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """The same of a database that exists and has no tables."""
    if (name := server(ring_database)) is not None:
        request.getfixturevalue(name).create_database(ring_database["NAME"])
    return ring_database


def server(settings_dict: dict[str, Any]) -> str | None:
    """Return the fixture of a database's server, None for SQLite."""
    return {"postgresql": "postgresql", "mysql": "mariadb"}.get(settings_dict["ENGINE"].rpartition(".")[2])


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
        if (name := server(ring_database)) is None:
            path = migrated.get("sqlite") or migrated.setdefault("sqlite", _sqlite(migrated["folder"]))
            shutil.copy(path, ring_database["NAME"])
        else:
            running = request.getfixturevalue(name)
            template = migrated.get(name) or migrated.setdefault(name, _template(running))
            running.create_database(ring_database["NAME"], template)
        with database(ALIAS, ring_database):
            yield ALIAS


def _sqlite(folder: Path) -> Path:
    path = folder / "ring.sqlite3"
    with database(ALIAS, {"ENGINE": "django.db.backends.sqlite3", "NAME": path}):
        call_command("migrate", database=ALIAS, verbosity=0)
    return path


def _template(running: Any) -> str:
    """Create and migrate the database of a server that the rings of the tests are copied from."""
    name = "migrated_ring"
    with database(ALIAS, running.create_database(name)):
        call_command("migrate", database=ALIAS, verbosity=0)
    return name


def seqs(alias: str) -> list[int]:
    """Return the numbers that are in the ring, oldest first."""
    return list(SQLLog.objects.using(alias).order_by("seq").values_list("seq", flat=True))
