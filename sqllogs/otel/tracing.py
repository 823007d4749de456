"""Find the trace of a query, a log line or a response, by the same rule for all.

OpenTelemetry's current span comes first, then the unit of work. Needs only OpenTelemetry's API and
works without it. Called in any thread.
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
    """All zero if there is no trace."""

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
    """Return the trace of a unit of work under a span; either may be None."""
    # Not is_recording(): a span that is not sampled has ids too, and log lines carry them.
    if span is not None and (context := span.get_span_context()).is_valid:
        return TraceContext(context.trace_id, context.span_id, context.trace_flags.sampled)
    # While a response is streamed its span has ended, its unit of work has not.
    return NO_TRACE if unit is None else TraceContext(unit.trace_id, unit.span_id, unit.sampled)


def span_here() -> Any:
    """Return OpenTelemetry's current span; None without OpenTelemetry."""
    return get_current_span() if get_current_span is not None else None


def here() -> TraceContext:
    """Return the current trace of this thread or task."""
    return trace_of_span(current.get(), span_here())


@contextmanager
def untraced() -> Iterator[None]:
    """Keep instrumented drivers from making spans in a block: our own SQL belongs to no trace."""
    if get_current_span is None:
        yield  # type: ignore[unreachable]
        return
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        detach(token)
