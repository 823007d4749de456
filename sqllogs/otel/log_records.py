"""Make an OpenTelemetry log record of a record of ours.

Used by `sqllogs.otel.otlp` in its own thread. The fields have the names that they
have everywhere, and beside them the ones of OpenTelemetry's conventions.
"""

import os
import socket
from operator import attrgetter

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from sqllogs.otel.attributes import Attributes, Value, began_ns, known
from sqllogs.record import FIELDS, Record
from sqllogs.sql.normalize import ScannedStatement

EVENT = "sqllogs.query"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

OWN_FIELDS = frozenset(["time", "trace_id", "span_id", "sampled", "release", "service", "host", "pid"])
"""Fields of a record that are part of OpenTelemetry's log record, or of its resource."""
_NAMES = tuple(name for name in Record._fields if name in FIELDS and name not in OWN_FIELDS)
_VALUES = attrgetter(*_NAMES)


class LogRecords:
    """For one thread."""

    def __init__(self, *, release: str, slow_ms: float, service: str = "") -> None:
        self._slow_ms = slow_ms
        self._resource = _resource(release, service)
        self._scope = InstrumentationScope("sqllogs", schema_url=SCHEMA_URL)
        self._limits = LogRecordLimits()
        self._attributes = Attributes()

    def from_record(self, record: Record, statement: ScannedStatement, sql: str) -> ReadableLogRecord:
        flags = trace.TraceFlags(record.sampled)
        ids = trace.SpanContext(int(record.trace_id or "0", 16), int(record.span_id or "0", 16), False, flags)
        began = began_ns(record)
        severity, text = self._severity(record)
        made = LogRecord(
            timestamp=began,
            observed_timestamp=began + int(record.duration_ms * 1e6),
            context=trace.set_span_in_context(trace.NonRecordingSpan(ids)),
            severity_number=severity,
            severity_text=text,
            body=sql,
            attributes={**self._attributes.of_record(record, statement), **_fields(record, statement)},
            event_name=EVENT,
        )
        return ReadableLogRecord(made, self._resource, self._scope, self._limits)

    def _severity(self, record: Record) -> tuple[SeverityNumber, str]:
        if record.error is not None:
            return SeverityNumber.ERROR, "ERROR"
        if record.duration_ms >= self._slow_ms:
            return SeverityNumber.WARN, "WARN"
        return SeverityNumber.INFO, "INFO"


def _fields(record: Record, statement: ScannedStatement) -> dict[str, Value]:
    """Return the fields of the contract that the log record and its resource do not have anyway."""
    fields: dict[str, Value | None] = dict(zip(_NAMES, _VALUES(record), strict=True))
    fields["operation"] = statement.operation
    fields["tables"] = ",".join(statement.tables)
    return known(fields)


def _resource(release: str, service: str) -> Resource:
    """Return who sends: as the application's spans have it, where it has set up a provider."""
    host, pid = socket.gethostname(), os.getpid()
    own: dict[str, Value] = {"host.name": host, "host": host, "process.pid": pid, "pid": pid}
    if release:
        own |= {"service.version": release, "release": release}
    if service:
        own["service.name"] = service
    known_already = getattr(trace.get_tracer_provider(), "resource", None)
    return (known_already or Resource.create()).merge(Resource(own))
