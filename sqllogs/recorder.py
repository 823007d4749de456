"""Connect capture, buffer, writer and ring, once per process.

`install` runs in `AppConfig.ready` in the main thread, `close` at the end of the process. Capture calls
`_put` in the caller's thread; the first query starts the writer's thread. A forked child gets its own buffer,
writer and counts, even if a server forked in C, without Python's hooks.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.core.signals import request_finished
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.signals import connection_created

from sqllogs import conf, context, guard
from sqllogs.capture import UNIT, Captured, wrapper
from sqllogs.capture.wrapper import Overrides
from sqllogs.context import UnitOfWork, finished
from sqllogs.metrics import instruments, multiprocess
from sqllogs.pipeline import processes
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.processes import ProcessEnds, process_mark
from sqllogs.threads import SerialCalls, get_ident

if TYPE_CHECKING:
    from sqllogs.pipeline.delivery import Delivery
    from sqllogs.pipeline.sinks import Sink
    from sqllogs.pipeline.writer import Writer
    from sqllogs.storage.ring import Ring

EXIT_TIMEOUT_S = 3.0
"""At its end, a process waits at most this long for a store that does not respond."""
IMPORT_TIMEOUT_S = 1.0
"""A fork waits at most this long for a thread that imports the writer.

The child could not import it again.
"""
WRITER_RETRY_S = 15.0
"""If the writer cannot be imported, the next attempt is after this long: each takes 13 ms of CPU."""

TAGS_MAX = 3
TAGS_READ_MAX = 100
"""Including empty ones, which are left out."""
TAG_MAX_CHARACTERS = 60

logger = logging.getLogger(__name__)


Result = TypeVar("Result")


class _Stages(NamedTuple):
    """The stages of a query after the buffer."""

    ring: "Ring"
    delivery: "Delivery"
    writer: "Writer"


class _Process:
    """Everything that a fork must not share with its parent."""

    def __init__(self, settings: conf.Conf) -> None:
        self._settings = settings
        self.buffer = Buffer(rows_max=settings.buffer_rows, bytes_max=settings.buffer_bytes)
        self.mark = process_mark()
        self.making = SerialCalls()
        self.made: _Stages | None = None
        self.failed_at_s = float("-inf")
        """When the stages could not be made."""
        self.closed_by = 0
        """Id of the thread that has called `Recorder.close`; 0 before. It stores its later queries itself."""
        self.late_left_s = EXIT_TIMEOUT_S
        """How long these later queries may still wait for the store, all together."""

    @property
    def is_making_or_failed(self) -> bool:
        """Return True if this thread is importing the stages, or could not within WRITER_RETRY_S.

        In the middle of the import a query may come from `__del__` or from `sys.remote_exec`; the modules
        are incomplete then.
        """
        return self.making.is_own or time.monotonic() - self.failed_at_s < WRITER_RETRY_S

    def stages(self) -> _Stages:
        """Return ring, delivery and writer, which are created at the first call.

        Many management commands send no query, and importing these takes as long as the rest of this package.
        """
        if self.made is None:
            return self.making.call(self._make_once)
        return self.made

    def _make_once(self) -> _Stages:
        made = self.made or _defer_signals(self._make)
        self.made = self.made or made  # a signal handler that queries may have been faster
        return self.made

    def _make(self) -> _Stages:
        from sqllogs.pipeline.delivery import Delivery
        from sqllogs.pipeline.resolver import Resolver
        from sqllogs.pipeline.sinks import Sinks
        from sqllogs.pipeline.writer import Writer
        from sqllogs.record import Sample
        from sqllogs.storage.ring import Ring

        settings = self._settings
        ring = Ring(settings)
        delivery = Delivery(
            self.buffer,
            ring,
            lambda: Resolver(settings),
            Sinks(make_sinks(settings)),
            sample=Sample(settings.sample, settings.slow_ms),
            with_idle_units=settings.requests_without_sql,
        )
        writer = Writer(self.buffer, ring, delivery, flush_interval_s=settings.flush_interval_s)
        return _Stages(ring, delivery, writer)


def _defer_signals(call: Callable[[], Result]) -> Result:
    """Call a function while this thread blocks all signals that have a Python handler.

    Used to create the writer, to start it and, in a process without threads, to write: for 0.1 s once per
    process, then 10 ms per batch. A handler may raise an exception. During an import, that can leave Python's
    import lock taken, and the writer's thread could import nothing any more. While the thread starts, the
    writer would be marked as started without a thread. During a write, the exception would be taken for a
    fault of ours.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return call()
    # Handlers in C raise nothing. Blocking the signals of a fault of the processor is undefined behavior.
    handled = {number for number in signal.valid_signals() if callable(signal.getsignal(number))}
    deferred = handled - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, deferred)
        return call()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Recorder:
    """Connects the stages from a query to the ring; one per process, see `recorder`."""

    def __init__(self, settings: conf.Conf) -> None:
        self._settings = settings
        self._process = _Process(settings)
        self._inherited: list[_Process] = []
        self._by_pid: dict[int, _Process] = {}
        """Created after a fork, by the child's process id."""
        self.metrics_port = settings.metrics_port
        self._tags = _load_tags(settings)
        self.ends: ProcessEnds | None = None
        """Kept here, because multiprocessing holds only a weak reference to it."""
        self.is_off_in_tests = False
        self.wrapper = wrapper.execute_wrapper(
            self._put,
            call_site=settings.call_site,
            application=settings.application,
            compare_values=settings.compare_values,
        )
        self.overrides = Overrides(self.wrapper) if settings.capture_fetch else None

    @property
    def buffer(self) -> Buffer:
        return self._process.buffer

    @property
    def ring(self) -> "Ring":
        return self._process.stages().ring

    @property
    def delivery(self) -> "Delivery":
        return self._process.stages().delivery

    @property
    def writer(self) -> "Writer":
        return self._process.stages().writer

    @property
    def is_idle(self) -> bool:
        """Return True if there is nothing to write and nothing has been written."""
        process = self._own()
        # A command without SQL has nothing for the ring, but is counted in metrics that processes share.
        has_jobs = bool(finished) and multiprocess.slots is not None
        return not (process.made or len(process.buffer) or has_jobs)

    def _put(self, captured: Captured) -> None:
        process = self._process
        if not process.mark[0]:
            process = self.reset_after_fork()
        process.buffer.put(captured)
        # The attribute and not `stages()`, because each query would pay for the call.
        if process.made is None or not process.made.writer.started:
            self.wake()
        unit = captured[UNIT]
        if unit is not None and unit.counts is not None:
            unit.counts.add(captured)

    def wake(self) -> None:
        """Start the writer of this process unless it runs, even without a record: the metrics need it too."""
        try:
            writer = self.own_writer()
            if writer is None:
                return
            if self._process.closed_by:
                self._write_late(self._process, writer)
                return
            if writer.started or writer.was_refused or processes.is_loading():
                return
            _defer_signals(partial(writer.start, has_thread=processes.threads_run()))
            if not writer.has_thread:
                request_finished.connect(self._write_if_due, dispatch_uid="sqllogs")
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("writer", exc)

    def own_writer(self) -> "Writer | None":
        """Return the writer of this process, which may be a fork of the one that created this object.

        None if it cannot be imported: an isolated subinterpreter has no orjson, a package may be half
        installed, or file descriptors are used up. That is no reason for a site not to start.
        """
        process = self._own()
        if process.made is None and process.is_making_or_failed:
            return None
        try:
            return process.stages().writer
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            process.failed_at_s = time.monotonic()
            guard.fault("writer", exc)
            return None

    def _own(self) -> _Process:
        return self._process if self._process.mark[0] else self.reset_after_fork()

    def _write_if_due(self, **kwargs: Any) -> None:
        writer = self.own_writer()
        if writer is not None and not writer.has_thread and writer.is_due:
            _defer_signals(writer.write_here)

    def before_fork(self) -> None:
        process = self._own()
        process.making.pause(IMPORT_TIMEOUT_S)
        if process.made is not None:
            process.made.writer.pause()

    def after_fork_in_parent(self) -> None:
        process = self._process
        if process.made is not None:
            process.made.writer.resume()
        process.making.resume()

    def reset_after_fork(self) -> _Process:
        """Start from scratch after a fork: the parent's records are the parent's to store.

        Takes no lock: one that was held at the fork would never be released. Threads that get here at the
        same time all use what the first has created.
        """
        inherited = self._process
        process = self._by_pid.setdefault(os.getpid(), _Process(self._settings))
        # Never freed: if `pause` timed out it has a connection, and closing that would break the parent's.
        self._inherited.append(inherited)
        finished.clear()
        context.reset_after_fork()
        self._process = process
        if multiprocess.slots is not None:
            multiprocess.slots.leave()
        if processes.is_first_worker():
            inherited.buffer.move_to(process.buffer)
        return process

    def close(self) -> None:
        """Store and send the rest and stop the writer, at the end of the process.

        Takes EXIT_TIMEOUT_S at most. Queries that this thread sends later are stored by `_write_late`.
        """
        process = self._own()
        # Several ends may call this, see `ProcessEnds`. The store is not asked again if nothing came since.
        was_closed = process.closed_by != 0
        process.closed_by = get_ident()
        if self.is_idle or (was_closed and not len(process.buffer)):
            return
        if (writer := self.own_writer()) is None:
            _log_unstored(len(process.buffer))
            return
        stored = False
        try:
            stored = self._stop(writer, time.monotonic() + EXIT_TIMEOUT_S)
        finally:
            writer.started = False  # so that `_put` calls `wake` for each later query
            process.late_left_s = EXIT_TIMEOUT_S if stored else 0.0
        if not stored:
            # The first `migrate` ends here too; its tables were missing at its start, which needs no warning.
            level = logging.INFO if writer.store_unready else logging.WARNING
            _log_unstored(self.delivery.counts().queued, level)

    def _stop(self, writer: "Writer", until_s: float) -> bool:
        """Stop the writer; if a signal handler raises meanwhile, do it again and raise its exception then.

        Otherwise a second SIGTERM or Ctrl-C, or the SIGQUIT of gunicorn's master to a worker that is being
        recycled, would end the process before the rest is stored. All attempts end at `until_s`.
        """
        try:
            return writer.stop(max(0.0, until_s - time.monotonic()))
        except BaseException as exc:
            if not isinstance(exc, Exception) or guard.must_propagate(exc):
                self._stop(writer, until_s)
            raise

    def _write_late(self, process: _Process, writer: "Writer") -> None:
        """Store a query that was sent after `close`, as by a function registered with atexit before ours.

        Each at once, because no later call would store it; all together take EXIT_TIMEOUT_S at most.
        """
        # While the interpreter finalizes, no thread can start, and a running one may be frozen for good.
        if process.closed_by != get_ident() or process.late_left_s <= 0.0 or sys.is_finalizing():
            return
        began_s = time.monotonic()
        stored = _defer_signals(partial(writer.stop, process.late_left_s))
        process.late_left_s -= time.monotonic() - began_s
        if not stored or process.late_left_s <= 0.0:
            process.late_left_s = 0.0
            logger.warning("Queries that process %s sends from now on, at its end, are lost.", os.getpid())

    def close_unit(self, unit: UnitOfWork) -> None:
        """Complete the row of an answered request; starts the writer even if the request sent no SQL."""
        if not unit.muted:
            unit.close()
            self.wake()

    def tags(self, request: Any) -> tuple[str, ...]:
        """Return the tags that the host's function gives a request; see the setting TAGS."""
        if self._tags is None:
            return ()
        try:
            found = self._tags(request) or ()
            texts = (str(tag) for tag in ((found,) if isinstance(found, str) else found) if tag is not None)
            # islice(), because the function may return an endless generator.
            first = islice(filter(None, islice(texts, TAGS_READ_MAX)), TAGS_MAX)
            return tuple(text.replace(",", " ")[:TAG_MAX_CHARACTERS] for text in first)
        except Exception as exc:
            if guard.is_interruption(exc):
                raise
            guard.fault("tags", exc)
            return ()

    def on_connection_created(self, connection: Any, **kwargs: Any) -> None:
        """Install wrapper and overrides; also called after a reconnect and for each use of a pool."""
        try:
            # The store's own connection is not captured, except where the application uses that alias too.
            if self.is_off_in_tests and conf.is_test_environment():
                self._uninstall_from(connection)
            elif connection.alias != self._settings.database or connection.alias == DEFAULT_DB_ALIAS:
                wrapper.install(self.wrapper, connection)
                if self.overrides is not None:
                    self.overrides.install(connection)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("connection", exc)

    def install(self) -> None:
        context.recorder = self
        connection_created.connect(self.on_connection_created, dispatch_uid="sqllogs")
        # Another app's ready() may have connected before.
        for connection in connections.all(initialized_only=True):
            self.on_connection_created(connection)

    def uninstall(self) -> None:
        """Stop capturing on this thread's connections and on new ones."""
        context.recorder = None
        connection_created.disconnect(dispatch_uid="sqllogs")
        for connection in connections.all(initialized_only=True):
            self._uninstall_from(connection)

    def _uninstall_from(self, connection: Any) -> None:
        wrapper.uninstall(self.wrapper, connection)
        if self.overrides is not None:
            self.overrides.uninstall(connection)


