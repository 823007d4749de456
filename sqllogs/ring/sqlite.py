"""The ring in a SQLite file: raw executemany over the driver, one transaction a batch.

WAL lets readers go on while a batch is written, and BEGIN IMMEDIATE waits for
its turn instead of failing half-way.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqllogs.record import Record
from sqllogs.ring.connecting import open_connection
from sqllogs.ring.store import (
    COLUMNS,
    HEAD_TABLE,
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

PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",  # a power cut can lose the last batches, never the file
    "cache_size = -8192",  # KiB
    "wal_autocheckpoint = 4000",  # pages; measured best for batches of 2,000
    "journal_size_limit = 67108864",
)
LOG_UPSERT = log_upsert(f"VALUES ({', '.join('?' * len(COLUMNS))})")
STATEMENT_UPSERT = statement_upsert("?")
PROCESS_UPSERT = process_upsert("?")
PRUNE = prune("?")


class SQLiteStore:
    """See `sqllogs.ring.store.Store`."""

    def __init__(self, alias: str) -> None:
        self._connection = open_connection(alias)
        self._raw: sqlite3.Connection = self._connection.connection
        for pragma in PRAGMAS:
            self._raw.execute(f"PRAGMA {pragma}").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._raw.execute("COMMIT")
        except BaseException:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            raise

    def head(self) -> Head:
        row = self._raw.execute(f"SELECT seq, capacity, epoch FROM {HEAD_TABLE} WHERE id = 1").fetchone()
        return Head(*row) if row else Head(0, 0, 0)

    def reserve(self, count: int, capacity_rows: int) -> int:
        with self._transaction():
            self._raw.execute(
                f"INSERT INTO {HEAD_TABLE} (id, seq, capacity, epoch) VALUES (1, ?, ?, 0) "
                "ON CONFLICT (id) DO UPDATE SET seq = seq + excluded.seq",
                (count, capacity_rows),
            )
            return self.head().seq - count + 1

    def write(
        self,
        first_seq: int,
        records: Sequence[Record],
        statements: Sequence[StatementRow],
        process: ProcessRow,
    ) -> None:
        with self._transaction():
            capacity = self.head().capacity
            first_seq, records = newest(first_seq, records, capacity)
            self._raw.executemany(
                LOG_UPSERT,
                # A generator: executemany lets other threads run between two rows.
                (
                    (seq % capacity, seq, str(record[0])[:-6], *record[1:])
                    for seq, record in enumerate(records, first_seq)
                ),
            )
            self._raw.executemany(
                STATEMENT_UPSERT, [(*row[:4], str(row[4])[:-6], str(row[5])[:-6]) for row in statements]
            )
            values = process_values(process)
            times = (str(process.started_at)[:-6], str(process.updated_at)[:-6])
            self._raw.execute(PROCESS_UPSERT, (*values[:3], *times, *values[5:]))

    def count_statements(self) -> int:
        count: int = self._raw.execute(f"SELECT count(*) FROM {STATEMENT_TABLE}").fetchone()[0]
        return count

    def prune_statements(self, unseen_since: datetime) -> int:
        with self._transaction():
            deleted = self._raw.execute(PRUNE, [str(unseen_since)[:-6]] * 2).rowcount
            if deleted:
                self._raw.execute(NEW_EPOCH)
            return deleted

    def close(self) -> None:
        self._connection.close()
