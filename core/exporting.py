"""Set up OpenTelemetry's providers, exporters and instrumentation, for `core.telemetry`.

The application's threads queue spans and log records; one thread of the SDK per signal sends them. The SDK
handles forks.
"""

import atexit
import logging
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from opentelemetry import _logs, context, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from sqllogs import recorder
from sqllogs.log_lines import extras, trace_of

logger = logging.getLogger(__name__)

Signal = Literal["traces", "logs"]

SERVICE = "somesite"
"""Used if neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES sets a name."""
EXIT_TIMEOUT_S = 3.0
"""How long a process tries at its end, at most, to send the rest of one signal."""
SPANS_MAX = 65_536
"""Size of the queue. With QUERY_SPANS, one flush of the SQL log can fill the SDK's default of 2,048."""

EXCLUDED_URLS = "/sql-logs/,/metrics$,/healthz$"
DRIVERS = "psycopg,sqlite3"
"""Disabled by default: 31 to 56 us per query, for what the SQL log records anyway."""
INSTRUMENTORS = {
    "django": "opentelemetry.instrumentation.django.DjangoInstrumentor",
    "requests": "opentelemetry.instrumentation.requests.RequestsInstrumentor",
    "psycopg": "opentelemetry.instrumentation.psycopg.PsycopgInstrumentor",
    "sqlite3": "opentelemetry.instrumentation.sqlite3.SQLite3Instrumentor",
    "celery": "opentelemetry.instrumentation.celery.CeleryInstrumentor",
}
"""By the name in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, which is also the instrumented module."""


class Exporter(Protocol):
    """The common interface of exporters of spans and log records."""

    def export(self, batch: Sequence[Any], /) -> Any: ...
    def shutdown(self) -> None: ...


class ExitTimeoutExporter:
    """An exporter with the timeout of OTEL_EXPORTER_OTLP_TIMEOUT, but EXIT_TIMEOUT_S at exit.

    Two exporters of the SDK, because each has one timeout for its whole life.
    """

    def __init__(self, make: Callable[..., Exporter]) -> None:
        self._make = make
        self._connect()
        # A child would share the open connection of its parent, and read its responses.
        os.register_at_fork(after_in_child=self._connect)

    def _connect(self) -> None:
        self._exporter, self._exit_exporter = self._make(), self._make(timeout=EXIT_TIMEOUT_S)
        self._is_exiting = False
        self._failure: Any = None
        """The result of the first batch that failed at exit; no other is sent then."""

    def begin_exit(self) -> None:
        """Cancel the current attempt, and give each further batch one short attempt."""
        self._is_exiting = True
        self._exporter.shutdown()

    def export(self, batch: Sequence[Any], /) -> Any:
        if not self._is_exiting:
            return self._exporter.export(batch)
        if self._failure is None:
            result = self._exit_exporter.export(batch)
            if result.name == "SUCCESS":
                return result
            self._failure = result
        return self._failure

    def shutdown(self) -> None:
        self._exit_exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class LogHandler(LoggingHandler):
    """Send log records over OTLP; named in LOGGING, so that it is set up before anything logs.

    Records of OpenTelemetry, and of anything while exporting, are left out: they would loop forever.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("opentelemetry") or not is_instrumentation_enabled():
            return
        found = trace_of(record)
        ids = SpanContext(found.trace_id, found.span_id, False, TraceFlags(found.sampled))
        token = context.attach(trace.set_span_in_context(NonRecordingSpan(ids)))
        try:
            super().emit(_plain(record))
        finally:
            context.detach(token)

    def flush(self) -> None:
        """Do nothing: logging calls this at exit, when the base class can no longer start its thread."""


def _plain(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy without values that cannot be sent, such as requests: the SDK would warn of each."""
    plain = logging.makeLogRecord({name: value for name, value in vars(record).items() if name in _STANDARD})
    vars(plain).update(extras(record))
    return plain


_STANDARD = frozenset(vars(logging.makeLogRecord({})))

_providers: list[Any] = []
_exporters: list[ExitTimeoutExporter] = []


def install(signals: Sequence[Signal]) -> None:
    """Set up the providers and, for traces, the instrumentation; close them at exit."""
    if _providers:
        return
    _warn_of_other_protocols()
    resource = _resource()
    if "traces" in signals:
        trace.set_tracer_provider(_tracer_provider(resource))
        _instrument()
    if "logs" in signals:
        _logs.set_logger_provider(_logger_provider(resource))
    atexit.register(shutdown)
    _shut_down_with_celery()


def shutdown() -> None:
    """Send the rest, for a few seconds at most; a second call does nothing."""
    while _exporters:
        _exporters.pop().begin_exit()
    while _providers:
        _providers.pop().shutdown()


def _resource() -> Resource:
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: SERVICE}))
    return resource


def _tracer_provider(resource: Resource) -> TracerProvider:
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    size = None if "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ else SPANS_MAX
    provider.add_span_processor(BatchSpanProcessor(_exporter(OTLPSpanExporter), max_queue_size=size))
    _providers.append(provider)
    return provider


def _logger_provider(resource: Resource) -> LoggerProvider:
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(_exporter(OTLPLogExporter)))
    _providers.append(provider)
    return provider


def _exporter(make: Callable[..., Exporter]) -> Any:
    exporter = ExitTimeoutExporter(make)
    _exporters.append(exporter)
    return exporter


def _instrument() -> None:
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", DRIVERS).replace(" ", "").split(",")
    excluded = os.environ.get("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", EXCLUDED_URLS)
    options = {"django": {"excluded_urls": excluded}}
    for name, path in INSTRUMENTORS.items():
        if name not in disabled and find_spec(name) is not None:
            module, _, instrumentor = path.rpartition(".")
            getattr(import_module(module), instrumentor)().instrument(**options.get(name, {}))


def _shut_down_with_celery() -> None:
    """Send the rest when a child of a Celery worker ends, which does not run atexit."""
    if find_spec("celery") is not None:
        from celery.signals import worker_process_shutdown

        worker_process_shutdown.connect(_shut_down_child, weak=False)


def _shut_down_child(**kwargs: Any) -> None:
    recorder.flush()  # its records may become spans and log records
    shutdown()


def _warn_of_other_protocols() -> None:
    for part in ("", "TRACES_", "LOGS_"):
        name = f"OTEL_EXPORTER_OTLP_{part}PROTOCOL"
        if os.environ.get(name) not in {None, "", "http/protobuf"}:
            logger.warning("%s=%s is not installed; using http/protobuf.", name, os.environ[name])
