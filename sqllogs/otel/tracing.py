"""Say which trace something belongs to, by the same rule for a query, a log line and a response.

OpenTelemetry's current span comes first, then the unit of work, then nothing. Only
OpenTelemetry's API is used, and all works without it. Called in any thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqllogs.context import UnitOfWork, current

try:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
    from opentelemetry.trace import get_current_span
except ImportError:
    get_current_span = None  # type: ignore[assignment]


class TraceContext(NamedTuple):
    """Zeros, and false, where there is none."""

    trace_id: int
    span_id: int
    sampled: bool

    def __bool__(self) -> bool:
        return self.trace_id != 0

    @property
    def trace_hex(self) -> str | None:
        return f"{self.trace_id:032x}" if self.trace_id else None

    @property
    def span_hex(self) -> str | None:
        return f"{self.span_id:016x}" if self.span_id else None


NO_TRACE = TraceContext(0, 0, False)


def trace_of_span(unit: UnitOfWork | None, span: Any) -> TraceContext:
    """Return the trace of what a unit of work does under a span; either may be None."""
    # Valid, not recording: a span that is not sampled has ids too, and log lines carry them.
    if span is not None and (context := span.get_span_context()).is_valid:
        return TraceContext(context.trace_id, context.span_id, context.trace_flags.sampled)
    # Of a streamed answer the span has ended by now, and the unit has not.
    return NO_TRACE if unit is None else TraceContext(unit.trace_id, unit.span_id, unit.sampled)


def span_here() -> Any:
    """Return OpenTelemetry's current span, None without OpenTelemetry."""
    return get_current_span() if get_current_span is not None else None


def here() -> TraceContext:
    """Return the trace of this moment in this thread or task."""
    return trace_of_span(current.get(), span_here())


@contextmanager
def untraced() -> Iterator[None]:
    """Let instrumented drivers make no spans in a block: the log's own SQL is nobody's trace."""
    if get_current_span is None:
        yield  # type: ignore[unreachable]
        return
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        detach(token)
