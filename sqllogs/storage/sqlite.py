"""The store in a SQLite file: the driver's executemany, one transaction per batch.

Called by `sqllogs.storage.ring` in the writer's thread. In WAL mode, readers can read while a batch is
written. BEGIN IMMEDIATE waits for the lock at the start, so that no later statement fails for lack of it.
"""

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

from sqllogs.models import Event
from sqllogs.record import Reserved, UnitRow
from sqllogs.statistics import histogram
from sqllogs.statistics.counting import StatisticRow, hours_and_days
from sqllogs.storage.database import BUSY_TIMEOUT_S, open_connection
from sqllogs.storage.sql_store import Dialect, RawStore, roll_up
from sqllogs.storage.store import (
    COLUMNS,
    HEAD_TABLE,
    KEY_TABLE,
    ROLL_UP_TABLE,
    ProcessRow,
    WritePart,
    key_upsert,
    log_upsert,
    process_upsert,
    process_values,
    query_rows,
    source_insert,
    statement_upsert,
    unit_upsert,
)

PRAGMAS = (
    "synchronous = NORMAL",  # a power cut can lose the last batches, but does not corrupt the file
    "cache_size = -8192",  # KiB
    "wal_autocheckpoint = 4000",  # pages; fastest for batches of 2,000 as measured
    "journal_size_limit = 67108864",  # bytes; a log that grew during a long read is truncated to it
)
BUSY_PAUSE_S = 0.005
BUSY_SLICE_MS = 10
"""How long SQLite waits for a lock at a time. It cannot be interrupted, and a fork may be waiting for us."""
LOG_UPSERT = log_upsert(f"VALUES ({', '.join('?' * len(COLUMNS))})")
TEXTS = COLUMNS.index("trace_id")
"""Index of the first text column; in most records, all text columns are NULL."""
NO_TEXTS = (None,) * (len(COLUMNS) - TEXTS)
_SHORT = f"({', '.join(['?'] * TEXTS + ['NULL'] * len(NO_TEXTS))})"
LOG_UPSERT_WITHOUT_TEXTS = log_upsert(f"VALUES {_SHORT}")
ROWS = 10
"""Rows without texts in one statement, which takes a sixth less than ten statements."""
LOG_UPSERT_ROWS = log_upsert(f"VALUES {', '.join([_SHORT] * ROWS)}")
NULL = math.nan
"""SQLite stores NaN as NULL. For None, the driver searches an adapter, which takes 2,200 instructions."""
UNIT_UPSERT = unit_upsert(f"VALUES ({', '.join('?' * len(UnitRow._fields))})")
STATEMENT_UPSERT = statement_upsert("?")
PROCESS_UPSERT = process_upsert("?", once=False)
PROCESS_UPSERT_ONCE = process_upsert("?", once=True)
KEY_UPSERT = key_upsert("?")
SOURCE_INSERT = source_insert("?")
DIALECT = Dialect(placeholder="?", blob="BLOB", concatenation="CAST(group_concat(durations, '') AS BLOB)")
STATISTIC_UPSERT = DIALECT.upsert(f"VALUES ({', '.join('?' * len(StatisticRow._fields))})")


