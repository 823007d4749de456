"""Run the delivery in a thread of its own.

One daemon thread per process, started by the first record. It is at most one
flush interval behind; while the store is away it backs off, and leaves what
comes meanwhile to the buffer's bounds.
"""

import logging
import random
import time
from queue import Empty
from threading import Lock, Thread

from sqllogs import guard
from sqllogs.buffer import Buffer
from sqllogs.context import UnitOfWork, current
from sqllogs.delivery import Delivery
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.ring import Ring

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0
IDLE_S = 30.0
"""After this long without a record the store's connection is closed."""
UNREADY_GRACE_S = 10.0
"""Missing tables are not worth a word for this long."""


class Writer:
    """Owned by `sqllogs.recorder`; `start` alone runs in the callers' threads."""

    def __init__(self, buffer: Buffer, ring: Ring, delivery: Delivery, *, flush_interval_s: float) -> None:
        self._buffer = buffer
        self._ring = ring
        self._delivery = delivery
        self._flush_interval_s = flush_interval_s
        self._claim = Lock()
        self._writing = Lock()
        self._thread: Thread | None = None
        self._stopping = False
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

    def stop(self, timeout_s: float) -> bool:
        """Flush and end; return False when the store kept it from that within the time."""
        self._stopping = True
        self._buffer.waker.put(None)
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        flushed = self.flush(timeout_s)
        self._delivery.close_sinks(timeout_s)
        self._ring.close()
        return flushed

    def flush(self, timeout_s: float) -> bool:
        """Write all that is in the buffer now, in this thread; return whether it is stored."""
        if not self._writing.acquire(timeout=timeout_s):
            return False
        token = current.set(_silence())
        try:
            self._delivery.write_all()
            return True
        except StoreUnavailableError as exc:
            self._note_outage(exc)
            return False
        finally:
            current.reset(token)
            self._writing.release()

    def _run(self) -> None:
        current.set(_silence())
        backoff_s = 0.0
        while not self._stopping:
            self._wait(backoff_s or self._flush_interval_s, wakeable=not backoff_s)
            try:
                with self._writing:
                    self._delivery.write_all()
                    if time.monotonic() - self._delivery.written_at_s > IDLE_S:
                        self._ring.close()
                backoff_s = self._away_since_s = 0.0
            except StoreUnavailableError as exc:
                self._note_outage(exc)
                doubled_s = min(max(backoff_s * 2, BACKOFF_MIN_S), BACKOFF_MAX_S)
                # Spread, so that many processes do not come back in the same moment.
                backoff_s = doubled_s * random.uniform(0.75, 1.0)  # noqa: S311
            except Exception as exc:
                guard.fault("writer", exc, level=logging.ERROR)
                self._delivery.forget_held()

    def _wait(self, duration_s: float, *, wakeable: bool) -> None:
        """Wait for the time, for a call of `stop`, or, when wakeable, for a half full buffer."""
        until_s = time.monotonic() + duration_s
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            try:
                self._buffer.waker.get(timeout=left_s)
            except Empty:
                return
            if wakeable:
                return

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
    return unit
