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
CACHE_MAX_BYTES = 16_000_000
"""Maximum memory of the cached parts in this process."""
REPEATED_WITHIN = 32
"""A report counts as repeated if it is among the last reports of this process; only then it is cached."""
RANGES_MAX = 16
"""Maximum ranges of numbers in one query."""

NumberRange = tuple[int, int]
"""First and last number."""

ScanParts = Callable[..., Iterable[Any]]
"""Scans records; returns parts. Columns given as further arguments come first in the keys of a part."""

JoinParts = Callable[[Iterable[Any]], list[Any]]
"""Returns parts of which no two have the same keys."""

PartsKey = tuple[str, str, int, int]
"""Alias, key of the report, records of a block, and number of the block."""
JOINED = -1
"""Instead of a block's number, in the key of the joined parts of several blocks."""


class Report(NamedTuple):
    """A report that a dashboard requests repeatedly, apart from its time range, which moves."""

    key: str
    """Everything that its parts depend on: the filters, and what is summed."""
    since: datetime | None
    until: datetime | None


class FinalBlock(NamedTuple):
    """A block that will no longer change, and values that show whether the ring still has it."""

    begin_us: int
    end_us: int
    """First and last time of its records, since the epoch."""
    ends: tuple[Any, Any]
    """What `_ENDS` reads of its first and its last record."""

    def is_inside(self, report: Report) -> bool:
        since, until = report.since, report.until
        return (since is None or _us(since) <= self.begin_us) and (until is None or self.end_us < _us(until))

    def is_outside(self, report: Report) -> bool:
        since, until = report.since, report.until
        return (since is not None and self.end_us < _us(since)) or (
            until is not None and _us(until) <= self.begin_us
        )


def _us(time: datetime) -> int:
    return (time - EPOCH) // MICROSECOND


