"""Run the delivery in a thread of its own.

One daemon thread per process, started by the first record. It is at most one
flush interval behind; while the store is away it backs off, and leaves what
comes meanwhile to the buffer's bounds. Who wants a flush asks this thread and
waits: a store that does not answer keeps nobody longer than he chose.
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
"""After this long without a record the store's connection is closed."""
UNREADY_GRACE_S = 10.0
"""Missing tables are not worth a word for this long."""
FORK_TIMEOUT_S = 1.0
"""How long a fork waits, at most, for the batch that is being written."""


class Writer:
    """Owned by `sqllogs.recorder`; all but `start` may wait, and `start` runs in the callers' threads."""

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
        self._away_since_s = 0.0
        self.started = False
        self.store_unready = False
        """The last attempt found no tables."""

    def start(self) -> None:
        """Start the thread, once; callable from any thread, a signal handler or `__del__`."""
        if not self._claim.acquire(blocking=False):
            return
        self.started = True
        self._thread = Thread(target=self._run, name="sqllogs-writer", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Have all that is in the buffer now written; return whether it is stored by then."""
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
        """Flush and end; return False when the store kept it from that within the time.

        A store that a flush has waited for in vain, and that has not answered since, is not waited for again.
        """
        until_s = time.monotonic() + (0.0 if self._is_stuck else timeout_s)
        stored = not self._is_stuck and self.flush(timeout_s)
        self._stopping = True
        self._buffer.waker.put(None)
        if self._thread is not None and self._is_running():
            self._thread.join(max(0.0, until_s - time.monotonic()))
            if self._is_running():
                return False
        if stored and len(self._buffer):  # come since; the store has only just answered
            stored = self._write()
        self._delivery.close_sinks(max(0.0, until_s - time.monotonic()))
        self._ring.close()
        return stored

    def pause(self) -> None:
        """Let no connection be open while this process forks.

        SQLite's locks do not cross a fork, while what it remembers of them does: a child that
        inherits an open file in the middle of a write finds it locked for ever.
        """
        if self._writing.acquire(timeout=FORK_TIMEOUT_S):
            self._forking_thread = get_ident()
            self._ring.close()

    def resume(self) -> None:
        """Go on, in the parent."""
        if self._forking_thread == get_ident():
            self._forking_thread = 0
            self._writing.release()

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        backoff_s = 0.0
        while not self._stopping:
            answer = self._wait(backoff_s or self._flush_interval_s, wakeable=not backoff_s)
            # A flush means all that there is; else a cursor at work is given time.
            stored = self._write(wait=answer is None and not self._stopping)
            backoff_s = 0.0 if stored else min(max(backoff_s * 2, BACKOFF_MIN_S), BACKOFF_MAX_S)
            # Spread, so that many processes do not come back in the same moment.
            backoff_s *= random.uniform(0.75, 1.0)  # noqa: S311
            if answer is not None:
                answer.put(stored)

    def _wait(self, duration_s: float, *, wakeable: bool) -> "SimpleQueue[bool] | None":
        """Wait for the time, for somebody who wants a flush, or, when wakeable, for a half full buffer."""
        until_s = time.monotonic() + duration_s
        with suppress(Empty):
            while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
                answer = self._buffer.waker.get(timeout=left_s)
                if answer is not None or wakeable:
                    return answer
        return None

    def _write(self, *, wait: bool = False) -> bool:
        """Write what is in the buffer; return False while the store does not take it."""
        with self._writing:
            token = current.set(_silence())
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
                self._delivery.forget_held()
            finally:
                has_written = self._delivery.written_at_s != written_at_s
                self._delivery.report_status(time.monotonic() - began_s if has_written else None)
                current.reset(token)
                self._is_stuck = False
        self._away_since_s = 0.0
        return True

    def _note_outage(self, exc: StoreUnavailableError) -> None:
        """Log it, unless the tables have only just been found missing: `migrate` is at work."""
        now_s = time.monotonic()
        self.store_unready = isinstance(exc, StoreUnreadyError)
        self._away_since_s = self._away_since_s or now_s
        if not self.store_unready or now_s - self._away_since_s >= UNREADY_GRACE_S:
            guard.fault("store", exc)


def _silence() -> UnitOfWork:
    unit = UnitOfWork("writer")
    unit.muted = True
    unit.trace_id = unit.span_id = 0  # what is logged here belongs to no trace
    return unit
