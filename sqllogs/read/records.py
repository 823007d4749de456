"""Read records from the ring as the API's JSON, once or as they arrive, and the events marked in charts.

Newest first needs no sorting, because that is the order of the slots: from the newest record down to slot 0,
then from the last slot down. Serializers or model instances would take seven times as long. Called by API,
page, admin and terminal, in the reader's thread.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, cast

from django.db import connections
from django.db.models import F, FloatField, Func, Q, QuerySet, TextField, Value
from django.db.models.functions import Coalesce

from sqllogs.models import EPOCH, MICROSECOND, Event, RingRow, SQLLog, Statement, slot_ranges
from sqllogs.read.block_index import Index
from sqllogs.read.ring import (
    AnyRow,
    Ordering,
    Position,
    Records,
    RingSnapshot,
    Window,
    at_seqs,
    chunks,
    in_ring,
    numbers,
    parts_cache,
)
from sqllogs.read.ring import ring as current
from sqllogs.record import COLUMNS, FIELD_TYPES, FIELDS, RecordJSON
from sqllogs.sql.normalize import StatementInfo
from sqllogs.storage import blocks
from sqllogs.storage.blocks import UNKNOWN

Row = tuple[Any, ...]
"""The values of COLUMNS as the driver gives them; the time is in microseconds since the epoch."""

GAP_TIMEOUT_S = 30.0
"""How long to wait for a reserved number, because a killed writer never writes its records."""

WINDOW_ROWS = 20_000
"""Records read at once."""


@lru_cache(maxsize=64)
def _compiled(chosen: tuple[str, ...]) -> Callable[..., dict[str, Any]]:
    """Compile a function that makes a dict of some fields, or all, from COLUMNS and the statement's fields.

    As namedtuple does: it takes half as long as dict(zip(...)), which matters for a page of 1,000 records.
    """
    values = dict(zip(FIELDS, FIELDS, strict=True)) | {"id": "seq"}
    values |= {name: f"bool({name})" for name, kind in FIELD_TYPES.items() if kind is bool}  # SQLite has 0, 1
    of_statement = [name for name in FIELDS if name not in COLUMNS and name != "id"]
    # An unknown name is a KeyError here, so no text of a client is evaluated.
    pairs = ", ".join(f"{name!r}: {values[name]}" for name in chosen or FIELDS)
    return eval(f"lambda {', '.join([*COLUMNS, *of_statement])}: {{{pairs}}}")  # type: ignore[no-any-return]  # noqa: S307


_OF_STATEMENT = frozenset(FIELDS) - frozenset(COLUMNS) - {"id"}
_TIME = COLUMNS.index("time")


def record_json(
    row: Row, statement: StatementInfo | None, *, with_text: bool, fields: tuple[str, ...] = ()
) -> RecordJSON:
    """Return the record of a row; if the statement's text is not stored, only its fingerprint is known."""
    make = _compiled(fields)
    if statement is None:
        record = make(*row, sql=None, operation=None, tables=[])
    else:
        sql = statement.sql if with_text else None
        record = make(*row, sql=sql, operation=statement.operation, tables=table_names(statement))
    if "time" in record:
        record["time"] = rfc3339(EPOCH + row[_TIME] * MICROSECOND)
    return cast(RecordJSON, record)


def table_names(statement: StatementInfo) -> list[str]:
    return statement.tables.split(",") if statement.tables else []


def rfc3339(time: datetime) -> str:
    """Return a time with six digits of a second; a naive one is UTC already, as SQLite keeps it."""
    if time.tzinfo not in (None, UTC):
        time = time.astimezone(UTC)
    return f"{time.isoformat(timespec='microseconds')[:26]}Z"  # without +00:00


def epoch_ms(time: str) -> float:
    """Return a time written by `rfc3339` as milliseconds since 1970."""
    return datetime.fromisoformat(time).timestamp() * 1000


SEQ, FINGERPRINT = COLUMNS.index("seq"), COLUMNS.index("fingerprint")

ATTEMPTS = 3
"""Attempts to read a page whose records are being overwritten."""


def count(filtered: Records, ring: RingSnapshot, cap: int) -> int:
    """Count up to `cap` records."""
    if (index := _index(filtered, ring)) is not None:
        return index.count(ring.oldest, ring.seq, cap)
    return in_ring(filtered, ring)[:cap].count()


