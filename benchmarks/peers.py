"""Ways to watch queries: sqllogs, none, and the peers, each as a context manager.

Each yields the watched view. A connection to a database in memory cannot be opened again, so each
uninstalls itself from the connection at its end.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from debug_toolbar.middleware import DebugToolbarMiddleware
from django.db import connection
from django.db.models.sql.compiler import SQLCompiler
from django.http import HttpRequest, HttpResponse
from opentelemetry.instrumentation.dbapi import instrument_connection
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from silk.middleware import SilkyMiddleware
from silk.models import Request as SilkRequest

from sqllogs import conf
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.recorder import Recorder

View = Callable[[HttpRequest], HttpResponse]
Peer = Callable[[View], AbstractContextManager[View]]


@contextmanager
def nothing(view: View) -> Iterator[View]:
    yield view


@contextmanager
def noop(view: View) -> Iterator[View]:
    with connection.execute_wrapper(lambda execute, *args: execute(*args)):
        yield view


def sqllogs(**settings: Any) -> tuple[Peer, Recorder]:
    recorder = Recorder(replace(conf.load(), **settings))

    @contextmanager
    def peer(view: View) -> Iterator[View]:
        recorder.install()
        try:
            yield SQLLogsMiddleware(view)  # type: ignore[misc]
        finally:
            recorder.uninstall()

    return peer, recorder


@contextmanager
def debug_cursor(view: View) -> Iterator[View]:
    connection.force_debug_cursor = True
    try:
        yield view
    finally:
        connection.force_debug_cursor = False
        connection.queries_log.clear()


@contextmanager
def debug_toolbar(view: View) -> Iterator[View]:
    try:
        yield DebugToolbarMiddleware(view)
    finally:
        # The panel leaves its own cursor() on the connection for good.
        for name in ("_djdt_cursor", "cursor", "chunked_cursor"):
            connection.__dict__.pop(name, None)


@contextmanager
def silk(view: View) -> Iterator[View]:
    try:
        yield SilkyMiddleware(view)
    finally:
        SQLCompiler.execute_sql = SQLCompiler._execute_sql
        del SQLCompiler._execute_sql
        SilkRequest.objects.all().delete()


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def opentelemetry(*, sampled: bool) -> Peer:
    sampler: Sampler = ALWAYS_ON if sampled else ALWAYS_OFF
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=65_536))
    tracer = provider.get_tracer(__name__)

    @contextmanager
    def peer(view: View) -> Iterator[View]:
        def in_span(request: HttpRequest) -> HttpResponse:
            with tracer.start_as_current_span("request"):
                return view(request)

        plain: Any = connection.connection
        connection.connection = instrument_connection(
            __name__, plain, "sqlite", connect_module=plain, tracer_provider=provider
        )
        try:
            yield in_span
        finally:
            connection.connection = plain

    return peer
