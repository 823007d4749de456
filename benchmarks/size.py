"""Measure how much the ring's table and file grow when the ring is overwritten repeatedly."""

import os
from collections.abc import Iterator

import django

django.setup()

from django.db import connections  # noqa: E402

from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.stores import ALIAS, VENDORS, Database, fill, recorder, ring  # noqa: E402
from sqllogs.models import RingRow, Unit  # noqa: E402

CAPACITY_ROWS = 50_000
WRAPS = 5
GROWTH_MAX = 1.3
WAL_MAX_MB = 20.0
"""It is carried over into the file at 4,000 pages of 4 KiB, plus the batch that is being written."""


def main() -> None:
    table(
        f"Size of a ring of {CAPACITY_ROWS:,} rows",
        ("store", "MB after 1 wrap", f"MB after {WRAPS} wraps", "growth", "bytes a row", "goal"),
        [row for vendor in VENDORS for row in _measured(vendor)],
    )


def _measured(vendor: str) -> Iterator[tuple[object, ...]]:
    sizes = []
    with ring(vendor, CAPACITY_ROWS) as database:
        recording = recorder()
        for _ in range(WRAPS):
            fill(recording, CAPACITY_ROWS)
            recording.delivery.write_all()
            sizes.append(_bytes_by_part(database))
        recording.ring.close()
    wal_mb = [one.pop("SQLite, WAL", 0) / 1e6 for one in sizes]
    for part, first in sizes[0].items():
        last = sizes[-1][part]
        goal = at_most(last / first, GROWTH_MAX)
        yield part, first / 1e6, last / 1e6, last / first, last / CAPACITY_ROWS, goal
    if vendor == "sqlite":
        yield "SQLite, WAL", wal_mb[0], wal_mb[-1], "", "", at_most(max(wal_mb), WAL_MAX_MB, "MB")


def _bytes_by_part(database: Database) -> dict[str, int]:
    if database.vendor == "postgresql":
        with connections[ALIAS].cursor() as cursor:
            tables = [model._meta.db_table for model in (RingRow, Unit)]
            cursor.execute("SELECT pg_total_relation_size(%s) + pg_total_relation_size(%s)", tables)
            return {"PostgreSQL, tables and indexes": cursor.fetchone()[0]}
    name = str(database.settings["NAME"])
    wal_bytes = os.path.getsize(f"{name}-wal")
    connections[ALIAS].close()  # one that is older than the WAL would not know of it
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(FULL)")
        busy, *_ = cursor.fetchone()
    if busy:
        raise RuntimeError("The WAL could not be carried over into the file.")
    file_bytes = os.path.getsize(name)
    return {"SQLite, file": file_bytes, "SQLite, WAL": wal_bytes}


if __name__ == "__main__":
    main()
