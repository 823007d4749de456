"""Totals and percentiles of the ring's records, by statement, view, database or another column.

One scan returns the totals. Call sites, routes and repeats are read from the newest records, because grouping
the whole ring by these too takes twice as long. Used by `sqllogs.read.stats`, `series` and `statement`, in
the reader's thread.
"""

from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from sys import getsizeof
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import (
    Aggregate,
    Count,
    ExpressionWrapper,
    F,
    FloatField,
    Max,
    Min,
    QuerySet,
    Sum,
    TextField,
    Value,
)

from sqllogs.models import EPOCH, MICROSECOND
from sqllogs.read.records import fingerprint_of, statements, table_names
from sqllogs.read.ring import (
    VARIABLES_MAX,
    Records,
    Report,
    RingSnapshot,
    at_seqs,
    in_ring,
    parts_cache,
    since,
)
from sqllogs.sql.normalize import StatementInfo

JOINING_VENDORS = frozenset({"sqlite", "postgresql"})
"""Databases that can return all values of a group as one text; others, such as MySQL, truncate it."""

SEARCHED_RUN = 300
"""Longer runs of sorted durations are searched, not merged: 100,000 in 25 runs take 0.7 ms instead of 12."""

ROWS_MAX = 2**63 - 1
"""The largest integer that the JSON renderer accepts; a larger sum is cut to it."""


class DurationsText(Aggregate):
    """All durations of a group in microseconds, as one text separated by commas.

    The reader computes exact percentiles from it in a fifth of the time of a window function.
    """

    output_field = TextField()
    # NULL where the database would truncate the text: `parts` then reads the durations row by row.
    template = "MAX(NULL)"

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "GROUP_CONCAT(CAST(%(expressions)s * 1000 + 0.5 AS INTEGER))"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "STRING_AGG((%(expressions)s * 1000)::bigint::text, ',')"
        return self.as_sql(compiler, connection, template=template, **extra)


class AggregatePart(NamedTuple):
    """The sums of the records that have the same keys."""

    keys: tuple[Any, ...]
    calls: int
    errors: int
    total_ms: float
    max_ms: float
    durations_us: "array[int]"
    """In ascending order."""
    rows: int | None = None
    last_seq: int = 0
    first_seq: int = 0

    @property
    def size_bytes(self) -> int:
        # 450 bytes are the tuple with its keys and numbers, and the array's header.
        return 450 + len(self.durations_us) * self.durations_us.itemsize + _text_bytes(self.keys)


class OriginPart(NamedTuple):
    """How many records have the same keys."""

    keys: tuple[Any, ...]
    calls: int

    @property
    def size_bytes(self) -> int:
        return 200 + _text_bytes(self.keys)


def _text_bytes(keys: tuple[Any, ...]) -> int:
    """Return the memory of texts; each part has its own, because the driver makes one for each row."""
    return sum(getsizeof(key) for key in keys if isinstance(key, str))


_SUMS: dict[str, Aggregate] = {
    "sum_calls": Count("*"),
    "sum_errors": Count("error"),
    "sum_duration_ms": Sum("duration_ms"),
    "max_duration_ms": Max("duration_ms"),
    "durations": DurationsText("duration_ms", output_field=TextField()),
}
# SQLite also sorts each further column: 10 ms per 100,000 records, 20 ms for a time, which is text.
_MORE: dict[str, Aggregate] = {
    # As floats: a sum beyond 64 bits is an error on SQLite.
    "sum_rows": Sum(ExpressionWrapper(F("rows") * Value(1.0), output_field=FloatField())),
    "last_seq": Max("seq"),
    "first_seq": Min("seq"),
}


