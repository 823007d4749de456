"""Open the writer's own connection to the ring's database.

Never one that the application uses, nor one of its pool: it has time-outs of
its own, and it is closed and opened again after every fault.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

CONNECT_TIMEOUT_S = 3
BUSY_TIMEOUT_S = 15
"""SQLite serves nobody in turn: of four processes that write without a pause, one waited over 5 s."""
STATEMENT_TIMEOUT_MS = 10_000
TCP_USER_TIMEOUT_MS = 10_000

_POSTGRESQL_OPTIONS = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "application_name": "sqllogs",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": _POSTGRESQL_OPTIONS,
    "sqlite": {"timeout": BUSY_TIMEOUT_S},
    "mysql": {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": STATEMENT_TIMEOUT_MS // 1000,
        "write_timeout": STATEMENT_TIMEOUT_MS // 1000,
    },
}


def open_connection(alias: str) -> BaseDatabaseWrapper:
    """Connect to the database of `alias`; raise what Django raises when it cannot be reached."""
    settings = deepcopy(connections.settings[alias])
    backend = load_backend(settings["ENGINE"])
    options = settings.setdefault("OPTIONS", {})
    options.pop("pool", None)
    for name, value in _OPTIONS.get(backend.DatabaseWrapper.vendor, {}).items():
        options.setdefault(name, value)
    connection: BaseDatabaseWrapper = backend.DatabaseWrapper(settings, alias)
    # The last flush of a process may run in its main thread; the writer's lock keeps them apart.
    connection.inc_thread_sharing()
    connection.connect()
    return connection


def close_connection(connection: BaseDatabaseWrapper) -> None:
    """Close what `open_connection` has opened; Django itself leaves one to a SQLite in memory open."""
    driver = connection.connection
    connection.close()
    if connection.connection is not None:
        driver.close()


@contextmanager
def borrowed(connection: BaseDatabaseWrapper, alias: str) -> Iterator[None]:
    """Let the ORM use a connection of ours, in this thread, for a block."""
    usual = getattr(connections._connections, alias, None)  # type: ignore[attr-defined]
    connections[alias] = connection
    try:
        yield
    finally:
        connection.queries_log.clear()  # with DEBUG it would grow for ever
        del connections[alias]
        if usual is not None:
            connections[alias] = usual
