"""A PostgreSQL server of the tests' own in a temporary folder, and the faults that it can be given.

Feeds the fixtures `postgresql` and `fragile_postgresql`, and the benchmarks.
"""

import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.database_server import DatabaseServer, send_signals
from tests.programs import INITDB, find

INITDB_OPTIONS = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
log_destination = 'stderr'
log_statement = 'all'
log_line_prefix = '%m [%p] %d '
"""


class Cluster(DatabaseServer):
    """Its log has each statement that it received."""

    name = "PostgreSQL"
    engine = "django.db.backends.postgresql"
    user = "postgres"
    stop_signal = signal.SIGINT
    start_timeout_s = 120.0

    def __init__(self, *, in_memory: bool = False) -> None:
        super().__init__(in_memory=in_memory)
        self._binaries = find(INITDB).resolve().parent

    def dsn(self, database: str = "postgres") -> str:
        return f"host={self.host} port={self.port} user={self.user} dbname={database} connect_timeout=5"

    def settings_dict(self, database: str = "postgres") -> dict[str, Any]:
        return super().settings_dict(database)

    def create_database(self, name: str, template: str = "template1") -> dict[str, Any]:
        """Make a copy of a template, in place of a database of that name; return its entry for DATABASES."""
        names = sql.Identifier(name), sql.Identifier(template)
        for line in ("DROP DATABASE IF EXISTS {} WITH (FORCE)", "CREATE DATABASE {} TEMPLATE {}"):
            self.execute(sql.SQL(line).format(*names))
        return self.settings_dict(name)

    def execute(self, statement: Any, *parameters: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement on a separate connection; return its rows."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def pause(self) -> None:
        """Freeze the first process and those of the connections."""
        # Each process is the leader of a session, so no signal to a group reaches them.
        # The first one is stopped before the others are listed: it starts new ones.
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            super().pause()
            rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            others = [pid for (pid,) in rows]
        self._paused += others
        send_signals(others, signal.SIGSTOP)

    def _make(self) -> None:
        command = [self._binaries / "initdb", f"--pgdata={self._data}", *INITDB_OPTIONS]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._owner)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION + ("max_wal_size = 128MB\n" if self._data.is_symlink() else ""))

    def _command(self) -> list[str | Path]:
        return [self._binaries / "postgres", "-D", self._data, "-p", str(self.port)]

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


@pytest.fixture(scope="session")
def postgresql():
    """One server for all tests; a test that stops, kills or pauses it asks for `fragile_postgresql`."""
    with Cluster(in_memory=True) as cluster:
        yield cluster


@pytest.fixture
def fragile_postgresql(postgresql):
    """The same server, which is brought back after the test."""
    yield postgresql
    postgresql.resume()
    postgresql.start()
