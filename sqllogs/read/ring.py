"""Shared by all readers of the ring: its snapshot, records by number, its version, and a cache of sums.

Used throughout `sqllogs.read`, in the reader's thread; the cache is shared by the threads of a process.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from django.db import connections
from django.db.models import BigIntegerField, Count, F, Func, Max, Min, Q, QuerySet

from sqllogs.models import EPOCH, MICROSECOND, RingHead, RingRow, SQLLog, Unit, slot_ranges
from sqllogs.threads import RLock

Records = QuerySet[SQLLog]
AnyRow = TypeVar("AnyRow", SQLLog, RingRow)

VARIABLES_MAX = 900
"""Variables in one statement; SQLite before 3.32 allows 999."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSnapshot:
    """The state of the ring when a reader begins, so that all parts of an answer agree."""

    seq: int
    """The last number reserved; 0 before the first."""
    capacity: int
    """Slots; 0 before the first record."""
    extremes: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Minima and maxima of blocks, by alias, once read; finding and counting a page must use the same."""

    @property
    def oldest(self) -> int:
        """The lowest number that can be in the ring; a slot with a lower one is stale."""
        return max(1, self.seq - self.capacity + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """By a column, then by number."""

    column: str = "seq"
    descending: bool = True

    def flipped(self) -> "Ordering":
        return Ordering(column=self.column, descending=not self.descending)


class Position(NamedTuple):
    """The position after this record, in the requested order."""

    seq: int
    value: float | None = None
    """Its value in the column of the ordering; None if that is the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of the records to read."""

    ordering: Ordering
    limit: int
    after: Position | None = None
    offset: int = 0
    fields: tuple[str, ...] = ()
    """Of each record; () for all."""


def utc_now() -> datetime:
    """Return the time of an answer; `timezone.now()` is naive where the project has USE_TZ=False."""
    return datetime.now(UTC)


def ring() -> RingSnapshot:
    return state()[0]


def in_ring(filtered: Records, ring: RingSnapshot) -> Records:
    """Leave out stale records, and those written after the snapshot."""
    return filtered.filter(seq__gte=ring.oldest, seq__lte=ring.seq)


def since(filtered: Records, ring: RingSnapshot, first: int) -> Records:
    """Leave out records before a number, by primary key, so that the rest of the ring is not read."""
    return between(filtered, ring, max(first, ring.oldest), ring.seq)


def between(filtered: QuerySet[AnyRow], ring: RingSnapshot, first: int, last: int) -> QuerySet[AnyRow]:
    """Select the numbers from `first` to `last` by primary key, if they can be in the ring."""
    if first > last:
        return filtered.none()
    slots = Q()
    # By slot, the primary key, because `seq` alone would read the whole ring; and by `seq`, because a slot
    # can still have a number of the previous round.
    for run in slot_ranges(first, last, ring.capacity):
        slots |= Q(slot__range=run)
    return filtered.filter(slots, seq__gte=first, seq__lte=last)


def at_seqs(ring: RingSnapshot, seqs: Iterable[int]) -> Iterator[Records]:
    """Select the slots of some numbers by primary key; an overwritten record has another number."""
    for slots in chunks([seq % ring.capacity for seq in seqs]):
        yield SQLLog.objects.filter(slot__in=slots)


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Split values into lists that fit into the parameters of one statement."""
    for first in range(0, len(values), VARIABLES_MAX):
        yield values[first : first + VARIABLES_MAX]


def numbers(ring: RingSnapshot, ordering: Ordering, after: Position | None) -> tuple[int, int]:
    """Return the first and last number after a position, in an order by number."""
    oldest, newest = ring.oldest, ring.seq
    if after is not None and ordering.descending:
        newest = min(newest, after.seq - 1)
    elif after is not None:
        oldest = max(oldest, after.seq + 1)
    return oldest, newest


# As SQL, because eight requests of a dashboard read it before anything else: the ORM takes 1.3 ms, this 0.1.
# MySQL reserves the word STORED; after a dot it is a name.
_STATE = """
    SELECT h.seq, h.capacity, h.epoch, p.* FROM (
        SELECT COUNT(uuid), SUM(captured), SUM(process.stored), MAX(updated_at) FROM sqllogs_process process
    ) p LEFT JOIN sqllogs_ringhead h ON h.id = 1
"""


