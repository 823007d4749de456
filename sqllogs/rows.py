"""Make the record of the contract out of a row of the ring and its statement.

Fed by `sqllogs.queries` with raw rows, feeds JSON and page. Runs in the
reader's thread. A serializer and model instances would take seven times as long.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

Row = tuple[Any, ...]
"""The values of COLUMNS as the driver gives them, no field's converter has seen them; a time may be text."""

COLUMNS = (
    "seq", "time", "duration_ms", "execute_ms", "fetch_ms", "rows", "sql_length", "fingerprint", "alias",
    "vendor", "many", "in_transaction", "error", "sqlstate", "trace_id", "span_id", "unit_id", "sampled",
    "request_id", "kind", "route", "view", "method", "status", "call_site", "release", "host", "pid",
)  # fmt: skip


class StatementRow(NamedTuple):
    """What all records of a statement have in common."""

    fingerprint: str
    sql: str
    operation: str
    tables: str


class Record(TypedDict):
    """One executed statement under the names of the API; see the model's help texts for units."""

    id: int
    time: str
    duration_ms: float
    execute_ms: float
    fetch_ms: float | None
    rows: int | None
    sql: str | None
    sql_length: int
    fingerprint: str
    operation: str | None
    tables: list[str]
    alias: str
    vendor: str
    many: bool
    in_transaction: bool
    error: str | None
    sqlstate: str | None
    trace_id: str | None
    span_id: str | None
    unit_id: str | None
    sampled: bool
    request_id: str | None
    kind: str
    route: str | None
    view: str | None
    method: str | None
    status: int | None
    call_site: str | None
    release: str | None
    host: str
    pid: int


def record(row: Row, statement: StatementRow | None, *, with_text: bool) -> Record:
    """Return the record of a row; of a statement whose text is not kept, only the fingerprint is known."""
    (
        seq, time, duration_ms, execute_ms, fetch_ms, rows, sql_length, fingerprint, alias,
        vendor, many, in_transaction, error, sqlstate, trace_id, span_id, unit_id, sampled, request_id,
        kind, route, view, method, status, call_site, release, host, pid,
    ) = row  # fmt: skip
    return {
        "id": seq,
        "time": time if isinstance(time, str) else rfc3339(time),
        "duration_ms": duration_ms,
        "execute_ms": execute_ms,
        "fetch_ms": fetch_ms,
        "rows": rows,
        "sql": statement.sql if statement is not None and with_text else None,
        "sql_length": sql_length,
        "fingerprint": fingerprint,
        "operation": statement.operation if statement is not None else None,
        "tables": statement.tables.split(",") if statement is not None and statement.tables else [],
        "alias": alias,
        "vendor": vendor,
        "many": bool(many),
        "in_transaction": bool(in_transaction),
        "error": error,
        "sqlstate": sqlstate,
        "trace_id": trace_id,
        "span_id": span_id,
        "unit_id": unit_id,
        "sampled": bool(sampled),
        "request_id": request_id,
        "kind": kind,
        "route": route,
        "view": view,
        "method": method,
        "status": status,
        "call_site": call_site,
        "release": release,
        "host": host,
        "pid": pid,
    }


def rfc3339(time: datetime) -> str:
    """Return a time with six digits of a second; a naive one is UTC already, as SQLite keeps it."""
    if time.tzinfo not in (None, UTC):
        time = time.astimezone(UTC)
    return f"{time.isoformat(timespec='microseconds')[:26]}Z"
