"""The unit of work that a query belongs to (a request, command or task), and its trace.

`sqllogs.middleware`, `sqllogs.celery` and, for commands, `sqllogs.apps` create it in the caller's thread.
Each captured query keeps a reference, which the writer reads later. The trace is that of OpenTelemetry's
current span if there is one, else the unit's own. OpenTelemetry is never imported here: unless something
else has imported it, there is no span.
"""

import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar, Token
from copy import copy
from functools import wraps
from inspect import isasyncgenfunction, isgeneratorfunction
from threading import get_ident
from time import perf_counter_ns, time_ns
from typing import Any, NamedTuple, Self
from weakref import ref

from asgiref.sync import iscoroutinefunction

from sqllogs.threads import Tally

LOOKED_UP = (-1, None)
"""State of a repeated statement that needs no more counting: its origin in the ORM was looked up."""
RULES_MAX = 5
"""Rules of `ignore_findings` that a query or a unit of work can have at once; further ones do nothing."""


UNCOUNTED: dict[int, Any] = {}
"""Replaces `UnitOfWork.repeats` where capture does not count: after a unit's end, in `repeats_allowed()`,
without a unit. Capture recognizes it by identity."""


SCOPE_STARTED = "sqllogs.started"
"""Key in an ASGI scope: when the server called the application, as `time_ns()` and `perf_counter_ns()`."""


class UnitOfWork:
    """The attributes shared by all queries of one request, command or task.

    Mutable and shared by reference: route, view and status become known when its first queries
    are already in the buffer, and the writer reads them when it stores.
    """

    # Slots, because each request creates a unit, and thousands wait for the writer during an outage.
    __slots__ = (
        "connect_ns", "connections", "counts", "duration_ns", "ended", "ended_ns", "exception", "failed",
        "is_streamed", "kind", "method", "muted", "outside_ns", "outside_site", "parent_id", "repeats",
        "request", "request_id", "response_bytes", "route", "row", "rules_entered", "sampled", "scheme",
        "span_id", "started_ns", "status", "tags", "time_ns", "trace_id", "url_name", "values_sent", "view",
    )  # fmt: skip

    repeats_allowed = False
    """True if its queries repeat on purpose and are never an N+1."""
    ignore_rules: tuple[str, ...] = ()
    """The rules of the `ignore_findings` blocks that are open now."""

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
        outer: "UnitOfWork | None" = None,
    ) -> None:
        self.time_ns = time_ns()
        self.started_ns = perf_counter_ns()
        # Cleaned, because a bad value must neither fail here nor later in the writer.
        self.kind = kind if isinstance(kind, str) and kind else "thread"
        bits = secrets.randbits(192)  # one call for both ids, because each is a system call
        self.trace_id = trace_id or bits >> 64
        self.span_id = span_id or bits & (1 << 64) - 1
        self.sampled = sampled
        self.route: str | None = None
        self.url_name: str | None = None
        """`namespace:name` of the URL, a label of the metrics."""
        self.view = view if isinstance(view, str) else None
        self.method = method
        self.status: int | None = None
        self.request_id = request_id
        self.scheme = "http"
        self.request: Any = None
        """The HttpRequest until it is answered, so that its resolver_match can be read late."""
        self.counts: Any = None
        """The `SpanCounts` of a request with a recording OpenTelemetry span, else None."""
        self.muted: bool = outer is not None and outer.muted
        """None of its queries are recorded, not even those already in the buffer."""
        self.ended = False
        """True after its last query, except for queries of a streamed body."""
        self.failed = False
        self.exception: str | None = None
        """Class of the exception that it failed with."""
        self.ended_ns = 0
        """Wall time of its end, 0 before."""
        self.duration_ns = 0
        """Set at its end; of a streamed response that is later than `ended`."""
        self.parent_id = outer.span_id if outer is not None else 0
        """Id of the unit in which it runs."""
        self.response_bytes: int | None = None
        self.is_streamed = False
        """The response is sent after the middleware has returned."""
        self.tags: tuple[str, ...] = ()
        self.repeats: dict[int, Any] = {}
        """By statement and line: after one execution a hash of its values, then `(times, hash)`.

        The hash is None if the values differed.
        """
        self.connections = 0
        """Number of connections that it opened, or took from a pool."""
        self.connect_ns = 0
        """How long it waited for these."""
        self.outside_ns = 0
        """Its longest wait for another service while a transaction was open."""
        self.outside_site: tuple[Any, int] | None = None
        """The code object that waited then, with the index of the instruction."""
        self.rules_entered: tuple[str, ...] = ()
        """The rules of all `ignore_findings` blocks so far, also of those that have ended."""
        self.values_sent: dict[tuple[str, str], set[int]] | None = None
        """Hashes of the values of SELECTs since its last write, by alias and fingerprint; the writer's."""
        self.row: Any = None
        """The `OpenUnit` of `sqllogs.pipeline.units`, once a query is resolved; the writer's."""

    @property
    def whole(self) -> "UnitOfWork":
        """The unit itself; a `_Marked` proxy returns the unit it stands for."""
        return self

    def route_and_view(self) -> tuple[str | None, str | None]:
        """Return the route and view of the resolved request, or those given."""
        match = getattr(self.request, "resolver_match", None)
        if match is None:
            return self.route, self.view
        return _text(match, "route"), _text(match, "_func_path")

    def end_request(self) -> None:
        """End the unit of a request, and drop the request, which may hold an upload."""
        try:
            self.route, self.view = self.route_and_view()
            match = getattr(self.request, "resolver_match", None)
            self.url_name = _text(match, "view_name") or self.url_name
            self.scheme = (
                server_value(self.request, "scope", "scheme")
                or server_value(self.request, "environ", "wsgi.url_scheme")
                or "http"
            )
        finally:
            # Also if an unusual resolver_match raises: a unit that never ends would keep an upload in memory.
            self.request = None
            self.ended = True

    def close(self) -> None:
        """Set the duration, and queue the unit so that the writer completes its row; idempotent."""
        if not self.duration_ns:
            # At least 1, because 0 means that it has not ended.
            self.duration_ns = max(1, perf_counter_ns() - self.started_ns)
            self.ended_ns = time_ns()
            self.repeats = UNCOUNTED
            _queue_closed(self)