class SQLiteStore(RawStore):
    """See `sqllogs.storage.store.Store`."""

    dialect = DIALECT

    def __init__(self, alias: str) -> None:
        self._connection = open_connection(alias)
        self._raw: sqlite3.Connection = self._connection.connection
        try:
            # WAL, because in any other mode readers would block the writer.
            _write_ahead(self._raw)
            for pragma in PRAGMAS:
                self._raw.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            self.close()
            raise
        self._busy_timeout_ms = self._raw.execute("PRAGMA busy_timeout").fetchone()[0]
        self._wait_at_most(BUSY_SLICE_MS)
        self._raw.create_function("sqllogs_merged", 2, histogram.merged, deterministic=True)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._begin()
        try:
            yield
            self._raw.execute("COMMIT")
        except BaseException:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            raise

    def _wait_at_most(self, timeout_ms: int) -> None:
        self._raw.execute(f"PRAGMA busy_timeout = {timeout_ms}").fetchall()

    def _begin(self) -> None:
        """Wait for the lock in slices; in WAL mode nothing after BEGIN IMMEDIATE waits for another one."""
        give_up_at_s = time.monotonic() + self._busy_timeout_ms / 1000
        while True:
            try:
                self._raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                is_busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or self.is_hurried() or time.monotonic() > give_up_at_s:
                    raise
            else:
                return

    def reserve(self, count: int, capacity_rows: int, *, units: int = 0, idle: int = 0) -> Reserved:
        with self._transaction():
            self._raw.execute(
                f"INSERT INTO {HEAD_TABLE} (id, seq, capacity, epoch) VALUES (1, ?, ?, 0) "
                "ON CONFLICT (id) DO UPDATE SET seq = seq + excluded.seq",
                (count, capacity_rows),
            )
            return self._reserve_slots(count, units, idle)

    def write(self, part: WritePart) -> bool:
        with self._transaction():
            head = self.head()
            if head.epoch != part.epoch:
                return False
            if self._raw.execute(PROCESS_UPSERT_ONCE, _process_values(part.process)).rowcount < 1:
                # It was written before, but its commit was not confirmed.
                self._raw.execute(PROCESS_UPSERT, _process_values(part.process))
                return True
            self._write_records(query_rows(part, head.capacity))
            self._raw.executemany(SOURCE_INSERT, part.sources)
            self._raw.executemany(UNIT_UPSERT, [_unit_values(row) for row in part.units])
            self._raw.executemany(
                STATEMENT_UPSERT,
                [(*row[:4], _text_of_time(row[4]), _text_of_time(row[5])) for row in part.statements],
            )
            self._raw.executemany(KEY_UPSERT, part.keys)
            self._add(part.statistics)
            return True

    def _write_records(self, rows: Iterable[tuple[Any, ...]]) -> None:
        # NULLs are part of the statement, because binding them took as long as all other values together.
        short: list[tuple[Any, ...]] = []
        others: list[tuple[Any, ...]] = []
        for row in rows:
            if row[TEXTS:] == NO_TEXTS:
                short.append(row[:TEXTS])
            else:
                others.append(row)
        whole = len(short) - len(short) % ROWS
        self._raw.executemany(
            LOG_UPSERT_ROWS, (tuple(chain(*short[at : at + ROWS])) for at in range(0, whole, ROWS))
        )
        self._raw.executemany(LOG_UPSERT_WITHOUT_TEXTS, short[whole:])
        self._raw.executemany(LOG_UPSERT, others)

    def _add(self, minutes: Sequence[StatisticRow]) -> None:
        until_s = self.rolled_up_s()
        late = hours_and_days(row for row in minutes if row.time < until_s)
        self._raw.executemany(STATISTIC_UPSERT, [*minutes, *late])

    def roll_up(self, before_s: int) -> bool:
        with self._transaction():
            self._raw.execute(
                f"INSERT OR IGNORE INTO {ROLL_UP_TABLE} (id, until_s, tidied_at) VALUES (1, 0, 0)"
            )
            return roll_up(self._raw.execute, DIALECT, self.rolled_up_s(), before_s)

    def store_event(self, event: Event) -> None:
        self._wait_at_most(self._busy_timeout_ms)  # the ORM waits in one piece
        super().store_event(event)
        self._wait_at_most(BUSY_SLICE_MS)

    def stored_keys(self, ids: Sequence[int]) -> set[int]:
        # One by one, because SQLite limits the variables of a statement, and each is a primary key lookup.
        found = (
            self._raw.execute(f"SELECT id FROM {KEY_TABLE} WHERE id = ?", [key_id]).fetchone()
            for key_id in ids
        )
        return {row[0] for row in found if row is not None}


_TIME, _ENDED_AT = map(UnitRow._fields.index, ("time", "ended_at"))


def _unit_values(row: UnitRow) -> list[object]:
    values: list[object] = [NULL if value is None else value for value in row]
    values[_TIME] = _text_of_time(row.time)
    if row.ended_at is not None:
        values[_ENDED_AT] = _text_of_time(row.ended_at)
    return values


def _text_of_time(time: datetime) -> str:
    """Return a UTC time as Django writes it, without +00:00: SQLite compares it as text."""
    # Not str(), which takes three times as many instructions, and there are two for each unit.
    minute = _text_of_minute(time.year, time.month, time.day, time.hour, time.minute)
    fraction = f".{str(time.microsecond + 1_000_000)[1:]}" if time.microsecond else ""
    return f"{minute}{_SECONDS[time.second]}{fraction}"


@lru_cache(maxsize=64)
def _text_of_minute(year: int, month: int, day: int, hour: int, minute: int) -> str:
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:"


_SECONDS = [f"{second:02}" for second in range(60)]


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Switch the file to WAL mode, which is permanent.

    SQLite refuses at once while another connection is in use, whatever the timeout: four processes that
    started together had 1 to 3 faults each. So retry for as long as for a lock.
    """
    give_up_at_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at_s:
                raise
            time.sleep(BUSY_PAUSE_S)
        else:
            return


def _process_values(process: ProcessRow) -> tuple[object, ...]:
    values = process_values(process)
    times = _text_of_time(process.started_at), _text_of_time(process.updated_at)
    return (*values[:3], *times, *values[5:])
