"""Change the capacity of a ring, or delete its contents, while processes write to it.

Called by `manage.py sqllogs resize` and `clear`, in their main thread. They keep the head row locked, so
writers wait with their batches and then use the new capacity. Nothing else deletes records.
"""

from collections.abc import Iterator
from functools import partial

from django.db import connections, transaction
from django.db.models import F
from django.utils.translation import gettext as _

from sqllogs import conf
from sqllogs.models import BlockColumn, RingHead
from sqllogs.storage import blocks, failures
from sqllogs.storage.database import only_row
from sqllogs.storage.store import (
    BLOCK_TABLE,
    COLUMNS,
    KEY_TABLE,
    LOG_TABLE,
    PLAN_TABLE,
    SOURCE_TABLE,
    STATEMENT_TABLE,
    STATISTIC_TABLE,
    UNIT_TABLE,
)

CHUNK_ROWS = 10_000
BUSY_TIMEOUT_MS = 60_000
"""Longer than a writer waits, because SQLite's lock has no queue."""
MOVED_TABLE = "sqllogs_moved"
TABLES = (
    LOG_TABLE, UNIT_TABLE, SOURCE_TABLE, BLOCK_TABLE, STATEMENT_TABLE, PLAN_TABLE, STATISTIC_TABLE, KEY_TABLE,
)  # fmt: skip
"""The tables that `clear` empties."""


def resize(capacity_rows: int) -> Iterator[tuple[int, int]]:
    """Change the capacity and keep the newest records; yield rows done and rows in total.

    Raise ValueError for a capacity below 1.
    """
    if capacity_rows < 1:
        raise ValueError(_("The capacity must be at least 1 row."))
    alias = conf.load().database
    _raise_busy_timeout(alias)
    yield from failures.repeat_steps(partial(_resize, alias, capacity_rows))
    _reclaim_space(alias)


def _resize(alias: str, capacity_rows: int) -> Iterator[tuple[int, int]]:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        head = _lock_head(alias, capacity_rows)
        # On MySQL any other DROP TABLE commits the transaction.
        temporary = "TEMPORARY " if connections[alias].vendor == "mysql" else ""
        others = ", ".join(connections[alias].ops.quote_name(name) for name in COLUMNS if name != "slot")
        oldest = head.seq - min(head.capacity, capacity_rows)
        if temporary:  # MySQL keeps it after a rollback, so a repeated transaction finds it
            cursor.execute(f"DROP TEMPORARY TABLE IF EXISTS {MOVED_TABLE}")
        cursor.execute(
            f"CREATE TEMPORARY TABLE {MOVED_TABLE} AS SELECT {others} FROM {LOG_TABLE} WHERE seq > %s",
            [oldest],
        )
        cursor.execute(f"SELECT count(*) FROM {MOVED_TABLE}")
        total = cursor.fetchone()[0]
        _delete_all(alias, LOG_TABLE)
        for first in range(oldest + 1, head.seq + 1, CHUNK_ROWS):
            cursor.execute(
                f"INSERT INTO {LOG_TABLE} (slot, {others}) SELECT seq %% %s, {others} "
                f"FROM {MOVED_TABLE} WHERE seq BETWEEN %s AND %s",
                [capacity_rows, first, first + CHUNK_ROWS - 1],
            )
            yield min(first + CHUNK_ROWS - 1 - oldest, total), total
        cursor.execute(f"DROP {temporary}TABLE {MOVED_TABLE}")
        # A block that was partly overwritten stays incomplete in a larger ring too.
        kept = blocks.complete_blocks(head.seq, min(head.capacity, capacity_rows))
        BlockColumn.objects.using(alias).filter(block__lt=kept.start)._raw_delete(alias)
        RingHead.objects.using(alias).update(capacity=capacity_rows)


def clear() -> Iterator[tuple[int, int]]:
    """Delete all records, statement texts, plans and statistics; record numbers continue.

    Yield rows done and rows in total. Events are kept, because a running process could otherwise record its
    deploy a second time. Reviews are kept, because people made them.
    """
    alias = conf.load().database
    _raise_busy_timeout(alias)
    yield from failures.repeat_steps(partial(_clear, alias))
    _reclaim_space(alias)


def _clear(alias: str) -> Iterator[tuple[int, int]]:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        _lock_head(alias, conf.load().capacity_rows)
        cursor.execute(f"SELECT count(*) FROM {LOG_TABLE}")
        total = cursor.fetchone()[0]
        yield 0, total
        for table in TABLES:
            _delete_all(alias, table)
        yield total, total


def _raise_busy_timeout(alias: str) -> None:
    connection = connections[alias]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _lock_head(alias: str, capacity_rows: int) -> RingHead:
    """Block writers until the transaction ends, and make them store all statement texts again."""
    heads = RingHead.objects.using(alias)
    # A write first: SQLite takes its lock at the first write, and fails if data read before has changed
    # since.
    if not heads.update(epoch=F("epoch") + 1):
        only_row(heads, seq=0, capacity=capacity_rows)
    # On PostgreSQL, writers lock FOR KEY SHARE, which waits for FOR UPDATE but not for an UPDATE.
    return heads.select_for_update().get(id=1)


def _delete_all(alias: str, table: str) -> None:
    connection = connections[alias]
    # PostgreSQL's DELETE would leave a ring of dead rows. SQLite has no TRUNCATE, and MySQL's commits.
    verb = "TRUNCATE" if connection.vendor == "postgresql" else "DELETE FROM"
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} {table}")


def _reclaim_space(alias: str) -> None:
    connection = connections[alias]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