def server_value(request: Any, name: str, key: str) -> Any:
    """Return a value of the ASGI scope or WSGI environ, unless the application has replaced it."""
    found = getattr(request, name, None)
    return found.get(key) if isinstance(found, dict) else None


def _text(match: Any, name: str) -> str | None:
    """Return a text attribute of a ResolverMatch; applications and their tests set other objects too."""
    found = getattr(match, name, None)
    return found if found and isinstance(found, str) else None


recorder: Any = None
"""The `Recorder` of this process, for the middleware; None while capture is disabled."""

closed: deque[UnitOfWork] = deque()
"""Ended units that the writer has not taken yet."""
CLOSED_MAX = 10_000
"""Maximum units in each of `closed` and `streams`: the writer may be waiting for its database."""
WAKE_FROM = 100
"""Number of waiting units that starts the writer: a single command without SQL should not import it."""
streams: deque[tuple[ref[Any], UnitOfWork]] = deque()
"""Streamed bodies with their units, so that a unit ends even if nobody closes the body.

Polled by the writer instead of weak-reference callbacks: an exception that a signal handler raises within a
callback never reaches the application.
"""
closed_dropped = Tally()
"""Units dropped because `closed` was full: their rows stay incomplete, or are missing without a query."""

finished: deque[UnitOfWork] = deque(maxlen=1_000)
"""Ended units that are not requests, for the metrics sink; when full, the oldest are dropped."""

current: ContextVar[UnitOfWork | None] = ContextVar("sqllogs_unit_of_work", default=None)


def finish(unit: UnitOfWork, duration_ns: int) -> None:
    """End a unit that is not a request, and queue it for the metrics."""
    unit.duration_ns = duration_ns
    unit.ended_ns = time_ns()
    unit.ended = True
    unit.repeats = UNCOUNTED
    if unit.muted:
        return
    finished.append(unit)
    if recorder is not None:
        _queue_closed(unit)


def _queue_closed(unit: UnitOfWork) -> None:
    if len(closed) < CLOSED_MAX:
        closed.append(unit)
    else:
        closed_dropped.add()
    if len(closed) >= WAKE_FROM:
        recorder.wake()


