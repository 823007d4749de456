"""Totals and percentiles of records of the ring, by statement, view, database or another column.

One scan returns the totals. Call sites, routes and repeats come from short scans of the newest records,
because grouping the whole ring by these as well takes twice as long. Runs in the reader's thread.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import (
    Aggregate,
    BigIntegerField,
    Count,
    ExpressionWrapper,
    F,
    FloatField,
    Func,
    Max,
    Min,
    QuerySet,
    Sum,
    TextField,
    Value,
)

from sqllogs.models import EPOCH, MICROSECOND, SQLLog
from sqllogs.read.records import statements
from sqllogs.read.ring import VARIABLES_MAX, RingSnapshot, at_seqs, in_ring, since
from sqllogs.sql.normalize import StatementInfo

Records = QuerySet[SQLLog]

JOINING_VENDORS = frozenset({"sqlite", "postgresql"})
"""Databases that can return all values of a group as one text; others, such as MySQL, truncate it."""

ROWS_MAX = 2**63 - 1
"""The largest integer that the JSON renderer accepts; a larger sum is cut to it."""


class DurationsText(Aggregate):
    """All durations of a group as one text of whole microseconds, separated by commas.

    From it the reader computes exact percentiles in a fifth of the time of a window function. It is NULL on
    databases that would truncate the text, where `parts` reads the durations row by row.
    """

    output_field = TextField()
    template = "MAX(NULL)"

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "GROUP_CONCAT(CAST(%(expressions)s * 1000 + 0.5 AS INTEGER))"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "STRING_AGG((%(expressions)s * 1000)::bigint::text, ',')"
        return self.as_sql(compiler, connection, template=template, **extra)


class Bucket(Func):
    """The number of whole steps of `step_s` seconds between the epoch and a time."""

    output_field = BigIntegerField()
    arity = 1
    template = "%(expressions)s / %(step_us)s"

    def __init__(self, time: str, *, step_s: int) -> None:
        super().__init__(F(time), step_us=step_s * 1_000_000)

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "%(expressions)s DIV %(step_us)s"
        return self.as_sql(compiler, connection, template=template, **extra)


class AggregatePart(NamedTuple):
    """The sums of the records that have the same keys."""

    keys: tuple[Any, ...]
    calls: int
    errors: int
    total_ms: float
    max_ms: float
    durations: str | None
    rows: int | None = None
    last_seq: int = 0
    first_seq: int = 0


_SUMS: dict[str, Aggregate] = {
    "sum_calls": Count("*"),
    "sum_errors": Count("error"),
    "sum_duration_ms": Sum("duration_ms"),
    "max_duration_ms": Max("duration_ms"),
    "durations": DurationsText("duration_ms", output_field=TextField()),
}
# SQLite sorts each further column along: some 10 ms per 100,000 records, 20 ms for a time, which is a text.
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
    _durations: list[str] = field(default_factory=list)
    _sorted_us: list[int] = field(default_factory=list)

    def add(self, part: AggregatePart) -> None:
        self.calls += part.calls
        self.errors += part.errors
        self.total_ms += part.total_ms
        self.max_ms = max(self.max_ms or 0.0, part.max_ms)
        if part.rows is not None:
            self.rows = min((self.rows or 0) + part.rows, ROWS_MAX)
        self.last_seq = max(self.last_seq, part.last_seq)
        self.first_seq = min(self.first_seq or part.first_seq, part.first_seq)
        if part.durations:
            self._durations.append(part.durations)

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

    def calls_by_us(self) -> Iterator[tuple[float, int]]:
        """Return pairs of a duration in microseconds and the number of calls that took it."""
        return ((duration_us, 1) for duration_us in self._sort())

    def _percentile_ms(self, percent: int) -> float | None:
        """Return the duration that this percentage of calls does not exceed, exact to the microsecond."""
        durations_us = self._sort()
        if not durations_us:
            return None
        rank = -(-percent * len(durations_us) // 100)
        return durations_us[rank - 1] / 1000

    def _sort(self) -> list[int]:
        if self._durations:
            self._sorted_us = sorted([*self._sorted_us, *map(int, ",".join(self._durations).split(","))])
            self._durations = []
        return self._sorted_us


def joins(rows: QuerySet[Any, Any]) -> bool:
    """Return whether the database can join the values of a group; otherwise the reader does."""
    return connections[rows.db].vendor in JOINING_VENDORS


def parts(records: Records, *keys: str, more: bool = True) -> Iterator[AggregatePart]:
    """Group records by columns or annotations; `rows` and `last_seq` are read only with `more`."""
    sums = _SUMS | _MORE if more else _SUMS
    found = records.order_by().values(*keys).annotate(**sums).values_list(*keys, *sums)
    width = len(keys)
    texts = {} if joins(records) else _joined(records, keys)
    for row in fetch(found):
        calls, errors, total_ms, max_ms, durations, *rest = row[width:]
        durations = durations or texts.get(row[:width])
        rows, last_seq, first_seq = rest or (None, 0, 0)
        rows = None if rows is None else min(int(rows), ROWS_MAX)
        yield AggregatePart(
            row[:width], calls, errors, total_ms or 0.0, max_ms or 0.0, durations, rows, last_seq, first_seq
        )


def _joined(records: Records, keys: tuple[str, ...]) -> dict[tuple[Any, ...], str]:
    """Return the texts of `DurationsText`; of keys that the collation considers equal, only of one."""
    found: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for *key, duration_ms in fetch(records.order_by().values_list(*keys, "duration_ms")):
        found[tuple(key)].append(str(int(duration_ms * 1000 + 0.5)))
    return {key: ",".join(texts) for key, texts in found.items()}


def fetch(queryset: QuerySet[Any, Any]) -> Iterable[tuple[Any, ...]]:
    """Return rows without Django's converters, which take as long as the query itself."""
    compiler = queryset.query.get_compiler(using=queryset.db)
    return chain.from_iterable(compiler.execute_sql() or ())


