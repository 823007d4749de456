"""Read the statistics: figures by group, and by group and time.

A range is read as at most five runs of rows with one resolution each: a month as minutes, hours, days, hours
and minutes, in one query. A series needs two, for the top groups and for all others together. Counts, sums
and maxima are exact, percentiles within 5 %. Used by the reports of `sqllogs.read`, in the reader's thread.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Case, F, Q, Value, When

from sqllogs.models import Statement, Statistic
from sqllogs.read import ring as read_ring
from sqllogs.read.aggregates import OF_STATEMENT
from sqllogs.read.ring import VARIABLES_MAX
from sqllogs.read.statistics_rows import (
    Row,
    StatisticsAggregate,
    Total,
    Where,
    rows,
    totals_us,
)
from sqllogs.statistics.resolution import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    NEVER_S,
    RESOLUTIONS_S,
    Oldest,
    ResolutionSpan,
    ceil_to,
    floor_to,
    spans,
)

EVERYTHING = Where()
# Pairs of the longest range and its step, in seconds.
_SINCE_STEPS_S = ((HOUR_S, MINUTE_S), (6 * HOUR_S, 300), (NEVER_S, HOUR_S))
_STEPS_S = ((3 * HOUR_S, MINUTE_S), (12 * HOUR_S, 300), (36 * HOUR_S, 900), (10 * DAY_S, HOUR_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsGroups:
    """Figures by group, sorted by total time."""

    groups: list[StatisticsAggregate]
    total_ms: float
    """Of all calls, each of them once."""
    since: datetime
    """Start of the first row counted: the requested time, or shortly before it."""
    until: datetime
    complete_since: datetime | None
    """Earlier calls are not in the statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsParts:
    """Sums by several columns; the same values may come repeatedly."""

    rows: Iterable[Row]
    """An iterator that reads them."""
    since: datetime
    until: datetime
    complete_since: datetime | None


class SeriesKey(NamedTuple):
    """What the points of a series have in common."""

    group: str | None
    is_other: bool = False
    """Of all groups that are not among the top."""
    is_of_all: bool = False
    """Of all calls, beside their groups."""


class StatisticsPoint(NamedTuple):
    """Figures of a line in one step of time."""

    time: datetime
    """The step's begin."""
    figures: StatisticsAggregate
    key: SeriesKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsSeries:
    """Figures by time and group; a time without a call has no point."""

    points: list[StatisticsPoint]
    step_s: int
    """The requested step, or a longer one if finer rows have been deleted."""
    since: datetime
    until: datetime
    complete_since: datetime | None


def aggregate(where: Where, group_by: str | None = "fingerprint") -> StatisticsGroups:
    """Return the figures of each group; with None, of all calls as one."""
    # Statements are read with routes, to show the most frequent one.
    read = (*group_columns(group_by), "key__route") if group_by == "fingerprint" else group_columns(group_by)
    labels_of = labels(group_by)
    totals: dict[str | None, Total] = defaultdict(Total)
    total_us = 0
    parts = read_parts(where, *read)
    for key, sums in parts.rows:
        total_us += int(sums.total_us)  # once, although a statement on two tables counts in two groups
        for label in labels_of(key[0] if key else None):
            totals[label].add(sums, route=key[1] if len(key) > 1 else None)
    groups = sorted(totals.items(), key=lambda item: -item[1].total_us)
    return StatisticsGroups(
        groups=[total.figures(label) for label, total in groups],
        total_ms=total_us / 1000,
        since=parts.since,
        until=parts.until,
        complete_since=parts.complete_since,
    )


def read_parts(where: Where, *columns: str) -> StatisticsParts:
    """Return the sums by several columns, which can be grouped by any of them."""
    oldest, since_s, until_s = _read_range(where)
    found = rows(where, spans(since_s, until_s, oldest), *columns)
    since_s, until_s = oldest.outward(since_s, until_s)
    return StatisticsParts(
        rows=found,
        since=_datetime(since_s),
        until=_datetime(until_s),
        complete_since=as_complete_since(oldest),
    )


