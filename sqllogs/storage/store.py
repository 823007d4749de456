"""The interface of a store, and the SQL that several stores share.

Implemented by `sqlite`, `postgresql`, and `orm` for any other database; called by
`sqllogs.storage.ring` in the writer's thread.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from sqllogs.models import (
    BlockColumn,
    Event,
    Process,
    QuerySource,
    RingHead,
    RingRow,
    RollUp,
    SQLLog,
    Statement,
    Statistic,
    StatisticKey,
    StoredPlan,
    Unit,
)
from sqllogs.record import Record, Reserved, UnitRow
from sqllogs.statistics.counting import KeyRow, KeyStore, StatisticRow
from sqllogs.statistics.resolution import RetentionStore
from sqllogs.storage import blocks

COLUMNS = tuple(field.name for field in RingRow._meta.local_fields)
"""The columns of the ring's table, the order of the values that `query_rows` yields."""


class SourceRow(NamedTuple):
    """A row of `QuerySource`."""

    id: int
    call_site: str | None
    alias: str
    vendor: str
    asked_by: str | None
    rendering: str | None
    ignored: str | None


class StoredStatement(NamedTuple):
    """A row of `Statement`."""

    fingerprint: str
    sql: str
    operation: str
    tables: str
    first_seen: datetime
    last_seen: datetime


class ProcessRow(NamedTuple):
    """A row of `Process`."""

    uuid: str
    host: str
    pid: int
    started_at: datetime
    updated_at: datetime
    captured: int
    stored: int
    sampled_out: int
    dropped: dict[str, int]
    exported: dict[str, int]
    queued: int
    lag_ms: float
    written_part: int
    service: str | None
    urlconf: str | None
    units_dropped: int


class RingState(NamedTuple):
    """The ring's state while a batch is written."""

    seq: int
    capacity: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePart:
    """Everything written in one transaction: a batch, or a part of a rejected batch."""

    first_seq: int
    """The number of the first record."""
    records: Sequence[Record]
    slots: Sequence[int | None]
    """The slot of each record's unit of work."""
    units: Sequence[UnitRow]
    """In order of their slots."""
    sources: Sequence[SourceRow]
    statements: Sequence[StoredStatement]
    keys: Sequence[KeyRow]
    statistics: Sequence[StatisticRow]
    """Additions to minutes, in the order of the primary key."""
    process: ProcessRow
    epoch: int
    """The head's epoch when the missing texts and keys were determined."""


# With 500, a fifth (SQLite) or a third (PostgreSQL) fewer records were stored in the same time, and the
# application was slowed down just as much.
BATCH_ROWS = 2_000


class Store(KeyStore, RetentionStore, Protocol):
    """One connection to the database; each call is a transaction and raises the driver's exceptions."""

    batch_rows: int
    """Records of one part."""

    def reserve(self, count: int, capacity_rows: int, *, units: int = 0, idle: int = 0) -> Reserved:
        """Reserve `count` numbers, and slots for units with and without queries.

        Create the ring with this capacity if needed.
        """

    def head(self) -> RingState:
        """Return the state of the ring."""

    def write(self, part: WritePart) -> bool:
        """Write records to their slots, unless a newer one is there, and add the statistics.

        A part is written once: it is skipped if the process's row has its number or a later one.
        Return False and write nothing if the ring's epoch is no longer `part.epoch`.
        """

    def count_statements(self) -> int:
        """Return the number of statement texts."""

    def evict_statements(self, count: int) -> int:
        """Delete texts in EVICTION_ORDER; return their number."""

    def count_sources(self) -> int:
        """Return the number of call sites with their databases."""

    def evict_sources(self) -> int:
        """Delete the call sites that no record in the ring refers to; return their number."""

    def limit_processes(self) -> None:
        """Delete the rows of the processes that have not written for longest, if there are too many."""

    is_hurried: Callable[[], bool]
    """Called while waiting for a lock; if it returns True, the store raises instead of waiting longer."""

    has_index: bool
    """Whether large rings are indexed; if not, the next three methods do nothing."""

    def block_columns(self, block: int, head: RingState, *, wait: bool) -> list[Sequence[Any]] | None:
        """Read the columns of a block's records; None if the block is not complete.

        With `wait` also None while a request is running whose view and route are not known yet.
        """

    def store_block(self, block: int, columns: Sequence[Sequence[Any]], head: RingState) -> bool:
        """Store a block's columns and delete those of overwritten blocks.

        Return False and store nothing if the ring's epoch is no longer `head.epoch`.
        """

    def indexed_blocks(self) -> set[int]:
        """Return the blocks whose columns are stored."""

    def store_event(self, event: Event) -> None:
        """Store an event unless its key exists."""

    def roll_up(self, before_s: int) -> bool:
        """Add a few thousand rows of minutes to their hours and days; return whether more are due.

        Each minute is added once, even if several processes try; late calls are added to all three.
        """

    def close(self) -> None:
        """Close the connection, in whatever state it is."""


