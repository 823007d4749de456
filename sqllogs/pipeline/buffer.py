"""Buffer captured queries between the threads that send them and the writer's thread.

`Buffer` is filled by `sqllogs.capture.wrapper` in any thread, without a lock, and drained by
`sqllogs.pipeline.delivery` in the writer's thread. Queries that do not fit are still counted: `Overflow`
keeps 32 bytes of each. `OpenFetches` keeps queries whose cursor is still fetching, in the writer's thread.
"""

import time
from collections import deque
from collections.abc import Container, Iterable
from contextlib import suppress
from itertools import count, repeat, starmap
from operator import itemgetter
from struct import Struct
from sys import getsizeof
from typing import Any, NamedTuple, cast

from sqllogs import guard
from sqllogs.capture import FETCH, SQL, TIME_NS, UNIT, Captured, Fetch
from sqllogs.context import UnitOfWork
from sqllogs.threads import SimpleQueue, Tally

RECORD_BYTES = 450
"""Memory of a captured tuple with its items, without the statement's text (measured: 449)."""

ASCII_BYTES = getsizeof("")
"""Size of an ASCII string without its characters, which take one byte each."""

PLAIN_CHARACTERS = 1023 - RECORD_BYTES - ASCII_BYTES
"""A record with an ASCII statement of at most this length counts as one KiB."""


ENTRIES_SHARE = 10
"""The overflow has room for this many times BUFFER_ROWS; by default for 20,000 queries a second for 15 s."""
OPEN_MAX = 1_000
"""Maximum open cursors in the overflow; beyond it, the oldest is counted with the rows fetched so far."""
EVICT_AFTER_S = 1.0
"""Texts and units of work are evicted one to two times this long after they were last used."""
GROUPED_FROM = 10
"""If the overflow has at least this many queries of one form and unit of work, they are resolved together."""
NS_PER_MINUTE = 60 * 10**9
_ENTRY = Struct("<IIqqq")
"""Numbers of form and unit, time and duration in nanoseconds, rows or -1: 32 bytes."""
_Entry = tuple[int, int, int, int, int]


class Surplus(NamedTuple):
    """Overflowed queries of one form, unit of work and minute; one record stands for all of them."""

    slowest: Captured
    durations_us: list[int]
    rows: int
    last_s: int
    """Seconds since the epoch."""


class Drained(NamedTuple):
    """Queries taken from the overflow: counted, but not stored."""

    single: list[Captured]
    """In the order of their times; resolved like any other query."""
    grouped: list[Surplus]
    """Groups of similar queries; resolving them takes a fifth of the time."""

    @property
    def calls(self) -> int:
        return len(self.single) + sum(len(one.durations_us) for one in self.grouped)

    def without_muted(self) -> "Drained":
        return Drained(
            [one for one in self.single if not is_muted(one)],
            [one for one in self.grouped if not is_muted(one.slowest)],
        )


def is_muted(captured: Captured) -> bool:
    unit = captured[UNIT]
    return unit is not None and unit.muted


class _Numbers:
    """Numbers that stand for values shared by many queries; 0 if there is no room. Any thread, no lock."""

    def __init__(self, kib_max: int) -> None:
        self._kib_max = kib_max
        self._kib: deque[None] = deque()
        self._next = count(1).__next__
        self._numbers: dict[Any, int] = {}
        self.get = self._numbers.get
        self._values: dict[int, tuple[Any, int]] = {}
        self._old: list[int] = []

    def add(self, key: Any, value: Any, kib: int) -> int:
        if len(self._kib) >= self._kib_max:
            return 0
        number = self._next()
        self._kib.extend(repeat(None, kib))
        self._values[number] = value, kib  # first, because another thread may use the number at once
        self._numbers[key] = number
        return number

    def __getitem__(self, number: int) -> Any:
        return self._values[number][0]

    def evict(self, in_use: Container[int]) -> None:
        """Remove the numbers that existed at the previous call; a thread may still be using newer ones."""
        for number in self._old:
            if number not in in_use:
                for _ in range(self._values.pop(number)[1]):
                    self._kib.pop()
        self._old = list(self._values)
        # Values that are used again get new numbers; threads that have read an old one can still use it.
        self._numbers.clear()