def count_after(place: Position, filtered: Records, ring: RingSnapshot, ordering: Ordering, cap: int) -> int:
    """Count up to `cap` records after a position, by number: the rest of a scan begun by a page."""
    if (index := _index(filtered, ring)) is not None:
        return index.count(*numbers(ring, ordering, place), cap)
    counted = 0
    for run in _runs(filtered, ring, ordering, place):
        if counted < cap:
            counted += run[: cap - counted].count()
    return counted


def rows(filtered: Records, ring: RingSnapshot, window: Window) -> list[Row]:
    """Read a window of filtered records."""
    found: list[Row] = []
    for _ in range(ATTEMPTS):
        index = _index(filtered, ring, window.ordering.column)
        if index is None and window.ordering.column == "seq":
            return _by_number(filtered, ring, window)
        seqs = _by_value(filtered, ring, window) if index is None else index.window(window)
        found = _numbered(seqs, ring, _columns(window.fields, window.ordering.column))
        if len(found) == len(seqs):
            break
        ring = current()  # some have been overwritten since, and a short page would look like the last one
    return found


def records(found: Iterable[Row], *, with_text: bool, fields: tuple[str, ...] = ()) -> list[RecordJSON]:
    """Return rows with their statements, each fetched once; `fields` are those of the window."""
    found = list(found)
    needs_texts = not fields or not _OF_STATEMENT.isdisjoint(fields)
    texts = statements({row[FINGERPRINT] for row in found}) if needs_texts else {}
    return [
        record_json(row, texts.get(row[FINGERPRINT]), with_text=with_text, fields=fields) for row in found
    ]


def one(ring: RingSnapshot, seq: int, *, with_text: bool) -> RecordJSON | None:
    """Return the record with a number; None if it is not in the ring."""
    if not ring.oldest <= seq <= ring.seq:
        return None
    found = records(_fetch(SQLLog.objects.filter(slot=seq % ring.capacity, seq=seq)), with_text=with_text)
    return found[0] if found else None


def has_records_between(ring: RingSnapshot, one: datetime, other: datetime) -> bool:
    """Return whether the ring has a record from the earlier time on, before the later one."""
    since, until = sorted((one, other))
    if since == until:
        return False
    return in_ring(SQLLog.objects.filter(time__gte=since, time__lt=until), ring).exists()


def count_all(ring: RingSnapshot) -> int:
    return parts_cache.count(RingRow.objects.all().db, ring)


@lru_cache(maxsize=8)
def _oldest_sql(alias: str, vendor: str) -> str:
    """Compile the query of `oldest_record` once: every report starts with it, and the ORM takes 0.6 ms.

    Executed as SQL it takes 0.1. Its parameters are the first and last slot, and the first and last number.
    """
    rows = RingRow.objects.using(alias).filter(slot__range=(0, 0)).filter(seq__range=(0, 0)).order_by("slot")
    compiler = rows.values_list("seq", "time")[:1].query.get_compiler(using=alias)
    return str(compiler.as_sql()[0])


def oldest_record(ring: RingSnapshot) -> tuple[int, datetime] | None:
    """Return number and time of the oldest record."""
    if not ring.seq:
        return None
    connection = connections[RingRow.objects.db]
    sql = _oldest_sql(connection.alias, connection.vendor)
    with connection.cursor() as cursor:
        for low, high in slot_ranges(ring.oldest, ring.seq, ring.capacity):
            cursor.execute(sql, [low, high, ring.oldest, ring.seq])
            if row := cursor.fetchone():
                return row[0], EPOCH + row[1] * MICROSECOND
    return None


def _index(filtered: Records, ring: RingSnapshot, column: str = "seq") -> Index | None:
    """Return the index of a large ring if it can help with the filter or the ordering."""
    if ring.capacity < blocks.INDEXED_FROM_ROWS:
        return None
    needed = filtered.query.where if column == "seq" else column in blocks.NUMBERS
    return Index.for_filters(filtered, ring) if needed else None