def state() -> tuple[RingSnapshot, str]:
    """Return the ring, and its version: a text that changes with every batch written.

    Call it before reading the data.
    """
    # The head alone is not enough, because numbers are reserved before their records are written. The counts
    # of a process are written in one transaction with its records.
    with connections[RingHead.objects.db].cursor() as cursor:
        cursor.execute(_STATE)
        row = cursor.fetchone()
    return RingSnapshot(seq=row[0] or 0, capacity=row[1] or 0), repr(row)


def has_records_between(ring: RingSnapshot, one: datetime, other: datetime) -> bool:
    since, until = sorted((one, other))
    if since == until:
        return False
    return in_ring(SQLLog.objects.filter(time__gte=since, time__lt=until), ring).exists()


class Steps(Func):
    """The number of whole steps of a length that fit into a whole number."""

    output_field = BigIntegerField()
    arity = 1
    template = "%(expressions)s / %(length)s"

    def __init__(self, column: str, *, length: int) -> None:
        super().__init__(F(column), length=length)

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # MySQL's / divides integers into a decimal.
        template = "%(expressions)s DIV %(length)s"
        return self.as_sql(compiler, connection, template=template, **extra)


BLOCK_ROWS = 4_096
"""Minimum records of a block; on average a repeated report scans half of two blocks, some 6 ms."""
BLOCKS_MAX = 32
"""A larger ring has larger blocks, because a report sums the parts of each."""
KEPT_MAX_BYTES = 16_000_000
"""Maximum memory of the cached parts in this process."""
REPEATED_WITHIN = 32
"""A report counts as repeated if it is among the last reports of this process; only then it is cached."""
RANGES_MAX = 16
"""Maximum ranges of numbers in one query."""

PartsByBlock = Callable[[Records, int], Iterable[tuple[int, Any]]]
"""Scans records; returns its parts, each with the number of its block of that many records."""


JoinParts = Callable[[Iterable[Any]], list[Any]]
"""Returns parts of which no two have the same keys."""
JOINED = -1
"""Instead of a block's number, in the key of the joined parts of several blocks."""


class JoinedBlocks(NamedTuple):
    """The parts of some blocks, and these parts joined."""

    blocks: list[list[Any]]
    parts: list[Any]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)


class BlockMarks(NamedTuple):
    """A block that will no longer change, and values that show whether the ring still has it."""

    begin_us: int
    end_us: int
    """First and last time of its records."""
    ends: tuple[Any, Any]
    """Columns `_ENDS` of its first and its last record."""


_ENDS = ("time", "duration_us", "statement", "unit")


class Report(NamedTuple):
    """A report that a dashboard requests repeatedly, apart from its time range, which moves."""

    key: str
    """Everything that its parts depend on: the filters, and what is summed."""
    since: datetime | None
    until: datetime | None


