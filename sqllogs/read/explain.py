"""Explain a statement: request a plan, without values, from the database on which it ran.

Values are not stored, so the plan is for unknown ones. Feeds the terminal, the admin and the search for
findings. Runs in the caller's thread on a separate read-only connection; everything is rolled back and
nothing is recorded.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseAPIError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.capture import error_code
from sqllogs.context import muted
from sqllogs.errors import PlanError
from sqllogs.models import SQLLog, Statement
from sqllogs.read import records, ring
from sqllogs.read.ring import Ordering, Window
from sqllogs.record import RecordJSON
from sqllogs.sql.explainable import Preparable, preparable, redact_plan
from sqllogs.storage.database import close_connection, open_connection

TIMEOUT_MS = 3_000
GENERIC_PLAN_FROM = 160_000
"""From PostgreSQL 16 on, EXPLAIN accepts a statement with parameters."""

UNDETERMINED = "42P18"
"""SQLSTATE of a parameter whose type is unknown; the message has its number."""

Lines = tuple[str, ...]


@contextmanager
def connected(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Open a second connection to an alias, because the caller's may be in a transaction."""
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
    for number, parent, _unused, detail in rows:
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
            # Each error names one parameter, so this is repeated. If a cast did not help, the error is
            # raised.
            casts[number] = "::text"


def _plan_lines(connection: Any, statement: Preparable, casts: dict[int, str]) -> Lines:
    text = statement.numbered(casts)
    connection.set_autocommit(False)
    try:
        with connection.cursor() as cursor:
            # The planner runs functions declared immutable, whatever they really do.
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            # Planning locks the tables, and a migration may hold them for minutes.
            cursor.execute(f"SET LOCAL lock_timeout = {TIMEOUT_MS}")
            for line in _statements(connection.pg_version, text, statement.parameters):
                cursor.execute(line)
            return tuple(row[0] for row in cursor.fetchall())
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def _statements(version: int, text: str, parameters: int) -> Iterator[str]:
    """Yield the statements that explain a text with numbered parameters; the last one returns the plan."""
    if version >= GENERIC_PLAN_FROM:
        yield f"EXPLAIN (GENERIC_PLAN) {text}"
        return
    # A custom plan would be for NULLs, which match nothing.
    yield "SET LOCAL plan_cache_mode = force_generic_plan"
    # PREPARE outlives a rollback but not the connection, and pgbouncer may reuse one that has it already.
    yield "DEALLOCATE ALL"
    yield f"PREPARE sqllogs_plan AS {text}"
    values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    yield f"EXPLAIN EXECUTE sqllogs_plan{values}"


def _undetermined(exc: DatabaseAPIError) -> int | None:
    found = re.search(r"\$(\d+)", str(exc)) if error_code(exc) == UNDETERMINED else None
    return int(found[1]) if found else None


JSON_VERSIONS_FROM = (8, 3)
"""MySQL's version 2 of a plan has other names and no plan of a change; it became the default later."""
LENIENT_MODE = (
    "REPLACE(REPLACE(REPLACE(@@sql_mode, 'STRICT_TRANS_TABLES', ''), 'STRICT_ALL_TABLES', ''), "
    "'TRADITIONAL', '')"
)
"""In a strict mode MySQL refuses made-up values of another type than a column that is changed."""