def as_time(value: Any) -> datetime:
    """Convert a time as the database returns it: microseconds of records, on SQLite else text in UTC."""
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
"""Columns of the statement, not of the record: records are grouped by fingerprint first."""

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
    """Units of work that have sent these calls, of those that are known."""


def group_column(group_by: str) -> str:
    """Return the column of the ring by which a group is read."""
    return "fingerprint" if group_by in OF_STATEMENT else group_by


def groups(filtered: Records, ring: RingSnapshot, group_by: str) -> tuple[list[Group], float]:
    """Return the groups of all matching records, in no particular order, and their total time."""
    found = list(parts(in_ring(filtered, ring), group_column(group_by)))
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
) -> dict[GroupValue, Origins]:
    """Return the origins of groups, from the newest records; from all if the newest have none of a group."""
    key = group_column(group_by)
    found = _origins(newest(filtered, ring), key, group_by)
    if with_units:
        _count_units(found, newest(filtered, ring), key, group_by)
    missing = sorted(value for value in wanted if value is not None and value not in found)[:VARIABLES_MAX]
    if missing and group_by not in OF_STATEMENT:
        rest = in_ring(filtered, ring).filter(**{f"{key}__in": missing})
        more = _origins(rest, key, group_by)
        if with_units:
            _count_units(more, rest, key, group_by)
        found |= more
    return found


def _origins(records: Records, key: str, group_by: str) -> dict[GroupValue, Origins]:
    keys = dict.fromkeys((key, "route", "call_site"))
    counted = records.order_by().values(*keys).annotate(calls=Count("slot"))
    rows = list(fetch(counted.values_list(key, "route", "call_site", "calls")))
    value_of = GroupValues(group_by, {row[0] for row in rows})
    made: dict[GroupValue, Origins] = {}
    for found, route, call_site, calls in rows:
        for value in value_of[found]:
            one = made.get(value) or made.setdefault(value, Origins())
            if route:
                one.routes[route] += calls
            if call_site:
                one.call_sites[call_site] += calls
    return made


def _count_units(found: dict[GroupValue, Origins], records: Records, key: str, group_by: str) -> None:
    """Add calls and the units that have sent them; a unit counts once for each value of the column."""
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
                found[label].units = units if group_by not in OF_STATEMENT else found[label].units + units


class GroupValues:
    """Maps the value of a column to its groups; a statement can use several tables."""

    def __init__(self, group_by: str, found: Iterable[Any]) -> None:
        self._of_statement = group_by in OF_STATEMENT
        self._several = group_by == "table"
        self._statements: Mapping[str, StatementInfo] = statements(found) if self._of_statement else {}

    def __getitem__(self, key: Any) -> tuple[GroupValue, ...]:
        if not self._of_statement:
            return (key,)
        statement = self._statements.get(key)
        if statement is None:
            return (None,)
        if not self._several:
            return (statement.operation,)
        return tuple(statement.tables.split(",")) if statement.tables else (None,)


def times_by_seq(ring: RingSnapshot, seqs: Iterable[int]) -> dict[int, datetime]:
    """Return the times of records by their numbers; overwritten ones are left out."""
    return {seq: as_time(time) for seq, time in columns_by_seq(ring, seqs, "time")}


def columns_by_seq(ring: RingSnapshot, seqs: Iterable[int], *columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield number and columns of records by their numbers; overwritten ones are left out."""
    for chosen in at_seqs(ring, seqs):
        yield from fetch(chosen.values_list("seq", *columns))
