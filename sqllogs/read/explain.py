"""Explain a statement of the ring, without the values that it was sent with: they are not stored.

Reads the text by `sqllogs.read`, asks the database on which it ran, feeds
the command and the admin. Runs in the reader's thread, is never recorded.

Ask a database for the plan of a statement that it has no values for.

Called by `sqllogs.read.explain`, in the reader's thread, on a connection of its own
that can read only; what it does is rolled back.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseAPIError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs.context import muted
from sqllogs.errors import PlanError
from sqllogs.models import SQLLog, Statement
from sqllogs.read import records, ring
from sqllogs.read.ring import Ordering, Window
from sqllogs.record import RecordJSON, error_code
from sqllogs.sql.plan import redact_plan
from sqllogs.sql.preparable import Preparable, preparable
from sqllogs.storage.connection import close_connection, open_connection

TIMEOUT_MS = 3_000
GENERIC_PLAN_FROM = 160_000
"""PostgreSQL 16 plans a statement with parameters by itself."""

UNDETERMINED = "42P18"
"""SQLSTATE of a parameter whose type is unknown; the message has its number."""

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
            return _plan_lines(connection, statement, casts)
        except DatabaseAPIError as exc:
            number = _undetermined(exc)
            if number is None or number in casts:
                raise
            casts[number] = "::text"


def _plan_lines(connection: Any, statement: Preparable, casts: dict[int, str]) -> Lines:
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
    found = re.search(r"\$(\d+)", str(exc)) if error_code(exc) == UNDETERMINED else None
    return int(found[1]) if found else None


EXPLAINERS: dict[str, Callable[[BaseDatabaseWrapper, Preparable], Lines]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
}
"""By Django's vendor name."""

PERMISSION = "sqllogs.explain_sqllog"
"""Whoever offers plans to users asks for it; those who may run commands need none."""

READING = frozenset(["SELECT", "VALUES"])
"""Explained for whoever asks."""

CHANGING = frozenset(["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"])
"""Explained only on request; not run, and rolled back, even then."""

TIMEOUT_S = TIMEOUT_MS // 1000
"""For which PostgreSQL is given to plan; SQLite waits for nobody to do so."""

_SHOWING_VALUES = ("21", "22", "23", "P0", "XX")
"""Classes of SQLSTATE: data exceptions, constraints, and what functions raise."""

GENERIC_NOTE = "Planned for no particular values: its estimates of rows can be far from those of a real run."


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a database would go about a statement."""

    fingerprint: str
    sql: str
    """The text as it is stored."""
    alias: str
    vendor: str
    lines: tuple[str, ...]
    """As the database writes it, indented, without values."""
    notes: tuple[str, ...]
    """What to bear in mind."""


def may_explain(user: Any) -> bool:
    return bool(user.is_active and user.has_perm(PERMISSION))


def explain(statement: int | str, *, alias: str = "", may_change: bool = False) -> Plan:
    """Explain the statement of a record, by its id, or of a fingerprint; raise PlanError.

    It is explained where it ran: on the alias of the fingerprint's newest record, unless `alias` is given.
    A SELECT only, unless it `may_change`.
    """
    with muted():
        fingerprint, alias = _found(statement, alias)
        text = Statement.objects.filter(fingerprint=fingerprint).first()
        if text is None:
            raise PlanError(f"The text of {fingerprint} is not kept.")
        _refuse(text.operation, may_change=may_change)
        return _explained(text, alias)


def _found(statement: int | str, alias: str) -> tuple[str, str]:
    """Return fingerprint and alias."""
    if isinstance(statement, int):
        record = records.one(ring.ring(), statement, with_text=False)
        if record is None:
            raise PlanError(f"Record {statement} is not in the ring.")
        return record["fingerprint"], alias or record["alias"]
    fingerprint = statement.lower().zfill(16)
    if not alias:
        newest = _newest(fingerprint)
        if newest is None:
            raise PlanError(f"No record of {fingerprint} is in the ring; name the alias of its database.")
        alias = newest["alias"]
    return fingerprint, alias


def _newest(fingerprint: str) -> RecordJSON | None:
    chosen = SQLLog.objects.filter(fingerprint=fingerprint)
    rows = records.rows(chosen, ring.ring(), Window(ordering=Ordering(), limit=1))
    return records.records(rows, with_text=False)[0] if rows else None


def _refuse(operation: str, *, may_change: bool) -> None:
    if operation in CHANGING and not may_change:
        raise PlanError(f"It is no SELECT but {_article(operation)}; that is explained only on request.")
    if operation not in CHANGING | READING:
        raise PlanError(f"There is no plan of {_article(operation)}.")


def _article(operation: str) -> str:
    return f"{'an' if operation[0] in 'AEIOU' else 'a'} {operation}"


def _explained(statement: Statement, alias: str) -> Plan:
    if alias not in connections.settings:
        raise PlanError(f"There is no database {alias!r} in DATABASES here.")
    vendor = connections[alias].vendor
    if vendor not in EXPLAINERS:
        raise PlanError(f"Plans are for {' and '.join(EXPLAINERS)}; {alias!r} is {vendor}.")
    prepared = preparable(statement.sql, vendor)
    try:
        with connected(alias) as connection:
            lines = redact_plan(EXPLAINERS[vendor](connection, prepared), vendor)
    except DatabaseAPIError as exc:
        reason = _reason(exc)
        raise PlanError(f"The database {alias!r} cannot explain it without its values: {reason}") from exc
    return Plan(
        fingerprint=statement.fingerprint,
        sql=statement.sql,
        alias=alias,
        vendor=vendor,
        lines=lines,
        notes=(GENERIC_NOTE, *prepared.notes),
    )


def _reason(error: DatabaseAPIError) -> str:
    """Return the database's message, unless it is of a kind that shows values."""
    state = error_code(error) or ""
    if state.startswith(_SHOWING_VALUES):
        return f"{type(error).__name__}, SQLSTATE {state}"
    return " ".join(str(error).split("\n")[0].split())