class Division(NamedTuple):
    """The ring, divided into blocks of equal length; those of `sqllogs.storage.blocks` are others."""

    alias: str
    ring: RingSnapshot
    length: int
    """Records of a block."""

    def ends(self, block: int) -> NumberRange:
        return block * self.length, (block + 1) * self.length - 1

    def cut(self, ranges: Iterable[NumberRange]) -> Iterator[tuple[int, NumberRange]]:
        """Cut ranges where a block begins; yield the block of each piece, and the piece."""
        for low, high in ranges:
            for block in range(low // self.length, high // self.length + 1):
                first, last = self.ends(block)
                yield block, (max(low, first), min(high, last))

    def key(self, report: Report, block: int) -> PartsKey:
        return self.alias, report.key, self.length, block

    def scan(self, records: Records, scan: ScanParts, ranges: list[NumberRange]) -> dict[int, list[Any]]:
        """Return the parts of ranges of numbers by the block that they are in."""
        found: dict[int, list[Any]] = defaultdict(list)
        for some in in_ranges(records, self.ring, ranges):
            for part in scan(some.annotate(block=Steps("seq", length=self.length)), "block"):
                found[part.keys[0]].append(part._replace(keys=part.keys[1:]))
        return found


class CachedParts(NamedTuple):
    """The parts of a block, or of several that are joined, for one report."""

    source: Any
    """The `FinalBlock` that was scanned, or those that were joined, by number."""
    parts: list[Any]
    size_bytes: int


class ChosenBlocks(NamedTuple):
    """The blocks of some ranges of numbers, except for those outside the report's time range."""

    cached: dict[int, CachedParts]
    """Those that need not be scanned."""
    final: dict[int, FinalBlock]
    """Those to be cached once they are scanned."""
    rest: list[NumberRange]
    """What is to be scanned, block by block."""


class PartsCache:
    """A cache of sums by block of the ring, so that a repeated report scans only new records.

    A dashboard sends the same request for a range that has moved by seconds. Records never change, nor do
    the columns of a unit of work once it has ended. So the parts of a block are final when all its numbers
    are stored and all its requests have ended; a late record has a later number, in another block. Of other
    blocks, and those at the ends of the range, pieces are cached in the same way, and the rest is scanned
    each time. Parts are the same for all readers: they contain no text, and searching texts without the
    permission was refused before.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove everything; also called in a forked child."""
        # Not held while records are read, so two readers may scan the same block.
        self._lock = RLock()
        self._requested: OrderedDict[str, None] = OrderedDict()
        """The keys of the last reports."""
        self._final: dict[tuple[str, int], dict[int, FinalBlock]] = {}
        """By alias and records of a block, then by number."""
        self._cached: OrderedDict[PartsKey, CachedParts] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._cached)

    def read(
        self,
        records: Records,
        ring: RingSnapshot,
        report: Report | None,
        scan: ScanParts,
        join: JoinParts,
        *,
        first: int = 0,
    ) -> list[Any]:
        """Return the parts of all matching records from the number `first` on, some from earlier scans.

        The same keys may come several times.
        """
        if report is None or not ring.seq or not self._is_repeated(report):
            # Not by block, which splits groups into several parts: a report requested once pays nothing.
            return list(scan(since(records, ring, first) if first else in_ring(records, ring)))
        large = Division(records.db, ring, _block_rows(ring))
        blocks = self._choose(large, report, [(max(first, ring.oldest), ring.seq)])
        joined = self._join_cached(large.key(report, JOINED), blocks.cached, join)
        return [*joined, *self._scan_rest(large, blocks, records, report, scan, join)]

    def _is_repeated(self, report: Report) -> bool:
        """Return whether the report was requested recently, and remember that it is now."""
        with self._lock:
            is_repeated = report.key in self._requested
            self._requested[report.key] = None
            self._requested.move_to_end(report.key)
            while len(self._requested) > REPEATED_WITHIN:
                self._requested.popitem(last=False)
        return is_repeated

    def _choose(self, division: Division, report: Report, ranges: list[NumberRange]) -> ChosenBlocks:
        """Divide the blocks of ranges of numbers into those that are cached and those to be scanned."""
        cut = list(division.cut(ranges))
        final = self._find_final(division, [block for block, _numbers in cut])
        chosen = ChosenBlocks({}, {}, [])
        for block, numbers in cut:
            found = final.get(block)
            if found is not None and found.is_outside(report):
                continue
            if found is not None and numbers == division.ends(block) and found.is_inside(report):
                cached = self._get(division.key(report, block))
                # Not the parts of other records: a replaced ring reuses numbers.
                if cached is not None and cached.source == found:
                    chosen.cached[block] = cached
                    continue
                chosen.final[block] = found
            chosen.rest.append(numbers)
        return chosen

    def _scan_rest(
        self,
        large: Division,
        blocks: ChosenBlocks,
        records: Records,
        report: Report,
        scan: ScanParts,
        join: JoinParts,
    ) -> Iterable[Any]:
        """Return the parts of what is not in a cached block; cache those of blocks and pieces that are final.

        Little more than the newest records is scanned, because pieces are cached too.
        """
        small = large._replace(length=max(1, large.length // PIECES))
        per_block = large.length // small.length
        pieces = self._choose(small, report, blocks.rest)
        # A block without a cached piece is scanned as one, because its pieces have several times the parts.
        complete = blocks.final.keys() - {piece // per_block for piece in pieces.cached}
        by_block = large.scan(records, scan, [large.ends(block) for block in sorted(complete)])
        others = [numbers for numbers in pieces.rest if numbers[0] // large.length not in complete]
        by_piece = small.scan(records, scan, others)
        by_piece.update((piece, cached.parts) for piece, cached in pieces.cached.items())
        for block in blocks.final.keys() - complete:
            inside = range(block * per_block, (block + 1) * per_block)
            # Otherwise the ring has just been overwritten.
            if all(piece in pieces.cached or piece in pieces.final for piece in inside):
                complete.add(block)
                by_block[block] = join(chain.from_iterable(by_piece.pop(piece, ()) for piece in inside))
        for block in complete:
            self._put(large.key(report, block), blocks.final[block], by_block.get(block, []))
        for piece, final in pieces.final.items():
            if piece // per_block not in complete:
                self._put(small.key(report, piece), final, by_piece.get(piece, []))
        return chain.from_iterable(chain(by_block.values(), by_piece.values()))

    def _join_cached(self, key: PartsKey, blocks: dict[int, CachedParts], join: JoinParts) -> list[Any]:
        if not blocks:
            return []
        # By what was scanned, and not the parts themselves, which would stay in memory after their removal.
        sources = [(block, cached.source) for block, cached in blocks.items()]
        parts = [cached.parts for cached in blocks.values()]
        joined = self._get(key)
        if joined is not None and joined.source == sources[: len(joined.source)]:
            # A block becomes final, or leaves the range, every few refreshes: all others find the same ones.
            if joined.source == sources:
                return joined.parts
            parts = [joined.parts, *parts[len(joined.source) :]]
        made = join(chain.from_iterable(parts))
        self._put(key, sources, made)
        return made

    def count(self, alias: str, ring: RingSnapshot) -> int:
        """Count the records that are in the ring; a final block has all of its own."""
        if not ring.seq:
            return 0
        division = Division(alias, ring, _block_rows(ring))
        blocks = dict(division.cut([(ring.oldest, ring.seq)]))
        final = self._find_final(division, blocks)
        rest = [numbers for block, numbers in blocks.items() if block not in final]
        rows = RingRow.objects.using(alias)
        return len(final) * division.length + sum(some.count() for some in in_ranges(rows, ring, rest))

    def _get(self, key: PartsKey) -> CachedParts | None:
        with self._lock:
            cached = self._cached.get(key)
            if cached is not None:
                self._cached.move_to_end(key)
        return cached

    def _put(self, key: PartsKey, source: Any, parts: list[Any]) -> None:
        size_bytes = 200 + sum(part.size_bytes for part in parts)
        with self._lock:
            self._remove(key)
            self._cached[key] = CachedParts(source, parts, size_bytes)
            self.size_bytes += size_bytes
            while self.size_bytes > CACHE_MAX_BYTES:
                self._remove(next(iter(self._cached)))  # the least recently used, see `_get`

    def _remove(self, key: PartsKey) -> None:
        cached = self._cached.pop(key, None)
        size_bytes = 0 if cached is None else cached.size_bytes
        # Zero if empty: what a signal handler raises may come in between, and a sum that stays too high
        # would leave nothing in the cache.
        self.size_bytes = self.size_bytes - size_bytes if self._cached else 0

    def _find_final(self, division: Division, blocks: Iterable[int]) -> dict[int, FinalBlock]:
        """Return those of some blocks that are final, and are in the ring."""
        ring, length = division.ring, division.length
        whole = range(-(-ring.oldest // length), (ring.seq + 1) // length)
        wanted = [block for block in blocks if block in whole]
        with self._lock:
            known = self._final.get((division.alias, length), {})
            known = {block: known[block] for block in wanted if block in known}
        final = _still_there(division, known)
        final |= _newly_final(division, [block for block in wanted if block not in final])
        with self._lock:
            # Those of another reader with a newer snapshot stay.
            kept = self._final.setdefault((division.alias, length), {})
            for block in [b for b in kept if b < whole.start or (b in known and b not in final)]:
                del kept[block]
            kept |= final
        return final


parts_cache = PartsCache()
# With a new lock: the old one may be held by a thread that the child does not have.
os.register_at_fork(after_in_child=parts_cache.clear)


def _block_rows(ring: RingSnapshot) -> int:
    length = BLOCK_ROWS
    while length * BLOCKS_MAX < ring.capacity:
        length *= 2
    return length


def in_ranges(
    records: QuerySet[AnyRow], ring: RingSnapshot, ranges: list[NumberRange]
) -> Iterator[QuerySet[AnyRow]]:
    """Yield querysets for ascending ranges of numbers, as few as possible."""
    joined: list[NumberRange] = []
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


def _still_there(division: Division, blocks: dict[int, FinalBlock]) -> dict[int, FinalBlock]:
    """Return the blocks whose ends are unchanged: a replaced ring reuses numbers."""
    ends = _read_ends(division, blocks)
    return {block: final for block, final in blocks.items() if ends.get(block) == final.ends}


def _read_ends(division: Division, blocks: Iterable[int]) -> dict[int, tuple[Any, Any]]:
    """Return the first and last record of blocks; blocks of which one was overwritten are left out."""
    numbers = {block: division.ends(block) for block in blocks}
    found: dict[int, Any] = {}
    # As SQL, because it is read for each part of a dashboard: the ORM takes 1.5 ms, this 0.2.
    with connections[division.alias].cursor() as cursor:
        for slots in chunks([seq % division.ring.capacity for ends in numbers.values() for seq in ends]):
            cursor.execute(_ENDS + ", ".join(["%s"] * len(slots)) + ")", slots)
            found |= {seq: values for seq, *values in cursor.fetchall()}
    return {
        block: (found[first], found[last])
        for block, (first, last) in numbers.items()
        if first in found and last in found
    }


def _newly_final(division: Division, blocks: list[int]) -> dict[int, FinalBlock]:
    """Return the blocks that have all their records and whose requests have all ended."""
    open_before = _open_blocks(division, blocks)
    ready = [division.ends(block) for block in blocks if block not in open_before]
    times: dict[int, tuple[int, int]] = {}
    for some in in_ranges(RingRow.objects.using(division.alias), division.ring, ready):
        by_block = some.annotate(block=Steps("seq", length=division.length)).values("block")
        figures = by_block.annotate(count=Count("slot"), begin=Min("time"), end=Max("time")).order_by()
        for block, count, begin_us, end_us in figures.values_list("block", "count", "begin", "end"):
            if count == division.length:  # otherwise a slower writer has not stored its part yet
                times[block] = begin_us, end_us
    # Again, because the batch that has completed a block in the meantime may be of a request that goes on.
    open_now = _open_blocks(division, times)
    # Without its ends, the log has been cleared in the meantime.
    ends = _read_ends(division, times)
    return {block: FinalBlock(*times[block], ends[block]) for block in ends if block not in open_now}


def _open_blocks(division: Division, blocks: Collection[int]) -> set[int]:
    """Return those of some blocks that may have records of requests that go on."""
    if not blocks:
        return set()
    # A request gets route, view and status late; a command or task has its name from the start. A slot that
    # is only reserved has an empty kind.
    open_units = Unit.objects.using(division.alias).filter(Q(kind="request", ended_at=None) | Q(kind=""))
    # Limited to these blocks, because a slot that is only reserved covers all numbers.
    oldest, newest = min(blocks), max(blocks)
    return {
        block
        for low, high in open_units.values_list("first_seq", "last_seq")
        for block in range(max(oldest, low // division.length), min(newest, high // division.length) + 1)
    }