def follow_stream(body: "ref[Any]", unit: UnitOfWork) -> None:
    """End the unit if a streamed body is garbage-collected without having been closed."""
    if recorder is not None and len(streams) < CLOSED_MAX:
        streams.append((body, unit))


def close_abandoned() -> None:
    """Close the units whose streamed bodies no longer exist; called in the writer's thread."""
    # Looks at each stream once: those still open are put back at the end.
    for _ in range(len(streams)):
        body, unit = streams.popleft()
        if body() is not None and not unit.duration_ns:
            streams.append((body, unit))
        elif not unit.muted:
            unit.close()


def reset_after_fork() -> None:
    """Empty the queues and counts in a forked child: their content is the parent's to write."""
    global closed_dropped
    closed.clear()
    streams.clear()
    closed_dropped = Tally()


class _Block(ContextDecorator):
    """Make a unit current in a block, or in each call of a function, sync or async.

    A signal handler may raise between any two instructions. So the outer unit is restored by value and not
    with the token of `ContextVar.set`, which could be lost before it is stored.
    """

    def __init__(self) -> None:
        self._outer: UnitOfWork | None = None
        self._entered: UnitOfWork | None = None
        self._thread = 0

    def _make(self, outer: UnitOfWork | None) -> UnitOfWork:
        raise NotImplementedError

    def __enter__(self) -> UnitOfWork:
        self._outer = outer = current.get()
        self._thread = get_ident()
        try:
            self._entered = unit = self._make(outer)
            current.set(unit)
            return unit
        except BaseException:
            current.set(outer)
            raise

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._restore_own(current.set(self._outer))

    def _restore_own(self, token: Token[UnitOfWork | None]) -> None:
        """Restore this thread's own unit if the block ends in another thread, such as in a callback.

        There `__exit__` has just replaced a unit that has nothing to do with the block.
        """
        before = token.old_value
        if before is not self._entered and before is not Token.MISSING and get_ident() != self._thread:
            current.set(before)

    def __call__(self, function: Callable[..., Any]) -> Any:
        if not callable(function) or isinstance(function, staticmethod):
            # A property would become a method, and a method could not be called.
            kind = type(function).__name__
            raise TypeError(f"{kind} is no function: put this decorator below @{kind}, right above `def`.")
        if isinstance(function, type) or isgeneratorfunction(function) or isasyncgenfunction(function):
            # The result would no longer be a class, and a generator's block would end before its first row.
            raise TypeError(
                f"{function.__qualname__} is a class or a generator: decorate a method, or use `with` in it."
            )
        if not iscoroutinefunction(function):
            return super().__call__(function)

        @wraps(function)
        async def in_block(*args: Any, **kwargs: Any) -> Any:
            with self._recreate_cm():
                return await function(*args, **kwargs)

        return in_block

    def _recreate_cm(self) -> Self:
        return copy(self)  # nested calls, and calls in other threads, need separate state


class unit_of_work(_Block):
    """Make a block or a function a unit of work.

    `kind` is task, thread or any other word. `view` is the name of the block; a decorated function
    without a view is named by its path.
    """

    def __init__(self, kind: str, view: str | None = None) -> None:
        super().__init__()
        self._kind = kind
        self._view = view
        self._unit: UnitOfWork | None = None
        self._started_ns = 0

    def _make(self, outer: UnitOfWork | None) -> UnitOfWork:
        self._started_ns = perf_counter_ns()
        self._unit = UnitOfWork(self._kind, view=self._view, outer=outer)
        return self._unit

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._restore_own(current.set(self._outer))
        if exc is not None and self._unit is not None:
            self._unit.exception = type(exc).__name__
        self._finish(failed=exc is not None and not (isinstance(exc, SystemExit) and not exc.code))

    def __call__(self, function: Callable[..., Any]) -> Any:
        decorated = super().__call__(function)  # first, because it refuses what has no name
        self._view = self._view or f"{function.__module__}.{function.__qualname__}"
        return decorated

    def end(self, *, failed: bool) -> None:
        """End the unit, for a task whose start and end are signals."""
        self._restore_own(current.set(self._outer))
        self._finish(failed=failed)

    def _finish(self, *, failed: bool) -> None:
        if self._unit is not None:
            self._unit.failed = failed
            finish(self._unit, perf_counter_ns() - self._started_ns)


