"""The store in PostgreSQL, with psycopg 3: binary COPY into temporary tables, then upserts from these.

Called by `sqllogs.storage.ring` in the writer's thread. Works behind pgbouncer in transaction mode: only the
temporary tables outlive a transaction, and each transaction creates them if they are missing.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from sqllogs.models import RingRow, Unit
from sqllogs.record import Reserved, UnitRow
from sqllogs.statistics.counting import StatisticRow, hours_and_days
from sqllogs.storage.database import STATEMENT_TIMEOUT_MS, open_connection
from sqllogs.storage.sql_store import Dialect, RawStore, roll_up
from sqllogs.storage.store import (
    COLUMNS,
    HEAD_TABLE,
    KEY_TABLE,
    ROLL_UP_TABLE,
    RingState,
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

BEGIN = (
    f"BEGIN; SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; "
    f"SET LOCAL lock_timeout = {STATEMENT_TIMEOUT_MS}; SET LOCAL synchronous_commit = local"
)
"""A commit waits for the server's disk, but not for its replicas.

Reserving numbers waits for the disk too: otherwise a server that crashed forgot a block whose batch was kept
for a retry and reserved it again, and 1,000 of 5,400 stored records were overwritten.
"""
TYPES = {
    "BigIntegerField": "int8",
    "BooleanField": "bool",
    "CharField": "varchar",
    "DateTimeField": "timestamptz",
    "FloatField": "float8",
    "IntegerField": "int4",
    "SmallIntegerField": "int2",
}
"""A binary COPY converts nothing: each value must be sent as its column's type."""


class BatchTable:
    """A temporary table that a batch is copied to.

    Its name contains a hash of its columns: pgbouncer may give us a session with the table of a process that
    runs another release. The columns are listed instead of `LIKE` the stored table, because that may already
    be migrated to a later release, with columns that must not be NULL.
    """

    def __init__(self, name: str, columns: Sequence[str], types: Sequence[str]) -> None:
        self.types = types
        self.columns = ", ".join(f'"{column}"' for column in columns)
        shape = ", ".join(f'"{column}" {kind}' for column, kind in zip(columns, types, strict=True))
        self.name = f"{name}_{blake2b(shape.encode(), digest_size=6).hexdigest()}"
        self.create = f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.name} ({shape}) ON COMMIT DELETE ROWS"
        self.copy = f"COPY {self.name} ({self.columns}) FROM STDIN (FORMAT BINARY)"

    def rows(self, order_by: str) -> str:
        return f"SELECT {self.columns} FROM {self.name} ORDER BY {order_by}"

    def fill(self, raw: Any, rows: Iterable[Sequence[Any]]) -> None:
        with raw.cursor().copy(self.copy) as copy:
            copy.set_types(self.types)
            for row in rows:
                copy.write_row(row)


BATCH = BatchTable(
    "sqllogs_batch",
    COLUMNS,
    [TYPES[RingRow._meta.get_field(column).get_internal_type()] for column in COLUMNS],
)
UNITS = BatchTable(
    "sqllogs_units",
    UnitRow._fields,
    [TYPES[Unit._meta.get_field(column).get_internal_type()] for column in UnitRow._fields],
)
UNIT_UPSERT = unit_upsert(UNITS.rows("slot"))
LOG_UPSERT = log_upsert(BATCH.rows("slot"))
STATEMENT_UPSERT = statement_upsert("%s")
PROCESS_UPSERT = process_upsert("%s", once=False)
PROCESS_UPSERT_ONCE = process_upsert("%s", once=True)
KEY_UPSERT = key_upsert("%s")
SOURCE_INSERT = source_insert("%s")
DIALECT = Dialect(placeholder="%s", blob="bytea", concatenation="string_agg(durations, ''::bytea)")
CREATE_ROLL_UP = (
    f"INSERT INTO {ROLL_UP_TABLE} (id, until_s, tidied_at) VALUES (1, 0, 0) ON CONFLICT DO NOTHING"
)
COUNTS = BatchTable("sqllogs_counts", StatisticRow._fields, ("int4", *["int8"] * 8, "bytea"))
# In each transaction, because behind pgbouncer it may run in a session without these tables.
BEGIN_WRITING = "; ".join((BEGIN, BATCH.create, UNITS.create, COUNTS.create))
STATISTIC_UPSERT = DIALECT.upsert(COUNTS.rows("resolution_s, time, key_id"))


