"""Put the trace into log lines: name these classes in LOGGING.

Used by logging in the thread that logs. A line and the queries of the same
request have the same trace id, with OpenTelemetry or without.
"""

import json
import logging
from copy import copy
from datetime import UTC, datetime
from typing import Any

from sqllogs.context import NO_TRACE, TraceContext, here

FORMAT = (
    "[%(asctime)s] %(levelname)s [%(name)s:%(lineno)d] "
    "[trace_id=%(trace_id)s span_id=%(span_id)s] [%(funcName)s] %(message)s"
)

TRACE_FIELDS = ("trace_id", "span_id", "sampled")
"""What a record may bring along by `extra`, where it tells of another thread's work."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName", *TRACE_FIELDS}
Value = str | bool | int | float


def trace_of(record: logging.LogRecord) -> TraceContext:
    """Return the trace that a record brings along, else the one of this moment or of its request."""
    brought = vars(record)
    try:
        return TraceContext(
            int(brought["trace_id"], 16), int(brought["span_id"], 16), bool(brought.get("sampled", False))
        )
    except (KeyError, TypeError, ValueError):
        pass
    # Django logs a 404 when all middleware is done, with the request that it is about.
    return here() or getattr(brought.get("request"), "sqllogs_trace", NO_TRACE)


def extras(record: logging.LogRecord) -> dict[str, Value]:
    """Return what was given by `extra` and is a plain value: Django gives whole requests."""
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _PLAIN and isinstance(value, Value) and not name.startswith("otel")
    }


class TraceFilter(logging.Filter):
    """Note the trace on the record itself, for a handler that formats in another thread."""

    def filter(self, record: logging.LogRecord) -> bool:
        _note(record)
        return True


class TraceFormatter(logging.Formatter):
    """Format a line with `trace_id` and `span_id`, "0" where there is none; see FORMAT.

    OpenTelemetry's names for them, otelTraceID and otelSpanID, work as well, instrumented or not.
    """

    def __init__(self, fmt: str | None = FORMAT, *args: Any, **kwargs: Any) -> None:
        super().__init__(fmt, *args, **kwargs)

    def format(self, record: logging.LogRecord) -> str:
        # Only a line that begins with "[" begins a record: a message cannot forge one.
        return super().format(_note(copy(record))).replace("\n", "\n    ")


class JSONFormatter(logging.Formatter):
    """Format a record as one line of JSON."""

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
        return json.dumps(extras(record) | line)


def _note(record: logging.LogRecord) -> logging.LogRecord:
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
