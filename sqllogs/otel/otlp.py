"""Ship records to any OpenTelemetry backend, as log records over OTLP.

A sink: the writer's thread puts records into a queue, a thread of its own sends
them. While the backend is away they wait; what is lost is counted by reason.

Send log records over HTTP by OpenTelemetry's own exporter, and tell how it went.

Used by `sqllogs.otel.otlp` in its own thread. The exporter returns success or failure;
whether a batch may be tried again is known by the status, which its session notes.
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
from sqllogs.context import untraced
from sqllogs.errors import SQLLogsError
from sqllogs.record import Batch, Record, Sample
from sqllogs.sql.normalize import ScannedStatement

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

THREAD = "sqllogs-otlp"
EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http._log_exporter"
NO_ANSWER, NOT_ASKED = 0, -1
"""In place of a status: nobody answered; the batch could not even be encoded."""


class LogExporter(Protocol):
    """Sends a batch, and says with what status of HTTP it ended, or NO_ANSWER, or NOT_ASKED."""

    def export(self, batch: "list[ReadableLogRecord]") -> int: ...
    def shutdown(self) -> None: ...


class HTTPExporter:
    """OpenTelemetry's own exporter, with the standard's variables for headers, certificates and time."""

    def __init__(self, endpoint: str) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        session = requests.Session()
        session.hooks["response"].append(self._note)
        self._sent = session.send
        session.send = self._send  # type: ignore[method-assign]
        self._status = NOT_ASKED
        self._exporter = OTLPLogExporter(endpoint=endpoint, session=session)
        logging.getLogger(EXPORTER_LOGGER).addFilter(_is_of_others)

    def export(self, batch: "list[ReadableLogRecord]") -> int:
        self._status = NOT_ASKED
        self._exporter.export(batch)
        return self._status

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, *args: Any, **kwargs: Any) -> Any:
        self._status = NO_ANSWER
        return self._sent(*args, **kwargs)

    def _note(self, response: Any, *args: Any, **kwargs: Any) -> None:
        self._status = response.status_code


def _is_of_others(record: logging.LogRecord) -> bool:
    """Keep our exporter's lines, four each ten seconds of an outage, out of the host's log: `guard` tells."""
    return record.threadName != THREAD


QUEUE_ROWS = 32_768
"""Records that wait, of about 500 bytes each: a burst of 20,000 fits beside what is on its way."""
BATCH_ROWS = 512
SQL_MAX_CHARACTERS = 4_096
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 30.0
SHUTDOWN_GRACE_S = 0.5
"""What the thread has for ending, when the time at the process's end is over."""

PASSING = frozenset({NO_ANSWER, 408, 429, 502, 503, 504})
"""After these the same batch may be taken; what could not even be encoded never will."""

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class RefusedError(SQLLogsError):
    """The backend does not take records, or is away."""


class OTLPSink:
    """Its queue is filled by one thread, the writer's, and emptied by its own."""

    def __init__(self, conf: Conf, make_exporter: Callable[[str], LogExporter]) -> None:
        self._conf = conf
        self._sample = Sample(conf.otlp_share, conf.slow_ms)
        self._make_exporter = make_exporter
        self._queue: deque[tuple[Record, ScannedStatement, str]] = deque()
        self._held: list[tuple[Record, ScannedStatement, str]] = []
        self._wake = Event()
        self._closing = False
        self._exporter: LogExporter | None = None
        self._thread: Thread | None = None
        self._sent = self._left_out = self._queue_full = self._refused = self._unsent = 0

    @property
    def exported(self) -> dict[str, int]:
        """Return what became of the records so far; all but `sent`, `left_out` and `queued` are losses."""
        counts = {
            "sent": self._sent,
            "left_out": self._left_out,
            "queued": len(self._queue) + len(self._held),
            "queue_full": self._queue_full,
            "refused": self._refused,
            "unsent": self._unsent,
        }
        return {name: count for name, count in counts.items() if count}

    def add(self, batch: Batch) -> None:
        for record in batch.records:
            if not self._sample.has(record):
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
        self._unsent += len(self._queue) + len(self._held)
        self._queue.clear()
        self._held = []

    def _run(self) -> None:
        with untraced():  # its requests are nobody's, and what is logged on the way is not sent in turn
            backoff_s = 0.0
            while self._held or self._queue or not self._closing:
                self._held = self._held or self._next()
                if not self._held:
                    self._wake.wait()
                    self._wake.clear()
                    continue
                try:
                    is_over = self._send()
                except Exception as exc:
                    guard.fault("otlp", exc)
                    self._refused += len(self._held)
                    is_over = True
                if is_over:
                    self._held = []
                    backoff_s = 0.0
                elif self._closing:
                    return
                else:
                    backoff_s = min(max(2 * backoff_s, BACKOFF_MIN_S), BACKOFF_MAX_S)
                    self._pause(backoff_s)

    def _next(self) -> list[tuple[Record, ScannedStatement, str]]:
        return [self._queue.popleft() for _ in range(min(BATCH_ROWS, len(self._queue)))]

    def _pause(self, duration_s: float) -> None:
        """Wait, though new records come, but not beyond the process's end."""
        # Spread, so that many processes do not come back in the same moment.
        until_s = time.monotonic() + duration_s * random.uniform(0.75, 1.0)  # noqa: S311
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            self._wake.wait(left_s)
            self._wake.clear()

    def _send(self) -> bool:
        """Send what is held; return whether it is done with, sent or refused for good."""
        if self._exporter is None:
            from sqllogs.otel.log_records import LogRecords

            self._records = LogRecords(
                release=self._conf.release, slow_ms=self._conf.slow_ms, service=self._conf.service
            )
            self._exporter = self._make_exporter(self._conf.otlp)
        status = self._exporter.export([self._records.from_record(*one) for one in self._held])
        if 200 <= status < 400:
            self._sent += len(self._held)
            return True
        guard.fault("otlp", RefusedError(f"{self._conf.otlp} answers with {status}, 0 is not at all"))
        if status in PASSING:
            return False
        self._refused += len(self._held)
        return True


def make(conf: Conf) -> OTLPSink | None:
    """Return the sink where an address is set; what is missing for it is told by a system check."""
    return OTLPSink(conf, HTTPExporter) if conf.otlp and not missing() else None


def missing() -> list[str]:
    """Return the packages that it needs and that are not installed."""
    return [name for name in PACKAGES if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