class PostgreSQLStore(RawStore):
    """See `sqllogs.storage.store.Store`."""

    dialect = DIALECT

    def __init__(self, alias: str) -> None:
        self._connection = open_connection(alias)
        self._raw: Any = self._connection.connection
        self._raw.prepare_threshold = None  # pgbouncer may run the next transaction in another session

    @contextmanager
    def _transaction(self, begin: str = BEGIN) -> Iterator[None]:
        try:
            self._raw.execute(begin)
            yield
            self._raw.execute("COMMIT")
        except BaseException:
            # On a lost connection, ROLLBACK would raise another exception that hides the cause.
            if not self._raw.closed:
                self._raw.execute("ROLLBACK")
            raise

    def reserve(self, count: int, capacity_rows: int, *, units: int = 0, idle: int = 0) -> Reserved:
        with self._transaction():
            self._raw.execute(
                f"INSERT INTO {HEAD_TABLE} AS head (id, seq, capacity, epoch) VALUES (1, %s, %s, 0) "
                "ON CONFLICT (id) DO UPDATE SET seq = head.seq + excluded.seq",
                (count, capacity_rows),
            )
            return self._reserve_slots(count, units, idle)

    def _head_for_writing(self) -> RingState:
        # Does not block other writers' `reserve`, but waits for a resize.
        query = f"SELECT seq, capacity, epoch FROM {HEAD_TABLE} WHERE id = 1 FOR KEY SHARE"
        return RingState(*self._raw.execute(query).fetchone())

    def _lock_head(self) -> None:
        self._raw.execute(f"SELECT 1 FROM {HEAD_TABLE} WHERE id = 1 FOR UPDATE")

    def write(self, part: WritePart) -> bool:
        with self._transaction(BEGIN_WRITING):
            head = self._head_for_writing()
            if head.epoch != part.epoch:
                return False
            values = process_values(part.process)
            # Waits for an earlier transaction of this process that lost its connection while committing.
            if self._raw.execute(PROCESS_UPSERT_ONCE, values).rowcount < 1:
                self._raw.execute(PROCESS_UPSERT, values)
                return True
            if part.records:
                BATCH.fill(self._raw, query_rows(part, head.capacity))
                self._raw.execute(LOG_UPSERT)
            if part.sources:
                self._raw.cursor().executemany(SOURCE_INSERT, part.sources)
            if part.units:
                UNITS.fill(self._raw, part.units)
                self._raw.execute(UNIT_UPSERT)
            if part.statements:
                self._raw.cursor().executemany(STATEMENT_UPSERT, part.statements)
            if part.keys:
                self._raw.cursor().executemany(KEY_UPSERT, part.keys)
            # Last, so that other processes wait as briefly as possible for the rows that this locks.
            self._add(part.statistics)
            return True

    def _add(self, minutes: Sequence[StatisticRow]) -> None:
        if not minutes:
            return
        # FOR SHARE does not block other writers, but waits for a rollup. Without the row, nothing would be
        # locked and the first rollup could skip minutes that are not committed yet.
        lock = f"SELECT until_s FROM {ROLL_UP_TABLE} WHERE id = 1 FOR SHARE"
        row = self._raw.execute(lock).fetchone()
        if row is None:
            self._raw.execute(CREATE_ROLL_UP)
            row = self._raw.execute(lock).fetchone()
        until_s = row[0]
        late = hours_and_days(minute for minute in minutes if minute.time < until_s)
        COUNTS.fill(self._raw, (*minutes, *late))
        self._raw.execute(STATISTIC_UPSERT)

    def roll_up(self, before_s: int) -> bool:
        with self._transaction():
            row = self._raw.execute(
                f"SELECT until_s FROM {ROLL_UP_TABLE} WHERE id = 1 FOR UPDATE SKIP LOCKED"
            ).fetchone()
            if row is None:  # it does not exist yet, or a writer or another rollup has locked it
                self._raw.execute(CREATE_ROLL_UP)
                return True
            return roll_up(self._raw.execute, DIALECT, row[0], before_s)

    def stored_keys(self, ids: Sequence[int]) -> set[int]:
        return {
            row[0] for row in self._raw.execute(f"SELECT id FROM {KEY_TABLE} WHERE id = ANY(%s)", [list(ids)])
        }
