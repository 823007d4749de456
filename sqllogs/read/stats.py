"""Totals and percentiles by statement, view or another column: the rows of `stats/`.

Reads the ring with `sqllogs.read.aggregates` or the statistics with `sqllogs.read.statistics`, in the
reader's thread.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from django.core.management import get_commands
from django.db.models import Q
from django.http import HttpRequest

from sqllogs.models import StatisticKey
from sqllogs.read import aggregates, n_plus_one, records, statistics, statistics_rows
from sqllogs.read.aggregates import GroupValue, group_column
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import ReadTexts, Texts, rfc3339
from sqllogs.read.ring import chunks, in_ring
from sqllogs.read.scope import Answer, Scope, Source, TimeSpan, head, statistics_filter, time_span

CALL_SITES_MAX = 3
RATE_CALLS_MIN, RATE_MIN_S = 20, 60.0
"""With fewer calls, or within a shorter time, a group's own rate could be chance."""
NO_ORIGINS = aggregates.Origins()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRow:
    """All calls, or with `source=units` all units of work, of one group; durations in milliseconds."""

    group: GroupValue
    """Value of the column that is grouped by; null for records without one."""
    calls: int
    errors: int
    calls_per_s: float
    """From its first to its last call; over the whole range if there are few."""
    calls_per_unit: float | None
    """Recent calls per request, command or task that made any; None if unknown. With `source=units`
    the queries of all of them by their number."""
    total_ms: float
    load_percent: float
    """Share of the total time of all matching queries."""
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    rows: int | None
    """Rows returned or changed, if the driver reports it."""
    first_seen: str
    """First call in the range."""
    last_seen: str
    route: str | None
    """The route with the most calls recently."""
    call_sites: list[str]
    """The call sites with the most calls recently."""
    repeats: int
    """How often at most one line sent it in a unit of work recently, if that is an N+1; else 0."""


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
"""The totals of a group; both sources use the same names."""

