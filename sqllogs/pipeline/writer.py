"""Run the delivery in one daemon thread per process, started by the first record.

It is at most one flush interval behind `sqllogs.pipeline.buffer`. While the store is unavailable it
backs off and the buffer's bounds apply. flush() asks this thread and waits up to timeout_s, so an
unresponsive database cannot block the caller longer.
"""

import logging
import random
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident

from sqllogs import guard
from sqllogs.context import UnitOfWork, current
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.storage.ring import Ring

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0
IDLE_S = 30.0
"""The store's connection is closed after this long without a record."""
UNREADY_GRACE_S = 10.0
"""Missing tables are not logged for this long: `migrate` may be running."""
FORK_TIMEOUT_S = 1.0
"""A fork waits at most this long for the batch that is being written."""


class Writer:
    """Owned by `sqllogs.recorder`; all methods except `start` may wait."""

    def __init__(self, buffer: Buffer, ring: Ring, delivery: Delivery, *, flush_interval_s: float) -> None:
        self._buffer = buffer
        self._ring = ring
        self._delivery = delivery
        self._flush_interval_s = flush_interval_s
        self._claim = Lock()
        self._writing = Lock()
        self._forking_thread = 0
        self._thread: Thread | None = None
        self._stopping = False
        self._is_stuck = False
        self._unavailable_since_s = 0.0
        self.started = False
        self.store_unready = False
        """The last attempt found the tables missing."""

    def start(self) -> None:
        """Start the thread once; callable from any thread, a signal handler or `__del__`."""
        if not self._claim.acquire(blocking=False):
            return
        self.started = True
        self._thread = Thread(target=self._run, name="sqllogs-writer", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Write what is in the buffer now; return True if it was stored in time."""
        if not self._is_running():
            return self._write()
        answer: SimpleQueue[bool] = SimpleQueue()
        self._buffer.waker.put(answer)
        try:
            return answer.get(timeout=timeout_s)
        except Empty:
            self._is_stuck = True
            return False

    def stop(self, timeout_s: float) -> bool:
        """Flush and end the thread; return False if the store did not answer in time.

        A store that has not answered an earlier flush, and nothing since, is not waited for again.
        """
        until_s = time.monotonic() + (0.0 if self._is_stuck else timeout_s)
        stored = not self._is_stuck and self.flush(timeout_s)
        self._stopping = True
        self._buffer.waker.put(None)
        if self._thread is not None and self._is_running():
            self._thread.join(max(0.0, until_s - time.monotonic()))
            if self._is_running():
                return False
        if stored and len(self._buffer):  # captured since; the store has just answered
            stored = self._write()
        self._delivery.close_sinks(max(0.0, until_s - time.monotonic()))
        self._ring.close()
        return stored

    def pause(self) -> None:
        """Close the store's connection before this process forks.

        SQLite's file locks are not inherited, its memory of them is: a child that inherits an open
        file in the middle of a write finds it locked for ever.
        """
        if self._writing.acquire(timeout=FORK_TIMEOUT_S):
            self._forking_thread = get_ident()
            self._ring.close()

    def resume(self) -> None:
        """Continue, in the parent after a fork."""
        if self._forking_thread == get_ident():
            self._forking_thread = 0
            self._writing.release()

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        backoff_s = 0.0
        while not self._stopping:
            answer = self._wait(backoff_s or self._flush_interval_s, wakeable=not backoff_s)
            # A flush writes everything; otherwise a cursor gets time to finish fetching.
            stored = self._write(wait=answer is None and not self._stopping)
            backoff_s = 0.0 if stored else min(max(backoff_s * 2, BACKOFF_MIN_S), BACKOFF_MAX_S)
            # Jitter, so that many processes do not retry at the same moment.
            backoff_s *= random.uniform(0.75, 1.0)  # noqa: S311
            if answer is not None:
                answer.put(stored)

    def _wait(self, duration_s: float, *, wakeable: bool) -> "SimpleQueue[bool] | None":
        """Wait until the time is over, a flush is requested or, if wakeable, the buffer is half full."""
        until_s = time.monotonic() + duration_s
        with suppress(Empty):
            while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
                answer = self._buffer.waker.get(timeout=left_s)
                if answer is not None or wakeable:
                    return answer
        return None

    def _write(self, *, wait: bool = False) -> bool:
        """Write what is in the buffer; return False if the store is unavailable."""
        with self._writing:
            token = current.set(_muted_unit())
            began_s, written_at_s = time.monotonic(), self._delivery.written_at_s
            try:
                self._delivery.write_all(wait=wait)
                if time.monotonic() - self._delivery.written_at_s > IDLE_S:
                    self._ring.close()
            except StoreUnavailableError as exc:
                self._note_outage(exc)
                return False
            except Exception as exc:
                guard.fault("writer", exc, level=logging.ERROR)
                self._delivery.drop_pending()
            finally:
                has_written = self._delivery.written_at_s != written_at_s
                self._delivery.report_status(time.monotonic() - began_s if has_written else None)
                current.reset(token)
                self._is_stuck = False
        self._unavailable_since_s = 0.0
        return True

    def _note_outage(self, exc: StoreUnavailableError) -> None:
        """Log it, except in the first seconds of missing tables: `migrate` may be running."""
        now_s = time.monotonic()
        self.store_unready = isinstance(exc, StoreUnreadyError)
        self._unavailable_since_s = self._unavailable_since_s or now_s
        if not self.store_unready or now_s - self._unavailable_since_s >= UNREADY_GRACE_S:
            guard.fault("store", exc)


def _muted_unit() -> UnitOfWork:
    unit = UnitOfWork("writer")
    unit.muted = True
    unit.trace_id = unit.span_id = 0  # log lines of this thread belong to no trace
    return unit
