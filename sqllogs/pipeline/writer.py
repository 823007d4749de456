"""Run the delivery in one daemon thread per process, which the first record starts.

It is at most one flush interval behind `sqllogs.pipeline.buffer`. While the store is unavailable, it waits
longer between attempts and the buffer's bounds apply. flush() asks this thread and waits up to timeout_s, so
an unresponsive database cannot block the caller longer. In a process that runs no threads, `write_here`
writes in the caller's.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import TypeVar

from sqllogs import guard, threads
from sqllogs.context import UnitOfWork, current
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.storage.ring import Ring
from sqllogs.threads import Lock, SerialCalls, SimpleQueue

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0
IDLE_S = 30.0
"""The store's connection is closed after this long without a record."""
UNREADY_GRACE_S = 10.0
"""Missing tables are not logged for this long: `migrate` may be running."""
FORK_FILE_TIMEOUT_S = 1.0
"""A fork waits at most this long for a SQLite file to be closed; writing a batch takes 20 ms."""
FORK_SERVER_TIMEOUT_S = 0.01
"""A fork hardly waits for a database server: the child never uses the connection that it inherits."""
START_RETRY_S = 15.0
"""If the system refuses a thread, the next attempt is after this long: containers limit their number."""
FORK_END_S = 3.0
"""How long the fork of a thread waits for its sinks once that thread has ended. See `has_forker_ended`."""
ROW_RESERVE_S = 0.3
"""Part of the time at the end of a process that is reserved for writing its row after the sinks."""

Result = TypeVar("Result")


