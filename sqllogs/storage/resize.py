"""Change a ring's capacity, or empty it, while writers go on.

Called by `manage.py sqllogs resize|clear`. The head row is locked to the end,
so that writers wait, hold their batches and then follow the new capacity.
These are the only two places where rows of the ring are deleted.
"""

from collections.abc import Iterator

from django.db import connections, transaction
from django.db.models import F

from sqllogs import conf
from sqllogs.models import BlockColumn, RingHead
from sqllogs.storage import blocks
from sqllogs.storage.store import BLOCK_TABLE, COLUMNS, KEY_TABLE, LOG_TABLE, STATEMENT_TABLE, STATISTIC_TABLE

CHUNK_ROWS = 10_000
BUSY_TIMEOUT_MS = 60_000
"""SQLite serves nobody in turn: this waits longer than a writer does."""
MOVED_TABLE = "sqllogs_moved"
_OTHERS = ", ".join(f'"{column}"' for column in COLUMNS if column != "slot")


def resize(capacity_rows: int) -> Iterator[tuple[int, int]]:
    """Give the ring `capacity_rows` slots, keeping the newest records; yield rows done and in all.

    Raise ValueError for a capacity below 1.
    """
    if capacity_rows < 1:
        raise ValueError(f"A ring of {capacity_rows} rows keeps nothing; give 1 or more.")
    alias = conf.load().database
    _be_patient(alias)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        head = _lock_head(alias, capacity_rows)
        oldest = head.seq - min(head.capacity, capacity_rows)
        cursor.execute(
            f"CREATE TEMPORARY TABLE {MOVED_TABLE} AS SELECT {_OTHERS} FROM {LOG_TABLE} WHERE seq > %s",
            [oldest],
        )
        cursor.execute(f"SELECT count(*) FROM {MOVED_TABLE}")
        total = cursor.fetchone()[0]
        _empty(alias, LOG_TABLE)
        for first in range(oldest + 1, head.seq + 1, CHUNK_ROWS):
            cursor.execute(
                f"INSERT INTO {LOG_TABLE} (slot, {_OTHERS}) SELECT seq %% %s, {_OTHERS} "
                f"FROM {MOVED_TABLE} WHERE seq BETWEEN %s AND %s",
                [capacity_rows, first, first + CHUNK_ROWS - 1],
            )
            yield min(first + CHUNK_ROWS - 1 - oldest, total), total
        cursor.execute(f"DROP TABLE {MOVED_TABLE}")
        # What was overwritten of a block before is not there in a larger ring either.
        kept = blocks.whole(head.seq, min(head.capacity, capacity_rows))
        BlockColumn.objects.using(alias).filter(block__lt=kept.start).delete()
        RingHead.objects.using(alias).update(capacity=capacity_rows)
    _give_space_back(alias)


def clear() -> Iterator[tuple[int, int]]:
    """Delete all records, statement texts and statistics; numbers go on where they were.

    Yield rows done and in all. Events are kept: a deploy that was forgotten would be told a second time.
    Reviews are too: nobody could make them again.
    """
    alias = conf.load().database
    _be_patient(alias)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        _lock_head(alias, conf.load().capacity_rows)
        cursor.execute(f"SELECT count(*) FROM {LOG_TABLE}")
        total = cursor.fetchone()[0]
        yield 0, total
        for table in (LOG_TABLE, BLOCK_TABLE, STATEMENT_TABLE, STATISTIC_TABLE, KEY_TABLE):
            _empty(alias, table)
        yield total, total
    _give_space_back(alias)


def _be_patient(alias: str) -> None:
    connection = connections[alias]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _lock_head(alias: str, capacity_rows: int) -> RingHead:
    """Keep writers out until the transaction ends, and have them write their texts anew."""
    heads = RingHead.objects.using(alias)
    # A write first: SQLite locks at the first write, and refuses one that has read something older.
    if not heads.update(epoch=F("epoch") + 1):
        heads.get_or_create(id=1, defaults={"seq": 0, "capacity": capacity_rows})
    # FOR UPDATE, not the lock of an update, is what PostgreSQL's writers' FOR KEY SHARE waits for.
    return heads.select_for_update().get(id=1)


def _empty(alias: str, table: str) -> None:
    connection = connections[alias]
    verb = "TRUNCATE" if connection.vendor == "postgresql" else "DELETE FROM"
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} {table}")


def _give_space_back(alias: str) -> None:
    connection = connections[alias]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
