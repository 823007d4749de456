"""Send records as log records over OTLP/HTTP to any OpenTelemetry backend.

A sink: the writer's thread fills a queue, and a thread of the sink sends it with OpenTelemetry's exporter. A
process that ends before that thread was started sends in the caller's. Records wait while the backend is
unavailable, and the outcome of each is counted.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from queue import Empty
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from sqllogs import guard, threads
from sqllogs.conf import Conf, without_credentials
from sqllogs.context import untraced
from sqllogs.errors import SQLLogsError
from sqllogs.record import Batch, Record, Sample
from sqllogs.sql.normalize import ScannedStatement

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

    from sqllogs.otel.log_records import LogRecords

NO_ANSWER, NOT_SENT = 0, -1
"""Instead of an HTTP status: no answer; the request was never sent."""

LOGGERS = ("opentelemetry.exporter.otlp.proto.http._log_exporter", "urllib3.connectionpool")
"""Loggers that report each failed request, in our thread too; see `HTTPExporter._is_from_others`."""

THREAD = "sqllogs-otlp"
QUEUE_ROWS = 32_768
"""About 500 bytes each. A burst of 20,000 records fits, besides the batch being sent."""
BATCH_ROWS = 512
SQL_MAX_CHARACTERS = 4_096
"""The text is sent once, as the body: `db.query.text` would double what the backend stores."""
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0
SHUTDOWN_GRACE_S = 0.2
"""Time for the thread to end after the exporter was shut down at the end of the process."""

RETRYABLE = frozenset({NO_ANSWER, 408, 429, 502, 503, 504})
"""Statuses after which the batch is sent again."""

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


Queued = tuple[Record, ScannedStatement, str, int | None]
"""A record, its statement, the text to send, and the size of an executemany."""


class HTTPExporter:
    """OpenTelemetry's exporter, configured by the standard OTEL_EXPORTER_OTLP_* variables.

    It returns only success or failure. Whether a batch may be retried depends on the HTTP status, which is
    read from its session.
    """

    def __init__(self, endpoint: str, timeout_s: float | None = None) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        session = requests.Session()
        session.hooks["response"].append(self._keep_status)
        self._session_send = session.send
        session.send = self._send  # type: ignore[method-assign]
        self._status = NOT_SENT
        self._thread = 0
        self._exporter = OTLPLogExporter(endpoint=endpoint, session=session, timeout=timeout_s)
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._is_from_others)

    def export(self, batch: "list[ReadableLogRecord]") -> int:
        """Send a batch; return the HTTP status, NO_ANSWER or NOT_SENT."""
        self._thread = get_ident()
        self._status = NOT_SENT
        self._exporter.export(batch)
        return self._status

    def shutdown(self) -> None:
        """Make a request in progress end soon; called from another thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, *args: Any, **kwargs: Any) -> Any:
        self._status = NO_ANSWER
        # A redirected POST becomes a GET without a body, whose 200 stores nothing.
        return self._session_send(*args, **kwargs | {"allow_redirects": False})

    def _keep_status(self, response: Any, *args: Any, **kwargs: Any) -> None:
        self._status = response.status_code

    def _is_from_others(self, record: logging.LogRecord) -> bool:
        """Drop log lines about our requests: in an outage, four every ten seconds with the whole URL."""
        return record.thread != self._thread


class LogExporter(Protocol):
    """Sends a batch and returns the HTTP status, NO_ANSWER or NOT_SENT."""

    def export(self, batch: "list[ReadableLogRecord]") -> int: ...
    def shutdown(self) -> None: ...


class RefusedError(SQLLogsError):
    """Raised when the backend refuses records or is unavailable."""