def _numbered(seqs: Sequence[int], ring: RingSnapshot, columns: Sequence[Any]) -> list[Row]:
    """Return the records of some numbers, in their order, without those overwritten in the meantime."""
    found = {row[SEQ]: row for chosen in at_seqs(ring, seqs) for row in _fetch(chosen, columns)}
    return [found[seq] for seq in seqs if seq in found]


def _by_number(filtered: Records, ring: RingSnapshot, window: Window) -> list[Row]:
    found: list[Row] = []
    skip, columns = window.offset, _columns(window.fields)
    for run in _runs(filtered, ring, window.ordering, window.after):
        want = window.limit - len(found)
        read = _fetch(run[skip : skip + want], columns)
        # Only a run that was skipped entirely has to be counted.
        skip = 0 if read or not skip else skip - run[:skip].count()
        found += read
        if len(found) == window.limit:
            break
    return found


def _runs(
    filtered: QuerySet[AnyRow], ring: RingSnapshot, ordering: Ordering, after: Position | None
) -> list[QuerySet[AnyRow]]:
    """Return the records after a position as one or two runs of slots, in order."""
    first, last = numbers(ring, ordering, after)
    if last < first:
        return []
    ranges = slot_ranges(first, last, ring.capacity)
    ordered = filtered.order_by("-slot" if ordering.descending else "slot")
    return [
        ordered.filter(slot__range=slots, seq__gte=first, seq__lte=last)
        for slots in (reversed(ranges) if ordering.descending else ranges)
    ]


def _by_value(filtered: Records, ring: RingSnapshot, window: Window) -> list[int]:
    """Return the numbers of a window: sorting whole rows would join units and sources to each."""
    descending = window.ordering.descending
    ordered = in_ring(filtered, ring).alias(key=_key(window.ordering.column))
    if window.after is not None:
        seq, value = window.after
        beyond = "lt" if descending else "gt"
        ordered = ordered.filter(Q(**{f"key__{beyond}": value}) | Q(**{"key": value, f"seq__{beyond}": seq}))
    names = ("-key", "-seq") if descending else ("key", "seq")
    chosen = ordered.order_by(*names)[window.offset : window.offset + window.limit]
    return [row[0] for row in _fetch(chosen, ["seq"])]


def _key(column: str) -> Coalesce:
    # Databases sort NULL differently; here unknown values sort below all known ones.
    return Coalesce(F(column), Value(UNKNOWN), output_field=FloatField())


class UTCText(Func):
    """A time as RFC 3339 text; creating and formatting a `datetime` takes four times as long."""

    arity = 1
    output_field = TextField()

    template = "%(expressions)s"  # elsewhere it is left as it is

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # SQLite stores a whole second without its fraction.
        template = "replace(substr(%(expressions)s || '.000000', 1, 26), ' ', 'T') || 'Z'"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
        return self.as_sql(compiler, connection, template=template, **extra)


def _columns(fields: tuple[str, ...], *others: str) -> Sequence[Any]:
    """Return what to select: NULL for each column that no field needs, so that all keep their places."""
    if not fields:
        return COLUMNS
    needed = {"seq", *fields, *others}
    if not _OF_STATEMENT.isdisjoint(fields):
        needed.add("fingerprint")
    return [name if name in needed else Value(None, output_field=TextField()) for name in COLUMNS]


def _fetch(queryset: Records, columns: Sequence[Any] = COLUMNS) -> list[Row]:
    # Without field converters, which take as long as the query itself.
    compiler = queryset.values_list(*columns).query.get_compiler(using=queryset.db)
    return list(chain.from_iterable(compiler.execute_sql()))


def fingerprint_of(statement: int) -> str:
    """Return the fingerprint of `SQLLog.statement_number`."""
    return f"{statement & 0xFFFF_FFFF_FFFF_FFFF:016x}"


Texts = Mapping[str, StatementInfo]
ReadTexts = Callable[[Iterable[str]], Texts]
"""Returns the texts of some fingerprints, as `statements` does, and possibly others."""


