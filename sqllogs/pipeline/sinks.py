"""Pass each resolved batch to the sinks: slow-query log, metrics, spans and OTLP.

Called by `sqllogs.pipeline.delivery` in the writer's thread before the ring is written. A batch
that the ring has to retry is not passed to the sinks again.
"""

import time
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from sqllogs import guard
from sqllogs.record import Batch, WriterStatus


class Sink(Protocol):
    """One destination of records beside the ring; called by one thread at a time."""

    def add(self, batch: Batch) -> None:
        """Process a batch without waiting; an exception is counted, logged and not passed on."""

    def close(self, timeout_s: float) -> None:
        """Send what is queued, at the end of the process."""


@runtime_checkable
class StatusSink(Sink, Protocol):
    """A sink that reports the writer's status."""

    def set_status(self, status: WriterStatus) -> None:
        """Called after each round of the writer, also when there was nothing to write."""


@runtime_checkable
class ExportingSink(Sink, Protocol):
    """A sink that sends records to another system."""

    @property
    def exported(self) -> dict[str, int]:
        """Number of records by outcome."""

    def start(self) -> None:
        """Import and start what is needed to send; called before there is a record."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is sent; return False if time was not enough. In any thread."""


class Sinks:
    """All sinks of a process; an exception in one does not affect the others."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self._status_sinks = [sink for sink in self._sinks if isinstance(sink, StatusSink)]
        self._exporting_sinks = [sink for sink in self._sinks if isinstance(sink, ExportingSink)]

    def start(self) -> None:
        for sink in self._exporting_sinks:
            try:
                sink.start()
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)

    def flush(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        return all(sink.flush(max(0.0, until_s - time.monotonic())) for sink in self._exporting_sinks)

    def exported(self) -> dict[str, int]:
        """Return the number of records by outcome, of all sinks that send them to another system."""
        return {outcome: count for sink in self._exporting_sinks for outcome, count in sink.exported.items()}

    def add(self, batch: Batch) -> None:
        for sink in self._sinks:
            try:
                sink.add(batch)
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)

    def set_status(self, status: WriterStatus) -> None:
        for sink in self._status_sinks:
            try:
                sink.set_status(status)
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)

    def close(self, timeout_s: float) -> None:
        for sink in self._sinks:
            try:
                sink.close(timeout_s)
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)