def _log_unstored(records: int, level: int = logging.WARNING) -> None:
    message = "%s SQL log records of process %s could not be stored before its end."
    logger.log(level, message, records, os.getpid())


def make_sinks(settings: conf.Conf) -> Iterator["Sink"]:
    """Yield the enabled sinks, in the order in which they get a batch."""
    from sqllogs.findings import schedule as findings
    from sqllogs.metrics import sink as metrics
    from sqllogs.otel import otlp, spans
    from sqllogs.pipeline import slow_log

    for module in (slow_log, metrics, spans, otlp, findings):
        try:
            sink = module.make(settings)
        except Exception as exc:  # such as an OpenTelemetry of another version, which lacks a name
            if guard.is_interruption(exc):
                raise
            guard.fault(module.__name__.rpartition(".")[2], exc)
            continue
        if sink is not None:
            yield sink
    if settings.findings:
        yield instruments.OutsideCalls(settings.application)


recorder: Recorder | None = None
"""The recorder of this process; None while capture is disabled."""


def install() -> bool:
    """Start capturing unless it has been; return True if started."""
    global recorder
    if recorder is not None:
        return False
    settings = conf.load()
    _make_path_absolute(settings.database)
    recorder = Recorder(settings)
    # Decided at each connection, because a test runner sets up its environment after the apps are ready.
    recorder.is_off_in_tests = settings.enabled is None
    if settings.otlp:
        recorder.own_writer()  # now: OpenTelemetry's SDK cannot be imported at the end of a process
    recorder.install()
    instruments.install_connection_counts(wake)
    if settings.findings:
        instruments.install_outside_calls(settings.application)
    recorder.ends = ProcessEnds(close, flush)
    recorder.ends.install()
    os.register_at_fork(
        before=recorder.before_fork,
        after_in_parent=recorder.after_fork_in_parent,
        after_in_child=recorder.reset_after_fork,
    )
    return True


