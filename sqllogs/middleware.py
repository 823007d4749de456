"""Make each request a unit of work, and send its trace id in the response.

Runs in the request's thread or asyncio task. Capture stores the unit with each query, including
those of a streaming response, which run after the middleware has returned.
"""

import re
import sys
from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import ref

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse

from sqllogs import conf, context, guard, recorder
from sqllogs.capture import EXECUTE_NS, Captured
from sqllogs.context import (
    NO_TRACE,
    SCOPE_STARTED,
    TraceContext,
    UnitOfWork,
    current,
    current_span,
    server_value,
    trace_of_span,
)

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header; later versions may append fields."""

CLIENT_CLOSED_REQUEST = 499
"""The status of nginx for a client that did not wait for the response."""

PANEL = "sqllogs.page.debug_toolbar.SQLLogsPanel"
"""Shows number and time of a request's queries, as the header Server-Timing does."""

LENGTH_DIGITS_MAX = 19
"""A number with as many may not fit into 63 bits."""

GetResponse = Callable[[HttpRequest], Any]


class SQLLogsMiddleware:
    """Put it first in MIDDLEWARE; sync and async, without a thread switch."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        # Here, because servers construct the middleware when they start, and management commands never do.
        recorder.serve_metrics()
        self.server_timing = conf.load().server_timing
        self.is_counting = bool(self.server_timing) or PANEL in getattr(settings, "DEBUG_TOOLBAR_PANELS", ())
        got_request_exception.connect(note_exception, dispatch_uid="sqllogs")
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._answer_async(request)
        outer = current.get()
        unit = self._begin(request, outer)
        try:
            current.set(unit)
            return self._finish(unit, request, self.get_response(request))
        except BaseException as exc:
            _fail(unit, exc)
            raise
        finally:
            _end(unit, outer)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        outer = current.get()
        unit = self._begin(request, outer)
        try:
            current.set(unit)
            return self._finish(unit, request, await self.get_response(request))
        except BaseException as exc:
            _fail(unit, exc)
            raise
        finally:
            _end(unit, outer)

    def _begin(self, request: HttpRequest, outer: UnitOfWork | None) -> UnitOfWork:
        try:
            unit = begin(request, outer)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("middleware", exc)
            unit = UnitOfWork("request", outer=outer)
        if self.is_counting:
            unit.counts = QueryTimes(unit.counts)
        return unit

    def _finish(self, unit: UnitOfWork, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if self.server_timing and not unit.muted:
            try:
                add_server_timing(unit, request, response, for_all=self.server_timing == "all")
            except Exception as exc:
                if guard.must_propagate(exc):
                    raise
                guard.fault("Server-Timing", exc)
        try:
            finish(unit, response)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("middleware", exc)
        return response


class QueryTimes:
    """Count a request's queries for the header Server-Timing and for PANEL.

    Passes them on to the counts of the request's span. Takes no lock, so it may miss some queries if threads
    share a request.
    """

    __slots__ = ("_span_counts", "execute_ns", "queries")

    def __init__(self, span_counts: Any) -> None:
        self._span_counts = span_counts
        self.queries = self.execute_ns = 0

    def add(self, captured: Captured) -> None:
        self.queries += 1
        self.execute_ns += captured[EXECUTE_NS]
        if self._span_counts is not None:
            self._span_counts.add(captured)

    def write_to_span(self) -> None:
        if self._span_counts is not None:
            self._span_counts.write_to_span()


def add_server_timing(
    unit: UnitOfWork, request: HttpRequest, response: HttpResponseBase, *, for_all: bool
) -> None:
    """Add the time of the queries so far. Those of a streamed body run after the headers are sent."""
    is_staff = _is_known_staff(request)
    if not (is_staff or for_all):
        return
    found = [f'sql;dur={unit.counts.execute_ns / 1e6:.1f};desc="{unit.counts.queries} queries"']
    if is_staff:
        with suppress(NoReverseMatch):
            found.append(f'sqllogs;desc="{reverse("sqllogs:trace", args=[f"{unit.trace_id:032x}"])}"')
    if before := response.headers.get("Server-Timing"):
        found.insert(0, before)
    response.headers["Server-Timing"] = ", ".join(found)


def _is_known_staff(request: HttpRequest) -> bool:
    """Return True if the application has already loaded the user, who is staff.

    Evaluating `request.user` here could query the session and add `Vary: Cookie` to the response.
    """
    user = getattr(request, "_cached_user", None) or getattr(request, "_acached_user", None)
    # A custom user model needs neither attribute.
    return bool(getattr(user, "is_active", False) and getattr(user, "is_staff", False))


def _fail(unit: UnitOfWork, exc: BaseException) -> None:
    """Record an exception that passes through; Django turns most others into responses further in."""
    unit.exception = type(exc).__name__
    unit.status = CLIENT_CLOSED_REQUEST if isinstance(exc, CancelledError) else 500


def _end(unit: UnitOfWork, outer: UnitOfWork | None) -> None:
    try:
        current.set(outer)  # not with a token, which is lost if a signal handler raises before it is stored
    finally:
        try:
            unit.end_request()
        except Exception as exc:
            if guard.is_interruption(exc):
                raise
            guard.fault("middleware", exc)
        finally:
            if not unit.is_streamed:
                _close(unit)


def _close(unit: UnitOfWork) -> None:
    """Complete the unit; the server's close() does so for a streamed body that was not read to its end."""
    if context.recorder is not None:
        context.recorder.close_unit(unit)


