"""What a ring's database has to be able to do, and the SQL that its kinds share.

Implemented once for each kind: `sqlite`, `postgresql`, and `orm` for any other.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqllogs.models import Process, RingHead, SQLLog, Statement
from sqllogs.record import Record

COLUMNS = ("slot", "seq", *Record._fields)


class StatementRow(NamedTuple):
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
    written_seq: int


class Head(NamedTuple):
    """The ring's state while a batch is written."""

    seq: int
    capacity: int
    epoch: int


class Store(Protocol):
    """One connection to the ring's database; a call is a transaction and raises the driver's errors."""

    def reserve(self, count: int, capacity_rows: int) -> int:
        """Give out `count` numbers and return the first; a ring not there yet gets the capacity."""

    def head(self) -> Head:
        """Return how far the ring is, outside of any block."""

    def write(
        self,
        first_seq: int,
        records: Sequence[Record],
        statements: Sequence[StatementRow],
        process: ProcessRow,
    ) -> None:
        """Put records into their slots, unless a newer one is there already."""

    def count_statements(self) -> int:
        """Return how many statement texts are kept."""

    def prune_statements(self, unseen_since: datetime) -> int:
        """Delete texts that no record of the ring needs any more; return how many."""

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
HEAD_TABLE = RingHead._meta.db_table
PROCESS_TABLE = Process._meta.db_table


def log_upsert(source: str) -> str:
    return upsert(LOG_TABLE, COLUMNS, source, "slot", only_if=f"excluded.seq > {LOG_TABLE}.seq")


def statement_upsert(placeholder: str) -> str:
    values = ", ".join([placeholder] * len(StatementRow._fields))
    return upsert(
        STATEMENT_TABLE, StatementRow._fields, f"VALUES ({values})", "fingerprint", keep="first_seen"
    )


def process_upsert(placeholder: str) -> str:
    columns = ProcessRow._fields
    return upsert(PROCESS_TABLE, columns, _values(columns, placeholder), "uuid", keep="started_at")


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
