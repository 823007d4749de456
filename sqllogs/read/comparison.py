"""Compare the groups of two time ranges, and the figures of a statement before and after its review.

Reads both ranges with `sqllogs.read.stats` from one source, in the reader's thread. Feeds API, page and
reviews. Figures are rates, so that ranges of different lengths can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from django.http import HttpRequest, QueryDict

from sqllogs.read import aggregates, stats
from sqllogs.read.aggregates import GroupValue
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import SQLLogFilter, escaped
from sqllogs.read.records import rfc3339
from sqllogs.read.scope import Scope, Source, TimeSpan, choose_source, head
from sqllogs.read.statistics_rows import StatisticsAggregate
from sqllogs.read.stats import Grouped, StatsAnswer, StatsGroup, StatsRow

_SHIFTS = {"day": timedelta(days=1), "week": timedelta(days=7)}
ORDERINGS = stats.ORDERINGS | {"load_change": "load_change"}
DEFAULT_ORDERING = "-load_change"
_RELEASE_MIN = timedelta(minutes=1)
"""Minimum length of a release's range, so that a release with a single call has a rate too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStatsRow(StatsRow):
    """All calls of one group in the range, and in the range compared with."""

    total_ms_per_s: float
    """Load: milliseconds of SQL per second of the range."""
    total_ms_per_s_before: float | None
    """As all fields that end in before: of the range compared with; null if that is not known."""
    total_ms_per_s_change: float | None
    """Difference of the load."""
    total_ms_per_s_change_percent: float | None
    """As all changes in percent: null if there was nothing before."""
    calls_per_s_before: float | None
    calls_per_s_change_percent: float | None
    p95_ms_before: float | None
    p95_ms_change_percent: float | None
    calls_per_unit_before: float | None
    calls_per_unit_change_percent: float | None
    rows_per_call: float | None
    rows_per_call_before: float | None
    rows_per_call_change_percent: float | None
    is_new: bool | None
    """Not called in the range compared with; null if that is not known."""
    is_vanished: bool
    """Called only in the range compared with, where first_seen and last_seen are then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStatementStatsRow(ComparedStatsRow):
    """All calls of one statement in the range, and in the range compared with."""

    fingerprint: str
    sql: str | None
    operation: str | None
    tables: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStatsAnswer(StatsAnswer):
    """The answer of `stats/` with `compare`, in the order of its JSON."""

    compare: str
    compare_begin: str | None
    """The part of the range compared with that the source covers; null if it covers nothing of it."""
    compare_end: str | None
    release: str | None
    """With `compare=release`, the current release; null if none is known."""
    release_before: str | None
    results: list[ComparedStatsRow | ComparedStatementStatsRow]  # type: ignore[assignment]


def row_type(group_by: str) -> type[ComparedStatsRow]:
    return ComparedStatementStatsRow if group_by == "fingerprint" else ComparedStatsRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The two ranges, which are read from one source."""

    compare: str
    source: Source
    now: Scope
    before: Scope | None
    """None if there is nothing to compare with."""
    release: str | None = None
    release_before: str | None = None

    @property
    def ends(self) -> tuple[datetime, ...]:
        """Where the range compared with begins and ends."""
        return (self.before.filters["from"], self.before.filters["to"]) if self.before else ()


def read_ranges(query: QueryDict, scope: Scope, wanted: str | None, group_by: str, compare: str) -> Ranges:
    """Return what is compared; raise ParameterError if the reader wants a source that cannot answer."""
    if compare == "release":
        return _releases(query, scope, choose_source(scope, wanted, group_by))
    begin = scope.filters["from"] or scope.begin
    # Otherwise a range that ends in the future would be compared with a longer one.
    end = min(scope.filters["to"] or scope.now, scope.now)
    before = None
    if begin < end:
        shift = _SHIFTS.get(compare, end - begin)  # "previous" is the range of the same length just before
        try:
            before = _scope(query, scope, begin - shift, end - shift)
        except OverflowError:  # before the year 1
            before = None
    # Both from one source: the ring is long enough if it has the earlier range.
    source = choose_source(before or scope, wanted, group_by)
    return Ranges(compare=compare, source=source, now=_scope(query, scope, begin, end), before=before)


def _scope(
    query: QueryDict, scope: Scope, begin: datetime, end: datetime, release: str | None = None
) -> Scope:
    """Return the scope with another range; the snapshot of the ring stays the same."""
    # The filters are parsed again, because records and cleaned values must have the same range.
    changed = _filters_of(query)
    changed["from"], changed["to"] = begin.isoformat(), end.isoformat()
    if release is not None:
        changed["release"] = escaped(release)  # its name can have a comma
    return scope.with_filters(SQLLogFilter.from_query(changed), fields=_read_fields(scope))


def _read_fields(scope: Scope) -> frozenset[str]:
    """Return the fields to read for the requested ones."""
    plain = (name.removesuffix("_before").removesuffix("_change_percent") for name in scope.fields)
    return scope.fields.union(plain)


