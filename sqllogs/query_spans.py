"""Make a span of each record whose request's span is kept: no driver is instrumented for it.

A sink, in the writer's thread; needs OpenTelemetry's API, and is silent without
its SDK. Spans are begun and ended there with the times of the query.
"""

from time import sleep

from sqllogs.conf import Conf
from sqllogs.record import Record
from sqllogs.resolver import YIELD_ROWS, Batch
from sqllogs.semconv import Attributes, Value, began_ns, known, summary
from sqllogs.statement import Statement

try:
    from opentelemetry import trace
except ImportError:
    trace = None  # type: ignore[assignment]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"


class QuerySpans:
    """For one thread at a time."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("sqllogs", schema_url=SCHEMA_URL)
        self._attributes = Attributes()

    def take(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records, 1):
            if record.sampled and record.trace_id is not None and record.span_id is not None:
                self._write(record, batch.statements[record.fingerprint], record.trace_id, record.span_id)
            if number % YIELD_ROWS == 0:
                sleep(0)

    def close(self, timeout_s: float) -> None:
        """Do nothing: the SDK sends what it was given."""

    def _write(self, record: Record, statement: Statement, trace_id: str, span_id: str) -> None:
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        parent = trace.SpanContext(int(trace_id, 16), int(span_id, 16), False, flags)
        start_ns = began_ns(record)
        span = self._tracer.start_span(
            summary(statement),
            context=trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            kind=trace.SpanKind.CLIENT,
            attributes=self._attributes.of(record, statement) | _own(record, statement),
            start_time=start_ns,
        )
        if record.error is not None:
            span.set_status(trace.StatusCode.ERROR, record.error)
        span.end(start_ns + int(record.duration_ms * 1e6))


def _own(record: Record, statement: Statement) -> dict[str, Value]:
    """Return the text, and what the conventions have no name for."""
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
    return QuerySpans() if conf.query_spans and trace is not None else None
