"""Open connections to the store that are separate from the application's.

Used by the stores in the writer's thread, and by `sqllogs.read.explain`. These connections
have their own timeouts, never come from a pool, and are opened again after every error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

CONNECT_TIMEOUT_S = 3
BUSY_TIMEOUT_S = 15
"""SQLite has no queue for its lock: of four processes that wrote without a pause, one waited over 5 s."""
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


def open_connection(alias: str, file: Path | None = None) -> BaseDatabaseWrapper:
    """Connect to the database of `alias`, or to another file; raise Django's exception if that fails."""
    database = deepcopy(connections.settings[alias])
    if file is not None:
        database["NAME"] = str(file)
    backend = load_backend(database["ENGINE"])
    options = database.setdefault("OPTIONS", {})
    options.pop("pool", None)
    for name, value in _OPTIONS.get(backend.DatabaseWrapper.vendor, {}).items():
        options.setdefault(name, value)
    connection: BaseDatabaseWrapper = backend.DatabaseWrapper(database, alias)
    # The last flush of a process may run in its main thread; the writer's lock serializes the two.
    connection.inc_thread_sharing()
    connection.connect()
    return connection


def close_connection(connection: BaseDatabaseWrapper) -> None:
    """Close a connection made by `open_connection`, in-memory SQLite included, which Django keeps open."""
    driver = connection.connection
    connection.close()
    if connection.connection is not None:
        driver.close()


@contextmanager
def used_by_orm(connection: BaseDatabaseWrapper, alias: str) -> Iterator[None]:
    """Make the ORM use this connection for an alias, in this thread, during a `with` block."""
    usual = getattr(connections._connections, alias, None)  # type: ignore[attr-defined]
    connections[alias] = connection
    try:
        yield
    finally:
        connection.queries_log.clear()  # grows without bound under DEBUG
        del connections[alias]
        if usual is not None:
            connections[alias] = usual