class OTLPSink:
    """A queue that the writer's thread fills and the sink's thread sends.

    Replaces the SDK's batch processor, which drops the oldest records uncounted when its queue is full, and
    gives up on a batch after ten seconds.
    """

    def __init__(self, conf: Conf, make_exporter: Callable[[str, float | None], LogExporter]) -> None:
        self._conf = conf
        self._sample = Sample(conf.otlp_share, conf.slow_ms)
        self._make_exporter = make_exporter
        self._lock = threads.RLock()
        """Held while a batch leaves the queue and gets its outcome, and while both are counted."""
        self._queue: deque[Queued] = deque()
        """Includes the batch that is being sent."""
        self._wake: threads.SimpleQueue[None] = threads.SimpleQueue()
        self._closing = False
        self._exporter: LogExporter | None = None
        self._records: LogRecords | None = None
        self._thread: threads.RunningThread | None = None
        self._outcomes = dict.fromkeys(("sent", "left_out", "queue_full", "refused", "unsent"), 0)

    @property
    def exported(self) -> dict[str, int]:
        """Return the number of records by outcome; all but `sent`, `left_out` and `queued` are losses."""
        with self._lock:
            counts = self._outcomes | {"queued": len(self._queue)}
        return {name: count for name, count in counts.items() if count}

    def start(self) -> None:
        """Start the thread; called with the writer's start, because none can be started at exit."""
        if self._thread is None or not self._thread.is_alive():
            with suppress(RuntimeError):  # `close` sends in its own thread then
                self._thread = threads.start(self._run, THREAD)

    def add(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records):
            if not self._sample.keeps(record):
                self._outcomes["left_out"] += 1
            elif len(self._queue) >= QUEUE_ROWS:
                self._outcomes["queue_full"] += 1
            else:
                statement = record.form.statement
                size = batch.batch_sizes.get(number)
                self._queue.append((record, statement, statement.sql[:SQL_MAX_CHARACTERS], size))
        if self._queue:
            self.start()
        if self._queue and self._wake.empty():
            self._wake.put(None)

    def flush(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        while "queued" in self.exported:
            if time.monotonic() >= until_s:
                return False
            time.sleep(threads.POLL_S)
        return True

    def close(self, timeout_s: float) -> None:
        self._closing = True
        self._wake.put(None)
        # A thread that has ended was ended by an earlier `close`. What came since is sent here too, but not
        # if that `close` has waited for the backend in vain.
        if self._thread is None or not (self._thread.is_alive() or self._outcomes["unsent"]):
            self._send_in_this_thread(timeout_s)
        else:
            self._thread.join(timeout_s)
            if self._thread.is_alive() and self._exporter is not None:
                self._exporter.shutdown()
                self._thread.join(SHUTDOWN_GRACE_S)
        self._settle(len(self._queue), "unsent")

    def _send_in_this_thread(self, timeout_s: float) -> None:
        """Send the queue of a process whose thread has ended or could not be started."""
        if self._queue and timeout_s > 0:
            with suppress(Exception):  # `_export` tries again and reports it
                self._exporter = self._make_exporter(self._conf.otlp, timeout_s)
            self._run(until_s=time.monotonic() + timeout_s)

    def _run(self, until_s: float = float("inf")) -> None:
        backoff_s = 0.0
        with untraced():  # its requests belong to no trace, and its own log lines are not sent in turn
            self._prepare()
            while (self._queue or not self._closing) and time.monotonic() < until_s:
                if not self._queue:
                    self._wake.get()
                elif self._send_batch():
                    backoff_s = 0.0
                elif self._closing:
                    return
                else:
                    backoff_s = min(max(2 * backoff_s, BACKOFF_MIN_S), BACKOFF_MAX_S)
                    self._pause(backoff_s)

    def _prepare(self) -> None:
        """Create the exporter before the first batch; a short command might end while it is created later."""
        try:
            if self._exporter is None:
                self._exporter = self._make_exporter(self._conf.otlp, None)
        except Exception as exc:
            self._report(type(exc).__name__)  # the message may contain the URL with its password

    def _pause(self, duration_s: float) -> None:
        """Wait, even if new records arrive, but not beyond the end of the process."""
        # Jitter, so that many processes do not retry at the same moment.
        until_s = time.monotonic() + duration_s * random.uniform(0.75, 1.0)  # noqa: S311
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            with suppress(Empty):
                self._wake.get(timeout=left_s)

    def _send_batch(self) -> bool:
        """Send the oldest records; return False if they have to be sent again."""
        rows = min(BATCH_ROWS, len(self._queue))
        # By index, because another thread adds to the queue, which breaks an iterator.
        batch = self._log_records([self._queue[number] for number in range(rows)])
        status = self._export(batch) if batch else 200
        if status in RETRYABLE:
            return False
        is_sent = 200 <= status < 300
        self._settle(len(batch), "sent" if is_sent else "refused")
        self._settle(rows - len(batch), "refused")
        return True

    def _log_records(self, queued: "list[Queued]") -> "list[ReadableLogRecord]":
        from sqllogs.otel.log_records import LogRecords

        # Created late, when the application has set up the provider whose resource is used.
        self._records = self._records or LogRecords(
            release=self._conf.release, slow_ms=self._conf.slow_ms, service=self._conf.service
        )
        made = []
        for one in queued:
            try:
                made.append(self._records.from_record(*one))
            except Exception as exc:
                guard.fault("otlp record", exc)
        return made

    def _export(self, batch: "list[ReadableLogRecord]") -> int:
        try:
            if self._exporter is None:
                self._exporter = self._make_exporter(self._conf.otlp, None)
            status = int(self._exporter.export(batch))
        except Exception as exc:
            self._report(type(exc).__name__)
            return NOT_SENT
        if not 200 <= status < 300:
            self._report({NO_ANSWER: "no answer", NOT_SENT: "could not be sent"}.get(status, str(status)))
        return status

    def _settle(self, rows: int, outcome: str) -> None:
        """Count the outcome of the oldest records and remove them."""
        with self._lock:
            for _ in range(min(rows, len(self._queue))):  # fewer if `close` has counted them as unsent
                self._queue.popleft()
                self._outcomes[outcome] += 1

    def _report(self, answer: str) -> None:
        guard.fault("otlp", RefusedError(f"OTLP endpoint {without_credentials(self._conf.otlp)}: {answer}"))


def make(conf: Conf) -> OTLPSink | None:
    """Return the sink if OTLP is set; a system check reports missing packages."""
    if not conf.otlp or missing():
        return None
    # Imported now, in the main thread: the SDK submits to an executor, which raises at the end of a process.
    import sqllogs.otel.log_records  # noqa: F401

    return OTLPSink(conf, HTTPExporter)


def missing() -> list[str]:
    """Return the required packages that are not installed."""
    return [name for name in PACKAGES if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
