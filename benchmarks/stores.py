"""Set up an empty ring to measure: in a SQLite file, or in a PostgreSQL that lives as long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from benchmarks.samples import captured
from sqllogs import conf
from sqllogs.recorder import Recorder

ALIAS = "measured"
WITHOUT_BOUND = 1 << 40
VENDORS = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A ring's database in a form that can be sent to another process."""

    vendor: str
    settings: dict[str, Any]
    capacity_rows: int

    @property
    def sqllogs(self) -> dict[str, Any]:
        # A search for findings in a thread would be measured too, or outlive the tables.
        return {"DATABASE": ALIAS, "CAPACITY_ROWS": self.capacity_rows, "FINDINGS": False}

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Name it in DATABASES and in SQLLOGS."""
        known = connections.settings
        known[ALIAS] = connections.configure_settings({"default": {}, ALIAS: self.settings})[ALIAS]
        try:
            with override_settings(SQLLOGS=self.sqllogs):
                yield
        finally:
            connections[ALIAS].close()
            del connections[ALIAS]
            del known[ALIAS]


@contextmanager
def ring(vendor: str, capacity_rows: int) -> Iterator[Database]:
    """Give an empty, migrated ring."""
    with _empty(vendor) as database_settings:
        database = Database(vendor=vendor, settings=database_settings, capacity_rows=capacity_rows)
        with database.connected():
            call_command("migrate", database=ALIAS, verbosity=0)
            yield database


@contextmanager
def _empty(vendor: str) -> Iterator[dict[str, Any]]:
    if vendor == "sqlite":
        path: Path = settings.DIRECTORY / f"{uuid4().hex}.sqlite3"
        yield {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
        return
    from tests.postgresql import Cluster

    with Cluster() as cluster:
        yield cluster.create_database("ring")


def recorder(**changes: Any) -> Recorder:
    """Return a recorder into the ring that SQLLOGS names; its own thread is never started."""
    bounds = {"buffer_rows": WITHOUT_BOUND, "buffer_bytes": WITHOUT_BOUND}
    return Recorder(replace(conf.load(), **bounds, **changes))


def fill(recording: Recorder, rows: int) -> None:
    """Put this many records into the buffer."""
    for record in captured(rows):
        recording.buffer.put(record)
