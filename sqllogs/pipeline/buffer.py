"""Buffer captured queries between the threads that send them and the writer's thread.

`Buffer` is filled by `sqllogs.capture.wrapper` in any thread, without a lock, and drained by
`sqllogs.pipeline.delivery` in the writer's thread. `OpenFetches` then keeps the queries whose
cursor is still fetching, in the writer's thread.
"""

import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import repeat, starmap
from sys import getsizeof

from sqllogs.context import UnitOfWork
from sqllogs.record import FETCH, SQL, UNIT, Captured
from sqllogs.threads import SimpleQueue, Tally

RECORD_BYTES = 450
"""A captured tuple with its numbers and its `Fetch`, without the statement's text (measured: 449)."""

ASCII_BYTES = getsizeof("")
"""Size of an ASCII string without its characters, which take one byte each."""

PLAIN_CHARACTERS = 1023 - RECORD_BYTES - ASCII_BYTES
"""A record with an ASCII statement of at most this length counts as one KiB."""


class Buffer:
    """Bounded in rows and in bytes; a record that does not fit is dropped and counted.

    Producers take no lock: each step is one C call on a deque or an `itertools.count`, so a signal
    handler or a `__del__` may enter at any point.
    """

    def __init__(self, *, rows_max: int, bytes_max: int) -> None:
        self.rows_max = rows_max
        self.kib_max = bytes_max >> 10
        self.wake_at_kib = min(rows_max, self.kib_max) // 2
        self._rows: deque[Captured] = deque()
        self._extra_kib: deque[None] = deque()
        """One item per KiB beyond a record's first: len() of a deque is exact in any thread, `+=` drifts."""
        self.drained = 0
        """Records taken out so far, counted by the thread that drains."""
        self.dropped = {"buffer_rows": Tally(), "buffer_bytes": Tally()}
        self.waker: SimpleQueue[SimpleQueue[bool] | None] = SimpleQueue()
        """An item wakes the writer: None, or the queue for a flush's answer. Re-entrant, unlike an Event."""
        self._woken = False

    def put(self, captured: Captured) -> None:
        """Append a record, or drop and count it; in the caller's thread."""
        rows = len(self._rows)
        held_kib = rows + len(self._extra_kib)
        if rows >= self.rows_max:
            self.dropped["buffer_rows"].add()
            return
        if held_kib >= self.kib_max:
            self.dropped["buffer_bytes"].add()
            return
        sql = captured[SQL]
        if len(sql) > PLAIN_CHARACTERS or not sql.isascii():
            self._extra_kib.extend(repeat(None, _extra_kib(sql)))
        self._rows.append(captured)
        if held_kib >= self.wake_at_kib and not self._woken:
            self._woken = True
            self.waker.put(None)

    def drain(self, rows_max: int) -> list[Captured]:
        """Remove and return the oldest records; for one thread at a time."""
        self._woken = False
        drained: list[Captured] = []
        rows = min(rows_max, len(self._rows))
        # One call in C: what a signal handler raises cannot come between a record's removal and its keeping.
        drained.extend(starmap(self._rows.popleft, repeat((), rows)))
        self.drained += rows
        for captured in drained:
            for _ in range(_extra_kib(captured[SQL])):
                self._extra_kib.pop()
        return drained

    def move_to(self, other: "Buffer") -> None:
        """Put the records into another buffer; several threads may do this at once."""
        with suppress(IndexError):
            while True:
                other.put(self._rows.popleft())

    def drops(self) -> dict[str, int]:
        """Return the number of records dropped so far, by reason."""
        return {reason: tally.value for reason, tally in self.dropped.items()}

    @property
    def captured(self) -> int:
        """Records put so far, dropped ones included."""
        return self.drained + len(self._rows) + sum(self.drops().values())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def oldest_ns(self) -> int | None:
        """Wall time of the oldest record; only for the thread that drains."""
        return self._rows[0][0] if self._rows else None

    @property
    def held_bytes(self) -> int:
        """Upper bound of the memory of the buffered records."""
        return (len(self._rows) + len(self._extra_kib)) << 10


def record_kib(captured: Captured) -> int:
    """Return how many KiB a record counts for."""
    return 1 + _extra_kib(captured[SQL])


def _extra_kib(sql: str) -> int:
    """Return how many KiB a record takes beyond its first."""
    # getsizeof() looks up a method: for ASCII it would be a third of what put() costs the caller.
    text_bytes = len(sql) + ASCII_BYTES if sql.isascii() else getsizeof(sql)
    return (text_bytes + RECORD_BYTES) >> 10


WAIT_MAX_S = 60.0
"""After this long a query is stored with the rows fetched so far."""
WAIT_MAX_KIB = 1024
"""The same when the queries that wait already take this much memory; each takes at least 1 KiB."""


class OpenFetches:
    """Queries whose cursor is still fetching, so that they are stored with all their rows.

    Few are: a request fetches within milliseconds, a loop over a server-side cursor may take minutes.
    For one thread; `len` for any.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Captured]] = []
        """Each with the time until which it waits, oldest first."""
        self._kib = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def units(self) -> set[UnitOfWork]:
        """Return the units of work of these queries."""
        return {query[UNIT].whole for _, query in self._waiting if query[UNIT] is not None}

    def split_ready(self, drained: Iterable[Captured], *, wait: bool) -> list[Captured]:
        """Return the queries to store now, earlier ones last; without `wait` that is all of them."""
        if not wait:
            ready, self._waiting, self._kib = [*drained, *(query for _, query in self._waiting)], [], 0
            return ready
        now_s = time.monotonic()
        waiting, self._waiting, self._kib = self._waiting, [], 0
        late = [
            captured for until_s, captured in waiting if until_s <= now_s or not self._keep(captured, until_s)
        ]
        until_s = now_s + WAIT_MAX_S
        ready = [captured for captured in drained if not self._keep(captured, until_s)]
        return ready + late

    def _keep(self, captured: Captured, until_s: float) -> bool:
        fetch = captured[FETCH]
        if fetch is None or fetch.is_complete:
            return False
        self._kib += record_kib(captured)
        if self._kib > WAIT_MAX_KIB:
            return False
        self._waiting.append((until_s, captured))
        return True