def _make_path_absolute(alias: str) -> None:
    """Make the path of a SQLite store absolute, because a daemon changes its working directory later."""
    database = connections.settings.get(alias, {})
    name = str(database.get("NAME", ""))
    is_file = name not in ("", ":memory:") and not name.startswith("file:")
    if is_file and "sqlite3" in database.get("ENGINE", ""):
        with suppress(OSError):  # the folder has been deleted
            database["NAME"] = os.path.abspath(name)


def wake() -> None:
    """Start the writer of this process unless it runs."""
    if recorder is not None:
        recorder.wake()


def _load_tags(settings: conf.Conf) -> Callable[[Any], Iterable[str]] | None:
    try:
        return settings.load_tags()
    except ImportError as exc:
        guard.fault("tags", exc)
        return None


def serve_metrics() -> None:
    """Serve this site's metrics, or stand by for it; called when a server starts."""
    # The writer is imported now, so that no request waits for it.
    if recorder is not None and recorder.own_writer() is not None:
        multiprocess.serve(recorder.metrics_port)


def flush(timeout_s: float = EXIT_TIMEOUT_S) -> bool:
    """Store what has been captured so far; return False if it could not be stored in time."""
    if recorder is None or recorder.is_idle:
        return True
    writer = recorder.own_writer()
    return writer is not None and writer.flush(timeout_s)


def flush_all(timeout_s: float = EXIT_TIMEOUT_S) -> bool:
    """Store and send over OTLP what has been captured so far; return False if time was not enough."""
    if recorder is None or recorder.is_idle:
        return True
    writer = recorder.own_writer()
    return writer is not None and writer.flush_all(timeout_s)


def close() -> None:
    """Store and send the rest and stop the writer, at the end of the process."""
    if recorder is not None:
        recorder.close()
