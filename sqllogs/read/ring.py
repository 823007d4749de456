"""Shared by all readers of the ring: its snapshot, records by number, its version, and a cache of sums.

Used throughout `sqllogs.read`, in the reader's thread; the cache is shared by the threads of a process.
"""

import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
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
"""Minimum records of a block."""
PIECES = 8
"""Of a block: what is in no final block is scanned by piece, some 1.5 of them per report."""
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
    """What `_ENDS` reads of its first and its last record."""


class KeptBlock(NamedTuple):
    """The parts of a block, for one report."""

    mark: BlockMarks | None
    """Of the block, as it was scanned; None for the joined parts of several."""
    parts: list[Any]
    size_bytes: int


PartsKey = tuple[str, str, int, int]
"""Alias, key of the report, records of a block, and number of the block."""


class ChosenBlocks(NamedTuple):
    """The blocks of some ranges of numbers, but for those outside the report's time range."""

    kept: dict[int, list[Any]]
    """The parts of those that need not be scanned."""
    final: dict[int, BlockMarks]
    """To be kept once they are scanned."""
    rest: list[tuple[int, int]]
    """First and last number of what is to be scanned, block by block."""


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
    are stored and all its requests have ended; a late record has a later number, in another block. Of other
    blocks, and those at the ends of the range, pieces are kept in the same way, and the rest is scanned each
    time. Parts are the same for all readers: they contain no text, and searching texts without the permission
    was refused before.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove everything; also called in a forked child."""
        # Not held while records are read, so two readers may scan the same block.
        self._lock = RLock()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._marks: dict[tuple[str, int], dict[int, BlockMarks]] = {}
        self._parts: OrderedDict[PartsKey, KeptBlock] = OrderedDict()
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
        join: JoinParts,
        *,
        first: int = 0,
    ) -> list[Any]:
        """Return the parts of all matching records from the number `first` on, some from earlier scans."""
        alias, length = records.db, _block_rows(ring)
        blocks = self._choose(alias, ring, report, length, [(max(first, ring.oldest), ring.seq)])
        # What is in no kept block is kept by piece, so that little more than the newest records is scanned.
        piece_rows = max(1, length // PIECES)
        pieces = self._choose(alias, ring, report, piece_rows, blocks.rest)
        in_pieces = {piece * piece_rows // length for piece in pieces.kept}
        # A block of which nothing is kept is scanned as one, because its pieces have several times the parts.
        at_once = blocks.final.keys() - in_pieces
        ranges = [ends for ends in pieces.rest if ends[0] // length not in at_once]
        found = _scanned(records, ring, scan, length, [_ends_of(block, length) for block in sorted(at_once)])
        of_pieces = pieces.kept | _scanned(records, ring, scan, piece_rows, ranges)
        for block, mark in blocks.final.items():
            if block not in at_once:
                some = range(block * length // piece_rows, (block + 1) * length // piece_rows)
                if not all(piece in pieces.kept or piece in pieces.final for piece in some):
                    continue  # the ring has just been overwritten
                found[block] = join(chain.from_iterable(of_pieces.pop(piece, ()) for piece in some))
            self._put((alias, report.key, length, block), mark, found.get(block, []))
        for piece, mark in pieces.final.items():
            if piece * piece_rows // length not in found:
                self._put((alias, report.key, piece_rows, piece), mark, of_pieces.get(piece, []))
        kept = self._joined((alias, report.key, length, JOINED), list(blocks.kept.values()), join)
        return [*kept, *chain.from_iterable(chain(found.values(), of_pieces.values()))]

    def _choose(
        self, alias: str, ring: RingSnapshot, report: Report, length: int, ranges: list[tuple[int, int]]
    ) -> ChosenBlocks:
        """Divide the blocks of ranges of numbers into those that are kept and those to be scanned."""
        cut = [
            (block, max(low, block * length), min(high, (block + 1) * length - 1))
            for low, high in ranges
            for block in range(low // length, high // length + 1)
        ]
        marks = self._final(alias, ring, length, [block for block, _low, _high in cut])
        chosen = ChosenBlocks({}, {}, [])
        for block, low, high in cut:
            mark = marks.get(block)
            if mark is not None and _is_outside(mark, report):
                continue
            if mark is not None and (low, high) == _ends_of(block, length) and _is_inside(mark, report):
                parts = self._get((alias, report.key, length, block), mark)
                if parts is not None:
                    chosen.kept[block] = parts
                    continue
                chosen.final[block] = mark
            chosen.rest.append((low, high))
        return chosen

    def _joined(self, key: PartsKey, blocks: list[list[Any]], join: JoinParts) -> list[Any]:
        if not blocks:
            return []
        kept = self._get(key, None)
        # A block becomes final, or leaves the range, every few refreshes: all others find the same blocks.
        known = list(map(id, kept[0].blocks)) if kept else []
        new = list(map(id, blocks))
        if kept and known == new:
            return list(kept[0].parts)
        if kept and known == new[: len(known)]:
            some: Iterable[list[Any]] = (kept[0].parts, *blocks[len(known) :])
        else:
            some = blocks
        joined = JoinedBlocks(blocks, join(chain.from_iterable(some)))
        self._put(key, None, [joined])
        return list(joined.parts)

    def count(self, alias: str, ring: RingSnapshot) -> int:
        """Count the records that are in the ring; a final block has all of its own."""
        if not ring.seq:
            return 0
        length = _block_rows(ring)
        final = self._final(alias, ring, length, range(ring.oldest // length, ring.seq // length + 1))
        rest = [
            (max(block * length, ring.oldest), min((block + 1) * length - 1, ring.seq))
            for block in range(ring.oldest // length, ring.seq // length + 1)
            if block not in final
        ]
        rows = RingRow.objects.using(alias)
        return len(final) * length + sum(some.count() for some in in_ranges(rows, ring, rest))

    def _get(self, key: PartsKey, mark: BlockMarks | None) -> list[Any] | None:
        with self._lock:
            kept = self._parts.get(key)
            # Of other records: a replaced ring reuses numbers.
            if kept is None or kept.mark != mark:
                return None
            self._parts.move_to_end(key)
        return kept.parts

    def _put(self, key: PartsKey, mark: BlockMarks | None, parts: list[Any]) -> None:
        size_bytes = 200 + sum(part.size_bytes for part in parts)
        with self._lock:
            self._drop(key)
            self._parts[key] = KeptBlock(mark, parts, size_bytes)
            self.size_bytes += size_bytes
            while self.size_bytes > KEPT_MAX_BYTES:
                self._drop(next(iter(self._parts)))  # the least recently used, see `_get`

    def _drop(self, key: PartsKey) -> None:
        kept = self._parts.pop(key, None)
        size_bytes = 0 if kept is None else kept.size_bytes
        # Zero if empty: what a signal handler raises may come in between, and a sum that stays too high
        # would leave nothing in the cache.
        self.size_bytes = self.size_bytes - size_bytes if self._parts else 0

    def _final(
        self, alias: str, ring: RingSnapshot, length: int, blocks: Iterable[int]
    ) -> dict[int, BlockMarks]:
        """Return those of some blocks that are final, and are in the ring."""
        whole = range(-(-ring.oldest // length), (ring.seq + 1) // length)
        asked = [block for block in blocks if block in whole]
        with self._lock:
            known = self._marks.get((alias, length), {})
            known = {block: known[block] for block in asked if block in known}
        marks = _still_there(alias, ring, length, known)
        marks |= _newly_final(alias, ring, length, [block for block in asked if block not in marks])
        with self._lock:
            # Those of another reader with a newer snapshot stay.
            kept = self._marks.setdefault((alias, length), {})
            for block in [b for b in kept if b < whole.start or (b in known and b not in marks)]:
                del kept[block]
            kept |= marks
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


_ENDS = "SELECT seq, time, duration_us, statement, unit FROM sqllogs_query WHERE slot IN ("
"""What shows that the first or last record of a block is still the same."""


def _still_there(
    alias: str, ring: RingSnapshot, length: int, marks: dict[int, BlockMarks]
) -> dict[int, BlockMarks]:
    """Return the blocks whose ends are unchanged: a replaced ring reuses numbers."""
    numbers = {block: _ends_of(block, length) for block in marks}
    found = _ends(alias, ring, [seq for ends in numbers.values() for seq in ends])
    return {
        block: marks[block]
        for block, (a, b) in numbers.items()
        if (found.get(a), found.get(b)) == marks[block].ends
    }


def _ends(alias: str, ring: RingSnapshot, seqs: list[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    # As SQL, because it is read for each part of a dashboard: the ORM takes 1.5 ms, this 0.2.
    with connections[alias].cursor() as cursor:
        for slots in chunks([seq % ring.capacity for seq in seqs]):
            cursor.execute(_ENDS + ", ".join(["%s"] * len(slots)) + ")", slots)
            found |= {seq: ends for seq, *ends in cursor.fetchall()}
    return found


def _newly_final(alias: str, ring: RingSnapshot, length: int, blocks: list[int]) -> dict[int, BlockMarks]:
    """Return the blocks that have all their records and whose requests have all ended."""
    open_before = _open_blocks(alias, length, blocks)
    ready = [block for block in blocks if block not in open_before]
    times: dict[int, tuple[int, int]] = {}
    rows = RingRow.objects.using(alias)
    for some in in_ranges(rows, ring, [_ends_of(block, length) for block in ready]):
        by_block = some.annotate(block=Steps("seq", length=length)).values("block")
        figures = by_block.annotate(count=Count("slot"), begin=Min("time"), end=Max("time")).order_by()
        for block, count, begin_us, end_us in figures.values_list("block", "count", "begin", "end"):
            if count == length:  # otherwise a slower writer has not stored its part yet
                times[block] = begin_us, end_us
    # Again, because the batch that has completed a block in the meantime may be of a request that goes on.
    open_now = _open_blocks(alias, length, times)
    ends = _ends(alias, ring, [seq for block in times for seq in _ends_of(block, length)])
    found: dict[int, BlockMarks] = {}
    for block, (begin_us, end_us) in times.items():
        first, last = _ends_of(block, length)
        # Without its ends the log has been cleared in the meantime.
        if block not in open_now and first in ends and last in ends:
            found[block] = BlockMarks(begin_us, end_us, (ends[first], ends[last]))
    return found


def _open_blocks(alias: str, length: int, blocks: Collection[int]) -> set[int]:
    """Return those of some blocks that may have records of requests that go on."""
    if not blocks:
        return set()
    # A request gets route, view and status late; a command or task has its name from the start. A slot that
    # is only reserved has an empty kind.
    open_units = Unit.objects.using(alias).filter(Q(kind="request", ended_at=None) | Q(kind=""))
    # Limited to these blocks, because a slot that is only reserved covers all numbers.
    oldest, newest = min(blocks), max(blocks)
    return {
        block
        for low, high in open_units.values_list("first_seq", "last_seq")
        for block in range(max(oldest, low // length), min(newest, high // length) + 1)
    }


def _ends_of(block: int, length: int) -> tuple[int, int]:
    """Return its first and its last number."""
    return block * length, (block + 1) * length - 1


def _scanned(
    records: Records, ring: RingSnapshot, scan: PartsByBlock, length: int, ranges: list[tuple[int, int]]
) -> dict[int, list[Any]]:
    """Return the parts of ranges of numbers by the block that they are in."""
    found: dict[int, list[Any]] = defaultdict(list)
    for some in in_ranges(records, ring, ranges):
        for block, part in scan(some, length):
            found[block].append(part)
    return found
