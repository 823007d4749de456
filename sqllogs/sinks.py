"""Where a resolved batch goes beside the ring: each sink takes every batch exactly once.

Fed by `sqllogs.delivery` in the writer's thread, before the ring is written; a
batch that the ring does not take yet is not given to the sinks a second time.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from sqllogs import guard, otlp, query_spans, slow_log
from sqllogs.conf import Conf
from sqllogs.metrics.sink import make as make_metrics
from sqllogs.pulse import Pulse
from sqllogs.resolver import Batch


class Sink(Protocol):
    """One more place for records; all its calls come from one thread at a time."""

    def take(self, batch: Batch) -> None:
        """Use a batch; never wait long. What is raised is counted and logged, and ends here."""

    def close(self, timeout_s: float) -> None:
        """Hand over what is left, at the end of the process."""


@runtime_checkable
class PulseSink(Sink, Protocol):
    """A sink that wants to know how the writer is, also when there is no batch."""

    def pulse(self, pulse: Pulse) -> None:
        """Called after each attempt to write, whether or not there was anything."""


@runtime_checkable
class ExportingSink(Sink, Protocol):
    """A sink that sends records to somewhere else."""

    @property
    def exported(self) -> dict[str, int]:
        """What became of the records so far, by outcome."""


MakeSink = Callable[[Conf], Sink | None]

SINKS: tuple[MakeSink, ...] = (slow_log.make, make_metrics, query_spans.make, otlp.make)
"""Each returns its sink, or None where the settings do not ask for it."""


class Sinks:
    """All sinks that the settings ask for."""

    def __init__(self, conf: Conf, makers: tuple[MakeSink, ...] = SINKS) -> None:
        made = (make(conf) for make in makers)
        self._sinks = [sink for sink in made if sink is not None]
        self._pulsed = [sink for sink in self._sinks if isinstance(sink, PulseSink)]

    def exported(self) -> dict[str, int]:
        """Return what became of the records that were to be sent elsewhere, by outcome."""
        return {
            outcome: count
            for sink in self._sinks
            if isinstance(sink, ExportingSink)
            for outcome, count in sink.exported.items()
        }

    def take(self, batch: Batch) -> None:
        for sink in self._sinks:
            try:
                sink.take(batch)
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)

    def pulse(self, pulse: Pulse) -> None:
        for sink in self._pulsed:
            try:
                sink.pulse(pulse)
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)

    def close(self, timeout_s: float) -> None:
        for sink in self._sinks:
            try:
                sink.close(timeout_s)
            except Exception as exc:
                guard.fault(type(sink).__name__, exc)
