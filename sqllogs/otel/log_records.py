"""Convert a record to an OpenTelemetry log record.

Used by `sqllogs.otel.otlp` in its own thread. Attributes carry both the field names of the API and
those of OpenTelemetry's semantic conventions.
"""

import os
import socket
from operator import attrgetter

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from sqllogs.otel import SCHEMA_URL, Attributes, Value, known, start_ns
from sqllogs.record import FIELDS, RECORD_FIELDS, Record
from sqllogs.sql.normalize import ScannedStatement

EVENT = "sqllogs.query"
DEFAULT_RESOURCE = Resource.create()
"""Created at import: it runs detectors in threads, which cannot be started at the end of a process."""
PER_PROCESS = frozenset({"service.instance.id", "process.pid"})
"""Left out of the resource, because backends create a stream per resource, so one per process."""

OWN_FIELDS = frozenset(["time", "trace_id", "span_id", "sampled", "release", "service", "host", "pid"])
"""Fields of a record that are part of OpenTelemetry's log record, or of its resource."""
_NAMES = tuple(name for name in RECORD_FIELDS if name in FIELDS and name not in OWN_FIELDS)
_VALUES = attrgetter(*_NAMES)


class LogRecords:
    """Makes log records; for one thread."""

    def __init__(self, *, release: str, slow_ms: float, service: str = "") -> None:
        self._slow_ms = slow_ms
        self._resource = _resource(release, service)
        self._scope = InstrumentationScope("sqllogs", schema_url=SCHEMA_URL)
        self._limits = LogRecordLimits()
        self._attributes = Attributes()

    def from_record(
        self, record: Record, statement: ScannedStatement, sql: str, batch_size: int | None = None
    ) -> ReadableLogRecord:
        flags = trace.TraceFlags(record.sampled)
        # The SDK takes a log record's ids from a context; passing them is deprecated since 1.35.
        ids = trace.SpanContext(int(record.trace_id or "0", 16), int(record.span_id or "0", 16), False, flags)
        started_ns = start_ns(record)
        severity, text = self._severity(record)
        made = LogRecord(
            timestamp=started_ns,
            observed_timestamp=started_ns + int(record.duration_ms * 1e6),
            context=trace.set_span_in_context(trace.NonRecordingSpan(ids)),
            severity_number=severity,
            severity_text=text,
            body=sql,
            attributes={
                **self._attributes.from_record(record, statement, batch_size),
                **_fields(record, statement),
            },
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
    """Return the API's fields that are not already part of the log record or its resource."""
    fields: dict[str, Value | None] = dict(zip(_NAMES, _VALUES(record), strict=True))
    fields["operation"] = statement.operation
    fields["tables"] = ",".join(statement.tables)
    # On each record, because the resource must not have it: see PER_PROCESS.
    fields["process.pid"] = fields["pid"] = record.pid
    return known(fields)


def _resource(release: str, service: str) -> Resource:
    """Describe this process, starting from the resource of the application's tracer provider, if any."""
    host = socket.gethostname()
    own: dict[str, Value] = {"host.name": host, "host": host}
    if release:
        own |= {"service.version": release, "release": release}
    resource = getattr(trace.get_tracer_provider(), "resource", None) or DEFAULT_RESOURCE
    project = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0]
    if service:
        own["service.name"] = service
    elif project and str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        own["service.name"] = project  # neither the application nor OTEL_SERVICE_NAME has named it
    kept = {name: value for name, value in resource.attributes.items() if name not in PER_PROCESS}
    return Resource(kept | own, resource.schema_url)
