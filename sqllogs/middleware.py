"""Give each request a unit of work, and tell the caller its trace id.

Runs in the request's thread or task; `sqllogs.capture.wrapper` refers to the unit from
every query, also from those that a streaming response sends after the
middleware has returned.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from sqllogs import recorder
from sqllogs.context import NO_TRACE, TraceContext, UnitOfWork, current, span_here, trace_of_span
from sqllogs.otel.spans import SpanCounts

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header; later versions may append fields."""

GetResponse = Callable[[HttpRequest], Any]


class SQLLogsMiddleware:
    """The first line of MIDDLEWARE; sync and async alike, without a thread switch."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        recorder.serve_metrics()
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._answer_async(request)
        unit = begin(request)
        token = current.set(unit)
        try:
            return finish(unit, self.get_response(request))
        finally:
            current.reset(token)
            unit.settle()

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        unit = begin(request)
        token = current.set(unit)
        try:
            return finish(unit, await self.get_response(request))
        finally:
            current.reset(token)
            unit.settle()


def begin(request: HttpRequest) -> UnitOfWork:
    """Return the unit of a request, with the trace it belongs to."""
    span = span_here()
    trace_id, span_id, sampled = trace_of_span(None, span) or _callers_trace(request)
    unit = UnitOfWork(
        "request",
        trace_id=trace_id,
        span_id=span_id,
        sampled=sampled,
        method=request.method,
        request_id=request.headers.get("X-Request-ID"),
    )
    unit.request = request
    if span is not None and span.is_recording():
        unit.counts = SpanCounts(span)
    # For log lines that come when the unit is over; not the unit, that would be a cycle.
    request.sqllogs_trace = TraceContext(unit.trace_id, unit.span_id, unit.sampled)  # type: ignore[attr-defined]
    return unit


def finish(unit: UnitOfWork, response: HttpResponseBase) -> HttpResponseBase:
    """Note the status, send the trace id back, and stay with a body that is still to come."""
    unit.status = response.status_code
    if unit.counts is not None:
        unit.counts.tell()
        unit.counts = None
    # https://www.w3.org/TR/trace-context-2/#traceresponse-header
    response.headers["traceresponse"] = (
        f"00-{unit.trace_id:032x}-{unit.span_id:016x}-{'01' if unit.sampled else '00'}"
    )
    # A file is left alone: the server may send it without us, and it holds no query.
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        content: Any = response.streaming_content  # type: ignore[attr-defined]
        keep = _keep_async if response.is_async else _keep  # type: ignore[attr-defined]
        response.streaming_content = keep(unit, content)  # type: ignore[attr-defined]
    return response


def _callers_trace(request: HttpRequest) -> TraceContext:
    """Return the trace that the caller names; zeros where a new one must be made."""
    found = TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if found is None:
        return NO_TRACE
    # The span id there is the caller's; a new one stands for this unit.
    return TraceContext(int(found[1], 16), 0, bool(int(found[3], 16) & 1))


def _keep(unit: UnitOfWork, content: Iterable[bytes]) -> Iterator[bytes]:
    """Give each step of a streamed body the request's unit of work."""
    steps = iter(content)
    while True:
        token = current.set(unit)
        try:
            chunk = next(steps)
        except StopIteration:
            return
        finally:
            current.reset(token)
        yield chunk


async def _keep_async(unit: UnitOfWork, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    steps = aiter(content)
    while True:
        token = current.set(unit)
        try:
            chunk = await anext(steps)
        except StopAsyncIteration:
            return
        finally:
            current.reset(token)
        yield chunk
