"""Put capture, buffer, writer and ring together, once per process.

`install` runs when Django is ready; `close` at the process's end; after a fork
the child starts with a buffer, a writer and figures of its own.
"""

import atexit
import logging
import multiprocessing.util
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.signals import connection_created

from sqllogs import conf, context
from sqllogs.capture import wrapper
from sqllogs.capture.connection import Overrides
from sqllogs.context import finished
from sqllogs.metrics import exporter, instruments
from sqllogs.pipeline.buffer import Buffer
from sqllogs.record import UNIT, Captured, Sample

if TYPE_CHECKING:
    from sqllogs.pipeline.sinks import Sink

EXIT_TIMEOUT_S = 3.0
"""How long the end of a process waits, at most, for a store that does not answer."""

logger = logging.getLogger(__name__)


class Recorder:
    """The way of a query in one process."""

    def __init__(self, settings: conf.Conf) -> None:
        self._settings = settings
        self._inherited: list[Any] = []
        self.metrics_port = settings.metrics_port
        self.wrapper = wrapper.execute_wrapper(
            self._put, call_site=settings.call_site, application=settings.application
        )
        self.overrides = Overrides(self.wrapper) if settings.capture_fetch else None
        self._begin()

    def _begin(self) -> None:
        # Imported late: models can be only when the apps are loaded.
        from sqllogs.pipeline.delivery import Delivery
        from sqllogs.pipeline.resolver import Resolver
        from sqllogs.pipeline.sinks import Sinks
        from sqllogs.pipeline.writer import Writer
        from sqllogs.storage.ring import Ring

        settings = self._settings
        self.buffer = Buffer(rows_max=settings.buffer_rows, bytes_max=settings.buffer_bytes)
        self.ring = Ring(settings)
        self.delivery = Delivery(
            self.buffer,
            self.ring,
            lambda: Resolver(settings),
            Sinks(make_sinks(settings)),
            sample=Sample(settings.sample, settings.slow_ms),
        )
        self.writer = Writer(
            self.buffer, self.ring, self.delivery, flush_interval_s=settings.flush_interval_s
        )

    def _put(self, captured: Captured) -> None:
        self.buffer.put(captured)
        if not self.writer.started:
            self.writer.start()
        unit = captured[UNIT]
        if unit is not None and unit.counts is not None:
            unit.counts.add(captured)

    def wake(self) -> None:
        """Start the writer though there is no record: there is something to tell the metrics' sink."""
        if not self.writer.started:
            self.writer.start()

    def before_fork(self) -> None:
        self.writer.pause()

    def after_fork_in_parent(self) -> None:
        self.writer.resume()

    def reset_after_fork(self) -> None:
        """Leave the parent's records to the parent, after a fork."""
        # Never freed: where `pause` came in vain it has a connection still, whose end would be the parent's.
        self._inherited.append(self.ring)
        finished.clear()
        self._begin()

    def on_connection_created(self, connection: Any, **kwargs: Any) -> None:
        """Install wrapper and overrides; a reconnect and a borrow from a pool come here again."""
        if connection.alias != self._settings.database or connection.alias == DEFAULT_DB_ALIAS:
            wrapper.install(self.wrapper, connection)
            if self.overrides is not None:
                self.overrides.install(connection)

    def install(self) -> None:
        connection_created.connect(self.on_connection_created, dispatch_uid="sqllogs")
        for connection in connections.all(initialized_only=True):
            self.on_connection_created(connection)

    def uninstall(self) -> None:
        """Stop capturing on this thread's connections and on new ones."""
        connection_created.disconnect(dispatch_uid="sqllogs")
        for connection in connections.all(initialized_only=True):
            wrapper.uninstall(self.wrapper, connection)
            if self.overrides is not None:
                self.overrides.uninstall(connection)


def make_sinks(settings: conf.Conf) -> Iterator["Sink"]:
    """Yield the sinks that the settings ask for, in the order in which each gets a batch."""
    from sqllogs.metrics import sink as metrics
    from sqllogs.otel import otlp, spans
    from sqllogs.pipeline import slow_log

    for make in (slow_log.make, metrics.make, spans.make, otlp.make):
        sink = make(settings)
        if sink is not None:
            yield sink


recorder: Recorder | None = None
"""The one of this process; None while capturing is off."""


def install() -> bool:
    """Start capturing unless the settings or a test runner say otherwise; return True if it is started."""
    global recorder
    settings = conf.load()
    enabled = not _under_test() if settings.enabled is None else settings.enabled
    if not enabled or recorder is not None:
        return False
    recorder = Recorder(settings)
    recorder.install()
    context.install_command_units()
    instruments.install_connection_counts(wake)
    atexit.register(close)
    if multiprocessing.parent_process() is not None:
        _close_with_multiprocessing(recorder)
    multiprocessing.util.register_after_fork(recorder, _close_with_multiprocessing)
    os.register_at_fork(
        before=recorder.before_fork,
        after_in_parent=recorder.after_fork_in_parent,
        after_in_child=recorder.reset_after_fork,
    )
    return True


def wake() -> None:
    """Start the writer of this process, if it has none yet."""
    if recorder is not None:
        recorder.wake()


def serve_metrics() -> None:
    """Serve this site's metrics, or be ready to; called where a server begins to work."""
    if recorder is not None:
        exporter.serve(recorder.metrics_port)


def flush(timeout_s: float = EXIT_TIMEOUT_S) -> bool:
    """Store what has been captured so far; return False when the store did not take it in time."""
    return recorder is None or recorder.writer.flush(timeout_s)


def close() -> None:
    """Store the rest and end the writer, at the end of the process."""
    if recorder is None or recorder.writer.stop(EXIT_TIMEOUT_S):
        return
    # A first `migrate` ends here: the ring it was about to make is no fault to report.
    logger.log(
        logging.INFO if recorder.writer.store_unready else logging.WARNING,
        "%s SQL log records of process %s could not be stored before its end.",
        recorder.delivery.counts().queued,
        os.getpid(),
    )


def _close_with_multiprocessing(_: Recorder) -> None:
    """Close at the end of a multiprocessing child too: it skips atexit, and clears finalizers first."""
    multiprocessing.util.Finalize(None, close, exitpriority=10)


def _under_test() -> bool:
    return "pytest" in sys.modules or sys.argv[1:2] == ["test"]