def mysql(connection: Any, statement: Preparable) -> Lines:
    if connection.mysql_is_mariadb:
        timeout = f"max_statement_time = {TIMEOUT_MS / 1000}"
    else:
        timeout = f"max_execution_time = {TIMEOUT_MS}"
    # Whole seconds for both: the first is for metadata, which a migration locks, the second for rows.
    wait_s = max(1, TIMEOUT_MS // 1000)
    connection.set_autocommit(False)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {timeout}, lock_wait_timeout = {wait_s}")
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {wait_s}")
            if not connection.mysql_is_mariadb:
                cursor.execute(f"SET SESSION sql_mode = {LENIENT_MODE}")
                if connection.mysql_version >= JSON_VERSIONS_FROM:
                    cursor.execute("SET SESSION explain_json_format_version = 1")
            text = statement.with_stand_ins()
            # In a read-only transaction MariaDB refuses to explain a change, although EXPLAIN makes none.
            is_change = text.partition(" ")[0] in CHANGING
            cursor.execute("START TRANSACTION" if is_change else "START TRANSACTION READ ONLY")
            cursor.execute(f"EXPLAIN FORMAT=JSON {text}")
            return tuple(str(cursor.fetchone()[0]).splitlines())
    finally:
        connection.rollback()
        connection.set_autocommit(True)


EXPLAINERS: dict[str, Callable[[BaseDatabaseWrapper, Preparable], Lines]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "mysql": mysql,
}
"""By Django's vendor name."""

PERMISSION = "sqllogs.explain_sqllog"
"""Checked by the admin. The terminal does not, because anyone who can run commands can read the database."""

READING = frozenset(["SELECT", "VALUES"])
"""Explained without asking for `may_change`."""

CHANGING = frozenset(["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"])
"""Explained only with `may_change`. Even then they are not run, and the transaction is rolled back."""

TIMEOUT_S = TIMEOUT_MS // 1000
"""How long PostgreSQL, MySQL and MariaDB may plan. SQLite plans without waiting for a lock."""

_SHOWING_VALUES = ("21", "22", "23", "P0", "XX")
"""Classes of SQLSTATE whose messages quote values: data, constraints, errors raised in functions."""

_SHOWING_NAMES = frozenset([1044, 1045, 1054, 1064, 1142, 1143, 1146, 1205, 1969, 2002, 2003, 2013, 3024])
"""Error codes of MySQL and MariaDB whose messages quote names, but no values."""

GENERIC_NOTE = gettext_lazy(
    "Planned without values: the estimated number of rows can be far from that of a real run."
)


MADE_UP_NOTE = gettext_lazy("Made-up values stand for the unknown ones.")
CONST_NOTE = gettext_lazy(
    "MySQL and MariaDB look up a unique key while they plan, and no row has the made-up value: with a value "
    "that exists, it is a lookup by that key."
)
_NO_SUCH_ROW = ("after reading const tables", "no matching row in const table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a database would run a statement."""

    fingerprint: str
    sql: str
    """The text as it is stored."""
    alias: str
    vendor: str
    lines: tuple[str, ...]
    """As the database writes it, indented, without values."""
    notes: tuple[str, ...]
    """Limits of the plan, for its reader."""
    advice: str | None = None
    """The index that would avoid reading a whole table; see `sqllogs.read.plans.advise`."""


def may_explain(user: Any) -> bool:
    return bool(user.is_active and user.has_perm(PERMISSION))


def explain(statement: int | str, *, alias: str = "", may_change: bool = False) -> Plan:
    """Explain a statement, given the id of a record or a fingerprint; raise PlanError.

    The database is the one on which it ran last, unless `alias` names another. Statements that change data
    are refused unless `may_change` is set.
    """
    with muted():
        fingerprint, alias = _locate(statement, alias)
        text = Statement.objects.filter(fingerprint=fingerprint).first()
        if text is None:
            raise PlanError(
                _("The text of statement %(fingerprint)s is not stored.") % {"fingerprint": fingerprint}
            )
        _check_operation(text.operation, may_change=may_change)
        return _plan(text, alias)


def _locate(statement: int | str, alias: str) -> tuple[str, str]:
    """Return fingerprint and alias."""
    if isinstance(statement, int):
        record = records.one(ring.ring(), statement, with_text=False)
        if record is None:
            raise PlanError(_("Record %(id)s is not in the ring.") % {"id": statement})
        return record["fingerprint"], alias or record["alias"]
    fingerprint = statement.lower().zfill(16)
    if not alias:
        newest = _newest(fingerprint)
        if newest is None:
            raise PlanError(
                _("The ring has no record of statement %(fingerprint)s. Name the alias of its database.")
                % {"fingerprint": fingerprint}
            )
        alias = newest["alias"]
    return fingerprint, alias


def _newest(fingerprint: str) -> RecordJSON | None:
    chosen = SQLLog.objects.filter(fingerprint=fingerprint)
    rows = records.rows(chosen, ring.ring(), Window(ordering=Ordering(), limit=1))
    return records.records(rows, with_text=False)[0] if rows else None


def _check_operation(operation: str, *, may_change: bool) -> None:
    if operation in CHANGING and not may_change:
        raise PlanError(
            _("%(operation)s changes data. It is explained, without being run, only if you allow it.")
            % {"operation": operation}
        )
    if operation not in CHANGING | READING:
        raise PlanError(_("Databases have no plan for %(operation)s.") % {"operation": operation})


def _plan(statement: Statement, alias: str) -> Plan:
    # The alias may have been removed since, or was given by the user.
    if alias not in connections.settings:
        raise PlanError(_("DATABASES has no alias %(alias)r.") % {"alias": alias})
    vendor = connections[alias].vendor
    if vendor not in EXPLAINERS:
        raise PlanError(
            _("Plans are available on %(vendors)s; %(alias)r is %(vendor)s.")
            % {"vendors": ", ".join(EXPLAINERS), "alias": alias, "vendor": vendor}
        )
    prepared = preparable(statement.sql, vendor)
    try:
        with connected(alias) as connection:
            # A plan shows constants of view definitions, which are not part of the redacted statement.
            lines = redact_plan(EXPLAINERS[vendor](connection, prepared), vendor)
    except DatabaseAPIError as exc:
        reason = _reason(exc)
        raise PlanError(
            _("Database %(alias)r cannot explain the statement without its values: %(reason)s")
            % {"alias": alias, "reason": reason}
        ) from exc
    return Plan(
        fingerprint=statement.fingerprint,
        sql=statement.sql,
        alias=alias,
        vendor=vendor,
        lines=lines,
        notes=(str(GENERIC_NOTE), *map(str, _mysql_notes(vendor, lines)), *prepared.notes),
    )


def _mysql_notes(vendor: str, lines: Lines) -> Iterator[Any]:
    if vendor == "mysql":
        yield MADE_UP_NOTE
        if any(message in line for line in lines for message in _NO_SUCH_ROW):
            yield CONST_NOTE


def _reason(error: DatabaseAPIError) -> str:
    """Return the database's message, or only its code if such messages quote values."""
    state = error_code(error) or ""
    if state.startswith(_SHOWING_VALUES):
        return f"{type(error).__name__}, SQLSTATE {state}"
    # The drivers of MySQL have the code as the first argument of their exception.
    cause = error.__cause__ or error
    code = cause.args[0] if cause.args else None
    if isinstance(code, int) and code not in _SHOWING_NAMES:
        return f"{type(error).__name__}, {code}"
    # The first line: PostgreSQL repeats the statement in the others.
    return " ".join(str(error).split("\n")[0].split())