ORDERINGS = {
    "group": "group",
    "calls": "calls",
    "errors": "errors",
    "calls_per_s": "calls",  # a group's own rate needs its times, which are read only for the page
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
    """Return the requested page of groups; one beyond the last is empty."""
    found = read_groups(scope, group_by, chosen)
    value = _TIMES.get(page.column) or attrgetter(ORDERINGS[page.column])
    # Only by default, because after `migrate` the first page of a new site would be DDL.
    if not request.GET.get("ordering") and not scope.filters["kind"]:
        value = _others_first(_groups_of_django_commands(group_by, found.groups))
    shown = page.cut(found.groups, value)
    has_repeats = shown and chosen != "units" and scope.wants("repeats")
    repeats = worst(scope, group_by) if has_repeats else {}
    return StatsAnswer(
        **head(found.span),
        group_by=group_by,
        count=len(found.groups),
        next=page.next_url(request, len(found.groups)),
        previous=page.previous_url(request),
        results=stats_rows(scope, found, group_by, shown, repeats),
    )


class Grouped(NamedTuple):
    """The groups of all matching records; `stats_rows` reads more about some of them."""

    groups: Sequence[StatsGroup]
    total_ms: float
    span: TimeSpan


def last_seen(group: StatsGroup) -> Any:
    """Return the value that orders the groups of one source by their last call."""
    return group.last_seen if isinstance(group, statistics_rows.StatisticsAggregate) else group.last_seq


def first_seen(group: StatsGroup) -> Any:
    """Return the value by which groups of one source are ordered by first call."""
    # Numbers follow time; sorting the times of all groups too would take 20 ms per 100,000 records.
    return group.first_seen if isinstance(group, statistics_rows.StatisticsAggregate) else group.first_seq


_TIMES = {"first_seen": first_seen, "last_seen": last_seen}


def _others_first(last: Collection[GroupValue]) -> Any:
    """Return the value of the default order: by total time, some groups behind all others."""
    return lambda group: (group.group not in last, group.total_ms)


def _groups_of_django_commands(group_by: str, groups: Sequence[StatsGroup]) -> frozenset[GroupValue]:
    """Return the groups sent only by Django's own commands: `migrate` would lead the list of a new site.

    Read from the keys of the statistics; without statistics, no group is moved.
    """
    if group_by not in _KEYED:
        return frozenset()
    names = [name for name, app in get_commands().items() if str(app).partition(".")[0] == "django"]
    own = Q(kind="command", view__in=names)
    keys = StatisticKey.objects.order_by().values_list(group_by, flat=True).distinct()
    # Two short queries instead of one over all groups, 4 ms instead of 30 at 50,000 keys: on a site that
    # serves requests, commands have sent few of the groups in the answer, if any.
    sent = set(keys.filter(own)).intersection(group.group for group in groups)
    others = (
        keys.exclude(own).filter(Q(**{f"{group_by}__in": some}) | Q(**{f"{group_by}__isnull": True}))
        for some in chunks(list(sent))
    )
    return frozenset(sent.difference(*others))


_KEYED = frozenset(aggregates.GROUPS) & {field.name for field in StatisticKey._meta.get_fields()}


def read_groups(scope: Scope, group_by: str, chosen: Source) -> Grouped:
    """Return the groups of the matching records, in no particular order."""
    return _from_ring(scope, group_by) if chosen == "ring" else _from_statistics(scope, group_by, chosen)


def stats_rows(
    scope: Scope,
    found: Grouped,
    group_by: str,
    shown: Sequence[StatsGroup],
    worst: Mapping[GroupValue, int],
    read_texts: ReadTexts = records.statements,
) -> list[StatsRow | StatementStatsRow]:
    """Return the rows of some groups; `worst` has their repeats."""
    made = _Rows(scope, found, group_by, shown, worst)
    if group_by == "fingerprint" and scope.wants("sql", "operation", "tables"):
        made.texts = read_texts({str(group.group) for group in shown})
    return [made.row(group) for group in shown]


def _from_ring(scope: Scope, group_by: str) -> Grouped:
    report = scope.report("stats", group_by)
    groups, total_ms = aggregates.groups(scope.records, scope.ring, group_by, report)
    return Grouped(groups, total_ms, scope.span)


def _from_statistics(scope: Scope, group_by: str, chosen: Source) -> Grouped:
    answer = statistics.aggregate(statistics_filter(scope, chosen), group_by)
    span = time_span(scope, chosen, answer.since, answer.until, answer.complete_since)
    return Grouped(answer.groups, answer.total_ms, span)


class Part(NamedTuple):
    """The sums of the records with equal values in several columns, which can be grouped by any of them."""

    keys: tuple[GroupValue, ...]
    total_ms: float
    sums: aggregates.AggregatePart | statistics_rows.StatisticsSums


def read_parts(scope: Scope, chosen: Source, *columns: str) -> tuple[list[Part], TimeSpan]:
    """Return the sums by several columns, in one query, and the time that they cover."""
    if chosen == "ring":
        found = aggregates.parts(in_ring(scope.records, scope.ring), *columns)
        return [Part(part.keys, part.total_ms, part) for part in found], scope.span
    answer = statistics.read_parts(statistics_filter(scope, chosen), *(f"key__{name}" for name in columns))
    parts = [Part(keys, int(sums.total_us) / 1000, sums) for keys, sums in answer.rows]
    return parts, time_span(scope, chosen, answer.since, answer.until, answer.complete_since)


def group_parts(parts: Iterable[Part], column: int | None, *, route: int | None = None) -> list[StatsGroup]:
    """Sum parts by one of their columns, or all together; `route` is the column of the top route."""
    of_ring: dict[GroupValue, aggregates.Group] = {}
    counted: dict[GroupValue, statistics_rows.Total] = {}
    for keys, _total_ms, sums in parts:
        label = None if column is None else keys[column]
        if isinstance(sums, aggregates.AggregatePart):
            (of_ring.get(label) or of_ring.setdefault(label, aggregates.Group(group=label))).add(sums)
        else:
            total = counted.get(label) or counted.setdefault(label, statistics_rows.Total())
            total.add(sums, route=None if route is None else keys[route])
    return [*of_ring.values(), *(total.figures(label) for label, total in counted.items())]


class _Rows:
    """Makes the rows of a page; texts, origins and times are read for all of them at once."""

    def __init__(
        self,
        scope: Scope,
        found: Grouped,
        group_by: str,
        shown: Sequence[StatsGroup],
        worst: Mapping[GroupValue, int],
    ) -> None:
        self._span = found.span
        self._scope = scope
        self._total_ms = found.total_ms
        self._of_statements = group_by == "fingerprint"
        self._worst = worst
        wanted = [group.group for group in shown if _may_be_in_ring(group, scope.oldest)]
        self._origins: Mapping[GroupValue, aggregates.Origins] = {}
        self._of_units = found.span.source == "units"
        if shown and not self._of_units and scope.wants("calls_per_unit", "route", "call_sites"):
            # Only for the rows shown: the call sites of all groups would need a second scan of the ring.
            with_units, with_call_sites = scope.wants("calls_per_unit"), scope.wants("call_sites")
            self._origins = aggregates.origins(
                scope.records,
                scope.ring,
                group_by,
                wanted,
                with_units=with_units,
                with_call_sites=with_call_sites,
                report=scope.report("origins", group_by, with_call_sites),
            )
        ring_groups = [group for group in shown if isinstance(group, aggregates.Group)]
        seqs = [seq for group in ring_groups for seq in (group.first_seq, group.last_seq)]
        self._times: Mapping[int, datetime] = {}
        if scope.wants("calls_per_s", "first_seen", "last_seen"):
            self._times = aggregates.times_by_seq(scope.ring, seqs)
        self.texts: Texts = {}

    def row(self, group: StatsGroup) -> StatsRow:
        return self._statement_row(group) if self._of_statements else StatsRow(**self._fields(group))

    def _statement_row(self, group: StatsGroup) -> StatementStatsRow:
        text = self.texts.get(str(group.group))
        return StatementStatsRow(
            **self._fields(group),
            fingerprint=str(group.group),
            sql=text.sql if text and self._scope.with_text else None,
            operation=text.operation if text else None,
            tables=records.table_names(text) if text else [],
        )

    def _calls_per_unit(self, group: StatsGroup, origins: aggregates.Origins) -> float | None:
        if self._of_units:
            # Units have their queries as rows.
            return (group.rows or 0) / group.calls if group.calls else None
        return origins.calls / origins.units if origins.units else None

    def _fields(self, group: StatsGroup) -> dict[str, Any]:
        origins = self._origins.get(group.group, NO_ORIGINS)
        if isinstance(group, statistics_rows.StatisticsAggregate):
            top_route, first_seen, last_seen = group.top_route, group.first_seen, group.last_seen
        else:
            top_route = next(iter(_ranked(origins.routes)), None)
            # If overwritten in the meantime, it is about as old as the oldest.
            first_seen = self._times.get(group.first_seq) or self._scope.begin
            last_seen = self._times.get(group.last_seq) or self._scope.begin
        own_s = (last_seen - first_seen).total_seconds()
        return {
            "group": group.group,
            "calls": group.calls,
            "errors": group.errors,
            "calls_per_s": _rate(group.calls, own_s, self._span.seconds),
            "calls_per_unit": self._calls_per_unit(group, origins),
            "total_ms": group.total_ms,
            "load_percent": 100 * group.total_ms / self._total_ms if self._total_ms else 0.0,
            "mean_ms": group.mean_ms,
            **self._scope.percentiles(group),
            "max_ms": group.max_ms,
            "rows": None if self._of_units else group.rows,
            "first_seen": rfc3339(first_seen),
            "last_seen": rfc3339(last_seen),
            "route": top_route,
            "call_sites": _ranked(origins.call_sites)[:CALL_SITES_MAX],
            "repeats": self._worst.get(group.group, 0),
        }


MARGIN = timedelta(minutes=1)
"""Records are numbered when they are written, in another order than their times."""


def _may_be_in_ring(group: StatsGroup, oldest: datetime | None) -> bool:
    """Return whether the ring may have records of a group; a search for those it lacks scans it all."""
    if not isinstance(group, statistics_rows.StatisticsAggregate):
        return True
    # A record has the time of its begin, and is written after its end.
    ended = group.last_seen + timedelta(milliseconds=group.max_ms)
    return oldest is not None and ended + MARGIN >= oldest


def _ranked(counts: Mapping[str, int]) -> list[str]:
    """Return the names by calls, the most first; equal ones keep their order between answers."""
    return sorted(counts, key=lambda name: (-counts[name], name))


def default_group(chosen: str | None) -> str:
    """Return the default of `group_by`: units of work have no statement."""
    return "route" if chosen == "units" else "fingerprint"


def _rate(calls: int, own_s: float, span_s: float) -> float:
    """Return calls per second; the calls of a release deployed ten minutes ago are not spread over hours."""
    if calls < RATE_CALLS_MIN or own_s < RATE_MIN_S:
        return calls / span_s
    # n calls have n - 1 intervals between them.
    return (calls - 1) / own_s if own_s < span_s else calls / span_s


def worst(scope: Scope, group_by: str, read_texts: ReadTexts = records.statements) -> dict[GroupValue, int]:
    """Return, by group, how often at most one line sent the same statement in a unit of work recently."""
    found = n_plus_one.worst_by_group(scope.records, scope.ring, group_column(group_by), read_texts)
    values = aggregates.GroupValues(group_by, found)
    times_of: dict[GroupValue, int] = {}
    for key, times in found.items():
        for value in values[key]:
            times_of[value] = max(times_of.get(value, 0), times)
    return times_of
