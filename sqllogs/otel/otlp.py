"""Send records as log records over OTLP/HTTP to any OpenTelemetry backend.

A sink: the writer's thread fills a queue, the sink's own thread sends it with OpenTelemetry's
exporter. Records wait while the backend is unavailable; every record has a counted outcome.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.errors import SQLLogsError
from sqllogs.otel.tracing import untraced
from sqllogs.record import Batch, Record, Sample
from sqllogs.sql.normalize import ScannedStatement

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

THREAD = "sqllogs-otlp"
EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http._log_exporter"
NO_ANSWER, NOT_SENT = 0, -1
"""Instead of an HTTP status: no answer; the request was never sent."""


class LogExporter(Protocol):
    """Sends a batch and returns the HTTP status, NO_ANSWER or NOT_SENT."""

    def export(self, batch: "list[ReadableLogRecord]") -> int: ...
    def shutdown(self) -> None: ...


class HTTPExporter:
    """OpenTelemetry's own exporter, configured by the standard OTEL_EXPORTER_OTLP_* variables.

    It returns only success or failure; whether a batch may be retried depends on the HTTP status,
    which is taken from its session.
    """

    def __init__(self, endpoint: str) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        session = requests.Session()
        session.hooks["response"].append(self._keep_status)
        self._sent = session.send
        session.send = self._send  # type: ignore[method-assign]
        self._status = NOT_SENT
        self._exporter = OTLPLogExporter(endpoint=endpoint, session=session)
        logging.getLogger(EXPORTER_LOGGER).addFilter(_is_from_other_thread)

    def export(self, batch: "list[ReadableLogRecord]") -> int:
        self._status = NOT_SENT
        self._exporter.export(batch)
        return self._status

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, *args: Any, **kwargs: Any) -> Any:
        self._status = NO_ANSWER
        return self._sent(*args, **kwargs)

    def _keep_status(self, response: Any, *args: Any, **kwargs: Any) -> None:
        self._status = response.status_code


def _is_from_other_thread(record: logging.LogRecord) -> bool:
    """Filter the exporter's lines of our thread, four every ten seconds of an outage: `guard` logs one."""
    return record.threadName != THREAD


QUEUE_ROWS = 32_768
"""Of about 500 bytes each: a burst of 20,000 fits besides the batch being sent."""
BATCH_ROWS = 512
SQL_MAX_CHARACTERS = 4_096
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0
SHUTDOWN_GRACE_S = 0.5
"""Time for the thread to end after the exporter was shut down at the end of the process."""

RETRYABLE = frozenset({NO_ANSWER, 408, 429, 502, 503, 504})
"""The batch is sent again after these."""

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class RefusedError(SQLLogsError):
    """The backend refuses records or is unavailable."""


class OTLPSink:
    """Filled by the writer's thread; a thread of its own sends."""

    def __init__(self, conf: Conf, make_exporter: Callable[[str], LogExporter]) -> None:
        self._conf = conf
        self._sample = Sample(conf.otlp_share, conf.slow_ms)
        self._make_exporter = make_exporter
        self._queue: deque[tuple[Record, ScannedStatement, str]] = deque()
        self._batch: list[tuple[Record, ScannedStatement, str]] = []
        self._wake = Event()
        self._closing = False
        self._exporter: LogExporter | None = None
        self._thread: Thread | None = None
        self._sent = self._left_out = self._queue_full = self._refused = self._unsent = 0

    @property
    def exported(self) -> dict[str, int]:
        """Return the number of records by outcome; all but `sent`, `left_out` and `queued` are losses."""
        counts = {
            "sent": self._sent,
            "left_out": self._left_out,
            "queued": len(self._queue) + len(self._batch),
            "queue_full": self._queue_full,
            "refused": self._refused,
            "unsent": self._unsent,
        }
        return {name: count for name, count in counts.items() if count}

    def add(self, batch: Batch) -> None:
        for record in batch.records:
            if not self._sample.keeps(record):
                self._left_out += 1
            elif len(self._queue) >= QUEUE_ROWS:
                self._queue_full += 1
            else:
                statement = batch.statements[record.fingerprint]
                self._queue.append((record, statement, statement.sql[:SQL_MAX_CHARACTERS]))
        if self._queue and self._thread is None:
            self._thread = Thread(target=self._run, name=THREAD, daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self, timeout_s: float) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._exporter is not None:
            self._exporter.shutdown()
            self._thread.join(SHUTDOWN_GRACE_S)
        self._unsent += len(self._queue) + len(self._batch)
        self._queue.clear()
        self._batch = []

    def _run(self) -> None:
        with untraced():  # its requests belong to no trace, and its own log lines are not sent in turn
            backoff_s = 0.0
            while self._batch or self._queue or not self._closing:
                self._batch = self._batch or self._next()
                if not self._batch:
                    self._wake.wait()
                    self._wake.clear()
                    continue
                try:
                    is_done = self._send()
                except Exception as exc:
                    guard.fault("otlp", exc)
                    self._refused += len(self._batch)
                    is_done = True
                if is_done:
                    self._batch = []
                    backoff_s = 0.0
                elif self._closing:
                    return
                else:
                    backoff_s = min(max(2 * backoff_s, BACKOFF_MIN_S), BACKOFF_MAX_S)
                    self._pause(backoff_s)

    def _next(self) -> list[tuple[Record, ScannedStatement, str]]:
        return [self._queue.popleft() for _ in range(min(BATCH_ROWS, len(self._queue)))]

    def _pause(self, duration_s: float) -> None:
        """Wait, also if new records come, but not beyond the end of the process."""
        # Jitter, so that many processes do not retry at the same moment.
        until_s = time.monotonic() + duration_s * random.uniform(0.75, 1.0)  # noqa: S311
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            self._wake.wait(left_s)
            self._wake.clear()

    def _send(self) -> bool:
        """Send the batch; return False if it has to be sent again."""
        if self._exporter is None:
            from sqllogs.otel.log_records import LogRecords

            self._records = LogRecords(release=self._conf.release, slow_ms=self._conf.slow_ms)
            self._exporter = self._make_exporter(self._conf.otlp)
        status = self._exporter.export([self._records.from_record(*one) for one in self._batch])
        if 200 <= status < 400:
            self._sent += len(self._batch)
            return True
        guard.fault("otlp", RefusedError(f"{self._conf.otlp} answered {status or 'nothing'}"))
        if status in RETRYABLE:
            return False
        self._refused += len(self._batch)
        return True


def make(conf: Conf) -> OTLPSink | None:
    """Return the sink if OTLP is set; a system check reports missing packages."""
    return OTLPSink(conf, HTTPExporter) if conf.otlp and not missing() else None


def missing() -> list[str]:
    """Return the required packages that are not installed."""
    return [name for name in PACKAGES if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