def upsert(
    table: str, columns: Sequence[str], source: str, key: str, *, only_if: str = "", keep: str = ""
) -> str:
    """Return INSERT ... ON CONFLICT DO UPDATE for SQLite and PostgreSQL.

    `source` follows the column list; `keep` is a column that is not updated.
    """
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in {key, keep})
    names = ", ".join(f'"{name}"' for name in columns)
    condition = f" WHERE {only_if}" if only_if else ""
    return f'INSERT INTO {table} ({names}) {source} ON CONFLICT ("{key}") DO UPDATE SET {updates}{condition}'


LOG_TABLE = RingRow._meta.db_table
UNIT_TABLE = Unit._meta.db_table
SOURCE_TABLE = QuerySource._meta.db_table
RECORD_VIEW = SQLLog._meta.db_table
STATEMENT_TABLE = Statement._meta.db_table
PLAN_TABLE = StoredPlan._meta.db_table
BLOCK_TABLE = BlockColumn._meta.db_table
HEAD_TABLE = RingHead._meta.db_table
PROCESS_TABLE = Process._meta.db_table
KEY_TABLE = StatisticKey._meta.db_table
ROLL_UP_TABLE = RollUp._meta.db_table
STATISTIC_TABLE = Statistic._meta.db_table


def log_upsert(source: str) -> str:
    # After an outage, a batch may find newer records in its slots.
    return upsert(LOG_TABLE, COLUMNS, source, "slot", only_if=f"excluded.seq > {LOG_TABLE}.seq")


def block_rows(placeholder: str) -> str:
    """Return the SELECT of a block's columns (first and last slot, first and last number), by slot."""
    columns = ", ".join(f'"{name}"' for name in blocks.COLUMNS)
    return (
        f"SELECT {columns} FROM {RECORD_VIEW} WHERE slot BETWEEN {placeholder} AND {placeholder} "
        f"AND seq BETWEEN {placeholder} AND {placeholder} ORDER BY slot"
    )


def block_insert(placeholder: str) -> str:
    columns = ", ".join(f'"{name}"' for name in blocks.ColumnRow._fields)
    values = _values(blocks.ColumnRow._fields, placeholder)
    # Two processes may index the same block, and both write the same row.
    return f"INSERT INTO {BLOCK_TABLE} ({columns}) {values} ON CONFLICT DO NOTHING"


def statement_upsert(placeholder: str) -> str:
    # Another process may have seen the statement before this one.
    columns = StoredStatement._fields
    return upsert(STATEMENT_TABLE, columns, _values(columns, placeholder), "fingerprint", keep="first_seen")


def source_insert(placeholder: str) -> str:
    columns = ", ".join(f'"{name}"' for name in SourceRow._fields)
    values = _values(SourceRow._fields, placeholder)
    # The id is a hash of the other columns, so a row that exists has the same values.
    return f"INSERT INTO {SOURCE_TABLE} ({columns}) {values} ON CONFLICT DO NOTHING"


UNUSED_SOURCES = f"DELETE FROM {SOURCE_TABLE} WHERE id NOT IN (SELECT DISTINCT source FROM {LOG_TABLE})"


def process_upsert(placeholder: str, *, once: bool) -> str:
    """Return the upsert of a process; with `once` it does nothing if the part was written before."""
    columns = ProcessRow._fields
    only_if = f"excluded.written_part > {PROCESS_TABLE}.written_part" if once else ""
    values = _values(columns, placeholder)
    return upsert(PROCESS_TABLE, columns, values, "uuid", keep="started_at", only_if=only_if)


PROCESSES_MAX = 5_000
"""Beyond this number, rows of processes are deleted: a task queue may start one for each task."""
PROCESSES_KEPT = 4_500
"""Rows that are left then. A process that is still running writes its row again."""
SURPLUS_PROCESSES = (
    f"DELETE FROM {PROCESS_TABLE} WHERE uuid NOT IN "
    f"(SELECT uuid FROM {PROCESS_TABLE} ORDER BY updated_at DESC LIMIT {PROCESSES_KEPT})"
)


def key_upsert(placeholder: str) -> str:
    return upsert(KEY_TABLE, KeyRow._fields, _values(KeyRow._fields, placeholder), "id")


def _values(columns: Sequence[str], placeholder: str) -> str:
    return f"VALUES ({', '.join([placeholder] * len(columns))})"


EVICTION_ORDER = ("last_seen", "-first_seen", "fingerprint")
"""Least recently used first. Within an hour the newest first, as it is likely to be built from input."""
_EVICTED_FIRST = ", ".join(f"{name[1:]} DESC" if name[0] == "-" else name for name in EVICTION_ORDER)


def statement_eviction(placeholder: str) -> str:
    return (
        f"DELETE FROM {STATEMENT_TABLE} WHERE fingerprint IN (SELECT fingerprint FROM {STATEMENT_TABLE} "
        f"ORDER BY {_EVICTED_FIRST} LIMIT {placeholder})"
    )


NEW_EPOCH = f"UPDATE {HEAD_TABLE} SET epoch = epoch + 1"
"""Run after texts or keys were deleted: all processes then forget which of them are stored."""


