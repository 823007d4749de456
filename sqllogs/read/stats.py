"""Figures by statement, view or another column: the rows of `stats/`, from the ring or the statistics.

Runs in the reader's thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from django.http import HttpRequest

from sqllogs.read import aggregates, n_plus_one, records, statistics, statistics_rows
from sqllogs.read.aggregates import GroupValue, group_column
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import rfc3339
from sqllogs.read.scope import Answer, Scope, Source, TimeSpan, head, statistics_filter, time_span
from sqllogs.sql.normalize import StatementInfo

CALL_SITES_MAX = 3
RATE_CALLS_MIN, RATE_MIN_S = 20, 60.0
"""A group with fewer calls, or within a shorter time, has no rate of its own: it could be chance."""
NO_ORIGINS = aggregates.Origins()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRow:
    """All calls of one group; durations in milliseconds."""

    group: GroupValue
    """The value of what is grouped by; None for records that have none."""
    calls: int
    errors: int
    calls_per_s: float
    """From its own first to its last call; of few calls, over all of the time."""
    calls_per_unit: float | None
    """Calls per request, command or task that has sent any, recently; None if none is known."""
    total_ms: float
    load_percent: float
    """Share of the total time of all that matched."""
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    rows: int | None
    """Rows returned or changed, if the driver reported it."""
    first_seen: str
    """First call in the range."""
    last_seen: str
    route: str | None
    """The route with the most calls recently."""
    call_sites: list[str]
    """Those with the most calls recently."""
    repeats: int
    """Largest number of times one line of a unit of work has sent it recently; 0 if no N+1 suspect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementStatsRow(StatsRow):
    """All calls of one statement."""

    fingerprint: str
    sql: str | None
    operation: str | None
    tables: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsAnswer(Answer):
    """The answer of `stats/`, in the order of its JSON."""

    group_by: str
    count: int
    next: str | None
    previous: str | None
    results: list[StatsRow | StatementStatsRow]


StatsGroup = aggregates.Group | statistics_rows.StatisticsAggregate
"""The figures of a group, from either source under the same names."""

ORDERINGS = {
    "group": "group",
    "calls": "calls",
    "errors": "errors",
    "calls_per_s": "calls",
    "total_ms": "total_ms",
    "load_percent": "total_ms",
    "mean_ms": "mean_ms",
    "p50_ms": "p50_ms",
    "p95_ms": "p95_ms",
    "p99_ms": "p99_ms",
    "max_ms": "max_ms",
    "rows": "rows",
    "first_seen": "first_seen",
    "last_seen": "last_seen",
}
DEFAULT_ORDERING = "-total_ms"


def read_stats(
    request: HttpRequest, scope: Scope, group_by: str, page: OffsetPage, chosen: Source = "ring"
) -> StatsAnswer:
    """Add up what matches and return the page asked for; one beyond the last is empty."""
    found = read_groups(scope, group_by, chosen)
    value = _TIMES.get(page.column) or attrgetter(ORDERINGS[page.column])
    shown = page.cut(found.groups, value)
    return StatsAnswer(
        **head(found.span),
        group_by=group_by,
        count=len(found.groups),
        next=page.next_url(request, len(found.groups)),
        previous=page.previous_url(request),
        results=stats_rows(scope, found, group_by, shown, worst(scope, group_by) if shown else {}),
    )


class Grouped(NamedTuple):
    """All that matches, added up by group; more about some of them is looked up by `rows`."""

    groups: Sequence[StatsGroup]
    total_ms: float
    span: TimeSpan


def last_seen(group: StatsGroup) -> Any:
    """Return the value by which groups of one source are ordered by last call."""
    return group.last_seen if isinstance(group, statistics_rows.StatisticsAggregate) else group.last_seq


def first_seen(group: StatsGroup) -> Any:
    """Return the value by which groups of one source are ordered by first call."""
    return group.first_seen if isinstance(group, statistics_rows.StatisticsAggregate) else group.first_seq


_TIMES = {"first_seen": first_seen, "last_seen": last_seen}


def read_groups(scope: Scope, group_by: str, chosen: Source) -> Grouped:
    """Add up what matches, in no particular order."""
    return (_of_ring if chosen == "ring" else _of_statistics)(scope, group_by)


def stats_rows(
    scope: Scope, found: Grouped, group_by: str, shown: Sequence[StatsGroup], worst: Mapping[GroupValue, int]
) -> list[StatsRow | StatementStatsRow]:
    """Return the rows of some of the groups; `worst` are their repeats."""
    made = _Rows(scope, found, group_by, shown, worst)
    return [made.row(group) for group in shown]