def read_sparklines(where: Where, step_s: int) -> dict[str, dict[int, int]]:
    """Return the microseconds of each statement by the begin of the step."""
    oldest, since_s, until_s = _read_range(where)
    first_s, step_s = _aligned(since_s, step_s, oldest)
    found: dict[str, dict[int, int]] = {}
    cut = spans(first_s, until_s, oldest, _coarsest_s(step_s))
    for fingerprint, time_s, total_us in totals_us(where, cut, "key__fingerprint", "step", step_s=step_s):
        points = found.get(fingerprint) or found.setdefault(
            fingerprint, dict.fromkeys(range(first_s, until_s, step_s), 0)
        )
        at_s = floor_to(time_s, step_s)
        points[at_s] = points.get(at_s, 0) + total_us
    return found


def read_around(where: Where, at_s: int) -> tuple[Total | None, Total | None]:
    """Return the sums of a range since `at_s`, the start of a minute in it, and before it, in one query."""
    oldest, since_s, until_s = _read_range(where)
    totals: dict[bool, Total] = defaultdict(Total)
    # Rows of different spans are kept apart, and no span contains `at_s` in its middle.
    for _, sums in rows(where, [*spans(since_s, at_s, oldest), *spans(at_s, until_s, oldest)]):
        totals[sums.first_seen >= at_s].add(sums)
    return totals.get(True), totals.get(False)


def read_since(begins: Mapping[str, int], keys: Q, recent: Q, kept: Oldest) -> dict[str, StatisticsAggregate]:
    """Return the figures of statements, each since a different second, in one query.

    `keys` finds them in `StatisticKey`. `recent` finds, in `Statistic`, those that do not start at the
    earliest second: they are read by steps, which are longer for older ones, since a day has 1,440 minutes
    per statement.
    """
    if not begins:
        return {}
    until_s, earliest_s = _next_second(), min(begins.values())
    cut_s = min((begin_s for begin_s in begins.values() if begin_s > earliest_s), default=until_s)
    step_s = next(step_s for upto_s, step_s in _SINCE_STEPS_S if until_s - cut_s <= upto_s)
    cut_s = floor_to(cut_s, step_s)
    ranges = [*spans(earliest_s, cut_s, kept), *spans(cut_s, until_s, kept, step_s)]
    step = Case(When(recent, then=F("time") - F("time") % step_s), default=Value(0))
    totals: dict[str, Total] = defaultdict(Total)
    for (fingerprint, at_s), sums in rows(Where(), ranges, "key__fingerprint", "step", keys=keys, step=step):
        begin_s = begins.get(fingerprint, NEVER_S)
        # A longer step that started before the decision contains calls from before it.
        begin_s = floor_to(begin_s, step_s) if step_s == MINUTE_S else ceil_to(begin_s, step_s)
        if at_s >= begin_s or begins.get(fingerprint) == earliest_s:
            totals[fingerprint].add(sums)
    return {fingerprint: total.figures(fingerprint) for fingerprint, total in totals.items()}


def series(
    where: Where,
    step_s: int,
    group_by: str | None = None,
    top: int = 10,
    *,
    whole_steps: bool = True,
    with_all: bool = False,
) -> StatisticsSeries:
    """Return figures for each step of time and each of the `top` groups, for all others, and of all calls."""
    oldest, since_s, until_s = _read_range(where)
    first_s, step_s = _aligned(since_s, step_s, oldest)
    since_s = first_s if whole_steps else oldest.outward(since_s, until_s)[0]
    planned = _plan_reads(where, spans(since_s, until_s, oldest), group_by, top)
    if with_all and group_by == "table":
        # A statement on several tables counts in several lines, and once in that of all calls.
        planned = [read.also_in(OF_ALL) for read in planned]
    totals = _sum_steps(where, spans(since_s, until_s, oldest, _coarsest_s(step_s)), planned, step_s)
    if with_all and group_by != "table":
        totals |= _sum_lines(totals)
    points = [
        StatisticsPoint(_datetime(time_s), total.figures(line.group), line)
        for (time_s, line), total in totals.items()
    ]
    return StatisticsSeries(
        points=sorted(points, key=lambda point: (point.time, point.key.is_other, -point.figures.total_ms)),
        step_s=step_s,
        since=_datetime(since_s),
        until=_datetime(oldest.outward(since_s, until_s)[1]),
        complete_since=as_complete_since(oldest),
    )