@dataclass(slots=True, kw_only=True)
class Figures:
    """The totals of one group; None if unknown."""

    calls: int = 0
    errors: int = 0
    total_ms: float = 0.0
    max_ms: float | None = None
    rows: int | None = None
    last_seq: int = 0
    """Number of the newest record."""
    first_seq: int = 0
    """Number of the oldest record."""
    _runs_us: list[Sequence[int]] = field(default_factory=list)
    """Each in ascending order, none empty."""

    def add(self, part: AggregatePart) -> None:
        self.calls += part.calls
        self.errors += part.errors
        self.total_ms += part.total_ms
        self.max_ms = max(self.max_ms or 0.0, part.max_ms)
        if part.rows is not None:
            self.rows = min((self.rows or 0) + part.rows, ROWS_MAX)
        self.last_seq = max(self.last_seq, part.last_seq)
        # 0 before the first part.
        self.first_seq = min(self.first_seq or part.first_seq, part.first_seq)
        if part.durations_us:
            self._runs_us.append(part.durations_us)

    @property
    def mean_ms(self) -> float | None:
        return self.total_ms / self.calls if self.calls else None

    @property
    def p50_ms(self) -> float | None:
        return self._percentile_ms(50)

    @property
    def p95_ms(self) -> float | None:
        return self._percentile_ms(95)

    @property
    def p99_ms(self) -> float | None:
        return self._percentile_ms(99)

    def calls_upto(self, ends_us: Iterable[int]) -> list[int]:
        """Return the number of calls that took at most each of these numbers of microseconds."""
        return [_count_upto(self._runs_us, end_us) for end_us in ends_us]

    def _percentile_ms(self, percent: int) -> float | None:
        """Return the duration that this percentage of calls does not exceed, exact to the microsecond."""
        calls = sum(map(len, self._runs_us))
        if not calls:
            return None
        if len(self._runs_us) > 1 and calls < SEARCHED_RUN * len(self._runs_us):
            # The runs are sorted already: Python merges them in a fifth of the time of sorting.
            self._runs_us = [sorted(chain.from_iterable(self._runs_us))]
        # The nearest rank, rounded up, as in the statistics.
        return _at_rank(self._runs_us, -(-percent * calls // 100)) / 1000


def _count_upto(runs_us: Sequence[Sequence[int]], end_us: int) -> int:
    if len(runs_us) == 1:
        return bisect_right(runs_us[0], end_us)
    return sum(bisect_right(run_us, end_us) for run_us in runs_us)


def _at_rank(runs_us: Sequence[Sequence[int]], rank: int) -> int:
    """Return the value at this rank, from 1, of all runs together, without merging them."""
    if len(runs_us) == 1:
        return runs_us[0][rank - 1]
    low, high = min(run_us[0] for run_us in runs_us), max(run_us[-1] for run_us in runs_us)
    while low < high:
        middle = (low + high) // 2
        if _count_upto(runs_us, middle) < rank:
            low = middle + 1
        else:
            high = middle
    return low


def can_join_values(rows: QuerySet[Any, Any]) -> bool:
    """Return whether the database can join the values of a group; otherwise the reader joins them."""
    return connections[rows.db].vendor in JOINING_VENDORS


def parts(records: Records, *keys: str, more: bool = True) -> Iterator[AggregatePart]:
    """Group records by columns or annotations; `rows` and `last_seq` are read only with `more`."""
    sums = _SUMS | _MORE if more else _SUMS
    found = records.order_by().values(*keys).annotate(**sums).values_list(*keys, *sums)
    width = len(keys)
    texts = {} if can_join_values(records) else _joined(records, keys)
    for row in fetch(found):
        calls, errors, total_ms, max_ms, durations, *rest = row[width:]
        durations = durations or texts.get(row[:width])
        rows, last_seq, first_seq = rest or (None, 0, 0)
        rows = None if rows is None else min(int(rows), ROWS_MAX)
        yield AggregatePart(
            row[:width], calls, errors, total_ms or 0.0, max_ms or 0.0, _sorted_array(durations),
            rows, last_seq, first_seq,
        )  # fmt: skip


def _sorted_array(text: str | None) -> "array[int]":
    durations_us = sorted(map(int, text.split(","))) if text else []
    # Four bytes are enough below 71 minutes.
    return array("I" if not durations_us or durations_us[-1] < 1 << 32 else "Q", durations_us)


def report_parts(
    records: Records, ring: RingSnapshot, report: Report | None, *keys: str, more: bool = True
) -> list[AggregatePart]:
    """Return `parts` of the ring; a repeated report reuses the parts of its earlier scans.

    The same keys may come several times.
    """

    def scan(some: Records, *block: str) -> Iterator[AggregatePart]:
        return parts(some, *block, *keys, more=more)

    return parts_cache.read(records, ring, report, scan, joined_parts)


def joined_parts(parts: Iterable[AggregatePart]) -> list[AggregatePart]:
    """Add the parts up that have the same keys."""
    by_keys: dict[tuple[Any, ...], list[AggregatePart]] = defaultdict(list)
    for part in parts:
        by_keys[part.keys].append(part)
    return [_sum_of(keys, some) for keys, some in by_keys.items()]


def _sum_of(keys: tuple[Any, ...], parts: Sequence[AggregatePart]) -> AggregatePart:
    figures = Figures()
    for part in parts:
        figures.add(part)
    typecode = max(part.durations_us.typecode for part in parts)  # Q, for longer ones, is behind I
    return AggregatePart(
        keys, figures.calls, figures.errors, figures.total_ms, figures.max_ms or 0.0,
        array(typecode, sorted(chain.from_iterable(part.durations_us for part in parts))),
        figures.rows, figures.last_seq, figures.first_seq,
    )  # fmt: skip


def _joined(records: Records, keys: tuple[str, ...]) -> dict[tuple[Any, ...], str]:
    """Return the texts of `DurationsText`; keys that are equal by the collation share one."""
    found: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for *key, duration_ms in fetch(records.order_by().values_list(*keys, "duration_ms")):
        # Rounded as SQLite's DurationsText does.
        found[tuple(key)].append(str(int(duration_ms * 1000 + 0.5)))
    return {key: ",".join(texts) for key, texts in found.items()}


def fetch(queryset: QuerySet[Any, Any]) -> Iterable[tuple[Any, ...]]:
    """Return rows without Django's converters, which take as long as the query itself."""
    compiler = queryset.query.get_compiler(using=queryset.db)
    return chain.from_iterable(compiler.execute_sql() or ())


def as_time(value: Any) -> datetime:
    """Convert a time as the database returns it: microseconds for records, else text in UTC on SQLite."""
    if isinstance(value, int):
        return EPOCH + value * MICROSECOND
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


GROUPS = (
    "fingerprint", "route", "view", "call_site", "alias", "kind", "operation", "table", "release", "service",
    "host",
)  # fmt: skip
"""The values of `group_by`."""

OF_STATEMENT = ("operation", "table")
"""Columns of the statement, not of the record, so records are grouped by fingerprint first."""

NEWEST_ROWS = 10_000
"""Number of records from which call sites, routes and repeats are read."""

GroupValue = str | None


@dataclass(slots=True, kw_only=True)
class Group(Figures):
    """All matching records with the same value of the column that is grouped by."""

    group: GroupValue


@dataclass(slots=True, kw_only=True)
class Origins:
    """The routes and call sites of a group's newest records, by number of calls."""

    routes: Counter[str] = field(default_factory=Counter)
    call_sites: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    units: int = 0
    """Known units of work that sent these calls."""


BY_STATEMENT = ("fingerprint", *OF_STATEMENT)


def group_column(group_by: str) -> str:
    """Return the column of the ring by which a group is read."""
    # By number: the database would format the fingerprint of each record, which doubles the time.
    return "statement_number" if group_by in BY_STATEMENT else group_by


def groups(
    filtered: Records, ring: RingSnapshot, group_by: str, report: Report | None = None
) -> tuple[list[Group], float]:
    """Return the groups of all matching records, in no particular order, and their total time."""
    found = report_parts(filtered, ring, report, group_column(group_by))
    value_of = GroupValues(group_by, {part.keys[0] for part in found})
    made: dict[GroupValue, Group] = {}
    for part in found:
        for value in value_of[part.keys[0]]:
            (made.get(value) or made.setdefault(value, Group(group=value))).add(part)
    return list(made.values()), sum(part.total_ms for part in found)


def newest(filtered: Records, ring: RingSnapshot) -> Records:
    return since(filtered, ring, ring.seq - NEWEST_ROWS + 1)


def origins(
    filtered: Records,
    ring: RingSnapshot,
    group_by: str,
    wanted: Collection[GroupValue],
    *,
    with_units: bool = True,
    with_call_sites: bool = True,
    report: Report | None = None,
) -> dict[GroupValue, Origins]:
    """Return the origins of groups, from the newest records; from all for groups that these do not have."""
    key = group_column(group_by)
    columns = (key, "route", "call_site") if with_call_sites else (key, "route")
    found = _add_origins(_newest_origins(filtered, ring, columns, report), group_by)
    if with_units:
        _count_units(found, newest(filtered, ring), key, group_by)
    missing = sorted(value for value in wanted if value is not None and value not in found)[:VARIABLES_MAX]
    # The ring has no column for an operation or a table.
    if missing and group_by not in OF_STATEMENT:
        rest = in_ring(filtered, ring).filter(**{f"{group_by}__in": missing})
        more = _add_origins(_origin_parts(rest, *columns), group_by)
        if with_units:
            _count_units(more, rest, key, group_by)
        found |= more
    return found


def _newest_origins(
    filtered: Records, ring: RingSnapshot, columns: tuple[str, ...], report: Report | None
) -> list[OriginPart]:
    def scan(some: Records, *block: str) -> Iterator[OriginPart]:
        return _origin_parts(some, *block, *columns)

    return parts_cache.read(filtered, ring, report, scan, _joined_origins, first=ring.seq - NEWEST_ROWS + 1)


def _joined_origins(parts: Iterable[OriginPart]) -> list[OriginPart]:
    calls: Counter[tuple[Any, ...]] = Counter()
    for part in parts:
        calls[part.keys] += part.calls
    return [OriginPart(keys, count) for keys, count in calls.items()]


def _origin_parts(records: Records, *keys: str) -> Iterator[OriginPart]:
    # dict.fromkeys(), because the group itself may be the route or the call site.
    counted = records.order_by().values(*dict.fromkeys(keys)).annotate(calls=Count("slot"))
    for row in fetch(counted.values_list(*keys, "calls")):
        yield OriginPart(row[:-1], row[-1])


def _add_origins(parts: Iterable[OriginPart], group_by: str) -> dict[GroupValue, Origins]:
    parts = list(parts)
    value_of = GroupValues(group_by, {part.keys[0] for part in parts})
    made: dict[GroupValue, Origins] = {}
    for (found, route, *call_sites), calls in parts:
        for value in value_of[found]:
            one = made.get(value) or made.setdefault(value, Origins())
            if route:
                one.routes[route] += calls
            for call_site in filter(None, call_sites):
                one.call_sites[call_site] += calls
    return made


def _count_units(found: dict[GroupValue, Origins], records: Records, key: str, group_by: str) -> None:
    """Add calls and the units that sent them; a unit counts once for each value of the column."""
    counted = (
        records.filter(unit_id__isnull=False)
        .order_by()
        .values(key)
        .annotate(calls=Count("slot"), units=Count("unit", distinct=True))
    )
    rows = list(fetch(counted.values_list(key, "calls", "units")))
    value_of = GroupValues(group_by, {row[0] for row in rows})
    for value, calls, units in rows:
        for label in value_of[value]:
            if label in found:
                found[label].calls += calls
                # Several statements are one operation or table; a unit that sent two of them counts twice.
                found[label].units = units if group_by not in OF_STATEMENT else found[label].units + units


class GroupValues:
    """Map the value of a column to its groups: a statement can use several tables."""

    def __init__(self, group_by: str, found: Iterable[Any]) -> None:
        self._group_by = group_by
        self._fingerprints: dict[Any, str] = {}
        if group_by in BY_STATEMENT:
            self._fingerprints = {number: fingerprint_of(number) for number in found}
        self._several = group_by == "table"
        self._statements: Mapping[str, StatementInfo] = {}
        if group_by in OF_STATEMENT:
            self._statements = statements(self._fingerprints.values())

    def __getitem__(self, key: Any) -> tuple[GroupValue, ...]:
        if self._group_by not in BY_STATEMENT:
            return (key,)
        fingerprint = self._fingerprints[key]
        if self._group_by == "fingerprint":
            return (fingerprint,)
        statement = self._statements.get(fingerprint)
        if statement is None:
            return (None,)
        if not self._several:
            return (statement.operation,)
        return tuple(table_names(statement)) or (None,)


def times_by_seq(ring: RingSnapshot, seqs: Iterable[int]) -> dict[int, datetime]:
    """Return the times of records by their numbers; overwritten ones are left out."""
    return {seq: as_time(time) for seq, time in columns_by_seq(ring, seqs, "time")}


def columns_by_seq(ring: RingSnapshot, seqs: Iterable[int], *columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield number and columns of records by their numbers; overwritten ones are left out."""
    for chosen in at_seqs(ring, seqs):
        yield from fetch(chosen.values_list("seq", *columns))
