"""Formatters and a filter for LOGGING that add the trace id to log lines.

They run in the thread that logs, and read the trace from `sqllogs.context`. A log line and the queries of its
request have the same trace id, with or without OpenTelemetry.
"""

import json
import logging
from copy import copy
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from sqllogs import guard
from sqllogs.context import NO_TRACE, TraceContext, current_trace

FORMAT = (
    "[%(asctime)s] %(levelname)s [%(name)s:%(lineno)d] "
    "[trace_id=%(trace_id)s span_id=%(span_id)s] [%(funcName)s] %(message)s"
)

TRACE_FIELDS = ("trace_id", "span_id", "sampled")
"""Set with `extra` if a log record is about another thread's work, as in `sqllogs.slow`."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName", *TRACE_FIELDS}
Value = str | bool | int | float


def trace_of(record: logging.LogRecord) -> TraceContext:
    """Return the trace given with `extra`, else the current trace, else that of the record's request."""
    given = vars(record)
    if "trace_id" in given:
        try:
            trace_id, span_id = int(given["trace_id"], 16), int(given["span_id"], 16)
            return TraceContext(trace_id, span_id, bool(given.get("sampled", False)))
        except (KeyError, TypeError, ValueError) as exc:
            if guard.must_propagate(exc):
                raise
    # Django logs a 404 after all middleware, outside any span or unit, with the request in `extra`.
    return current_trace() or getattr(given.get("request"), "sqllogs_trace", NO_TRACE)


def extras(record: logging.LogRecord) -> dict[str, Value]:
    """Return the plain values given with `extra`; Django passes whole requests there too."""
    return {
        name: value
        for name, value in vars(record).items()
        # Not OpenTelemetry's names, whose values are in the line already.
        if name not in _PLAIN and isinstance(value, Value) and not name.startswith("otel")
    }


class TraceFilter(logging.Filter):
    """Set the trace on the log record, for a handler that formats in another thread."""

    def filter(self, record: logging.LogRecord) -> bool:
        _set_trace(record)
        return True


class TraceFormatter(logging.Formatter):
    """Add `trace_id` and `span_id` to a line, "0" without a trace; see FORMAT.

    The names of OpenTelemetry's instrumentation, otelTraceID and otelSpanID, work too, even without it.
    """

    def __init__(self, fmt: str | None = FORMAT, *args: Any, **kwargs: Any) -> None:
        super().__init__(fmt, *args, **kwargs)

    def format(self, record: logging.LogRecord) -> str:
        # Further lines are indented, so that a message with newlines cannot forge a log record.
        return super().format(_set_trace(copy(record))).replace("\n", "\n    ")


class JSONFormatter(logging.Formatter):
    """Format a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        trace = trace_of(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "line": record.lineno,
            "trace_id": trace.trace_hex,
            "span_id": trace.span_hex,
            "function": record.funcName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # JSON has neither NaN nor Infinity, so a collector would reject the whole line.
        plain = {name: value if _is_in_json(value) else str(value) for name, value in extras(record).items()}
        return json.dumps(plain | line)


def _is_in_json(value: Value) -> bool:
    return not isinstance(value, float) or isfinite(value)


def _set_trace(record: logging.LogRecord) -> logging.LogRecord:
    trace = trace_of(record)
    trace_id, span_id = trace.trace_hex or "0", trace.span_hex or "0"
    vars(record).update(
        trace_id=trace_id,
        span_id=span_id,
        sampled=trace.sampled,
        otelTraceID=trace_id,
        otelSpanID=span_id,
        otelTraceSampled=trace.sampled,
        otelServiceName=getattr(record, "otelServiceName", ""),
    )
    return record