class _Release(NamedTuple):
    """A release, ordered by the time of its first call."""

    first_seen: datetime
    last_seen: datetime
    name: str

    def scope(self, query: QueryDict, scope: Scope) -> Scope:
        # The end of a range is exclusive, and statistics know the last call to the second.
        until = max(self.last_seen + timedelta(seconds=1), self.first_seen + _RELEASE_MIN)
        return _scope(query, scope, self.first_seen, until, self.name)


def _releases(query: QueryDict, scope: Scope, source: Source) -> Ranges:
    """Compare the newest of the requested releases with the release that was first called before it."""
    every = _filters_of(query)
    # All releases: the previous one may not be among those requested.
    every.setlist("release", [])
    filterset = SQLLogFilter.from_query(every)
    found = scope.with_filters(filterset)
    releases = sorted(_seen(stats.read_groups(found, "release", source).groups, scope))
    asked = scope.filters["release"]
    number = max((at for at, one in enumerate(releases) if not asked or one.name in asked), default=None)
    if number is None:
        return Ranges(compare="release", source=source, now=scope, before=None)
    current = releases[number]
    previous = releases[number - 1] if number else None
    return Ranges(
        compare="release",
        source=source,
        now=current.scope(query, scope),
        before=previous.scope(query, scope) if previous else None,
        release=current.name,
        release_before=previous.name if previous else None,
    )


def _filters_of(query: QueryDict) -> QueryDict:
    kept = QueryDict(mutable=True)
    for name in SQLLogFilter.base_filters:
        kept.setlist(name, query.getlist(name))
    return kept


def _seen(groups: Any, scope: Scope) -> list[_Release]:
    named = [group for group in groups if group.group]
    of_ring = [group for group in named if isinstance(group, aggregates.Group)]
    times = aggregates.times_by_seq(
        scope.ring, [seq for group in of_ring for seq in (group.first_seq, group.last_seq)]
    )

    def ends(group: StatsGroup) -> tuple[datetime, datetime]:
        if isinstance(group, StatisticsAggregate):
            return group.first_seen, group.last_seen
        return times.get(group.first_seq, scope.begin), times.get(group.last_seq, scope.begin)

    return [_Release(*ends(group), str(group.group)) for group in named]


class _Pair(NamedTuple):
    """A group in both ranges."""

    either: StatsGroup
    now: StatsGroup | None
    before: StatsGroup | None


def read_comparison(request: HttpRequest, ranges: Ranges, group_by: str, page: OffsetPage) -> StatsAnswer:
    """Return the requested page of groups of both ranges; one beyond the last is empty."""
    found = stats.read_groups(ranges.now, group_by, ranges.source)
    before = stats.read_groups(ranges.before, group_by, ranges.source) if ranges.before else None
    if before is not None and not _is_covered(before.span):
        before = None
    groups_before = {group.group: group for group in before.groups} if before else {}
    pairs = [_Pair(group, group, groups_before.pop(group.group, None)) for group in found.groups]
    pairs += [_Pair(group, None, group) for group in groups_before.values()]
    shown = page.cut(pairs, _ordering_value(page.column, found.span, before.span if before else None))
    rows = _ComparedRows(ranges, found, before, group_by, shown)
    return ComparedStatsAnswer(
        **head(found.span),
        group_by=group_by,
        count=len(pairs),
        next=page.next_url(request, len(pairs)),
        previous=page.previous_url(request),
        compare=ranges.compare,
        compare_begin=rfc3339(before.span.begin) if before else None,
        compare_end=rfc3339(before.span.end) if before else None,
        release=ranges.release,
        release_before=ranges.release_before,
        results=[rows.row(pair) for pair in shown],
    )


def _is_covered(span: TimeSpan) -> bool:
    """Return whether the source has any of a range; otherwise every group would seem to be new."""
    return span.complete_since is not None and span.begin < span.end


_OF_EITHER: dict[str, Callable[[StatsGroup], Any]] = {
    "group": attrgetter("group"),
    "first_seen": stats.first_seen,
    "last_seen": stats.last_seen,
}
_SUMS = frozenset({"calls", "errors", "total_ms"})


def _ordering_value(column: str, span: TimeSpan, before: TimeSpan | None) -> Callable[[_Pair], Any]:
    if column == "load_change":
        return lambda pair: abs(_load(pair.now, span) - _load(pair.before, before or span))
    if of_either := _OF_EITHER.get(column):
        return lambda pair: of_either(pair.either)
    name = ORDERINGS[column]
    # A vanished group has no calls; its percentiles are unknown, which sorts below all others.
    absent = 0 if name in _SUMS else None
    return lambda pair: absent if pair.now is None else getattr(pair.now, name)


def _load(group: StatsGroup | None, span: TimeSpan) -> float:
    return group.total_ms / span.seconds if group else 0.0


def _rows_per_call(row: StatsRow | None) -> float | None:
    return row.rows / row.calls if row and row.calls and row.rows is not None else None


def _change_percent(now: float | None, before: float | None) -> float | None:
    return 100 * (now - before) / before if before and now is not None else None


