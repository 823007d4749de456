"""A pgbouncer in transaction mode, in front of the tests' PostgreSQL server.

Feeds the fixture `pgbouncer` and `tests.faults`: all clients share one session of the server.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.database_server import unprivileged
from tests.ports import free_port
from tests.postgresql import Cluster
from tests.programs import PGBOUNCER, find

START_TIMEOUT_S = 60.0
CONFIGURATION = """
[databases]
* = host={host} port={server_port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture
def pgbouncer(postgresql):
    """The address of a pgbouncer, to be merged into an entry of DATABASES."""
    with pooling(postgresql) as port:
        yield {"PORT": port, "DISABLE_SERVER_SIDE_CURSORS": True}


@contextmanager
def pooling(postgresql: Cluster) -> Iterator[int]:
    """Run a pgbouncer in front of a server during a `with` block; return its port."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="sqllogs-pgbouncer-"))
    folder.chmod(0o755)
    configuration = folder / "pgbouncer.ini"
    address = {"host": postgresql.host, "server_port": postgresql.port, "user": postgresql.user}
    configuration.write_text(CONFIGURATION.format(port=port, **address))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [find(PGBOUNCER), configuration], stdout=log, stderr=log, start_new_session=True, **unprivileged()
        )
    try:
        _wait(postgresql.dsn().replace(f"port={postgresql.port}", f"port={port}"), process, folder / "log")
        yield port
    finally:
        process.kill()  # at SIGTERM newer releases wait for their clients
        process.wait()
        shutil.rmtree(folder)


def _wait(dsn: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(dsn).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"pgbouncer does not start:\n{log.read_text()}")
        time.sleep(0.02)


def address_of(settings_dict: dict[str, Any]) -> str:
    """Return the DSN of an entry of DATABASES."""
    host, port, user, name = (settings_dict[key] for key in ("HOST", "PORT", "USER", "NAME"))
    return f"host={host} port={port} user={user} dbname={name}"
