"""Carry captured queries from the buffer to the sinks.

One daemon thread per process, started by the first record. It is at most one
flush interval behind; while the store is away it holds one batch, backs off,
and leaves the rest to the buffer's bounds.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from queue import Empty
from threading import Lock, Thread

from sqllogs import guard
from sqllogs.buffer import Buffer
from sqllogs.context import UnitOfWork, current
from sqllogs.errors import RejectedRowsError, StoreUnavailableError, StoreUnreadyError
from sqllogs.resolver import Batch, Resolver
from sqllogs.ring import Ring, Tallies

BATCH_ROWS = 2_000
BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0
IDLE_S = 30.0
"""After this long without a record the store's connection is closed."""

UNREADY_GRACE_S = 10.0
"""Missing tables are not worth a word for this long."""

logger = logging.getLogger(__name__)


class Writer:
    """Owned by `sqllogs.recorder`; only `start` runs in the callers' threads."""

    def __init__(
        self, buffer: Buffer, ring: Ring, resolver: Callable[[], Resolver], *, flush_interval_s: float
    ) -> None:
        self._buffer = buffer
        self._ring = ring
        self._make_resolver = resolver
        self._resolver: Resolver | None = None
        self._flush_interval_s = flush_interval_s
        self._claim = Lock()
        self._writing = Lock()
        self._thread: Thread | None = None
        self._held: tuple[int | None, Batch] | None = None
        """The batch under way and, once reserved, its first number; kept while the store is away."""
        self._stopping = False
        self._stored = self._rejected = self._muted = 0
        self._written_at_s = time.monotonic()
        self._away_since_s = 0.0
        self.store_unready = False
        """The last attempt found no tables."""
        self.started = False

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
        return self.flush(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Write all that is in the buffer now, in this thread; return whether it is stored."""
        if not self._writing.acquire(timeout=timeout_s):
            return False
        token = current.set(_silence())
        try:
            self._write_all()
            return True
        except StoreUnavailableError as exc:
            self._note_outage(exc)
            return False
        finally:
            current.reset(token)
            self._writing.release()

    def tallies(self) -> Tallies:
        """Return what this process has captured, stored, dropped and holds."""
        dropped = {reason: tally.value for reason, tally in self._buffer.dropped.items()}
        dropped["rejected"] = self._rejected
        return Tallies(
            captured=self._buffer.captured.value - self._muted,
            stored=self._stored,
            dropped={reason: count for reason, count in dropped.items() if count},
            queued=len(self._buffer) + (len(self._held[1].records) if self._held else 0),
        )

    def _run(self) -> None:
        current.set(_silence())
        backoff_s = 0.0
        while not self._stopping:
            self._wait(backoff_s or self._flush_interval_s, wakeable=not backoff_s)
            try:
                with self._writing:
                    self._write_all()
                    if time.monotonic() - self._written_at_s > IDLE_S:
                        self._ring.close()
                backoff_s = 0.0
            except StoreUnavailableError as exc:
                self._note_outage(exc)
                doubled_s = min(max(backoff_s * 2, BACKOFF_MIN_S), BACKOFF_MAX_S)
                # Spread, so that many processes do not come back in the same moment.
                backoff_s = doubled_s * random.uniform(0.75, 1.0)  # noqa: S311
            except Exception as exc:
                guard.fault("writer", exc, level=logging.ERROR)
                self._forget_held()
        self._ring.close()

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

    def _write_all(self) -> None:
        """Write batch by batch until the buffer is empty; raise StoreUnavailableError."""
        while self._held is not None or len(self._buffer):
            if self._held is None:
                batch = self._next_batch()
                if not batch.records:
                    continue
                self._held = (None, batch)
            first_seq, batch = self._held
            if first_seq is None:
                first_seq = self._ring.reserve(len(batch.records))
                self._held = (first_seq, batch)
            self._write(first_seq, batch)
            self._held = None
            self._written_at_s = time.monotonic()
            self._away_since_s = 0.0

    def _note_outage(self, exc: StoreUnavailableError) -> None:
        """Log it, unless the tables have only just been found missing: `migrate` is at work."""
        now_s = time.monotonic()
        self.store_unready = isinstance(exc, StoreUnreadyError)
        self._away_since_s = self._away_since_s or now_s
        if not self.store_unready or now_s - self._away_since_s >= UNREADY_GRACE_S:
            guard.fault("store", exc)

    def _forget_held(self) -> None:
        """Drop the batch that a fault of ours met: it would meet it again."""
        if self._held is not None:
            self._rejected += len(self._held[1].records)
            self._held = None

    def _next_batch(self) -> Batch:
        if self._resolver is None:
            self._resolver = self._make_resolver()
        drained = self._buffer.drain(BATCH_ROWS)
        heard = [captured for captured in drained if captured[12] is None or not captured[12].muted]
        self._muted += len(drained) - len(heard)
        return self._resolver.batch(heard)

    def _write(self, first_seq: int, batch: Batch) -> None:
        """Write a batch; halve one that is refused until only the rows at fault are dropped."""
        count = len(batch.records)
        tallies = self.tallies()
        after = replace(tallies, stored=tallies.stored + count, queued=max(0, tallies.queued - count))
        try:
            self._ring.write(first_seq, batch, after)
            self._stored += count
        except RejectedRowsError as exc:
            if count == 1:
                self._rejected += 1
                guard.fault("rejected record", exc)
                return
            middle = count // 2
            self._write(first_seq, replace(batch, records=batch.records[:middle]))
            self._write(first_seq + middle, replace(batch, records=batch.records[middle:]))


def _silence() -> UnitOfWork:
    unit = UnitOfWork("writer")
    unit.muted = True
    return unit
