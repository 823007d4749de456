"""The unit of work that a query belongs to, a request, a command or a task, and its trace.

`sqllogs.middleware` and the commands wrapped here fill it, in the caller's thread. Each captured query keeps
a reference, which the writer reads. The trace is that of OpenTelemetry's current span if there is one, else
that of the unit of work; everything works without OpenTelemetry, of which only the API is used.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar, Token
from functools import wraps
from time import perf_counter_ns
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction

try:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
    from opentelemetry.trace import get_current_span
except ImportError:
    get_current_span = None  # type: ignore[assignment]


class UnitOfWork:
    """What all queries of one request, command or task have in common.

    It is mutable: route, view and status become known while its queries are
    already in the buffer, and the writer reads them when it stores.
    """

    __slots__ = (
        "counts", "duration_ns", "ended", "failed", "kind", "method", "muted", "request", "request_id",
        "route", "sampled", "span_id", "status", "trace_id", "url_name", "view",
    )  # fmt: skip

    repeats_allowed = False
    """Its queries are repeated on purpose: they are no N+1."""

    def __init__(
        self,
        kind: str,
        *,
        trace_id: int = 0,
        span_id: int = 0,
        sampled: bool = False,
        view: str | None = None,
        method: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.kind = kind
        self.trace_id = trace_id or secrets.randbits(128)
        self.span_id = span_id or secrets.randbits(64)
        self.sampled = sampled
        self.route: str | None = None
        self.url_name: str | None = None
        """`namespace:name` of the URL, which metrics are labelled by."""
        self.view = view
        self.method = method
        self.status: int | None = None
        self.request_id = request_id
        self.request: Any = None
        """The HttpRequest while it is being answered: its resolver_match is read late."""
        self.counts: Any = None
        """What its span is told at its end, `sqllogs.otel.spans`; None where none is recorded."""
        self.muted = False
        """Nothing of this unit is recorded, not even what is in the buffer already."""
        self.ended = False
        """No further query will come of it, but for those of a streamed body."""
        self.failed = False
        self.duration_ns = 0
        """Of units that are no request, once they have ended."""

    @property
    def whole(self) -> "UnitOfWork":
        """The unit itself, where this is how a part of its queries sees it."""
        return self

    def destination(self) -> tuple[str | None, str | None]:
        """Return route and view: what a request has been resolved to, or what was given."""
        match = getattr(self.request, "resolver_match", None)
        return (match.route or None, match._func_path) if match else (self.route, self.view)

    def settle(self) -> None:
        """Let go of the request, which may hold an upload, once it is answered."""
        self.route, self.view = self.destination()
        match = getattr(self.request, "resolver_match", None)
        self.url_name = match.view_name if match else self.url_name
        self.request = None
        self.ended = True


finished: deque[UnitOfWork] = deque(maxlen=1_000)
"""Units that were no request and have ended; the metrics' sink takes them. The oldest give way."""

current: ContextVar[UnitOfWork | None] = ContextVar("sqllogs_unit_of_work", default=None)


@contextmanager
def unit_of_work(kind: str, view: str) -> Iterator[UnitOfWork]:
    """Name the queries of a block: `kind` is task, thread or what you like, `view` its name."""
    unit = UnitOfWork(kind, view=view)
    started_ns = perf_counter_ns()
    token = current.set(unit)
    try:
        yield unit
    except BaseException as exc:
        unit.failed = not (isinstance(exc, SystemExit) and not exc.code)
        raise
    finally:
        current.reset(token)
        finish(unit, perf_counter_ns() - started_ns)


def finish(unit: UnitOfWork, duration_ns: int) -> None:
    """Note the end of a unit that is no request."""
    unit.duration_ns = duration_ns
    unit.ended = True
    finished.append(unit)


@contextmanager
def muted() -> Iterator[None]:
    """Record no query of this block; a request that enters it is not recorded at all."""
    around = current.get()
    if around is not None and around.kind == "request":
        around.muted = True
    silent = UnitOfWork("muted")
    silent.muted = True
    token = current.set(silent)
    try:
        yield
    finally:
        current.reset(token)


class _Repeating(UnitOfWork):
    """The same unit of work, as queries see it that are repeated on purpose.

    An object of its own, so that capture has nothing more to look at. It holds nothing: all is
    asked of, and told to, the unit that it stands for, also what becomes known later.
    """

    __slots__ = ("_unit",)
    repeats_allowed = True

    _unit: UnitOfWork

    def __init__(self, unit: UnitOfWork) -> None:
        object.__setattr__(self, "_unit", unit)

    @property
    def muted(self) -> bool:  # type: ignore[override]
        return self._unit.muted  # capture asks at each query: a fifth of the way by __getattr__

    @property
    def whole(self) -> UnitOfWork:
        return self._unit.whole

    def __getattr__(self, name: str) -> Any:  # a slot that was never set comes here too
        return getattr(self._unit, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._unit, name, value)


class repeats_allowed(ContextDecorator):
    """Tell no N+1 of what a block or a function, sync or async, repeats; it is recorded as ever."""

    def __enter__(self) -> None:
        # In a plain thread, or a test, the block becomes a unit of its own.
        unit = current.get() or UnitOfWork("thread")
        self._token: Token[UnitOfWork | None] = current.set(_Repeating(unit))

    def __exit__(self, *exc_info: object) -> None:
        current.reset(self._token)

    def __call__(self, function: Callable[..., Any]) -> Any:
        if not iscoroutinefunction(function):
            return super().__call__(function)

        @wraps(function)
        async def repeating(*args: Any, **kwargs: Any) -> Any:
            with repeats_allowed():
                return await function(*args, **kwargs)

        return repeating

    def _recreate_cm(self) -> "repeats_allowed":
        return repeats_allowed()  # calls within calls, and in other threads, have tokens of their own


def install_command_units() -> None:
    """Wrap `BaseCommand.execute`; a second call does nothing."""
    # Imported late: a test run that only loads the pytest plugin pays for no part of Django.
    from django.core.management.base import BaseCommand

    original = BaseCommand.execute
    if getattr(original, "sqllogs", False):
        return

    @wraps(original)
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        if current.get() is not None:
            return original(self, *args, **options)
        with unit_of_work("command", self.__module__.rpartition(".")[2]):
            return original(self, *args, **options)

    execute.sqllogs = True  # type: ignore[attr-defined]
    BaseCommand.execute = execute  # type: ignore[method-assign]


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