def newest(part: WritePart, capacity: int) -> tuple[int, Sequence[Record], Sequence[int | None]]:
    """Leave out records that the same batch would overwrite, since a ring can be smaller than a batch."""
    surplus = max(0, len(part.records) - capacity)
    return part.first_seq + surplus, part.records[surplus:], part.slots[surplus:]


Ids = tuple[str | None, str | None]
"""The ids of the trace and of the unit of work."""
NO_IDS: Ids = (None, None)


def query_rows(part: WritePart, capacity: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the ring's table.

    A generator, so that a driver's executemany lets other threads run between two rows.
    """
    ids_of_unit = {row.slot: (row.trace_id, row.unit_id) for row in part.units}
    first_seq, records, slots = newest(part, capacity)
    for seq, (record, unit) in enumerate(zip(records, slots, strict=True), first_seq):
        ids = NO_IDS if unit is None else ids_of_unit.get(unit, NO_IDS)
        yield query_row(seq % capacity, seq, record, unit, ids)


def query_row(slot: int, seq: int, record: Record, unit: int | None, ids: Ids) -> tuple[Any, ...]:
    """Return a record's row, in the order of COLUMNS; ids that equal its unit's are left to the view."""
    form, origin = record.form, record.origin
    trace_id, span_id = origin.trace_id, origin.span_id
    # The bits are listed at RingRow.flags. The form has those that are the same for all its queries.
    flags = form.flags
    if origin.sampled:
        flags |= 4
    if record.same_values:
        flags |= 16
    if record.same_rows:
        flags |= 32
    return (
        slot,
        unit,
        seq,
        record.time_us,
        statement_number(form.fingerprint),
        form.source_id,
        record.duration_us,
        record.execute_us,
        record.fetch_us,
        record.rows,
        form.sql_length,
        flags,
        # NULL stands for the unit's ids, see the view: it saves 48 characters in most records.
        None if trace_id == ids[0] else trace_id,
        None if span_id == ids[1] else span_id,
        form.sql_hash,
        form.error,
        form.sqlstate,
    )


@lru_cache(maxsize=4_096)
def statement_number(fingerprint: str) -> int:
    """Return a fingerprint as the signed number that databases can store."""
    number = int(fingerprint, 16)
    return number - (1 << 64) if number >= 1 << 63 else number


class UnitHead(NamedTuple):
    """The columns of the ring's head that are needed to reserve slots of units."""

    seq: int
    capacity: int
    unit_slots: int
    unit_cursor: int
    idle_units: int

    @property
    def oldest_seq(self) -> int:
        return self.seq - self.capacity + 1


SLOT_TRIES = 8
"""Attempts to find free slots, each a query while the head is locked; if all fail, the table grows."""
IDLE_SHARE = 10
"""Units without queries have a tenth as many slots as there are records."""
IDLE_SLOTS_MIN = 100


def reserve_slots(
    head: UnitHead, units: int, idle: int, last_live: Callable[[int, int], int | None]
) -> tuple[Reserved, UnitHead]:
    """Return slots that no record of the ring refers to, and the head to write.

    The search continues where the last one ended. `last_live` returns the last slot in use within a range.
    The table grows if there is no free range, and always until the ring is full.
    """
    size, cursor = head.unit_slots, head.unit_cursor
    slots = range(size, size + units)
    for _ in range(SLOT_TRIES if head.oldest_seq > 1 and units <= size else 0):
        # The slots of a batch are consecutive: they do not wrap around.
        cursor = 0 if cursor + units > size else cursor
        live = last_live(cursor, cursor + units - 1)
        if live is None:
            slots = range(cursor, cursor + units)
            break
        cursor = live + 1
    reserved = Reserved(
        first_seq=head.seq + 1,
        slots=slots,
        idle=range(head.idle_units + 1, head.idle_units + 1 + idle),
        idle_slots=max(IDLE_SLOTS_MIN, head.capacity // IDLE_SHARE),
    )
    changed = head._replace(
        unit_slots=max(size, slots.stop),
        unit_cursor=slots.stop if slots.start < size else cursor,
        idle_units=head.idle_units + idle,
    )
    return reserved, changed


UNIT_HEAD = f"SELECT {', '.join(UnitHead._fields)} FROM {HEAD_TABLE} WHERE id = 1"


def unit_upsert(source: str) -> str:
    """Return the upsert of units; a unit whose slot now belongs to a newer one is not written."""
    only_if = f"excluded.first_seq >= {UNIT_TABLE}.first_seq"
    return upsert(UNIT_TABLE, UnitRow._fields, source, "slot", only_if=only_if)


def process_values(process: ProcessRow) -> tuple[object, ...]:
    """Return the row's values, with counts by reason as JSON."""
    # As text, because neither sqlite3 nor psycopg takes a dict as a parameter.
    dropped: Any = json.dumps(process.dropped)
    exported: Any = json.dumps(process.exported)
    return process._replace(dropped=dropped, exported=exported)
