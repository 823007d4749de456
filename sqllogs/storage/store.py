"""What a ring's database has to be able to do, and the SQL that its kinds share.

Implemented once for each kind: `sqlite`, `postgresql`, and `orm` for any other.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqllogs.models import (
    BlockColumn,
    Event,
    Process,
    RingHead,
    RollUp,
    SQLLog,
    Statement,
    Statistic,
    StatisticKey,
)
from sqllogs.record import Record
from sqllogs.statistics.counting import KeyRow, KeyStore, StatisticRow
from sqllogs.statistics.rollup import RetentionStore
from sqllogs.storage import blocks

COLUMNS = ("slot", "seq", *Record._fields)


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


class RingState(NamedTuple):
    """The ring's state while a batch is written."""

    seq: int
    capacity: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePart:
    """What is written in one transaction: a batch, or a part of one that was refused."""

    first_seq: int
    """The number of the first record."""
    records: Sequence[Record]
    statements: Sequence[StoredStatement]
    keys: Sequence[KeyRow]
    statistics: Sequence[StatisticRow]
    """What is to be added to minutes, in the order of the primary key."""
    process: ProcessRow
    epoch: int
    """The head's, when it was found out which texts and keys are not stored yet."""


class Store(KeyStore, RetentionStore, Protocol):
    """One connection to the ring's database; a call is a transaction and raises the driver's errors."""

    def reserve(self, count: int, capacity_rows: int) -> int:
        """Give out `count` numbers and return the first; a ring not there yet gets the capacity."""

    def head(self) -> RingState:
        """Return how far the ring is, outside of any block."""

    def write(self, part: WritePart) -> bool:
        """Put records into their slots, unless a newer one is there already, and count them.

        A part is counted once: not again when the process has a later one noted, or this one.
        Return False, and write nothing, when the ring has another epoch by now.
        """

    def count_statements(self) -> int:
        """Return how many statement texts are kept."""

    def prune_statements(self, unseen_since: datetime) -> int:
        """Delete texts that no record of the ring needs any more; return how many."""

    is_hurried: Callable[[], bool]
    """Asked while waiting for a lock: raise instead of waiting on."""

    has_index: bool
    """Large rings are indexed here; else the three methods that follow do nothing."""

    def block_columns(self, block: int, head: RingState) -> list[Sequence[Any]] | None:
        """Read the columns of a block's records; None while these are not complete."""

    def keep_block(self, block: int, columns: Sequence[Sequence[Any]], head: RingState) -> bool:
        """Keep a block's columns and let go of overwritten ones.

        Return False, and keep nothing, when the ring has another epoch than `head` by now.
        """

    def indexed_blocks(self) -> set[int]:
        """Return the blocks whose columns are kept."""

    def keep_event(self, event: Event) -> None:
        """Store an event unless its key is there already."""

    def roll_up(self, before_s: int) -> bool:
        """Add minutes before a time to their hours and days, some thousand rows; say whether there are more.

        Each minute is added once, whichever processes try; what comes late adds to all three by itself.
        """

    def close(self) -> None:
        """Close the connection, whatever state it is in."""


def upsert(
    table: str, columns: Sequence[str], source: str, key: str, *, only_if: str = "", keep: str = ""
) -> str:
    """Return INSERT ... ON CONFLICT DO UPDATE, as SQLite and PostgreSQL understand it alike.

    `source` follows the column list; `keep` names a column that an existing row keeps.
    """
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in {key, keep})
    names = ", ".join(f'"{name}"' for name in columns)
    condition = f" WHERE {only_if}" if only_if else ""
    return f'INSERT INTO {table} ({names}) {source} ON CONFLICT ("{key}") DO UPDATE SET {updates}{condition}'


LOG_TABLE = SQLLog._meta.db_table
STATEMENT_TABLE = Statement._meta.db_table
BLOCK_TABLE = BlockColumn._meta.db_table
HEAD_TABLE = RingHead._meta.db_table
PROCESS_TABLE = Process._meta.db_table
KEY_TABLE = StatisticKey._meta.db_table
ROLL_UP_TABLE = RollUp._meta.db_table
STATISTIC_TABLE = Statistic._meta.db_table


def log_upsert(source: str) -> str:
    return upsert(LOG_TABLE, COLUMNS, source, "slot", only_if=f"excluded.seq > {LOG_TABLE}.seq")


def block_rows(placeholder: str) -> str:
    """Return the SELECT of a block's columns (slots from, to, numbers from, to), by slot."""
    columns = ", ".join(f'"{name}"' for name in blocks.COLUMNS)
    return (
        f"SELECT {columns} FROM {LOG_TABLE} WHERE slot BETWEEN {placeholder} AND {placeholder} "
        f"AND seq BETWEEN {placeholder} AND {placeholder} ORDER BY slot"
    )


def block_insert(placeholder: str) -> str:
    columns = ", ".join(f'"{name}"' for name in blocks.ColumnRow._fields)
    values = _values(blocks.ColumnRow._fields, placeholder)
    return f"INSERT INTO {BLOCK_TABLE} ({columns}) {values} ON CONFLICT DO NOTHING"


def statement_upsert(placeholder: str) -> str:
    columns = StoredStatement._fields
    return upsert(STATEMENT_TABLE, columns, _values(columns, placeholder), "fingerprint", keep="first_seen")


def process_upsert(placeholder: str, *, once: bool) -> str:
    """Return the upsert of a process; `once` it does nothing when its part is written already."""
    columns = ProcessRow._fields
    only_if = f"excluded.written_part > {PROCESS_TABLE}.written_part" if once else ""
    values = _values(columns, placeholder)
    return upsert(PROCESS_TABLE, columns, values, "uuid", keep="started_at", only_if=only_if)


def key_upsert(placeholder: str) -> str:
    return upsert(KEY_TABLE, KeyRow._fields, _values(KeyRow._fields, placeholder), "id")


def _values(columns: Sequence[str], placeholder: str) -> str:
    return f"VALUES ({', '.join([placeholder] * len(columns))})"


def prune(placeholder: str) -> str:
    """Return the DELETE of texts last seen before a time (given twice) and before the oldest record."""
    oldest = f"coalesce((SELECT min(time) FROM {LOG_TABLE}), {placeholder})"
    return f"DELETE FROM {STATEMENT_TABLE} WHERE last_seen < {placeholder} AND last_seen < {oldest}"


NEW_EPOCH = f"UPDATE {HEAD_TABLE} SET epoch = epoch + 1"


def newest(first_seq: int, records: Sequence[Record], capacity: int) -> tuple[int, Sequence[Record]]:
    """Leave out what the same batch would overwrite: a ring can be smaller than a batch."""
    surplus = max(0, len(records) - capacity)
    return first_seq + surplus, records[surplus:]


def process_values(process: ProcessRow) -> tuple[object, ...]:
    """Return the row with its counts by reason as JSON."""
    dropped: Any = json.dumps(process.dropped)
    exported: Any = json.dumps(process.exported)
    return process._replace(dropped=dropped, exported=exported)
