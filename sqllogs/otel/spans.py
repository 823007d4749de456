"""Make OpenTelemetry spans of queries, and count the queries of a request's span.

`Attributes` follows the semantic conventions for databases; `sqllogs.otel.log_records` uses it too.
`QuerySpans` is a sink in the writer's thread: one span per query of a sampled request, so that no driver
needs instrumentation. `SpanCounts` is fed by `sqllogs.recorder` in the thread that queries and read by
`sqllogs.middleware` when the request is answered; later queries of a streamed body are not in it.
"""

import os
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any

from django.db import connections

from sqllogs.conf import Conf
from sqllogs.record import CODE, EXECUTE_NS, LASTI, SQL, YIELD_ROWS, Batch, Captured, Record
from sqllogs.sql.normalize import ScannedStatement

Value = str | bool | int | float

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SUMMARY_MAX_CHARACTERS = 255

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/#db-system-name
SYSTEMS = {"oracle": "oracle.db", "microsoft": "microsoft.sql_server"}
"""Vendors that have another name in the conventions than in Django."""


def summary(statement: ScannedStatement) -> str:
    """Return the name of a query: its operation and tables."""
    return " ".join((statement.operation, *statement.tables))[:SUMMARY_MAX_CHARACTERS]


def start_ns(record: Record) -> int:
    """Return when a query was sent, nanoseconds since the epoch."""
    return (record.time - EPOCH) // timedelta(microseconds=1) * 1000


class Attributes:
    """Makes the attributes of records; for one thread."""

    def __init__(self) -> None:
        self._databases: dict[str, dict[str, Value]] = {}

    def from_record(self, record: Record, statement: ScannedStatement) -> dict[str, Value]:
        """Return the known attributes of a record, without the statement's text."""
        database = self._databases.get(record.alias)
        if database is None:
            database = self._databases[record.alias] = _database(record.alias)
        attributes: dict[str, Value | None] = {
            **database,
            "db.system.name": SYSTEMS.get(record.vendor, record.vendor),
            "db.query.summary": summary(statement),
            "db.operation.name": statement.operation if statement.operation != "UNKNOWN" else None,
            "db.collection.name": statement.tables[0] if len(statement.tables) == 1 else None,
            "db.response.status_code": record.sqlstate,
            "db.response.returned_rows": record.rows if statement.operation == "SELECT" else None,
            "error.type": record.error,
            "http.route": record.route,
            "http.request.method": record.method,
            **_code(record.call_site),
        }
        return known(attributes)


def known(attributes: dict[str, Value | None]) -> dict[str, Value]:
    """Remove unknown values: an attribute cannot be null."""
    return {name: value for name, value in attributes.items() if value is not None}


def _database(alias: str) -> dict[str, Value]:
    """Return name and address of a database from DATABASES."""
    settings = connections.settings.get(alias, {})
    name, host, port = (str(settings.get(key) or "") for key in ("NAME", "HOST", "PORT"))
    attributes: dict[str, Value] = {}
    if name:
        attributes["db.namespace"] = os.path.basename(name) if "sqlite" in settings["ENGINE"] else name
    if host:
        attributes["server.address"] = host
    if port.isdecimal():
        attributes["server.port"] = int(port)
    return attributes


def _code(call_site: str | None) -> dict[str, Value]:
    file_line, _, function = (call_site or "").partition(" ")
    path, _, line = file_line.rpartition(":")
    if not line.isdecimal():
        return {}
    return {"code.file.path": path, "code.line.number": int(line), "code.function.name": function}


class QuerySpans:
    """For one thread at a time; does nothing without OpenTelemetry's SDK.

    30 us per query in the writer's thread; an instrumented driver costs the caller 31 to 56 us.
    """

    def __init__(self) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer("sqllogs", schema_url=SCHEMA_URL)
        self._attributes = Attributes()

    def add(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records, 1):
            if record.sampled and record.trace_id is not None and record.span_id is not None:
                self._write(record, batch.statements[record.fingerprint], record.trace_id, record.span_id)
            if number % YIELD_ROWS == 0:
                sleep(0)

    def close(self, timeout_s: float) -> None:
        """Do nothing: the SDK sends its spans itself."""

    def _write(self, record: Record, statement: ScannedStatement, trace_id: str, span_id: str) -> None:
        trace = self._trace
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        parent = trace.SpanContext(int(trace_id, 16), int(span_id, 16), False, flags)
        started_ns = start_ns(record)
        span = self._tracer.start_span(
            summary(statement),
            context=trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            kind=trace.SpanKind.CLIENT,
            attributes=self._attributes.from_record(record, statement) | _own(record, statement),
            start_time=started_ns,
        )
        if record.error is not None:
            span.set_status(trace.StatusCode.ERROR, record.error)
        span.end(started_ns + int(record.duration_ms * 1e6))


def _own(record: Record, statement: ScannedStatement) -> dict[str, Value]:
    """Return the text and the fields that the conventions have no name for."""
    fields: dict[str, Value | None] = {
        "db.query.text": statement.sql,
        "sqllogs.rows": record.rows,
        "sqllogs.fingerprint": record.fingerprint,
        "sqllogs.alias": record.alias,
        "sqllogs.in_transaction": record.in_transaction,
        "sqllogs.kind": record.kind,
        "sqllogs.view": record.view,
    }
    return known(fields)


def make(conf: Conf) -> QuerySpans | None:
    """Return the sink if the setting and OpenTelemetry are there."""
    if not conf.query_spans:
        return None
    try:
        return QuerySpans()
    except ImportError:
        return None


SITES_MAX = 1_000
"""Pairs of statement and line that a request counts; further ones are not counted."""


class SpanCounts:
    """Without a lock: if threads share a request, counts may miss some queries."""

    __slots__ = ("_execute_ns", "_queries", "_sites", "_span")

    def __init__(self, span: Any) -> None:
        self._span = span
        self._queries = self._execute_ns = 0
        self._sites: dict[int, int] = {}

    def add(self, captured: Captured) -> None:
        self._queries += 1
        self._execute_ns += captured[EXECUTE_NS]
        # A hash, so that no statement is kept. The code object by its id: hashing it walks its bytecode.
        site = hash((captured[SQL], id(captured[CODE]), captured[LASTI]))
        count = self._sites.get(site, 0)
        if count or len(self._sites) < SITES_MAX:
            self._sites[site] = count + 1

    def write_to_span(self) -> None:
        """Set the counts as attributes of the span, which must not have ended."""
        self._span.set_attributes(
            {
                "sqllogs.queries": self._queries,
                "sqllogs.execute_ms": self._execute_ns // 1000 / 1000,
                "sqllogs.repeats": max(self._sites.values(), default=0),
            }
        )
