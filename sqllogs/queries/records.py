"""Read records out of the ring.

Newest first is read without sorting: it is the order of the slots, from the
newest record's down to 0, then from the last slot on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from django.db.models import F, FloatField, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from sqllogs.models import RingHead, SQLLog, Statement
from sqllogs.rows import COLUMNS, Record, Row, StatementRow, record

Records = QuerySet[SQLLog]

FINGERPRINT = COLUMNS.index("fingerprint")

VARIABLES_MAX = 900
"""In one statement; SQLite before 3.32 takes 999."""

UNKNOWN = -1.0
"""What NULL counts as where records are ordered by a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
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


class Place(NamedTuple):
    """A place between two records: behind this one, in the order asked for."""

    seq: int
    value: float | None = None
    """What the record has in the column ordered by, if that is not its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of the records that is to be read."""

    ordering: Ordering
    limit: int
    after: Place | None = None
    offset: int = 0


def ring() -> Ring:
    found = RingHead.objects.filter(id=1).values_list("seq", "capacity").first()
    seq, capacity = found or (0, 0)
    return Ring(seq=seq, capacity=capacity)


def live(filtered: Records, ring: Ring) -> Records:
    """Leave out what slots still hold from before, and what has been written since `ring` was read."""
    return filtered.filter(seq__gte=ring.oldest, seq__lte=ring.seq)


def since(filtered: Records, ring: Ring, first: int) -> Records:
    """Leave out what is before a number, by the key: the rest of the ring is not read."""
    first = max(first, ring.oldest)
    if first > ring.seq:
        return filtered.none()
    slots = Q()
    for run in slot_ranges(first, ring.seq, ring.capacity):
        slots |= Q(slot__range=run)
    return filtered.filter(slots, seq__gte=first, seq__lte=ring.seq)


def count(filtered: Records, ring: Ring, cap: int) -> int:
    """Count up to `cap` records."""
    return live(filtered, ring)[:cap].count()


def count_after(place: Place, filtered: Records, ring: Ring, ordering: Ordering, cap: int) -> int:
    """Count up to `cap` records behind one, by number: the rest of a scan that a page has begun."""
    counted = 0
    for run in _runs(filtered, ring, ordering, place):
        if counted < cap:
            counted += run[: cap - counted].count()
    return counted


def rows(filtered: Records, ring: Ring, window: Window) -> list[Row]:
    """Read a window of the records that a filter has chosen."""
    in_order = _by_number if window.ordering.column == "seq" else _by_value
    return in_order(filtered, ring, window)


def records(found: Iterable[Row], *, with_text: bool) -> list[Record]:
    """Return rows with their statements, each of which is fetched once."""
    found = list(found)
    texts = statements({row[FINGERPRINT] for row in found})
    return [record(row, texts.get(row[FINGERPRINT]), with_text=with_text) for row in found]


def one(ring: Ring, seq: int, *, with_text: bool) -> Record | None:
    """Look a record up by its number, if it is (still) in the ring."""
    if not ring.oldest <= seq <= ring.seq:
        return None
    found = records(_fetch(SQLLog.objects.filter(slot=seq % ring.capacity, seq=seq)), with_text=with_text)
    return found[0] if found else None


def count_all(ring: Ring) -> int:
    return live(SQLLog.objects.all(), ring).count()


def oldest_record(ring: Ring) -> Record | None:
    window = Window(ordering=Ordering(descending=False), limit=1)
    found = records(rows(SQLLog.objects.all(), ring, window), with_text=False)
    return found[0] if found else None


def slot_ranges(first: int, last: int, capacity: int) -> list[tuple[int, int]]:
    """Return the one or two runs of slots that hold the numbers from `first` to `last`, oldest first."""
    low, high = first % capacity, last % capacity
    return [(low, high)] if low <= high else [(low, capacity - 1), (0, high)]


def _by_number(filtered: Records, ring: Ring, window: Window) -> list[Row]:
    found: list[Row] = []
    skip = window.offset
    for run in _runs(filtered, ring, window.ordering, window.after):
        want = window.limit - len(found)
        read = _fetch(run[skip : skip + want])
        # Only a run that has been skipped as a whole has to be counted for that.
        skip = 0 if read or not skip else skip - run[:skip].count()
        found += read
        if len(found) == window.limit:
            break
    return found


def _runs(filtered: Records, ring: Ring, ordering: Ordering, after: Place | None) -> list[Records]:
    """Return the records behind a place as one or two runs of slots, in order."""
    oldest, newest = ring.oldest, ring.seq
    if after is not None and ordering.descending:
        newest = min(newest, after.seq - 1)
    elif after is not None:
        oldest = max(oldest, after.seq + 1)
    if newest < oldest:
        return []
    ranges = slot_ranges(oldest, newest, ring.capacity)
    ordered = filtered.order_by("-slot" if ordering.descending else "slot")
    return [
        ordered.filter(slot__range=slots, seq__gte=oldest, seq__lte=newest)
        for slots in (reversed(ranges) if ordering.descending else ranges)
    ]


def _by_value(filtered: Records, ring: Ring, window: Window) -> list[Row]:
    descending = window.ordering.descending
    ordered = live(filtered, ring).alias(key=_key(window.ordering.column))
    if window.after is not None:
        seq, value = window.after
        beyond = "lt" if descending else "gt"
        ordered = ordered.filter(Q(**{f"key__{beyond}": value}) | Q(**{"key": value, f"seq__{beyond}": seq}))
    names = ("-key", "-seq") if descending else ("key", "seq")
    return _fetch(ordered.order_by(*names)[window.offset : window.offset + window.limit])


def _key(column: str) -> Coalesce:
    # The databases do not agree on where NULL belongs; unknown is below all that is known.
    return Coalesce(F(column), Value(UNKNOWN), output_field=FloatField())


def _fetch(queryset: Records) -> list[Row]:
    # Without the fields' converters, which take as long as the query itself.
    compiler = queryset.values_list(*COLUMNS).query.get_compiler(using=queryset.db)
    return list(chain.from_iterable(compiler.execute_sql()))


def statements(fingerprints: Iterable[str]) -> dict[str, StatementRow]:
    """Return the texts that are kept, by fingerprint."""
    wanted = sorted(fingerprints)
    found: dict[str, StatementRow] = {}
    for first in range(0, len(wanted), VARIABLES_MAX):
        chosen = Statement.objects.filter(fingerprint__in=wanted[first : first + VARIABLES_MAX])
        for row in chosen.values_list(*StatementRow._fields):
            found[row[0]] = StatementRow(*row)
    return found
