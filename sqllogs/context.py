"""The unit of work that a query belongs to: a request, a command, a task.

Filled by `sqllogs.middleware` and `sqllogs.commands` in the caller's thread;
`sqllogs.capture` keeps a reference with each query, `sqllogs.writer` reads it.
"""

import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter_ns
from typing import Any


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
        """What its span is told at its end, `sqllogs.span_counts`; None where none is recorded."""
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