_NO_CALLS = dict.fromkeys(
    ("calls_per_unit", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms", "rows")
) | dict.fromkeys(("calls", "errors", "total_ms", "load_percent", "repeats"), 0)
"""What a group has in a range in which it was not called."""


class _ComparedRows:
    """Makes the rows of a page from those of each range."""

    def __init__(
        self, ranges: Ranges, found: Grouped, before: Grouped | None, group_by: str, shown: list[_Pair]
    ) -> None:
        self._kind = row_type(group_by)
        self._span, self._span_before = found.span, before.span if before else None
        self._now = _rows(ranges.now, found, group_by, [pair.now for pair in shown if pair.now])
        self._before: dict[GroupValue, StatsRow] = {}
        if ranges.before and before:
            chosen = [pair.before for pair in shown if pair.before]
            self._before = _rows(ranges.before, before, group_by, chosen)

    def row(self, pair: _Pair) -> ComparedStatsRow:
        value = pair.either.group
        now, before = self._now.get(value), self._before.get(value)
        row: Any = now or before
        plain: dict[str, Any] = {field.name: getattr(row, field.name) for field in fields(row)}
        rates = _rates(pair.now, now, self._span)
        rates_before: dict[str, Any] = dict.fromkeys(rates)
        if self._span_before:
            rates_before = _rates(pair.before, before, self._span_before)
        load, load_before = rates["total_ms_per_s"], rates_before["total_ms_per_s"]
        # The row of a vanished group comes from the range before, so its figures are replaced by zeros.
        plain |= (_NO_CALLS if now is None else {}) | rates
        for name, value_before in rates_before.items():
            plain[f"{name}_before"] = value_before
            plain[f"{name}_change_percent"] = _change_percent(rates[name], value_before)
        return self._kind(
            **plain,
            total_ms_per_s_change=None if load_before is None else load - load_before,
            is_new=pair.before is None if self._span_before else None,
            is_vanished=pair.now is None,
        )


def _rates(group: StatsGroup | None, row: StatsRow | None, span: TimeSpan) -> dict[str, Any]:
    # Over the whole range, not between a group's first and last call: a burst within one of the ranges would
    # otherwise look like a drop in the other.
    return {
        "total_ms_per_s": _load(group, span),
        "calls_per_s": group.calls / span.seconds if group else 0.0,
        "p95_ms": row.p95_ms if row else None,
        "calls_per_unit": row.calls_per_unit if row else None,
        "rows_per_call": _rows_per_call(row),
    }


def _rows(scope: Scope, found: Grouped, group_by: str, shown: list[StatsGroup]) -> dict[GroupValue, StatsRow]:
    has_repeats = shown and found.span.source != "units" and scope.wants("repeats")
    worst = stats.worst(scope, group_by) if has_repeats else {}
    return {row.group: row for row in stats.stats_rows(scope, found, group_by, shown, worst)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFigures:
    """A statement's figures over a time; durations in milliseconds."""

    calls: int
    mean_ms: float
    p95_ms: float
    rows_per_call: float
    calls_per_s: float
    total_ms_per_s: float

    @classmethod
    def from_group(cls, group: StatisticsAggregate, seconds: float) -> "ReviewFigures":
        return cls(
            calls=group.calls,
            mean_ms=group.mean_ms,
            p95_ms=group.p95_ms,
            rows_per_call=group.rows / group.calls,
            calls_per_s=group.calls / seconds,
            total_ms_per_s=group.total_ms / seconds,
        )


class WorseFigure(NamedTuple):
    """A figure of a statement that has grown since its review."""

    figure: str
    before: float
    since: float

    @property
    def change_percent(self) -> float | None:
        return _change_percent(self.since, self.before)


class _Threshold(NamedTuple):
    times: float
    more: float
    """Minimum difference, since twice almost nothing is still almost nothing."""
    is_rate: bool = False


JUDGED_CALLS_MIN = 10
"""With fewer calls, before the review or since, a statement is not judged."""
JUDGED_RATE_MIN_S = 86_400.0
"""Rates differ between day and night, so they are judged over at least a day."""
WORSE = {
    "mean_ms": _Threshold(1.5, 1.0),
    "p95_ms": _Threshold(2.0, 1.0),
    "rows_per_call": _Threshold(2.0, 10.0),
    "calls_per_s": _Threshold(2.0, 0.01, is_rate=True),
    "total_ms_per_s": _Threshold(2.0, 1.0, is_rate=True),
}
"""By figure, the factor and the difference from which it counts as worse."""


def worse_figures(before: ReviewFigures, since: ReviewFigures, seconds: float) -> tuple[WorseFigure, ...]:
    """Return what has become worse; `seconds` is the time since the review."""
    if min(before.calls, since.calls) < JUDGED_CALLS_MIN:
        return ()
    pairs = [
        (WorseFigure(name, getattr(before, name), getattr(since, name)), threshold)
        for name, threshold in WORSE.items()
        if seconds >= JUDGED_RATE_MIN_S or not threshold.is_rate
    ]
    return tuple(
        pair
        for pair, least in pairs
        if pair.since >= least.times * pair.before and pair.since - pair.before >= least.more
    )
