"""Pass each resolved batch to the sinks: slow-query log, metrics, spans and OTLP.

Called by `sqllogs.pipeline.delivery` in the writer's thread, before the batch is written to the ring. A batch
that has to be written again is not passed to the sinks again.
"""

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, runtime_checkable

from sqllogs import guard
from sqllogs.record import Batch, WriterStatus


class Sink(Protocol):
    """A destination of records besides the ring; called by one thread at a time."""

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
class CountingSink(Sink, Protocol):
    """A sink that does not need records."""

    def count(self, batch: Batch) -> None:
        """Process queries that the buffer had no room for, one by one or as `groups`."""


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


SinkT = TypeVar("SinkT", bound=Sink)


class Sinks:
    """All sinks of a process; an exception in one does not affect the others."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        # Sorted out once, because isinstance() of a protocol takes microseconds.
        self._sinks = list(sinks)
        self._status_sinks = [sink for sink in self._sinks if isinstance(sink, StatusSink)]
        self._counting_sinks = [sink for sink in self._sinks if isinstance(sink, CountingSink)]
        self._exporting_sinks = [sink for sink in self._sinks if isinstance(sink, ExportingSink)]

    def start(self) -> None:
        _each(self._exporting_sinks, lambda sink: sink.start())

    def flush(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        # All sinks send at the same time, so waiting for one after the other takes no longer.
        return all(sink.flush(max(0.0, until_s - time.monotonic())) for sink in self._exporting_sinks)

    def exported(self) -> dict[str, int]:
        """Return the number of records by outcome, of all sinks that send them to another system."""
        return {outcome: count for sink in self._exporting_sinks for outcome, count in sink.exported.items()}

    def add(self, batch: Batch) -> None:
        _each(self._sinks, lambda sink: sink.add(batch))

    def count(self, batch: Batch) -> None:
        _each(self._counting_sinks, lambda sink: sink.count(batch))

    def set_status(self, status: WriterStatus) -> None:
        _each(self._status_sinks, lambda sink: sink.set_status(status))

    def close(self, timeout_s: float) -> None:
        _each(self._sinks, lambda sink: sink.close(timeout_s))


def _each(sinks: Iterable[SinkT], call: Callable[[SinkT], None]) -> None:
    """Call one method of each sink, also after one that has raised."""
    for sink in sinks:
        try:
            call(sink)
        except (Exception, SystemExit) as exc:  # the slow log calls the site's log handlers
            if guard.is_interruption(exc):
                raise
            guard.fault(type(sink).__name__, exc)
