"""Totals and percentiles over time, by group: the points of `series/`, from the ring or the statistics.

Takes one scan. Steps without calls are filled in, so that charts show gaps. Feeds API, page and admin, in the
reader's thread.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Generic, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from sqllogs.read import statistics
from sqllogs.read.aggregates import (
    GROUPS,
    AggregatePart,
    Figures,
    GroupValue,
    GroupValues,
    group_column,
    report_parts,
)
from sqllogs.read.parameters import ChoiceField, SwitchField, clean_parameters
from sqllogs.read.records import rfc3339
from sqllogs.read.ring import Steps
from sqllogs.read.scope import Answer, Scope, Source, TimeSpan, head, statistics_filter, time_span
from sqllogs.read.statistics_rows import StatisticsAggregate
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S

TOP, TOP_MAX = 10, 20

STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 604_800,
)  # fmt: skip
BUCKETS = 200
"""Maximum for a series whose step is not given."""
BUCKETS_MAX = 1_000
"""A step that gives more buckets is widened, because an error would be an empty panel in Grafana."""
POINTS_MAX = 12_000
"""Maximum over all groups; a step that gives more is widened."""

BARS = 60
"""Approximate maximum number of steps in a chart of the page."""
_FINEST_S = ((6 * HOUR_S, MINUTE_S), (10 * DAY_S, HOUR_S))
"""Lengths up to which a range of statistics is read by minute and by hour; longer ranges are read by day."""

_STEP = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)?", re.ASCII)
# Grafana's $__interval can be 500ms.
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
STEP_MAX_S = 366 * DAY_S


class StepField(forms.CharField):
    """A length of time in whole seconds, such as 30, 30s, 5m, 1h or 1d."""

    def clean(self, value: str | None) -> int | None:
        text = super().clean(value)
        if text in ("", "auto"):
            return None
        match = _STEP.fullmatch(text)
        seconds = int(match[1]) * _UNITS_S[match[2] or "s"] if match else 0
        if not 0 < seconds <= STEP_MAX_S:
            raise ValidationError(_("Must be a length of time such as 30s, 5m, 1h or 1d."))
        return max(1, round(seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOptions:
    """The parameters of a series."""

    group_by: str | None
    top: int
    step_s: int | None
    """None chooses it by the time range."""
    buckets: bool = False
    """Count all calls by duration too; with groups, each step then begins with a point of all calls."""
    whole_steps: bool = True
    """Whether the first step of statistics includes calls before the range."""

    @classmethod
    def from_query(cls, query: QueryDict) -> "SeriesOptions":
        """Read a query string; raise ParameterError."""
        data = clean_parameters(
            query,
            group_by=ChoiceField(names=GROUPS),
            top=forms.IntegerField(min_value=1, max_value=TOP_MAX, required=False),
            step=StepField(required=False),
            buckets=SwitchField(required=False),
        )
        return cls(
            group_by=data["group_by"],
            top=data["top"] or TOP,
            step_s=data["step"],
            buckets=bool(data["buckets"]),
        )

    def step_for(self, since: datetime, until: datetime) -> int:
        """Return the requested step in seconds, or a wider one if that gives too many points."""
        range_s = max(1.0, (until - since).total_seconds())
        lines = 1 if self.group_by is None else self.top + 1 + self.buckets  # all other groups are one
        buckets_max = min(BUCKETS_MAX, POINTS_MAX // lines)
        if self.step_s is not None and range_s / self.step_s <= buckets_max:
            return self.step_s
        return step_of(range_s, BUCKETS if self.step_s is None else buckets_max)


def step_of(range_s: float, buckets: int) -> int:
    """Return the shortest step that divides a range into at most `buckets` buckets."""
    least_s, last = range_s / buckets, STEPS_S[-1]
    # Beyond a week, whole weeks.
    return next((step for step in STEPS_S if step >= least_s), math.ceil(least_s / last) * last)


OTHER_SERIES = ("other", "all others")
"""Name of the line of all other groups; the second name is used if a group has the first."""

AnyFigures = Figures | StatisticsAggregate
"""The figures of either source."""
FiguresT = TypeVar("FiguresT", Figures, StatisticsAggregate)


@dataclass(slots=True, kw_only=True)
class GroupSeries(Generic[FiguresT]):
    """The points of one group."""

    value: GroupValue
    is_of_all: bool = False
    """Of all calls, before the lines of their groups."""
    total_ms: float = 0.0
    points: dict[int, FiguresT] = field(default_factory=dict)
    """By bucket, the number of steps since the epoch."""


def _add(line: GroupSeries[Figures], part: AggregatePart) -> None:
    bucket = int(part.keys[0])
    line.total_ms += part.total_ms
    (line.points.get(bucket) or line.points.setdefault(bucket, Figures())).add(part)


def series(scope: Scope, options: SeriesOptions, step_s: int) -> list[GroupSeries[Figures]]:
    """Return the lines of the top groups by total time, one for all others, and with buckets that of all."""
    group_by = options.group_by
    records = scope.records.annotate(bucket=Steps("time", length=step_s * 1_000_000))
    keys = ("bucket",) if group_by is None else ("bucket", group_column(group_by))
    # Parts are summed here, so that one scan gives both the top groups and the line of all others.
    report = scope.report("series", step_s, group_by)
    scanned = report_parts(records, scope.ring, report, *keys, more=False)
    of_all: list[GroupSeries[Figures]] = []
    if group_by is None or options.buckets:
        of_all.append(GroupSeries(value=None, is_of_all=True))
        for part in scanned:
            _add(of_all[0], part)
    if group_by is None:
        return of_all
    return of_all + _top(scanned, GroupValues(group_by, {part.keys[1] for part in scanned}), options.top)


def _top(scanned: Iterable[AggregatePart], value_of: GroupValues, top: int) -> list[GroupSeries[Figures]]:
    totals: dict[GroupValue, float] = defaultdict(float)
    for part in scanned:
        for value in value_of[part.keys[1]]:
            totals[value] += part.total_ms
    # Equal totals by name, so that lines keep their order, and so their colours, between answers.
    ranked = sorted(totals, key=lambda value: (-totals[value], value or ""))
    lines: dict[GroupValue, GroupSeries[Figures]] = {
        value: GroupSeries(value=value) for value in ranked[:top]
    }
    others: GroupSeries[Figures] = GroupSeries(value=next(name for name in OTHER_SERIES if name not in lines))
    for part in scanned:
        for value in value_of[part.keys[1]]:
            _add(lines.get(value, others), part)
    return [*lines.values(), *([others] if others.points else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPoint:
    """All calls in one step of time; durations in milliseconds, null without a call."""

    time: str
    """Begin of the step, a multiple of its length since the epoch."""
    calls: int
    calls_per_s: float
    errors: int
    total_ms: float
    total_ms_per_s: float
    """Milliseconds of queries per second: 1000 is one connection that is always busy."""
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPoint(SeriesPoint):
    """All calls of one group in one step of time."""

    group: GroupValue


BUCKET_ENDS_US = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Calls by duration: each number counts those above the bucket before it; for a heatmap."""

    to_100us: int = 0
    to_300us: int = 0
    to_1ms: int = 0
    to_3ms: int = 0
    to_10ms: int = 0
    to_30ms: int = 0
    to_100ms: int = 0
    to_300ms: int = 0
    to_1s: int = 0
    to_3s: int = 0
    to_10s: int = 0
    above_10s: int = 0

    @classmethod
    def of_calls(cls, figures: AnyFigures) -> "Buckets":
        """Count the calls of a group by duration."""
        upto = [0, *figures.calls_upto(BUCKET_ENDS_US), figures.calls]
        return cls(*(calls - below for below, calls in pairwise(upto)))


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPoint(SeriesPoint):
    """All calls in one step of time, also by duration."""

    buckets: Buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBucketPoint(GroupPoint):
    """All calls of one group in one step of time, or before these all calls together, by duration."""

    buckets: Buckets | None
    """Null in the points of groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAnswer(Answer):
    """The answer of `series/`, in the order of its JSON."""

    group_by: str | None
    step_s: int
    results: list[SeriesPoint | GroupPoint | BucketPoint | GroupBucketPoint]
    """Ordered by time; within a step, the group with the highest total time first."""


NO_CALLS = Figures()
AnySeries = GroupSeries[Figures] | GroupSeries[StatisticsAggregate]


def read_series(scope: Scope, options: SeriesOptions, chosen: Source = "ring") -> SeriesAnswer:
    """Return the series of the matching records, with a point for each step, even without calls."""
    if chosen == "ring":
        lines, step_s, span = _from_ring(scope, options)
    else:
        lines, step_s, span = _from_statistics(scope, options, chosen)
    return SeriesAnswer(
        **head(span),
        group_by=options.group_by,
        step_s=step_s,
        results=list(_points(scope, span, lines, step_s, options)),
    )


def read_sparkline(scope: Scope, answer: Answer) -> SeriesAnswer:
    """Return a series of few steps over the time range of an answer, from the same source."""
    range_s = (datetime.fromisoformat(answer.end) - datetime.fromisoformat(answer.begin)).total_seconds()
    step_s = step_of(range_s, BARS)
    if answer.source != "ring":
        # No finer than what is cheap to read: six hours by minute take 180 ms for 500 statements.
        step_s = max(step_s, next((step_s for upto_s, step_s in _FINEST_S if range_s <= upto_s), DAY_S))
    # Without calls before the range in the first step, so that the sums agree with the list below.
    options = SeriesOptions(group_by=None, top=1, step_s=step_s, whole_steps=False)
    return read_series(scope, options, answer.source)


def _from_ring(scope: Scope, options: SeriesOptions) -> tuple[Sequence[AnySeries], int, TimeSpan]:
    span = scope.span
    step_s = options.step_for(span.begin, span.end)
    return series(scope, options, step_s), step_s, span


def _from_statistics(
    scope: Scope, options: SeriesOptions, chosen: Source
) -> tuple[Sequence[AnySeries], int, TimeSpan]:
    where = statistics_filter(scope, chosen)
    since = where.since or statistics.complete_since(where) or scope.now
    until = where.until or scope.now
    step_s = options.step_for(since, until) if options.step_s else statistics.auto_step_s(since, until)
    answer = statistics.series(
        where,
        step_s,
        options.group_by,
        options.top,
        whole_steps=options.whole_steps,
        with_all=options.buckets and options.group_by is not None,
    )
    lines: dict[statistics.SeriesKey, GroupSeries[StatisticsAggregate]] = {}
    for time, figures, key in answer.points:
        line = lines.setdefault(key, GroupSeries(value=key.group, is_of_all=key.is_of_all))
        line.points[int(time.timestamp()) // answer.step_s] = figures
        line.total_ms += figures.total_ms
    others = lines.get(statistics.OTHERS)
    if others is not None and statistics.SeriesKey(statistics.OTHER_LINE) in lines:
        others.value = OTHER_SERIES[1]  # a release, for example, can be called "other" too
    ranked = sorted(lines.values(), key=lambda line: (not line.is_of_all, line is others, -line.total_ms))
    return ranked, answer.step_s, time_span(scope, chosen, answer.since, answer.until, answer.complete_since)


def _points(
    scope: Scope, span: TimeSpan, lines: Sequence[AnySeries], step_s: int, options: SeriesOptions
) -> Iterator[SeriesPoint]:
    # No points: zeros would mean that there were no calls, but nothing is known.
    if span.complete_since is None:
        return
    first = int(span.begin.timestamp()) // step_s
    after = math.ceil(span.end.timestamp() / step_s)  # the end itself is excluded
    # Statistics may have a bucket that begins before the range, see `whole_steps`.
    steps = {*range(first, after), *(bucket for line in lines for bucket in line.points)}
    point_class = _point_class(options)
    for bucket in sorted(steps):
        time = rfc3339(datetime.fromtimestamp(bucket * step_s, UTC))
        for line in lines:
            figures = line.points.get(bucket, NO_CALLS)
            # The newest step has not ended yet.
            seconds = min(step_s, max(1.0, span.end.timestamp() - bucket * step_s))
            fields = _fields(time, figures, seconds) | scope.percentiles(figures)
            if options.buckets:
                # Groups have none: a heatmap is one of all calls.
                fields["buckets"] = Buckets.of_calls(figures) if line.is_of_all else None
            if options.group_by is not None:
                fields["group"] = line.value
            yield point_class(**fields)


def _point_class(options: SeriesOptions) -> type[SeriesPoint]:
    if options.group_by is None:
        return BucketPoint if options.buckets else SeriesPoint
    return GroupBucketPoint if options.buckets else GroupPoint


def _fields(time: str, figures: AnyFigures, seconds: float) -> dict[str, Any]:
    return {
        "time": time,
        "calls": figures.calls,
        "calls_per_s": figures.calls / seconds,
        "errors": figures.errors,
        "total_ms": figures.total_ms,
        "total_ms_per_s": figures.total_ms / seconds,
        "mean_ms": figures.mean_ms,
        "max_ms": figures.max_ms,
    }
