"""Make OpenTelemetry spans of queries, and count the queries of a request's span.

`QuerySpans` is a sink in the writer's thread: it makes a span per query of a sampled request, so that no
driver needs instrumentation. `SpanCounts` is fed by `sqllogs.recorder` in the thread of the query, and read
by `sqllogs.middleware` when the request is answered; it lacks later queries of a streamed body.
"""

from time import sleep
from typing import Any

from sqllogs.capture import CODE, EXECUTE_NS, LASTI, SQL, Captured
from sqllogs.conf import Conf
from sqllogs.otel import SCHEMA_URL, Attributes, Value, known, start_ns, summary
from sqllogs.record import YIELD_ROWS, Batch, Record
from sqllogs.sql.normalize import ScannedStatement


class QuerySpans:
    """Makes a span of each record; for one thread at a time. Does nothing without OpenTelemetry's SDK.

    A span takes 30 us in the writer's thread; an instrumented driver takes 31 to 56 us in the caller's.
    """

    def __init__(self) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer("sqllogs", schema_url=SCHEMA_URL)
        self._attributes = Attributes()

    def add(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records):
            if record.sampled and record.trace_id is not None and record.span_id is not None:
                statement = record.form.statement
                attributes = self._attributes.from_record(record, statement, batch.batch_sizes.get(number))
                attributes |= _own(record, statement)
                self._write(record, summary(statement), attributes, record.trace_id, record.span_id)
            if number % YIELD_ROWS == YIELD_ROWS - 1:
                sleep(0)  # lets the application's threads run, as in the resolver

    def close(self, timeout_s: float) -> None:
        """Do nothing: the SDK sends its spans itself."""

    def _write(
        self, record: Record, name: str, attributes: dict[str, Value], trace_id: str, span_id: str
    ) -> None:
        trace = self._trace
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        # By its ids, because the request's span has ended by now.
        parent = trace.SpanContext(int(trace_id, 16), int(span_id, 16), False, flags)
        started_ns = start_ns(record)
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=started_ns,
        )
        if record.error is not None:
            span.set_status(trace.StatusCode.ERROR, record.error)
        span.end(started_ns + int(record.duration_ms * 1e6))


def _own(record: Record, statement: ScannedStatement) -> dict[str, Value]:
    """Return the text, and the fields for which the conventions have no name."""
    fields: dict[str, Value | None] = {
        "db.query.text": statement.sql,
        "sqllogs.operation": statement.operation,
        "sqllogs.tables": ",".join(statement.tables) or None,
        "sqllogs.rows": record.rows,
        "sqllogs.fingerprint": record.fingerprint,
        "sqllogs.alias": record.alias,
        "sqllogs.in_transaction": record.in_transaction,
        "sqllogs.kind": record.kind,
        "sqllogs.view": record.view,
    }
    return known(fields)


def make(conf: Conf) -> QuerySpans | None:
    """Return the sink if QUERY_SPANS is set and OpenTelemetry is installed."""
    if not conf.query_spans:
        return None
    try:
        return QuerySpans()
    except ImportError:
        return None


SITES_MAX = 1_000
"""Maximum pairs of statement and line that are counted in a request; further ones are not."""


class SpanCounts:
    """Counts the queries of a request; without a lock, so it may miss some if threads share the request."""

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
