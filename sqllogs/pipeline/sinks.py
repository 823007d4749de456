"""Where a resolved batch goes beside the ring: each sink takes every batch exactly once.

Fed by `sqllogs.pipeline.delivery` in the writer's thread, before the ring is written; a
batch that the ring does not take yet is not given to the sinks a second time.
"""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from sqllogs import guard
from sqllogs.record import Batch, WriterStatus


class Sink(Protocol):
    """One more place for records; all its calls come from one thread at a time."""

    def add(self, batch: Batch) -> None:
        """Use a batch; never wait long. What is raised is counted and logged, and ends here."""

    def close(self, timeout_s: float) -> None:
        """Hand over what is left, at the end of the process."""


@runtime_checkable
class StatusSink(Sink, Protocol):
    """A sink that wants to know how the writer is, also when there is no batch."""

    def set_status(self, status: WriterStatus) -> None:
        """Called after each attempt to write, whether or not there was anything."""


@runtime_checkable
class ExportingSink(Sink, Protocol):
    """A sink that sends records to somewhere else."""

    @property
    def exported(self) -> dict[str, int]:
        """What became of the records so far, by outcome."""


class Sinks:
    """All sinks of a process; a fault in one does not reach the others."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self._status_sinks = [sink for sink in self._sinks if isinstance(sink, StatusSink)]

    def exported(self) -> dict[str, int]:
        """Return what became of the records that were to be sent elsewhere, by outcome."""
        return {
            outcome: count
            for sink in self._sinks
            if isinstance(sink, ExportingSink)
            for outcome, count in sink.exported.items()
        }

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
