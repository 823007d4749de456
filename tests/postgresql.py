"""A PostgreSQL server of the tests' own in a temporary folder, and the faults that it can be given.

Feeds the fixtures `postgresql` and `fragile_postgresql`, and the benchmarks.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.ports import free_port
from tests.programs import INITDB, find

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
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


class Cluster:
    """One server, which runs for the time of a `with` block and of which nothing is left after it."""

    host = "127.0.0.1"
    user = "postgres"

    def __init__(self) -> None:
        self._binaries = find(INITDB).resolve().parent
        self._owner = unprivileged()
        # Not in pytest's own temporary folder: that is closed to the server's user.
        self._folder = Path(tempfile.mkdtemp(prefix="sqllogs-postgresql-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []
        self.port = free_port()
        self.log_path = self._folder / "log"
        """The server's log, with each statement that it received."""

    def __enter__(self) -> "Cluster":
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def dsn(self, database: str = "postgres") -> str:
        return f"host={self.host} port={self.port} user={self.user} dbname={database} connect_timeout=5"

    def settings_dict(self, database: str = "postgres") -> dict[str, Any]:
        """Return an entry for Django's DATABASES."""
        address = {"HOST": self.host, "PORT": self.port, "USER": self.user}
        return {"ENGINE": "django.db.backends.postgresql", "NAME": database, **address}

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

    def start(self) -> None:
        """Start the server unless it runs; raise RuntimeError with its log when it does not answer."""
        if self._process:
            return
        command = [self._binaries / "postgres", "-D", self._data, "-p", str(self.port)]
        with self.log_path.open("ab") as log:
            # In a new session, so that Ctrl-C reaches only pytest, which then stops the server.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._owner,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self.log_path.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server in good order, its connections cut."""
        self.resume()
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all of the server's processes at once, as a power cut does."""
        self.pause()
        processes, self._paused = self._paused, []
        _send(processes, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze all of the server's processes: connections are accepted and nothing answers."""
        assert self._process
        # Each process is the leader of a session, so no signal to a group reaches them.
        # The first one is stopped before the others are listed: it starts new ones.
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            self._process.send_signal(signal.SIGSTOP)
            rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            others = [pid for (pid,) in rows]
        self._paused = [self._process.pid, *others]
        _send(others, signal.SIGSTOP)

    def resume(self) -> None:
        processes, self._paused = self._paused, []
        _send(processes, signal.SIGCONT)

    def _make(self) -> None:
        if self._owner:
            os.chown(self._folder, self._owner["user"], self._owner["group"])
        command = [self._binaries / "initdb", f"--pgdata={self._data}", *INITDB_OPTIONS]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._owner)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False

    def _end(self, signum: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signum)
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


def unprivileged() -> dict[str, Any]:
    """Return the options that make a subprocess not root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _send(processes: list[int], signum: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signum)


@pytest.fixture(scope="session")
def postgresql():
    """One server for all tests; a test that stops, kills or pauses it asks for `fragile_postgresql`."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def fragile_postgresql(postgresql):
    """The same server, which is brought back after the test."""
    yield postgresql
    postgresql.resume()
    postgresql.start()
