"""The application of `benchmarks.project`, as gunicorn loads it in each worker, and one for uvicorn."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application


def instrument() -> None:
    """Make a span of each request and each query, and send them nowhere."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    for instrumentor in (DjangoInstrumentor(), PsycopgInstrumentor(), SQLite3Instrumentor()):
        instrumentor.instrument()


if settings.WATCHED_BY == "OpenTelemetry dbapi":
    instrument()
application = get_wsgi_application()


def asgi() -> Any:
    """Return the ASGI application; its wrapper stores what is left at the end."""
    from django.core.asgi import get_asgi_application

    from sqllogs.asgi import flush_at_shutdown

    return flush_at_shutdown(get_asgi_application())
