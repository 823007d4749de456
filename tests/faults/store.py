"""Read a store as evidence: by its tables alone, without the code under test.

Called by the harness in its own process; a store that is away or damaged has no figures, which is None.
"""

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from tests.mariadb import Server
from tests.postgresql import Cluster

ACCOUNTS = (
    "SELECT uuid, pid, captured, stored, sampled_out, dropped, exported, queued, lag_ms FROM sqllogs_process"
)
DATABASE = "ring"
AS_POSTGRESQL = "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', max_recursive_iterations = 1000000"
"""Lets MariaDB run the statements that fill the other stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one process says that it has done."""

    uuid: str
    pid: int
    captured: int
    stored: int
    sampled_out: int
    dropped: Counter[str]
    exported: Counter[str]
    queued: int
    lag_ms: float

    @property
    def is_balanced(self) -> bool:
        return self.captured == self.stored + self.sampled_out + self.dropped.total() + self.queued


class SQLiteStore:
    """A file in a folder of its own, so that a small disk can be mounted there."""

    vendor = "sqlite"

    def __init__(self, path: Path, template: Path) -> None:
        self.path = path
        self.template = template
        path.parent.mkdir(parents=True, exist_ok=True)
        self.restore()

    @property
    def environment(self) -> dict[str, str]:
        return {"SQLLOGS_STORE": json.dumps({"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.path)})}

    def restore(self) -> None:
        """Put a new, empty, migrated file in place of what is there."""
        self.remove()
        fresh = self.path.with_name("fresh")
        shutil.copy(self.template, fresh)
        fresh.rename(self.path)

    def remove(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=5)) as connection:
            return connection.execute(statement).fetchall()

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=20)) as connection, connection:
            connection.execute(statement)

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*"))


class ServerStore:
    """A database of a server that can be stopped, killed and frozen."""

    def __init__(self, cluster: Cluster | Server, template: str) -> None:
        self.cluster = cluster
        self.vendor = cluster.name.lower()
        cluster.create_database(DATABASE, template)

    @property
    def environment(self) -> dict[str, str]:
        return address(self.cluster, DATABASE)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.cluster.execute(statement, database=DATABASE)

    def execute(self, statement: str) -> None:
        if isinstance(self.cluster, Cluster):
            self.cluster.execute(statement, database=DATABASE)
        else:
            self.cluster.execute(AS_POSTGRESQL, statement, database=DATABASE)

    def size_bytes(self) -> int:
        if isinstance(self.cluster, Cluster):
            return int(self.rows(f"SELECT pg_database_size('{DATABASE}')")[0][0])
        sizes = "SELECT sum(data_length + index_length) FROM information_schema.tables"
        return int(self.rows(f"{sizes} WHERE table_schema = '{DATABASE}'")[0][0])


def address(server: Cluster | Server, database: str) -> dict[str, str]:
    """Return the environment in which the site's store is this database."""
    if isinstance(server, Cluster):
        address = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user}
        return address | {"SQLLOGS_DATABASE_NAME": database}
    return {"SQLLOGS_STORE": json.dumps(server.settings_dict(database))}


Store = SQLiteStore | ServerStore
UNREADABLE = (sqlite3.Error, psycopg.Error, pymysql.Error, OSError)


def accounts(store: Store) -> list[Account] | None:
    try:
        found = store.rows(ACCOUNTS)
    except UNREADABLE:
        return None
    return [
        Account(
            uuid=uuid, pid=pid, captured=captured, stored=stored, sampled_out=sampled_out,
            dropped=_counts(dropped), exported=_counts(exported), queued=queued, lag_ms=lag_ms,
        )
        for uuid, pid, captured, stored, sampled_out, dropped, exported, queued, lag_ms in found
    ]  # fmt: skip


def _counts(value: Any) -> Counter[str]:
    return Counter(json.loads(value) if isinstance(value, str) else value)


def traces(store: Store) -> set[str]:
    try:
        return {trace for (trace,) in store.rows("SELECT DISTINCT trace_id FROM sqllogs_record")}
    except UNREADABLE:
        return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The table of records: how many, how many distinct numbers, the last number, the capacity."""

    rows: int
    distinct: int
    first: int
    last: int
    head: int
    capacity: int


def ring(store: Store) -> Ring | None:
    counted = "SELECT count(*), count(DISTINCT seq), coalesce(min(seq), 0), coalesce(max(seq), 0)"
    try:
        ((rows, distinct, first, last),) = store.rows(f"{counted} FROM sqllogs_record")
        head = store.rows("SELECT seq, capacity FROM sqllogs_ringhead")
    except UNREADABLE:
        return None
    seq, capacity = head[0] if head else (0, 0)
    return Ring(rows=rows, distinct=distinct, first=first, last=last, head=seq, capacity=capacity)