class KeptParts:
    """A cache of sums by block of the ring, so that a repeated report scans only new records.

    A dashboard sends the same request for a range that has moved by seconds. Records never change, nor do
    the columns of a unit of work once it has ended. So the parts of a block are final when all its numbers
    are stored and all its requests have ended; a late record has a later number, in another block. Other
    blocks, and those at the ends of the range, are scanned each time. Parts are the same for all readers:
    they contain no text, and searching texts without the permission was refused before.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove everything; also called in a forked child."""
        # Not held while records are read, so two readers may scan the same block.
        self._lock = RLock()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._marks: dict[tuple[str, int], dict[int, BlockMarks]] = {}
        self._parts: OrderedDict[tuple[str, str, int, int], tuple[list[Any], int]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._parts)

    def is_repeated(self, report: Report | None, ring: RingSnapshot) -> bool:
        """Return whether the report was requested recently, and remember that it is now."""
        if report is None or not ring.seq:
            return False
        with self._lock:
            is_repeated = report.key in self._asked
            self._asked[report.key] = None
            self._asked.move_to_end(report.key)
            while len(self._asked) > REPEATED_WITHIN:
                self._asked.popitem(last=False)
        return is_repeated

    def read(
        self,
        records: Records,
        ring: RingSnapshot,
        report: Report,
        scan: PartsByBlock,
        *,
        first: int = 0,
        join: JoinParts | None = None,
    ) -> list[Any]:
        """Return the parts of all matching records from the number `first` on, some of them from the cache.

        With `join`, the cached parts of all blocks are joined, and the result is cached too.
        """
        length = _block_rows(ring)
        first = max(first, ring.oldest)
        blocks = range(first // length, ring.seq // length + 1)
        marks = self._final(records.db, ring, length)
        whole: list[list[Any]] = []
        scanned: list[tuple[int, int]] = []
        final: set[int] = set()
        for block in blocks:
            mark, low, high = marks.get(block), block * length, (block + 1) * length - 1
            if mark is not None and _is_outside(mark, report):
                continue
            if mark is not None and low >= first and _is_inside(mark, report):
                kept = self._get((records.db, report.key, length, block))
                if kept is not None:
                    whole.append(kept)
                    continue
                final.add(block)  # kept once it has been scanned
            scanned.append((max(low, first), min(high, ring.seq)))
        found = self._joined((records.db, report.key, length, JOINED), whole, join)
        new: dict[int, list[Any]] = {block: [] for block in final}
        for records_of_some in in_ranges(records, ring, scanned):
            for block, part in scan(records_of_some, length):
                found.append(part)
                if block in new:
                    new[block].append(part)
        for block, parts in new.items():
            self._put((records.db, report.key, length, block), parts)
        return found

    def _joined(
        self, key: tuple[str, str, int, int], blocks: list[list[Any]], join: JoinParts | None
    ) -> list[Any]:
        if join is None or not blocks:
            return list(chain.from_iterable(blocks))
        kept = self._get(key)
        # The blocks change only every few refreshes, when one becomes final or leaves the range.
        if kept is None or list(map(id, kept[0].blocks)) != list(map(id, blocks)):
            kept = [JoinedBlocks(blocks, join(chain.from_iterable(blocks)))]
            self._put(key, kept)
        return list(kept[0].parts)

    def count(self, alias: str, ring: RingSnapshot) -> int:
        """Count the records that are in the ring; a final block has all of its own."""
        if not ring.seq:
            return 0
        length = _block_rows(ring)
        final = self._final(alias, ring, length)
        rest = [
            (max(block * length, ring.oldest), min((block + 1) * length - 1, ring.seq))
            for block in range(ring.oldest // length, ring.seq // length + 1)
            if block not in final
        ]
        rows = RingRow.objects.using(alias)
        return len(final) * length + sum(some.count() for some in in_ranges(rows, ring, rest))

    def _get(self, key: tuple[str, str, int, int]) -> list[Any] | None:
        with self._lock:
            kept = self._parts.get(key)
            if kept is not None:
                self._parts.move_to_end(key)
        return None if kept is None else kept[0]

    def _put(self, key: tuple[str, str, int, int], parts: list[Any]) -> None:
        size_bytes = 200 + sum(part.size_bytes for part in parts)
        with self._lock:
            self._drop(key)
            self._parts[key] = parts, size_bytes
            self.size_bytes += size_bytes
            while self.size_bytes > KEPT_MAX_BYTES:
                self._drop(next(iter(self._parts)))  # the least recently used, see `_get`

    def _drop(self, key: tuple[str, str, int, int]) -> None:
        _parts, size_bytes = self._parts.pop(key, ((), 0))
        # Zero if empty: what a signal handler raises may come in between, and a sum that stays too high
        # would leave nothing in the cache.
        self.size_bytes = self.size_bytes - size_bytes if self._parts else 0

    def _final(self, alias: str, ring: RingSnapshot, length: int) -> dict[int, BlockMarks]:
        """Return the blocks that are final, and are in the ring."""
        with self._lock:
            known = dict(self._marks.get((alias, length), {}))
        whole = range(-(-ring.oldest // length), (ring.seq + 1) // length)
        marks = _unchanged(alias, ring, length, {b: known[b] for b in whole if b in known})
        stale = [block for block in known if block in whole and block not in marks]
        marks |= _newly_final(alias, ring, length, [block for block in whole if block not in marks])
        with self._lock:
            for key in [key for key in self._parts if key[0] == alias and key[3] in stale]:
                self._drop(key)
            # Another reader may have a newer snapshot: its marks stay.
            self._marks[alias, length] = marks | {b: m for b, m in known.items() if b * length > ring.seq}
        return marks


kept_parts = KeptParts()
# With a new lock: the old one may be held by a thread that the child does not have.
os.register_at_fork(after_in_child=kept_parts.clear)


def _block_rows(ring: RingSnapshot) -> int:
    length = BLOCK_ROWS
    while length * BLOCKS_MAX < ring.capacity:
        length *= 2
    return length


def _is_inside(mark: BlockMarks, report: Report) -> bool:
    since, until = report.since, report.until
    return (since is None or _us(since) <= mark.begin_us) and (until is None or mark.end_us < _us(until))


def _is_outside(mark: BlockMarks, report: Report) -> bool:
    since, until = report.since, report.until
    return (since is not None and mark.end_us < _us(since)) or (
        until is not None and _us(until) <= mark.begin_us
    )


def _us(time: datetime) -> int:
    return (time - EPOCH) // MICROSECOND


def in_ranges(
    records: QuerySet[AnyRow], ring: RingSnapshot, ranges: list[tuple[int, int]]
) -> Iterator[QuerySet[AnyRow]]:
    """Yield querysets for ascending ranges of numbers, as few as possible."""
    joined: list[tuple[int, int]] = []
    for low, high in ranges:
        if joined and joined[-1][1] >= low - 1:
            low, last = joined.pop()
            high = max(high, last)
        joined.append((low, high))
    for start in range(0, len(joined), RANGES_MAX):
        chosen = Q()
        for low, high in joined[start : start + RANGES_MAX]:
            for run in slot_ranges(low, high, ring.capacity):
                chosen |= Q(slot__range=run, seq__range=(low, high))
        yield records.filter(chosen)


def _unchanged(
    alias: str, ring: RingSnapshot, length: int, marks: dict[int, BlockMarks]
) -> dict[int, BlockMarks]:
    """Return the blocks whose first and last record are unchanged: a replaced ring reuses numbers."""
    numbers = {block: (block * length, (block + 1) * length - 1) for block in marks}
    found = _ends(alias, ring, [seq for ends in numbers.values() for seq in ends])
    return {
        block: marks[block]
        for block, (a, b) in numbers.items()
        if (found.get(a), found.get(b)) == marks[block].ends
    }


def _ends(alias: str, ring: RingSnapshot, seqs: list[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for slots in chunks([seq % ring.capacity for seq in seqs]):
        rows = RingRow.objects.using(alias).filter(slot__in=slots)
        found |= {seq: values for seq, *values in rows.values_list("seq", *_ENDS)}
    return found


def _newly_final(alias: str, ring: RingSnapshot, length: int, blocks: list[int]) -> dict[int, BlockMarks]:
    """Return the blocks that have all their records and whose requests have all ended."""
    if not blocks:
        return {}
    # A request gets route, view and status late; a command or task has its name from the start. A slot that
    # is only reserved has an empty kind.
    open_units = Unit.objects.using(alias).filter(Q(kind="request", ended_at=None) | Q(kind=""))
    ranges = open_units.values_list("first_seq", "last_seq")
    # Limited to these blocks, because a slot that is only reserved covers all numbers.
    oldest, newest = min(blocks), max(blocks)
    unready = {
        block
        for low, high in ranges
        for block in range(max(oldest, low // length), min(newest, high // length) + 1)
    }
    found: dict[int, BlockMarks] = {}
    rows = RingRow.objects.using(alias)
    for block in blocks:
        first, last = block * length, (block + 1) * length - 1
        if block in unready:
            continue
        figures = between(rows, ring, first, last).aggregate(Count("slot"), Min("time"), Max("time"))
        if figures["slot__count"] == length:  # otherwise a slower writer has not stored its part yet
            ends = _ends(alias, ring, [first, last])
            found[block] = BlockMarks(
                figures["time__min"], figures["time__max"], (ends.get(first), ends.get(last))
            )
    return found