def _sum_steps(
    where: Where, cut: list[ResolutionSpan], planned: list["Read"], step_s: int
) -> dict[tuple[int, SeriesKey], Total]:
    """Return the sums by the begin of a step and by line."""
    totals: dict[tuple[int, SeriesKey], Total] = defaultdict(Total)
    for read in planned:
        # Rows are stored by time, so without groups nothing is sorted; there may be more rows than steps.
        names = ("step", *read.columns) if read.columns else ("time",)
        for (time_s, *value), sums in rows(where, cut, *names, keys=read.keys, step_s=step_s):
            for line in read.lines(*value):
                totals[floor_to(time_s, step_s), line].add(sums)
    return totals


def _sum_lines(totals: Mapping[tuple[int, SeriesKey], Total]) -> dict[tuple[int, SeriesKey], Total]:
    """Return the sums of all lines of each step."""
    lines_of: dict[int, list[Total]] = defaultdict(list)
    for (at_s, _), total in totals.items():
        lines_of[at_s].append(total)
    return {(at_s, OF_ALL): Total.sum_of(lines) for at_s, lines in lines_of.items()}


def complete_since(where: Where = EVERYTHING) -> datetime | None:
    """Return the time since which every call is counted; None before the first call."""
    return as_complete_since(read_oldest(where))


def auto_step_s(since: datetime, until: datetime) -> int:
    """Return a step with a readable number of points and a fast answer for a range."""
    range_s = (until - since).total_seconds()
    return next((step_s for upto_s, step_s in _STEPS_S if range_s <= upto_s), DAY_S)


_LAST_S = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
"""A later end, rounded up to a whole second, hour or day, would be in the year 10000."""


def _read_range(where: Where) -> tuple[Oldest, int, int]:
    """Return which rows exist, and the range in whole seconds, rounded outward.

    Open ends are the first call and now.
    """
    oldest = where.kept or read_oldest(where)
    # There are no rows from before the epoch, and no step can start before the year 1.
    since_s = max(0, int(where.since.timestamp())) if where.since else oldest.complete_since_s or 0
    until_s = ceil_to(int(where.until.timestamp() * 1000), 1000) // 1000 if where.until else _next_second()
    return oldest, since_s, min(until_s, _LAST_S)


def _next_second() -> int:
    return int(read_ring.utc_now().timestamp()) + 1


def _coarsest_s(step_s: int) -> int:
    """Return the longest resolution whose rows fit into a step."""
    return max(length_s for length_s in RESOLUTIONS_S if step_s % length_s == 0)


def _aligned(since_s: int, step_s: int, oldest: Oldest) -> tuple[int, int]:
    """Return the start of the first step, and a step no finer than the rows that exist from there on."""
    step_s = ceil_to(max(step_s, MINUTE_S), MINUTE_S)
    while True:
        first_s = floor_to(since_s, step_s)
        # A longer step starts earlier, where rows may be even coarser.
        kept_s = ceil_to(step_s, oldest.finest_s(first_s))
        if kept_s == step_s:
            return first_s, step_s
        step_s = kept_s


# As SQL, because every report from the statistics starts with it: the ORM takes 1.3 ms, this 0.1.
_OLDEST = """
    SELECT r.until_s, m.first_s, h.first_s, d.first_s FROM
        (SELECT MAX(until_s) AS until_s FROM sqllogs_rollup WHERE id = 1) r,
        (SELECT MIN(time) AS first_s FROM sqllogs_statistic WHERE resolution_s = %s) m,
        (SELECT MIN(time) AS first_s FROM sqllogs_statistic WHERE resolution_s = %s) h,
        (SELECT MIN(time) AS first_s FROM sqllogs_statistic WHERE resolution_s = %s) d
"""


