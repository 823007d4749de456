"""Read and filter rows of statistics, and compute means, percentiles and maxima from them.

The database sums as much as it can. Gets the cleaned filters of the API; used by `sqllogs.read.statistics`
and the search for findings, in the reader's thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db.models import Aggregate, BinaryField, Case, F, Max, Min, Q, QuerySet, Sum, Value
from django.db.models.functions import Concat

from sqllogs.models import Statement, Statistic, StatisticKey
from sqllogs.read.aggregates import can_join_values, fetch
from sqllogs.statistics import histogram
from sqllogs.statistics.resolution import MINUTE_S, NEVER_S, Oldest, ResolutionSpan

_OF_KEY = ("alias", "vendor", "kind", "method", "route", "view", "release", "service", "fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Filters of statistics; any of several values matches."""

    since: datetime | None = None
    until: datetime | None = None
    alias: tuple[str, ...] = ()
    vendor: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    fingerprint: tuple[str, ...] = ()
    operation: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    search: str = ""
    of_units: bool = False
    """Whether units of work are counted, not their statements."""
    kept: Oldest | None = None
    """Which rows exist, if already known."""

    @classmethod
    def from_filters(
        cls, cleaned: Mapping[str, Any], kept: Oldest | None = None, *, of_units: bool = False
    ) -> "Where":
        """Take the cleaned parameters of a `SQLLogFilter`; see `choose_source` first."""
        values = {name: tuple(cleaned.get(name) or ()) for name in (*_OF_KEY, "operation", "table")}
        since, until = cleaned.get("from"), cleaned.get("to")
        search = cleaned.get("search") or ""
        return cls(since=since, until=until, search=search, kept=kept, of_units=of_units, **values)

    def signed(self, resolution_s: int) -> int:
        """Return the resolution of the rows to read, which is negative for units."""
        return -resolution_s if self.of_units else resolution_s

    def narrow(self, statistics: QuerySet[Statistic], keys: Q | None = None) -> QuerySet[Statistic]:
        """Apply all filters except time, which depends on the resolution."""
        wanted = keys or Q()
        for name in _OF_KEY:
            if values := getattr(self, name):
                wanted &= Q(**{f"{name}__in": values})
        if self.operation or self.table or self.search:
            wanted &= Q(fingerprint__in=self._statements().using(statistics.db).values("fingerprint"))
        if not wanted:
            return statistics
        # Select keys first: looking up the key of each row takes twice as long as everything else.
        return statistics.filter(key__in=StatisticKey.objects.using(statistics.db).filter(wanted))

    def _statements(self) -> QuerySet[Statement]:
        statements = Statement.objects.alias(listed=Concat(Value(","), "tables", Value(",")))
        if self.operation:
            statements = statements.filter(operation__in=self.operation)
        if self.search:
            statements = statements.filter(sql__icontains=self.search)
        tables = Q()
        for table in self.table:
            tables |= Q(listed__icontains=f",{table},")  # see parameters.TableFilter
        return statements.filter(tables)


class StatisticsSums(NamedTuple):
    """Sums of the rows with equal values in the requested columns."""

    calls: int
    errors: int
    rows: int
    total_us: int
    max_us: int
    last_seen: int
    first_seen: int
    """Start of the first row."""
    durations: bytes
    """Packed, possibly with several counts per range: see `sqllogs.statistics.histogram`."""


Row = tuple[tuple[Any, ...], StatisticsSums]
"""The values of the requested columns, and the sums of the rows that share them."""


class _Joined(Aggregate):
    """Concatenated packed histograms, which is their sum."""

    function = "string_agg"
    template = "%(function)s(%(expressions)s, ''::bytea)"
    output_field = BinaryField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # group_concat() returns the same bytes as text.
        template = "CAST(%(function)s(%(expressions)s, '') AS BLOB)"
        return self.as_sql(compiler, connection, function="group_concat", template=template, **extra)


def rows(
    where: Where,
    spans: Sequence[ResolutionSpan],
    *columns: str,
    keys: Q | None = None,
    step_s: int = MINUTE_S,
    step: Case | None = None,
) -> Iterator[Row]:
    """Sum rows by columns, which may include `time` and `step`, the start of its step.

    `keys` limits the keys. Each span may yield the same columns once.
    """
    found = [
        _summed(_chosen(where, span, keys).annotate(step=step or F("time") - F("time") % step_s), columns)
        for span in spans
    ]
    width = len(columns)
    for row in _fetched(found):
        yield row[:width], StatisticsSums._make(row[width:])


def _summed(found: QuerySet[Statistic, Any], columns: Sequence[str]) -> QuerySet[Statistic, Any]:
    if not can_join_values(found):
        # Row by row, in the order of StatisticsSums: the reader sums what the database cannot join.
        names = ("time" if name == "first_seen" else name for name in StatisticsSums._fields)
        return found.values_list(*columns, *names)
    sums = (
        Sum("calls"),
        Sum("errors"),
        Sum("rows"),
        Sum("total_us"),
        Max("max_us"),
        Max("last_seen"),
        Min("time"),
    )
    summed: QuerySet[Statistic, Any] = found.values(*columns).values_list(
        *columns, *sums, _Joined("durations")
    )
    return summed


def _fetched(found: Sequence[QuerySet[Any, Any]]) -> Iterator[tuple[Any, ...]]:
    """Read several queries as one."""
    if found:
        # UNION ALL instead of OR, so that each part uses its range of the primary key.
        yield from fetch(found[0].union(*found[1:], all=True) if len(found) > 1 else found[0])


