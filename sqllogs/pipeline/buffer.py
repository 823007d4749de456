"""Hold captured queries between the caller's threads and the writer's.

Fed by `sqllogs.capture.wrapper` in any thread, drained by `sqllogs.pipeline.writer` in its own.
Producers take no lock: every step is one C call on a deque or an
itertools.count, so a signal handler or a `__del__` may enter at any point.

Hold back queries whose cursor is still at work, so that they are stored with all their rows.

Fed by `sqllogs.pipeline.delivery` with what it has drained, in the writer's thread. Few
are: a request fetches within milliseconds, a loop over a server-side cursor may
take minutes.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count, repeat
from queue import SimpleQueue
from sys import getsizeof
from threading import RLock

from sqllogs.record import FETCH, SQL, Captured

RECORD_BYTES = 450
"""A captured tuple with its numbers and its `Fetch`, without the statement's text (measured: 449)."""

ASCII_BYTES = getsizeof("")
"""Of a text of ASCII beside its characters, of which each is one byte."""

PLAIN_CHARACTERS = 1023 - RECORD_BYTES - ASCII_BYTES
"""Up to here a record with a text of ASCII is within its first KiB."""


class Tally:
    """A counter that many threads add to without a lock."""

    __slots__ = ("_count", "_lock", "_reads", "add")

    def __init__(self) -> None:
        self._count = count()
        self._reads = 0
        self._lock = RLock()
        self.add: Callable[[], int] = self._count.__next__

    @property
    def value(self) -> int:
        with self._lock:  # reading takes a number as well, which is taken off again
            self._reads += 1
            return next(self._count) - self._reads + 1


class Buffer:
    """Bounded in rows and in bytes; what is over the bound is dropped, newest first, and counted.

    Bytes are counted in whole KiB: one for each record, and one in `_ledger`
    for each further KiB of its text. len() of a deque is exact in any thread,
    where `+=` on an integer would drift.
    """

    def __init__(self, *, rows_max: int, bytes_max: int) -> None:
        self.rows_max = rows_max
        self.kib_max = bytes_max >> 10
        self.wake_at_kib = min(rows_max, self.kib_max) // 2
        self._rows: deque[Captured] = deque()
        self._ledger: deque[None] = deque()
        self.captured = Tally()
        self.dropped = {"buffer_rows": Tally(), "buffer_bytes": Tally()}
        self.waker: SimpleQueue[SimpleQueue[bool] | None] = SimpleQueue()
        """An item wakes the writer: None, or where to answer a flush. It is re-entrant, an Event is not."""
        self._woken = False

    def put(self, captured: Captured) -> None:
        """Append in the caller's thread, or drop and count."""
        self.captured.add()
        rows = len(self._rows)
        held_kib = rows + len(self._ledger)
        if rows >= self.rows_max:
            self.dropped["buffer_rows"].add()
            return
        if held_kib >= self.kib_max:
            self.dropped["buffer_bytes"].add()
            return
        sql = captured[SQL]
        if len(sql) > PLAIN_CHARACTERS or not sql.isascii():
            self._ledger.extend(repeat(None, _extra_kib(sql)))
        self._rows.append(captured)
        if held_kib >= self.wake_at_kib and not self._woken:
            self._woken = True
            self.waker.put(None)

    def drain(self, rows_max: int) -> list[Captured]:
        """Take the oldest records; the writer's thread only."""
        self._woken = False
        drained = []
        popleft = self._rows.popleft
        for _ in range(min(rows_max, len(self._rows))):
            captured = popleft()
            drained.append(captured)
            for _ in range(_extra_kib(captured[SQL])):
                self._ledger.pop()
        return drained

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def oldest_ns(self) -> int | None:
        """Wall time of the record that waits longest; for the thread that drains."""
        return self._rows[0][0] if self._rows else None

    @property
    def held_bytes(self) -> int:
        """Upper bound of the memory waiting now."""
        return (len(self._rows) + len(self._ledger)) << 10


def kib_of(captured: Captured) -> int:
    """Return what a record counts for."""
    return 1 + _extra_kib(captured[SQL])


def _extra_kib(sql: str) -> int:
    """Return the KiB of a record beyond its first."""
    # getsizeof() is a search for a method, a third of what the buffer takes in the caller's thread.
    text_bytes = len(sql) + ASCII_BYTES if sql.isascii() else getsizeof(sql)
    return (text_bytes + RECORD_BYTES) >> 10


WAIT_MAX_S = 60.0
"""After this long a query is stored with what has been fetched so far."""
WAIT_MAX_KIB = 1024
"""Likewise when those waiting before it take up this much memory; each takes 1 KiB or more."""


class OpenFetches:
    """For one thread, but `len`, which any may ask for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Captured]] = []
        """Each with the moment up to which it is waiting, oldest first."""
        self._kib = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def split_ready(self, drained: Iterable[Captured], *, wait: bool) -> list[Captured]:
        """Return what is to be stored now, what has been waiting last; wait back nothing unless told to."""
        now_s = time.monotonic()
        waiting, self._waiting, self._kib = self._waiting, [], 0
        late = [
            captured
            for until_s, captured in waiting
            if until_s <= now_s or not (wait and self._keep(captured, until_s))
        ]
        until_s = now_s + WAIT_MAX_S
        ready = [captured for captured in drained if not (wait and self._keep(captured, until_s))]
        return ready + late

    def _keep(self, captured: Captured, until_s: float) -> bool:
        fetch = captured[FETCH]
        if fetch is None or fetch.is_complete:
            return False
        self._kib += kib_of(captured)
        if self._kib > WAIT_MAX_KIB:
            return False
        self._waiting.append((until_s, captured))
        return True