class Writer:
    """Owned by `sqllogs.recorder`; all methods except `start` may wait."""

    def __init__(self, buffer: Buffer, ring: Ring, delivery: Delivery, *, flush_interval_s: float) -> None:
        self._buffer = buffer
        self._ring = ring
        self._delivery = delivery
        self._flush_interval_s = flush_interval_s
        self._claim = Lock()
        self._writing = SerialCalls()
        self._refused_at_s = float("-inf")
        self._thread: threads.RunningThread | None = None
        self._stopping = False
        self._end_by_s = 0.0
        self._is_stuck = False
        self._unavailable_since_s = 0.0
        self._due_at_s = 0.0
        self._backoff_s = 0.0
        self.started = False
        self.has_thread = True
        """False if this process can run no thread; then the recorder calls `write_here`."""
        self.store_unready = False
        """True if tables were missing at the last attempt."""

    @property
    def was_refused(self) -> bool:
        """Return True if the system refused to start a thread within START_RETRY_S."""
        return time.monotonic() - self._refused_at_s < START_RETRY_S

    def start(self, *, has_thread: bool = True) -> None:
        """Start the thread once; callable from any thread, a signal handler or `__del__`."""
        # Not blocking: a signal handler that sends a query may call this while its own thread has the claim.
        if self.was_refused or not self._claim.acquire(blocking=False):
            return
        self.started = True
        self.has_thread = has_thread
        if not has_thread:
            return
        self._ring.hurried = False  # after `write_here` of a process whose thread was refused before
        try:
            # Not in the thread, which may get its first turn only when the process ends: too late to import.
            self._delivery.start_sinks()
            self._thread = threads.start(self._run, "sqllogs-writer")
        except RuntimeError as exc:
            self.has_thread = False
            if "interpreter shutdown" not in str(exc):  # at shutdown, `stop` writes instead
                guard.fault("writer", exc)
                self._refused_at_s = time.monotonic()
                self.started = False
                self._claim.release()

    def flush(self, timeout_s: float, *, blocking: bool = False) -> bool:
        """Write what is in the buffer now; return True if it was stored in time.

        With `blocking`, no other greenlet of this thread runs meanwhile.
        """
        answer: SimpleQueue[bool] = SimpleQueue()
        if self._is_running():
            self._buffer.waker.put(answer)
        elif not self._write_aside(answer):
            return self._write_within(timeout_s)
        try:
            return bool(threads.get(answer, timeout_s, blocking=blocking))
        except Empty:
            self._is_stuck = True
            return False

    def _write_aside(self, answer: "SimpleQueue[bool]") -> bool:
        """Write in a short-lived thread, because drivers have no timeout; return False if none starts.

        It runs while the caller waits for its answer, even where threads do not run between requests.
        """

        def write() -> None:
            stored = False
            try:
                stored = self._write()
            except BaseException as exc:  # see `_run`
                guard.fault("writer", exc)
            finally:
                answer.put(stored)

        try:
            threads.start(write, "sqllogs-flush")
        except RuntimeError:
            return False
        return True

    def _write_within(self, timeout_s: float) -> bool:
        """Write in this thread as a last resort. The timeout applies to SQLite's lock, not to a server."""
        self._ring.wait_until_s = time.monotonic() + timeout_s
        try:
            return self._write()
        finally:
            self._ring.wait_until_s = float("inf")

    def flush_all(self, timeout_s: float) -> bool:
        """Flush, and wait until the sinks have sent their records too; return True if all was in time."""
        until_s = time.monotonic() + timeout_s
        stored = self.flush(timeout_s)
        sent = self._delivery.flush_sinks(max(0.0, until_s - time.monotonic()))
        if stored:  # otherwise the writer's thread may still be waiting for the store, and hold the lock
            self._write_row(until_s)
        return stored and sent

    @property
    def is_due(self) -> bool:
        """Return True if it is time for `write_here`: every flush interval, or if the buffer is half full."""
        is_half_full = not self._buffer.waker.empty()
        return time.monotonic() >= self._due_at_s or (is_half_full and not self._backoff_s)

    def write_here(self) -> None:
        """Write in the caller's thread, without waiting for a lock."""
        if self._writing.is_busy:  # with a flush that timed out
            self._due_at_s = time.monotonic() + self._flush_interval_s
            return
        with suppress(Empty):
            self._buffer.waker.get_nowait()
        self._ring.hurried = True
        self._after_round(self._write(wait=True))
        self._due_at_s = time.monotonic() + (self._backoff_s or self._flush_interval_s)

    def stop(self, timeout_s: float) -> bool:
        """Flush and end the thread; return False if the store did not respond in time.

        If an earlier flush timed out and the store has not responded since, it is not waited for again.
        """
        had_thread = self._is_running()
        self._end_by_s = time.monotonic() + (0.0 if self._is_stuck else timeout_s)
        # Blocking, because other greenlets would capture queries after the last flush.
        stored = not self._is_stuck and self.flush(timeout_s, blocking=True)
        # Set before the item that wakes the thread, which then sees it.
        self._stopping = True
        self._buffer.waker.put(None)
        if self._thread is None or not had_thread:
            # Not if the thread of a timed-out flush is still using the store.
            return not self._is_stuck and self._end(stored)
        threads.join(self._thread, max(0.0, self._end_by_s - time.monotonic()))
        return stored and not self._is_running()

    def pause(self) -> None:
        """Close the store's connection before this process forks.

        A child inherits SQLite's memory of its file locks, but not the locks. If it inherits a file in the
        middle of a write, it finds the file locked forever.
        """
        self._ring.hurried = True
        if self._writing.pause(FORK_FILE_TIMEOUT_S if self._ring.is_file else FORK_SERVER_TIMEOUT_S):
            self._ring.close()

    def resume(self) -> None:
        """Continue, in the parent after a fork."""
        self._writing.resume()
        self._ring.hurried = False

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        stored = True
        while not self._stopping and not threads.has_forker_ended():
            try:
                stored = self._run_round()
            except BaseException as exc:  # some programs stop threads by setting an exception in each
                guard.fault("writer", exc)
        self._end_by_s = self._end_by_s or time.monotonic() + FORK_END_S
        self._end(stored)

    def _run_round(self) -> bool:
        answer = self._wait(self._backoff_s or self._flush_interval_s, wakeable=not self._backoff_s)
        # A flush writes everything; otherwise a cursor gets time to finish fetching.
        stored = self._write(wait=answer is None and not self._stopping)
        self._after_round(stored)
        if answer is not None:
            answer.put(stored)
        return stored

    def _after_round(self, stored: bool) -> None:
        """Note how long to wait before the next round."""
        backoff_s = 0.0 if stored else min(max(self._backoff_s * 2, BACKOFF_MIN_S), BACKOFF_MAX_S)
        # Jitter, so that many processes do not retry at the same moment.
        self._backoff_s = backoff_s * random.uniform(0.75, 1.0)  # noqa: S311

    def _end(self, stored: bool) -> bool:
        """Store what was captured since, close the sinks and write their outcomes to the process's row."""
        if stored and len(self._buffer):  # only if the store has just responded
            stored = self._write()
        self._delivery.close_sinks(max(0.0, self._end_by_s - ROW_RESERVE_S - time.monotonic()))
        self._write_row(self._end_by_s)
        self._ring.close()
        return stored

    def _write_row(self, until_s: float) -> None:
        """Write the process's row, unless another thread is still writing at `until_s`."""
        try:
            # `pause` and not `wait`, after which another write could begin and block `call` without a limit.
            if self._writing.pause(until_s - time.monotonic()):
                self._writing.call(partial(_muted, self._try_to_write_row))
        finally:
            self._writing.resume()

    def _try_to_write_row(self) -> None:
        try:
            self._delivery.write_row()
        except StoreUnavailableError:
            pass  # already reported by `flush` and `stop`
        except Exception as exc:
            guard.fault("writer", exc)

    def _wait(self, duration_s: float, *, wakeable: bool) -> "SimpleQueue[bool] | None":
        """Wait for the duration, until a flush is requested or, if wakeable, the buffer is half full."""
        until_s = time.monotonic() + duration_s
        with suppress(Empty):
            while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
                answer = self._buffer.waker.get(timeout=left_s)
                if answer is not None or wakeable:
                    return answer
        return None

    def _write(self, *, wait: bool = False) -> bool:
        """Write what is in the buffer; return False if the store is unavailable."""
        if self._writing.is_own:  # a signal handler flushes in the middle of a write
            return False
        return self._writing.call(partial(_muted, partial(self._write_all, wait)))

    def _write_all(self, wait: bool) -> bool:
        if self.has_thread:
            self._ring.hurried = False  # still True if a signal handler interrupted the hook after a fork
        began_s, written_at_s = time.monotonic(), self._delivery.written_at_s
        try:
            self._delivery.write_all(wait=wait)
            if time.monotonic() - self._delivery.written_at_s > IDLE_S:
                self._ring.close()
        except StoreUnavailableError as exc:
            self._note_outage(exc)
            return False
        except Exception as exc:
            guard.fault("writer", exc)
            self._delivery.drop_in_hand()
        finally:
            has_written = self._delivery.written_at_s != written_at_s
            self._delivery.report_status(time.monotonic() - began_s if has_written else None)
            self._is_stuck = False
        self._unavailable_since_s = 0.0
        return True

    def _note_outage(self, exc: StoreUnavailableError) -> None:
        """Log an outage, except a brief one where we do not wait or `migrate` may be creating the tables."""
        now_s = time.monotonic()
        self.store_unready = isinstance(exc, StoreUnreadyError)
        self._unavailable_since_s = self._unavailable_since_s or now_s
        is_brief = now_s - self._unavailable_since_s < UNREADY_GRACE_S
        if not (is_brief and (self.store_unready or self._ring.hurried)):
            guard.fault("store", exc)


def _muted(call: Callable[[], Result]) -> Result:
    """Call a function without capturing its queries."""
    token = current.set(_muted_unit())
    try:
        return call()
    finally:
        current.reset(token)


def _muted_unit() -> UnitOfWork:
    unit = UnitOfWork("writer")
    unit.muted = True
    unit.trace_id = unit.span_id = 0  # log lines of this thread belong to no trace
    return unit