def read_oldest(where: Where = EVERYTHING) -> Oldest:
    """Return which rows exist, in one query."""
    with connections[Statistic.objects.db].cursor() as cursor:
        cursor.execute(_OLDEST, [where.signed(length_s) for length_s in (MINUTE_S, HOUR_S, DAY_S)])
        rolled_up_s, minute_s, hour_s, day_s = cursor.fetchone()
    return Oldest(minute_s=minute_s, hour_s=hour_s, day_s=day_s, rolled_up_s=rolled_up_s or 0)


def as_complete_since(oldest: Oldest) -> datetime | None:
    """Return the time since which every call is counted, where these rows exist."""
    return None if oldest.complete_since_s is None else _datetime(oldest.complete_since_s)


def _datetime(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


GROUPS = (
    "fingerprint", "route", "view", "alias", "vendor", "kind", "method", "release", "service", "operation",
    "table",
)  # fmt: skip
"""Columns to group by. A statement on several tables counts in each of them."""

OTHER_LINE = "other"
"""Name of the line of all groups below the top."""

Labels = Callable[[Any], tuple[str | None, ...]]


OTHERS = SeriesKey(OTHER_LINE, is_other=True)
OF_ALL = SeriesKey(None, is_of_all=True)


class Read(NamedTuple):
    """Rows of a series that are read together."""

    columns: tuple[str, ...]
    keys: Q | None
    lines: Callable[..., list[SeriesKey]]
    """The lines that a row counts in, by the value of its column."""

    def also_in(self, line: SeriesKey) -> "Read":
        """Return the same read, whose rows count in one more line."""
        return self._replace(lines=lambda *value: [*self.lines(*value), line])


def group_columns(group_by: str | None) -> tuple[str, ...]:
    if group_by is None:
        return ()
    return (f"key__{'fingerprint' if group_by in OF_STATEMENT else group_by}",)


def labels(group_by: str | None) -> Labels:
    """Return a function from a row's first column to the names of its groups."""
    if group_by not in OF_STATEMENT:
        return lambda value: (value,)
    found = Statement.objects.values_list("fingerprint", "operation" if group_by == "operation" else "tables")
    split = {fingerprint: tuple(text.split(",")) if text else (None,) for fingerprint, text in found}
    return lambda fingerprint: split.get(fingerprint, (None,))


def _plan_reads(where: Where, spans: list[ResolutionSpan], group_by: str | None, top: int) -> list[Read]:
    """Plan how to read the `top` groups separately and all others together; without groups, all together."""
    if group_by is None:
        return [Read((), None, lambda: [OF_ALL])]
    (column,), labels_of = group_columns(group_by), labels(group_by)
    sums_us: dict[Any, int] = defaultdict(int)
    for value, total_us in totals_us(where, spans, column):
        sums_us[value] += total_us
    kept = _top(sums_us, labels_of, top)

    def lines(value: Any) -> list[SeriesKey]:
        return [SeriesKey(label) if label in kept else OTHERS for label in labels_of(value)]

    # Read separately too: a statement on several tables counts once per table among the others.
    apart = [value for value in sums_us if lines(value) != [OTHERS]]
    if len(apart) == len(sums_us) or len(apart) > VARIABLES_MAX:
        return [Read((column,), None, lines)]
    keys = _has_value(column.removeprefix("key__"), apart)
    return [Read((column,), keys, lines), Read((), ~keys, lambda: [OTHERS])]


def _top(sums_us: Mapping[Any, int], labels_of: Labels, top: int) -> set[str | None]:
    totals_us: dict[str | None, int] = defaultdict(int)
    for value, sum_us in sums_us.items():
        for label in labels_of(value):
            totals_us[label] += sum_us
    return set(sorted(totals_us, key=lambda label: (-totals_us[label], label or ""))[:top])


def _has_value(column: str, values: Collection[Any]) -> Q:
    known = Q(**{f"{column}__in": [value for value in values if value is not None]})
    return known | Q(**{f"{column}__isnull": True}) if None in values else known