class muted(_Block):
    """Record no query of this block. A request that enters it is not recorded at all."""

    def _make(self, outer: UnitOfWork | None) -> UnitOfWork:
        if outer is not None and outer.kind == "request":
            outer.muted = True
        silent = UnitOfWork("muted")
        silent.muted = True
        return silent


class _Marked(UnitOfWork):
    """A proxy of a unit of work, current in a block that allows repeats or ignores findings.

    A separate object, so that capture needs no further check per query. It reads and writes all
    attributes of the unit it stands for, so values that become known later are right in both.
    """

    __slots__ = ("_unit", "ignore_rules", "repeats_allowed")

    _unit: UnitOfWork
    ignore_rules: tuple[str, ...]
    repeats_allowed: bool

    def __init__(self, unit: UnitOfWork, *, repeats_allowed: bool = False, rules: Sequence[str] = ()) -> None:
        object.__setattr__(self, "_unit", unit)
        object.__setattr__(self, "repeats_allowed", repeats_allowed or unit.repeats_allowed)
        object.__setattr__(self, "ignore_rules", (*rules, *unit.ignore_rules)[:RULES_MAX])

    @property
    def repeats(self) -> Any:  # type: ignore[override]
        return UNCOUNTED if self.repeats_allowed else self._unit.repeats

    @property
    def muted(self) -> bool:  # type: ignore[override]
        return self._unit.muted  # read at each query: a fifth of the time of __getattr__

    @property
    def whole(self) -> UnitOfWork:
        return self._unit.whole

    def __getattr__(self, name: str) -> Any:  # also called for a slot that was never set
        return getattr(self._unit, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._unit, name, value)


class repeats_allowed(_Block):
    """Report no N+1 for the queries of a block or function, sync or async; they are still recorded."""

    _own: UnitOfWork | None = None

    def _make(self, outer: UnitOfWork | None) -> UnitOfWork:
        # Without a unit, as in a plain thread or a test, the block becomes one.
        self._own = UnitOfWork("thread") if outer is None else None
        return self._mark(outer or self._own)  # type: ignore[arg-type]

    def _mark(self, unit: UnitOfWork) -> UnitOfWork:
        return _Marked(unit, repeats_allowed=True)

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        # Not super().__exit__(): a signal handler could raise before that call restores the outer unit.
        token = current.set(self._outer)
        self._restore_own(token)
        if self._own is not None and recorder is not None:
            self._own.close()


class ignoring(repeats_allowed):
    """Mark the queries of a block or function with a rule of `sqllogs.findings.ignore_findings`."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self._rule = rule

    def _mark(self, unit: UnitOfWork) -> UnitOfWork:
        entered = unit.rules_entered
        if self._rule not in entered and len(entered) < RULES_MAX:
            unit.rules_entered = (*entered, self._rule)
        return _Marked(unit, rules=(self._rule,))


class TraceContext(NamedTuple):
    """The ids of a trace; zeros and False without a trace."""

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
    """Return the trace of a span, else of a unit of work; either may be None."""
    # is_valid, not is_recording(): a span that is not sampled has ids too, and log lines show them.
    if span is not None and (context := span.get_span_context()).is_valid:
        return TraceContext(context.trace_id, context.span_id, context.trace_flags.sampled)
    # While a response is streamed, its span has already ended, but its unit has not.
    return NO_TRACE if unit is None else TraceContext(unit.trace_id, unit.span_id, unit.sampled)


def span_getter() -> Callable[[], Any] | None:
    """Return OpenTelemetry's `get_current_span`; None as long as nothing has imported OpenTelemetry."""
    # getattr(): another thread may be importing it right now.
    return getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)


def current_span() -> Any:
    """Return OpenTelemetry's current span, None without OpenTelemetry."""
    get_span = span_getter()
    return None if get_span is None else get_span()


def current_trace() -> TraceContext:
    """Return the trace that is current in this thread or task."""
    return trace_of_span(current.get(), current_span())


@contextmanager
def untraced() -> Iterator[None]:
    """Suppress OpenTelemetry's spans in a block: the log's own SQL must not appear in the host's traces."""
    otel: Any = sys.modules.get("opentelemetry.context")
    key = getattr(otel, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if key is None:
        yield
        return
    token = otel.attach(otel.set_value(key, True))
    try:
        yield
    finally:
        otel.detach(token)