def _of_ring(scope: Scope, group_by: str) -> Grouped:
    groups, total_ms = aggregates.groups(scope.records, scope.ring, group_by)
    return Grouped(groups, total_ms, scope.span)


def _of_statistics(scope: Scope, group_by: str) -> Grouped:
    answer = statistics.aggregate(statistics_filter(scope), group_by)
    span = time_span(scope, answer.since, answer.until, answer.complete_since)
    return Grouped(answer.groups, answer.total_ms, span)


class _Rows:
    """Makes rows of groups, with what is looked up for all of a page at once."""

    def __init__(
        self,
        scope: Scope,
        found: Grouped,
        group_by: str,
        shown: Sequence[StatsGroup],
        worst: Mapping[GroupValue, int],
    ) -> None:
        self._span = found.span
        self._with_text = scope.with_text
        self._total_ms = found.total_ms
        self._of_statements = group_by == "fingerprint"
        self._worst = worst
        wanted = [group.group for group in shown]
        self._origins = aggregates.origins(scope.records, scope.ring, group_by, wanted) if shown else {}
        ring_groups = [group for group in shown if isinstance(group, aggregates.Group)]
        seqs = [seq for group in ring_groups for seq in (group.first_seq, group.last_seq)]
        self._begin = scope.begin
        self._times = aggregates.times_by_seq(scope.ring, seqs)
        self._texts: Mapping[str, StatementInfo] = {}
        if self._of_statements:
            self._texts = records.statements({str(group.group) for group in shown})

    def row(self, group: StatsGroup) -> StatsRow:
        return self._statement_row(group) if self._of_statements else StatsRow(**self._fields(group))

    def _statement_row(self, group: StatsGroup) -> StatementStatsRow:
        text = self._texts.get(str(group.group))
        return StatementStatsRow(
            **self._fields(group),
            fingerprint=str(group.group),
            sql=text.sql if text and self._with_text else None,
            operation=text.operation if text else None,
            tables=text.tables.split(",") if text and text.tables else [],
        )

    def _fields(self, group: StatsGroup) -> dict[str, Any]:
        origins = self._origins.get(group.group, NO_ORIGINS)
        if isinstance(group, statistics_rows.StatisticsAggregate):
            top_route, first_seen, last_seen = group.top_route, group.first_seen, group.last_seen
        else:
            top_route = next((route for route, _ in origins.routes.most_common(1)), None)
            first_seen = self._times.get(group.first_seq) or self._begin
            last_seen = self._times.get(group.last_seq) or self._begin
        own_s = (last_seen - first_seen).total_seconds()
        return {
            "group": group.group,
            "calls": group.calls,
            "errors": group.errors,
            "calls_per_s": _rate(group.calls, own_s, self._span.seconds),
            "calls_per_unit": origins.calls / origins.units if origins.units else None,
            "total_ms": group.total_ms,
            "load_percent": 100 * group.total_ms / self._total_ms if self._total_ms else 0.0,
            "mean_ms": group.mean_ms,
            "p50_ms": group.p50_ms,
            "p95_ms": group.p95_ms,
            "p99_ms": group.p99_ms,
            "max_ms": group.max_ms,
            "rows": group.rows,
            "first_seen": rfc3339(first_seen),
            "last_seen": rfc3339(last_seen),
            "route": top_route,
            "call_sites": [site for site, _ in origins.call_sites.most_common(CALL_SITES_MAX)],
            "repeats": self._worst.get(group.group, 0),
        }


def _rate(calls: int, own_s: float, span_s: float) -> float:
    """Return calls per second; a release that is ten minutes old is not spread over four hours."""
    if calls < RATE_CALLS_MIN or own_s < RATE_MIN_S:
        return calls / span_s
    return (calls - 1) / own_s if own_s < span_s else calls / span_s


def worst(scope: Scope, group_by: str) -> dict[GroupValue, int]:
    """Return the largest number of times one line of a unit of work has sent a group's statement recently."""
    found = n_plus_one.worst_by_group(scope.records, scope.ring, group_column(group_by))
    values = aggregates.GroupValues(group_by, found)
    times_of: dict[GroupValue, int] = {}
    for key, times in found.items():
        for value in values[key]:
            times_of[value] = max(times_of.get(value, 0), times)
    return times_of