def note_exception(sender: Any, **kwargs: Any) -> None:
    """Record the exception's class: Django's response for it no longer shows it. Receives a signal."""
    unit, exception = current.get(), sys.exc_info()[0]
    if unit is not None and exception is not None:
        unit.exception = exception.__name__


def begin(request: HttpRequest, outer: UnitOfWork | None = None) -> UnitOfWork:
    """Return a new unit for a request, with the trace it belongs to."""
    span = current_span()
    trace_id, span_id, sampled = trace_of_span(None, span) or _trace_from_header(request)
    if span is not None and span.get_span_context().is_remote:
        span_id = 0  # not the client's: the unit's id decides what SAMPLE keeps, so a client could choose
    unit = UnitOfWork(
        "request",
        trace_id=trace_id,
        span_id=span_id,
        sampled=sampled,
        method=request.method,
        # Not from `request.headers`, which Django builds from all of META: half the cost of this function.
        request_id=request.META.get("HTTP_X_REQUEST_ID"),
        outer=outer,
    )
    unit.request = request
    if began := server_value(request, "scope", SCOPE_STARTED):
        unit.time_ns, unit.started_ns = began
    if span is not None and span.is_recording():
        from sqllogs.otel.spans import SpanCounts

        unit.counts = SpanCounts(span)
    # For log lines written after the unit has ended. Not the unit itself, which refers to the request.
    request.sqllogs_trace = TraceContext(unit.trace_id, unit.span_id, unit.sampled)  # type: ignore[attr-defined]
    return unit


def finish(unit: UnitOfWork, response: HttpResponseBase) -> None:
    """Record status and size, add the trace id to the response, and wrap a streamed body."""
    # Django does not check what an application assigns and fails later; the database would reject it.
    status = getattr(response, "status_code", None)
    unit.status = int(status) if isinstance(status, int) and status < 1000 else 500
    unit.response_bytes = _body_size(response)
    if getattr(response, "streaming", False):
        _follow_stream(unit, response)
    # https://www.w3.org/TR/trace-context-2/#traceresponse-header
    response.headers["traceresponse"] = (
        f"00-{unit.trace_id:032x}-{unit.span_id:016x}-{'01' if unit.sampled else '00'}"
    )
    if context.recorder is not None:
        unit.tags = context.recorder.tags(unit.request)
    if unit.counts is not None:
        unit.counts.write_to_span()
        unit.counts = None


def _body_size(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    if length.isdecimal():
        return int(length) if len(length) < LENGTH_DIGITS_MAX else None
    # A template may not have been rendered yet.
    is_known = not getattr(response, "streaming", True) and getattr(response, "is_rendered", True)
    return len(response.content) if is_known else None


def _follow_stream(unit: UnitOfWork, response: Any) -> None:
    """Let the unit last until the body has been read, or the server closes the response."""
    unit.is_streamed = True
    close = partial(_close, unit)
    response._resource_closers.append(close)
    # An outer middleware may drop the body, or move it to another response.
    body = response
    # A file is not wrapped: it runs no query, and the server may send it with sendfile().
    if getattr(response, "file_to_stream", None) is None:
        iterate = _iterate_in_unit_async if response.is_async else _iterate_in_unit
        response.streaming_content = body = iterate(unit, response.streaming_content, close)
    context.follow_stream(ref(body), unit)


def _trace_from_header(request: HttpRequest) -> TraceContext:
    """Return the trace in the client's traceparent header, or NO_TRACE if it has no valid one."""
    found = TRACEPARENT.fullmatch(request.META.get("HTTP_TRACEPARENT", ""))
    if found is None:
        return NO_TRACE
    # The span id in the header is the client's span; the unit gets a new one.
    return TraceContext(int(found[1], 16), 0, bool(int(found[3], 16) & 1))


def _iterate_in_unit(
    unit: UnitOfWork, content: Iterable[bytes], close: Callable[[], object]
) -> Iterator[bytes]:
    """Run each step of a streamed body in the request's unit of work."""
    steps = iter(content)
    while True:
        outer = current.get()
        try:
            current.set(unit)
            chunk = next(steps)
        except StopIteration:
            close()
            return
        except BaseException as exc:
            unit.exception = type(exc).__name__
            raise
        finally:
            current.set(outer)
        yield chunk


async def _iterate_in_unit_async(
    unit: UnitOfWork, content: AsyncIterator[bytes], close: Callable[[], object]
) -> AsyncIterator[bytes]:
    steps = aiter(content)
    while True:
        outer = current.get()
        try:
            current.set(unit)
            chunk = await anext(steps)
        except StopAsyncIteration:
            close()
            return
        except BaseException as exc:
            unit.exception = type(exc).__name__
            raise
        finally:
            current.set(outer)
        yield chunk
