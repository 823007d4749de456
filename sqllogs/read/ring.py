"""Where the ring begins and ends, which part of it is read, and whether it has changed.

Used by all of `sqllogs.read`, in the reader's thread.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db.models import Count, Max, Q, QuerySet, Sum

from sqllogs.models import Process, RingHead, SQLLog, slot_ranges

Records = QuerySet[SQLLog]

VARIABLES_MAX = 900
"""In one statement; SQLite before 3.32 takes 999."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSnapshot:
    """How far the ring has been written, at the moment of reading."""

    seq: int
    """The last number given out, 0 before the first."""
    capacity: int
    """Slots; 0 before the first record."""

    @property
    def oldest(self) -> int:
        """The lowest number that can be in the ring; what a slot holds below it is stale."""
        return max(1, self.seq - self.capacity + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """By a column, and by number where that is equal."""

    column: str = "seq"
    descending: bool = True

    def flipped(self) -> "Ordering":
        return Ordering(column=self.column, descending=not self.descending)


class Position(NamedTuple):
    """A place between two records: behind this one, in the order asked for."""

    seq: int
    value: float | None = None
    """What the record has in the column ordered by, if that is not its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of the records that is to be read."""

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
    found = RingHead.objects.filter(id=1).values_list("seq", "capacity").first()
    seq, capacity = found or (0, 0)
    return RingSnapshot(seq=seq, capacity=capacity)


def in_ring(filtered: Records, ring: RingSnapshot) -> Records:
    """Leave out what slots still hold from before, and what has been written since `ring` was read."""
    return filtered.filter(seq__gte=ring.oldest, seq__lte=ring.seq)


def since(filtered: Records, ring: RingSnapshot, first: int) -> Records:
    """Leave out what is before a number, by the key: the rest of the ring is not read."""
    return between(filtered, ring, max(first, ring.oldest), ring.seq)


def between(filtered: Records, ring: RingSnapshot, first: int, last: int) -> Records:
    """Choose the numbers from `first` to `last`, by the key, of those that can be in the ring."""
    if first > last:
        return filtered.none()
    slots = Q()
    for run in slot_ranges(first, last, ring.capacity):
        slots |= Q(slot__range=run)
    return filtered.filter(slots, seq__gte=first, seq__lte=last)


def at_seqs(ring: RingSnapshot, seqs: Iterable[int]) -> Iterator[Records]:
    """Choose the slots of some numbers, by the key; what has been overwritten has another number by now."""
    for slots in chunks([seq % ring.capacity for seq in seqs]):
        yield SQLLog.objects.filter(slot__in=slots)


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Cut what is asked for into as much as one statement can name."""
    for first in range(0, len(values), VARIABLES_MAX):
        yield values[first : first + VARIABLES_MAX]


def numbers(ring: RingSnapshot, ordering: Ordering, after: Position | None) -> tuple[int, int]:
    """Return the first and the last number that are behind a place in an order by number."""
    oldest, newest = ring.oldest, ring.seq
    if after is not None and ordering.descending:
        newest = min(newest, after.seq - 1)
    elif after is not None:
        oldest = max(oldest, after.seq + 1)
    return oldest, newest


def version() -> str:
    """Return a text that changes with every batch written; read it before what it stands for.

    The head alone would not do: a number is given out before its record is there. What a
    process has stored is written in one transaction with the records.
    """
    head = RingHead.objects.filter(id=1).values_list("seq", "capacity", "epoch").first()
    processes = Process.objects.aggregate(Count("uuid"), Sum("captured"), Sum("stored"), Max("updated_at"))
    return repr((head, *processes.values()))


def has_records_between(ring: RingSnapshot, one: datetime, other: datetime) -> bool:
    since, until = sorted((one, other))
    if since == until:
        return False
    return in_ring(SQLLog.objects.filter(time__gte=since, time__lt=until), ring).exists()
