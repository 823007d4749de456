"""The ring in PostgreSQL, over psycopg 3: binary COPY into a temporary table, then one upsert.

Works behind pgbouncer in transaction mode: nothing outlives a transaction but
the temporary table, which each transaction makes sure of.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqllogs.record import Record
from sqllogs.ring.connecting import STATEMENT_TIMEOUT_MS, open_connection
from sqllogs.ring.store import (
    COLUMNS,
    HEAD_TABLE,
    LOG_TABLE,
    NEW_EPOCH,
    STATEMENT_TABLE,
    Head,
    ProcessRow,
    StatementRow,
    log_upsert,
    newest,
    process_upsert,
    process_values,
    prune,
    statement_upsert,
)

_BEGIN = (
    f"BEGIN; SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; "
    f"SET LOCAL lock_timeout = {STATEMENT_TIMEOUT_MS}; SET LOCAL synchronous_commit = "
)
BEGIN = _BEGIN + "local"
"""What is told as stored is on the server's disk; its replicas are not waited for."""
BEGIN_RESERVE = _BEGIN + "off"
"""A block that a crash forgets is reserved again, and on the disk before what is written into it."""
BATCH_TABLE = "sqllogs_batch"
CREATE_BATCH = f"CREATE TEMPORARY TABLE IF NOT EXISTS {BATCH_TABLE} (LIKE {LOG_TABLE}) ON COMMIT DELETE ROWS"
COLUMN_LIST = ", ".join(f'"{column}"' for column in COLUMNS)
COPY = f"COPY {BATCH_TABLE} ({COLUMN_LIST}) FROM STDIN (FORMAT BINARY)"
COPY_TYPES = (
    "int4", "int8", "timestamptz", "float8", "float8", "float8", "int8", "varchar", "int4", "varchar",
    "varchar", "varchar", "bool", "bool", "varchar", "varchar", "varchar", "varchar", "bool", "varchar",
    "varchar", "varchar", "varchar", "varchar", "int2", "bool", "varchar", "varchar", "varchar", "int4",
)  # fmt: skip
LOG_UPSERT = log_upsert(f"SELECT {COLUMN_LIST} FROM {BATCH_TABLE} ORDER BY slot")
STATEMENT_UPSERT = statement_upsert("%s")
PROCESS_UPSERT = process_upsert("%s")
PRUNE = prune("%s")


class PostgreSQLStore:
    """See `sqllogs.ring.store.Store`."""

    def __init__(self, alias: str) -> None:
        self._connection = open_connection(alias)
        self._raw: Any = self._connection.connection
        self._raw.prepare_threshold = None  # pgbouncer hands the next transaction to another session

    @contextmanager
    def _transaction(self, begin: str = BEGIN) -> Iterator[None]:
        self._raw.execute(begin)
        try:
            yield
            self._raw.execute("COMMIT")
        except BaseException:
            if not self._raw.closed:
                self._raw.execute("ROLLBACK")
            raise

    def head(self) -> Head:
        row = self._raw.execute(f"SELECT seq, capacity, epoch FROM {HEAD_TABLE} WHERE id = 1").fetchone()
        return Head(*row) if row else Head(0, 0, 0)

    def reserve(self, count: int, capacity_rows: int) -> int:
        with self._transaction(BEGIN_RESERVE):
            last_seq: int = self._raw.execute(
                f"INSERT INTO {HEAD_TABLE} AS head (id, seq, capacity, epoch) VALUES (1, %s, %s, 0) "
                "ON CONFLICT (id) DO UPDATE SET seq = head.seq + excluded.seq RETURNING seq",
                (count, capacity_rows),
            ).fetchone()[0]
            return last_seq - count + 1

    def write(
        self,
        first_seq: int,
        records: Sequence[Record],
        statements: Sequence[StatementRow],
        process: ProcessRow,
    ) -> None:
        with self._transaction():
            # Goes together with other writers' reserving, but not with a resize.
            capacity: int = self._raw.execute(
                f"SELECT capacity FROM {HEAD_TABLE} WHERE id = 1 FOR KEY SHARE"
            ).fetchone()[0]
            first_seq, records = newest(first_seq, records, capacity)
            self._raw.execute(CREATE_BATCH)
            with self._raw.cursor().copy(COPY) as copy:
                copy.set_types(COPY_TYPES)
                for seq, record in enumerate(records, first_seq):
                    copy.write_row((seq % capacity, seq, *record))
            self._raw.execute(LOG_UPSERT)
            if statements:
                self._raw.cursor().executemany(STATEMENT_UPSERT, statements)
            self._raw.execute(PROCESS_UPSERT, process_values(process))

    def count_statements(self) -> int:
        count: int = self._raw.execute(f"SELECT count(*) FROM {STATEMENT_TABLE}").fetchone()[0]
        return count

    def prune_statements(self, unseen_since: datetime) -> int:
        with self._transaction():
            deleted: int = self._raw.execute(PRUNE, [unseen_since] * 2).rowcount
            if deleted:
                self._raw.execute(NEW_EPOCH)
            return deleted

    def close(self) -> None:
        self._connection.close()
