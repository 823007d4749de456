"""Read records out of the ring.

Newest first is read without sorting: it is the order of the slots, from the
newest record's down to 0, then from the last slot on.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from django.db.models import F, FloatField, Func, Q, TextField, Value
from django.db.models.functions import Coalesce

from sqllogs import blocks
from sqllogs.blocks import UNKNOWN
from sqllogs.models import SQLLog, Statement
from sqllogs.queries.index import Index
from sqllogs.queries.places import (
    Ordering,
    Place,
    Records,
    Ring,
    Window,
    chunks,
    holding,
    live,
    numbers,
)
from sqllogs.queries.places import ring as current
from sqllogs.rows import COLUMNS, Record, Row, StatementRow, record
from sqllogs.slots import slot_ranges

SEQ, FINGERPRINT = COLUMNS.index("seq"), COLUMNS.index("fingerprint")

ATTEMPTS = 3
"""At a page whose records are being overwritten."""


def count(filtered: Records, ring: Ring, cap: int) -> int:
    """Count up to `cap` records."""
    if (index := _index(filtered, ring)) is not None:
        return index.count(ring.oldest, ring.seq, cap)
    return live(filtered, ring)[:cap].count()


def count_after(place: Place, filtered: Records, ring: Ring, ordering: Ordering, cap: int) -> int:
    """Count up to `cap` records behind one, by number: the rest of a scan that a page has begun."""
    if (index := _index(filtered, ring)) is not None:
        return index.count(*numbers(ring, ordering, place), cap)
    counted = 0
    for run in _runs(filtered, ring, ordering, place):
        if counted < cap:
            counted += run[: cap - counted].count()
    return counted


def rows(filtered: Records, ring: Ring, window: Window) -> list[Row]:
    """Read a window of the records that a filter has chosen."""
    found: list[Row] = []
    for _ in range(ATTEMPTS):
        index = _index(filtered, ring, window.ordering.column)
        if index is None:
            in_order = _by_number if window.ordering.column == "seq" else _by_value
            return in_order(filtered, ring, window)
        seqs = index.window(window)
        found = _numbered(seqs, ring)
        if len(found) == len(seqs):
            break
        ring = current()  # some have been overwritten since it was read, and a short page would be the last
    return found


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


def _index(filtered: Records, ring: Ring, column: str = "seq") -> Index | None:
    """Return the index of a large ring where there is something to look for that it knows."""
    needed = filtered.query.where if column == "seq" else column in blocks.NUMBERS
    return Index.of(filtered, ring) if needed else None


def _numbered(seqs: Sequence[int], ring: Ring) -> list[Row]:
    """Return the records of some numbers in their order, but for what has been overwritten meanwhile."""
    found = {row[SEQ]: row for chosen in holding(ring, seqs) for row in _fetch(chosen)}
    return [found[seq] for seq in seqs if seq in found]


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
    first, last = numbers(ring, ordering, after)
    if last < first:
        return []
    ranges = slot_ranges(first, last, ring.capacity)
    ordered = filtered.order_by("-slot" if ordering.descending else "slot")
    return [
        ordered.filter(slot__range=slots, seq__gte=first, seq__lte=last)
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


class _Written(Func):
    """A time as RFC 3339 has it; to make a `datetime` of it and a text of that takes four times as long."""

    arity = 1
    output_field = TextField()

    template = "%(expressions)s"  # elsewhere it is left as it is

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # A whole second is kept without its fraction.
        template = "replace(substr(%(expressions)s || '.000000', 1, 26), ' ', 'T') || 'Z'"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
        return self.as_sql(compiler, connection, template=template, **extra)


_READ = tuple(_Written("time") if name == "time" else name for name in COLUMNS)


def _fetch(queryset: Records) -> list[Row]:
    # Without the fields' converters, which take as long as the query itself.
    compiler = queryset.values_list(*_READ).query.get_compiler(using=queryset.db)
    return list(chain.from_iterable(compiler.execute_sql()))


def statements(fingerprints: Iterable[str]) -> dict[str, StatementRow]:
    """Return the texts that are kept, by fingerprint."""
    found: dict[str, StatementRow] = {}
    for wanted in chunks(sorted(fingerprints)):
        chosen = Statement.objects.filter(fingerprint__in=wanted)
        for row in chosen.values_list(*StatementRow._fields):
            found[row[0]] = StatementRow(*row)
    return found