def totals_us(
    where: Where, spans: Sequence[ResolutionSpan], *columns: str, step_s: int = MINUTE_S
) -> Iterator[tuple[Any, ...]]:
    """Yield columns and their total time, without the histograms, which are most of the work."""
    found = [
        _chosen(where, span)
        .annotate(step=F("time") - F("time") % step_s)
        .values(*columns)
        .values_list(*columns, Sum("total_us"))
        for span in spans
    ]
    for *values, total_us in _fetched(found):
        yield *values, int(total_us)


class CallSums(NamedTuple):
    """Sums of calls without their durations."""

    calls: int
    errors: int
    rows: int


def call_sums(
    where: Where, span: ResolutionSpan, *columns: str
) -> Iterator[tuple[tuple[Any, ...], CallSums]]:
    """Yield columns and their calls, errors and rows, in one span."""
    found = _chosen(where, span).values(*columns)
    for row in fetch(found.values_list(*columns, Sum("calls"), Sum("errors"), Sum("rows"))):
        yield tuple(row[:-3]), CallSums(*map(int, row[-3:]))


def _chosen(where: Where, span: ResolutionSpan, keys: Q | None = None) -> QuerySet[Statistic, Any]:
    return where.narrow(Statistic.objects.order_by(), keys).filter(
        resolution_s=where.signed(span.resolution_s), time__gte=span.since_s, time__lt=span.until_s
    )


SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsAggregate:
    """The figures of one group."""

    group: str | None
    """The common value of the group; None if unknown, like the route of a command."""
    calls: int
    errors: int
    rows: int
    """Returned or changed, if the driver reported it."""
    total_ms: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    first_seen: datetime
    """To the minute, hour or day."""
    last_seen: datetime
    """To the second."""
    top_route: str | None
    """The route with the most calls, if grouped by statement."""
    ranges: Sequence[int] = field(repr=False, compare=False)
    """Calls by range of duration, see `sqllogs.statistics.histogram`."""

    def calls_upto(self, ends_us: Sequence[int]) -> list[int]:
        """Return the number of calls that took at most each of these microseconds, up to 4.9 % off."""
        ranges = [(histogram.mean_us(number), calls) for number, calls in enumerate(self.ranges) if calls]
        return [sum(calls for duration_us, calls in ranges if duration_us <= end_us) for end_us in ends_us]


class Total:
    """Sums of rows, while they are read."""

    __slots__ = (
        "_ranges",
        "calls",
        "durations",
        "errors",
        "first_seen",
        "last_seen",
        "max_us",
        "routes",
        "rows",
        "total_us",
    )

    def __init__(self) -> None:
        self.calls = self.errors = self.rows = self.total_us = self.max_us = self.last_seen = 0
        self.first_seen = NEVER_S
        self.durations: list[bytes] = []
        self.routes: dict[str, int] = {}
        self._ranges: list[int] | None = None

    def add(self, sums: StatisticsSums, *, route: str | None = None) -> None:
        # PostgreSQL's sum of bigint is numeric.
        self.calls += int(sums.calls)
        self.errors += int(sums.errors)
        self.rows += int(sums.rows)
        self.total_us += int(sums.total_us)
        self.max_us = max(self.max_us, sums.max_us)
        self.last_seen = max(self.last_seen, sums.last_seen)
        self.first_seen = min(self.first_seen, sums.first_seen)
        self.durations.append(sums.durations)
        if route is not None:
            self.routes[route] = self.routes.get(route, 0) + int(sums.calls)

    @classmethod
    def sum_of(cls, parts: Sequence["Total"]) -> "Total":
        """Return the sum of totals that are complete, without reading their histograms again."""
        total = cls()
        total._ranges = list(map(sum, zip(*(part.ranges for part in parts), strict=True)))
        total.calls = sum(part.calls for part in parts)
        total.errors = sum(part.errors for part in parts)
        total.rows = sum(part.rows for part in parts)
        total.total_us = sum(part.total_us for part in parts)
        total.max_us = max(part.max_us for part in parts)
        total.last_seen = max(part.last_seen for part in parts)
        total.first_seen = min(part.first_seen for part in parts)
        return total

    @property
    def ranges(self) -> list[int]:
        """Calls by range of duration, once all rows are added."""
        if self._ranges is None:
            self._ranges = histogram.calls_by_range(b"".join(self.durations))
        return self._ranges

    def figures(self, group: str | None) -> StatisticsAggregate:
        p50_us, p95_us, p99_us = histogram.percentiles_us(self.ranges, SHARES, self.max_us)
        return StatisticsAggregate(
            group=group,
            calls=self.calls,
            errors=self.errors,
            rows=self.rows,
            total_ms=self.total_us / 1000,
            mean_ms=self.total_us / 1000 / self.calls if self.calls else 0.0,
            p50_ms=p50_us / 1000,
            p95_ms=p95_us / 1000,
            p99_ms=p99_us / 1000,
            max_ms=self.max_us / 1000,
            # NEVER_S is no date.
            first_seen=datetime.fromtimestamp(min(self.first_seen, self.last_seen), UTC),
            last_seen=datetime.fromtimestamp(self.last_seen, UTC),
            top_route=max(self.routes, key=self.routes.__getitem__) if self.routes else None,
            ranges=self.ranges,
        )
