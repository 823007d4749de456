"""Ask a database for the plan of a statement that it has no values for.

Called by `sqllogs.plans`, in the reader's thread, on a connection of its own
that can read only; what it does is rolled back.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error as DatabaseAPIError
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs.plans.preparable import Preparable
from sqllogs.ring.connecting import close_connection, open_connection

TIMEOUT_MS = 3_000
GENERIC_PLAN_FROM = 160_000
"""PostgreSQL 16 plans a statement with parameters by itself."""

UNDETERMINED = "42P18"
"""SQLSTATE of a parameter whose type nothing tells; the message has its number."""

Lines = tuple[str, ...]


@contextmanager
def connected(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Connect to the database of an alias, beside the connection that the caller may be using."""
    connection = open_connection(alias)
    try:
        yield connection
    finally:
        close_connection(connection)


def sqlite(connection: BaseDatabaseWrapper, statement: Preparable) -> Lines:
    driver: Any = connection.connection  # Django's cursor takes %s alone
    values = (None,) * statement.parameters
    with connection.wrap_database_errors:
        driver.execute("PRAGMA query_only = ON")
        rows = driver.execute(f"EXPLAIN QUERY PLAN {statement.questioned()}", values).fetchall()
    depths: dict[int, int] = {0: -1}
    lines = []
    for number, parent, _, detail in rows:
        depths[number] = depths.get(parent, -1) + 1
        lines.append(f"{'  ' * depths[number]}{detail}")
    return tuple(lines)


def postgresql(connection: BaseDatabaseWrapper, statement: Preparable) -> Lines:
    casts: dict[int, str] = {}
    while True:
        try:
            return _explained(connection, statement, casts)
        except DatabaseAPIError as exc:
            number = _undetermined(exc)
            if number is None or number in casts:
                raise
            casts[number] = "::text"


def _explained(connection: Any, statement: Preparable, casts: dict[int, str]) -> Lines:
    text = statement.numbered(casts)
    connection.set_autocommit(False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            cursor.execute(f"SET LOCAL lock_timeout = {TIMEOUT_MS}")
            for line in _statements(connection.pg_version, text, statement.parameters):
                cursor.execute(line)
            return tuple(row[0] for row in cursor.fetchall())
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def _statements(version: int, text: str, parameters: int) -> Iterator[str]:
    """Yield what is sent to explain a text with numbered parameters; the last answers with the plan."""
    if version >= GENERIC_PLAN_FROM:
        yield f"EXPLAIN (GENERIC_PLAN) {text}"
        return
    yield "SET LOCAL plan_cache_mode = force_generic_plan"
    # PREPARE outlives a rollback, but not the connection. ALL: pgbouncer may give one that has it already.
    yield "DEALLOCATE ALL"
    yield f"PREPARE sqllogs_plan AS {text}"
    values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    yield f"EXPLAIN EXECUTE sqllogs_plan{values}"


def _undetermined(exc: DatabaseAPIError) -> int | None:
    cause = exc.__cause__
    sqlstate = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    found = re.search(r"\$(\d+)", str(exc)) if sqlstate == UNDETERMINED else None
    return int(found[1]) if found else None


EXPLAINERS: dict[str, Callable[[BaseDatabaseWrapper, Preparable], Lines]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
}
"""By Django's vendor name."""