class Overflow:
    """Queries beyond the buffer's bounds, reduced to what is needed to count them.

    Any thread adds to it without a lock, as to the buffer. The writer drains it even while the store is
    unavailable, in a fraction of the time that records take. Why not counters in the caller's thread: they
    lose updates between threads, and a histogram needs many. Why not only a longer buffer: the writer may be
    waiting for the database while it fills up.
    """

    def __init__(self, *, rows_max: int, kib_max: int) -> None:
        # A third of BUFFER_BYTES at most; an eighth is for texts, a quarter for units.
        self._bytes_max = min(ENTRIES_SHARE * rows_max * _ENTRY.size, (kib_max << 10) // 3)
        self._entries = bytearray()
        self._forms = _Numbers(kib_max // 8)
        self._units = _Numbers(kib_max // 4)
        self._open: deque[tuple[_Entry, Fetch]] = deque()
        """Queries whose cursor has not fetched all rows yet."""
        self._evicted_at_s = 0.0
        self.lost = 0
        """Entries whose text or unit was evicted before they were read; only for the thread that drains."""

    @property
    def is_half_full(self) -> bool:
        return len(self._entries) * 2 >= self._bytes_max

    def add(self, captured: Captured) -> bool:
        """Note a query; return False if there is no room for it either."""
        if len(self._entries) >= self._bytes_max:
            return False
        try:
            (
                time_ns, execute_ns, sql, sql_length, sql_hash, alias, vendor, many, in_transaction,
                rowcount, error, sqlstate, unit, _, code, lasti,
            ) = captured[:FETCH]  # fmt: skip
            # A bool, because each number of parameter sets would otherwise be a separate form.
            is_many = many is not False
            same = (sql, sql_length, sql_hash, alias, vendor, is_many, in_transaction, error, sqlstate)
            # By id(), because hashing a code object walks its bytecode; the values keep code and unit alive.
            key = (same, id(code), lasti)
            form = self._forms.get(key) or self._forms.add(key, (*same, code, lasti), record_kib(captured))
            number = self._units.get(id(unit)) or self._units.add(id(unit), unit, 1)
            if not form or not number:
                return False
            entry = form, number, time_ns, execute_ns, rowcount
            if fetch := captured[FETCH]:
                self._open.append((entry, fetch))
            else:
                self._note(entry)
            # Two per query added, so that the list shrinks; most cursors have finished by the next query.
            self._finish(2)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            return False
        return True

    def _finish(self, most: int, *, wait: bool = True) -> None:
        """Count the finished ones of the `most` oldest open queries; without `wait` the unfinished too."""
        for _ in range(min(most, len(self._open))):
            with suppress(IndexError):
                entry, fetch = self._open.popleft()  # IndexError: another thread has taken it
                if wait and not fetch.is_complete and len(self._open) < OPEN_MAX:
                    self._open.append((entry, fetch))
                else:
                    self._note(self._with_fetch(entry, fetch))

    def _with_fetch(self, entry: _Entry, fetch: Fetch) -> _Entry:
        form, unit, time_ns, execute_ns, rowcount = entry
        if fetch.rows < 0:
            return entry
        if fetch.error is not None:
            *same, _, _, code, lasti = self._forms[form]
            failed = (*same, *fetch.error)
            key = (failed, id(code), lasti)
            form = self._forms.get(key) or self._forms.add(key, (*failed, code, lasti), 1) or form
        return form, unit, time_ns, execute_ns + fetch.fetch_ns, max(rowcount, fetch.rows)

    def _note(self, entry: _Entry) -> None:
        form, unit, time_ns, duration_ns, rows = entry
        # All 32 bytes in one call, so that threads cannot interleave. Bounded, because a driver may report
        # any number of rows.
        self._entries.extend(_ENTRY.pack(form, unit, time_ns, duration_ns, min(rows, 1 << 62)))

    def units(self) -> set[UnitOfWork]:
        """Return the units of work with cursors that are still fetching."""
        found = (self._units[entry[1]] for entry, _ in list(self._open))
        return {unit.whole for unit in found if unit is not None}

    def drain(self, entries_max: int, *, wait: bool) -> Drained:
        """Remove and return the oldest entries; for one thread at a time."""
        self._finish(len(self._open), wait=wait)
        size = min(entries_max * _ENTRY.size, len(self._entries))
        packed = bytes(self._entries[:size])
        del self._entries[:size]
        cells: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        for form, unit, time_ns, duration_ns, rows in _ENTRY.iter_unpack(packed):
            key = form, unit, time_ns // NS_PER_MINUTE
            found = cells.get(key)
            if found is None:
                cells[key] = [(duration_ns, time_ns, rows)]
            else:
                found.append((duration_ns, time_ns, rows))
        drained = Drained([], [])
        for (form, unit, _), queries in cells.items():
            self._unpack(form, unit, queries, drained)
        drained.single.sort(key=itemgetter(0))
        # Also if nothing was drained: it may be empty because there is no room for a new text.
        if not self._entries and time.monotonic() - self._evicted_at_s > EVICT_AFTER_S:
            self._evict()
        return drained

    def _evict(self) -> None:
        self._evicted_at_s = time.monotonic()
        waiting = [entry for entry, _ in list(self._open)]
        self._forms.evict({form for form, *_ in waiting})
        self._units.evict({unit for _, unit, *_ in waiting})

    def _unpack(self, form: int, unit: int, queries: list[tuple[int, int, int]], drained: Drained) -> None:
        try:
            *first, error, sqlstate, code, lasti = self._forms[form]
            last = error, sqlstate, self._units[unit], None, code, lasti, None, None, None, None
        except KeyError:  # evicted, because the thread was suspended for a second before it added its entry
            self.lost += len(queries)
            return
        if len(queries) < GROUPED_FROM:
            drained.single.extend(
                cast(Captured, (time_ns, duration_ns, *first, rows, *last))
                for duration_ns, time_ns, rows in queries
            )
            return
        duration_ns, time_ns, rows = max(queries)
        surplus = Surplus(
            cast(Captured, (time_ns, duration_ns, *first, rows, *last)),
            [duration_ns // 1000 for duration_ns, _, _ in queries],
            sum(rows for _, _, rows in queries if rows > 0),
            max(time_ns for _, time_ns, _ in queries) // 10**9,
        )
        drained.grouped.append(surplus)


class Buffer:
    """Captured queries, bounded in rows and bytes; one that does not fit is dropped and only counted.

    Producers take no lock: each step is a single C call on a deque or an `itertools.count`, so a signal
    handler or `__del__` may enter at any point.
    """

    def __init__(self, *, rows_max: int, bytes_max: int) -> None:
        self.rows_max = rows_max
        # In KiB, so that a record needs only one item of a deque, or a few.
        self.kib_max = bytes_max >> 10
        # Half full, so that a burst is written before the buffer overflows.
        self.wake_at_kib = min(rows_max, self.kib_max) // 2
        self._rows: deque[Captured] = deque()
        self._extra_kib: deque[None] = deque()
        """One item per KiB beyond a record's first: len() of a deque is exact in any thread, unlike `+=`."""
        self.drained = 0
        """Records taken out so far, counted by the thread that drains."""
        self.dropped = {"buffer_rows": Tally(), "buffer_bytes": Tally()}
        """Records missing in the ring, but not in the statistics."""
        self.uncounted = Tally()
        """Records missing in the statistics too."""
        self.overflow = Overflow(rows_max=rows_max, kib_max=self.kib_max)
        self.waker: SimpleQueue[SimpleQueue[bool] | None] = SimpleQueue()
        """An item wakes the writer: None, or the queue for a flush's answer. Reentrant, unlike an Event."""
        self._woken = False

    def put(self, captured: Captured) -> None:
        """Append a record, or only count it; in the caller's thread."""
        rows = len(self._rows)
        held_kib = rows + len(self._extra_kib)
        if rows >= self.rows_max:
            self._drop("buffer_rows", captured)
            return
        if held_kib >= self.kib_max:
            self._drop("buffer_bytes", captured)
            return
        sql = captured[SQL]
        if len(sql) > PLAIN_CHARACTERS or not sql.isascii():
            # Before the record, because the writer pops as many items for it.
            self._extra_kib.extend(repeat(None, _extra_kib(sql)))
        self._rows.append(captured)
        if held_kib >= self.wake_at_kib and not self._woken:
            # Two threads may get here at once; the writer then wakes up twice.
            self._woken = True
            self.waker.put(None)

    def _drop(self, reason: str, captured: Captured) -> None:
        (self.dropped[reason] if self.overflow.add(captured) else self.uncounted).add()
        if self.overflow.is_half_full and not self._woken:
            self._woken = True
            self.waker.put(None)

    def drain(self, rows_max: int) -> list[Captured]:
        """Remove and return the oldest records; for one thread at a time."""
        # First, so that records put from now on can wake the writer again.
        self._woken = False
        drained: list[Captured] = []
        rows = min(rows_max, len(self._rows))
        # One C call, so that an exception of a signal handler cannot lose a record that was just removed.
        drained.extend(starmap(self._rows.popleft, repeat((), rows)))
        self.drained += rows
        for captured in drained:
            sql = captured[SQL]
            if len(sql) > PLAIN_CHARACTERS or not sql.isascii():
                for _ in range(_extra_kib(sql)):
                    self._extra_kib.pop()
        return drained

    def move_to(self, other: "Buffer") -> None:
        """Put the records into another buffer; several threads may do this at once."""
        with suppress(IndexError):
            while True:
                other.put(self._rows.popleft())

    def drops(self) -> dict[str, int]:
        """Return the number of records dropped so far, by reason."""
        return {reason: tally.value for reason, tally in self.dropped.items()} | {
            "uncounted": self.uncounted.value
        }

    @property
    def captured(self) -> int:
        """Records put so far, dropped ones included."""
        return self.drained + len(self._rows) + sum(self.drops().values())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def oldest_ns(self) -> int | None:
        """Wall time of the oldest record; only for the thread that drains."""
        return self._rows[0][TIME_NS] if self._rows else None

    @property
    def held_bytes(self) -> int:
        """Upper bound of the memory of the buffered records."""
        return (len(self._rows) + len(self._extra_kib)) << 10


def record_kib(captured: Captured) -> int:
    """Return how many KiB a record counts for."""
    return 1 + _extra_kib(captured[SQL])


def _extra_kib(sql: str) -> int:
    """Return how many KiB a record takes beyond its first."""
    # getsizeof() looks up a method; for ASCII texts it would be a third of the cost of put().
    text_bytes = len(sql) + ASCII_BYTES if sql.isascii() else getsizeof(sql)
    return (text_bytes + RECORD_BYTES) >> 10


WAIT_MAX_S = 60.0
"""After this long, a query is stored with the rows fetched so far."""
WAIT_MAX_KIB = 1024
"""Memory of the queries that wait; beyond it, further ones are stored at once. Each takes at least 1 KiB."""


class OpenFetches:
    """Queries whose cursor is still fetching; they wait here so that they are stored with all their rows.

    There are few: most requests fetch within milliseconds, but a loop over a server-side cursor may take
    minutes. Only for the writer's thread, except `len()`.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Captured]] = []
        """Each with its deadline, oldest first."""
        self._kib = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def units(self) -> set[UnitOfWork]:
        """Return the units of work of these queries."""
        return {query[UNIT].whole for _, query in self._waiting if query[UNIT] is not None}

    def split_ready(self, drained: Iterable[Captured], *, wait: bool) -> list[Captured]:
        """Return the queries to store now, earlier ones last; without `wait` all of them."""
        if not wait:
            ready, self._waiting, self._kib = [*drained, *(query for _, query in self._waiting)], [], 0
            return ready
        now_s = time.monotonic()
        waiting, self._waiting, self._kib = self._waiting, [], 0
        late = [
            captured for until_s, captured in waiting if until_s <= now_s or not self._keep(captured, until_s)
        ]
        until_s = now_s + WAIT_MAX_S
        # `_keep` is called only for the few that are not done.
        ready = [
            captured
            for captured in drained
            if (fetch := captured[FETCH]) is None or fetch.done or not self._keep(captured, until_s)
        ]
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