def statements(fingerprints: Iterable[str]) -> dict[str, StatementInfo]:
    """Return the texts that are kept, by fingerprint."""
    found: dict[str, StatementInfo] = {}
    for wanted in chunks(sorted(fingerprints)):
        chosen = Statement.objects.filter(fingerprint__in=wanted)
        for row in chosen.values_list(*StatementInfo._fields):
            found[row[0]] = StatementInfo(*row)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """What was found since the last poll."""

    rows: list[Row]
    """Oldest first, except for late ones."""
    overwritten: int = 0
    """Records that the ring lost before they could be read."""
    unwritten: int = 0
    """Numbers that were reserved and not written in time; the tail no longer waits for them."""


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    until_s: float


class RingTail:
    """Follow the ring for one reader: each record comes once, although writers overtake each other."""

    def __init__(self, filtered: Records, after: int) -> None:
        self._filtered = filtered
        self._last = after
        # Numbers are reserved before they are written, so slower writers leave gaps that are filled later.
        self._gaps: list[_Gap] = []

    def poll(self) -> Iterator[Poll]:
        """Yield what is new, in chunks of WINDOW_ROWS."""
        now = current()
        yield self._late(now)
        while self._last < now.seq:
            yield self._next(now)

    def _next(self, now: RingSnapshot) -> Poll:
        first = max(self._last + 1, now.oldest)
        overwritten = first - self._last - 1
        self._last = min(now.seq, first + WINDOW_ROWS - 1)
        found = self._read(_Gap(first, self._last, time.monotonic() + GAP_TIMEOUT_S), now)
        return Poll(rows=found, overwritten=overwritten)

    def _late(self, now: RingSnapshot) -> Poll:
        gaps, self._gaps = self._gaps, []
        found: list[Row] = []
        overwritten = unwritten = 0
        for gap in gaps:
            overwritten += max(0, min(gap.last + 1, now.oldest) - gap.first)
            gap.first = max(gap.first, now.oldest)
            if gap.first > gap.last:
                continue
            found += self._read(gap, now)
            # What is still missing has become new gaps, with the same deadline.
        expired = [gap for gap in self._gaps if time.monotonic() >= gap.until_s]
        unwritten = sum(gap.last - gap.first + 1 for gap in expired)
        self._gaps = [gap for gap in self._gaps if gap not in expired]
        return Poll(rows=found, overwritten=overwritten, unwritten=unwritten)

    def _read(self, span: _Gap, now: RingSnapshot) -> list[Row]:
        """Read the numbers of a span; remember those not written yet."""
        # First find what is written. A record written after that stays a gap and is not read twice.
        there = _written_seqs(span.first, span.last, now)
        self._remember(span, there)
        if not there:
            return []
        window = Window(
            ordering=Ordering(descending=False),
            limit=span.last - span.first + 1,
            after=Position(span.first - 1),
        )
        up_to = RingSnapshot(seq=span.last, capacity=now.capacity)
        known = set(there)
        return [row for row in rows(self._filtered, up_to, window) if row[0] in known]

    def _remember(self, span: _Gap, there: list[int]) -> None:
        expected = span.first
        for seq in [*there, span.last + 1]:
            if seq > expected:
                self._gaps.append(_Gap(expected, seq - 1, span.until_s))
            expected = seq + 1


def _written_seqs(first: int, last: int, now: RingSnapshot) -> list[int]:
    """Return the numbers of a span that have been written, in order."""
    found: list[int] = []
    for slots in slot_ranges(first, last, now.capacity):
        chosen = SQLLog.objects.filter(slot__range=slots, seq__gte=first, seq__lte=last)
        found += chosen.order_by("slot").values_list("seq", flat=True)
    return found


MARKS_MAX = 20
"""Maximum events that are marked in a chart."""


def read_marks(since: datetime, until: datetime, services: Sequence[str] = ()) -> list[Event]:
    """Return the deploys and migrations to mark in a chart, the newest MARKS_MAX, in order of time."""
    matching = events_between(since, until).filter(kind__in=("deploy", "migration"))
    if services:
        matching = matching.filter(service__in=services)
    return list(reversed(matching[:MARKS_MAX]))


def events_between(since: datetime | None, until: datetime | None) -> QuerySet[Event]:
    """Return the events of a time range, newest first."""
    matching = Event.objects.order_by("-time", "-pk")
    if since is not None:
        matching = matching.filter(time__gte=since)
    if until is not None:
        matching = matching.filter(time__lt=until)
    return matching
