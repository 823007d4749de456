"""Hand each query of a test to the logs that are open.

The wrapper is the one of `sqllogs.capture`; behind it is a list in memory in
place of the buffer, so there is no thread and no database. It runs in the
thread of the query.
"""

from collections.abc import Callable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.signals import connection_created

from sqllogs import capture, conf
from sqllogs.record import Captured

_takers: list[Callable[[Captured], None]] = []


def open_to(take: Callable[[Captured], None]) -> None:
    """Let `take` have every query from now on, of all threads."""
    connect()
    _takers.append(take)


def close_to(take: Callable[[Captured], None]) -> None:
    _takers.remove(take)


def connect() -> None:
    """Get ready on the connections of this thread and on all new ones.

    It stays so: a thread that a test leaves behind keeps its connection, and the
    next test must see it. While no log is open, a query passes straight through.
    """
    connection_created.connect(_on_connection_created, dispatch_uid="sqllogs.testing")
    for connection in connections.all(initialized_only=True):
        _on_connection_created(connection)


def _on_connection_created(connection: Any, **kwargs: Any) -> None:
    if connection.alias != conf.load().database or connection.alias == DEFAULT_DB_ALIAS:
        capture.install(_tap, connection)


def _put(captured: Captured) -> None:
    for take in _takers.copy():
        take(captured)


_wrapper = capture.execute_wrapper(_put, call_site=True)


def _tap(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    return (_wrapper if _takers else _pass)(execute, sql, params, many, context)


def _pass(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    return execute(sql, params, many, context)
