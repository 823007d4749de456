"""Figures by time and group: the points of `series/`."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqllogs import queries
from sqllogs.aggregation import Graph, step_of
from sqllogs.queries import statistics
from sqllogs.queries.groups import Value
from sqllogs.reports import source
from sqllogs.reports.scope import Answer, Scope, Source, Span, head
from sqllogs.rows import rfc3339
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S

BARS = 60
"""About so many steps, at most, show the course of an answer."""
_FINEST_S = ((6 * HOUR_S, MINUTE_S), (10 * DAY_S, HOUR_S))
"""Up to how long a time of statistics is shown by rows of which length; a longer one is by those of days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """All calls in one step of time; durations in milliseconds, None where there was no call."""

    time: str
    """Begin of the step, a multiple of it since the epoch."""
    calls: int
    errors: int
    total_ms: float
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPoint(Point):
    """All calls of one group in one step of time."""

    group: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Series(Answer):
    """The answer of `series/`, in the order of its JSON."""

    group_by: str | None
    step_s: int
    results: list[Point | GroupPoint]
    """In the order of time; within a step, the group with the highest total first."""


NO_CALLS = queries.Figures()
AnyLine = queries.Line[queries.Figures] | queries.Line[statistics.Figures]


def read_series(scope: Scope, graph: Graph, chosen: Source = "ring") -> Series:
    """Add up what matches; steps without a call are filled in from the begin to the end."""
    lines, step_s, span = (_of_ring if chosen == "ring" else _of_statistics)(scope, graph)
    return Series(
        **head(span),
        group_by=graph.group_by,
        step_s=step_s,
        results=list(_points(span, lines, step_s, is_grouped=graph.group_by is not None)),
    )


def read_course(scope: Scope, answer: Answer) -> Series:
    """Add up over time what an answer is about, from where the answer was made from, in few steps."""
    range_s = (datetime.fromisoformat(answer.end) - datetime.fromisoformat(answer.begin)).total_seconds()
    step_s = step_of(range_s, BARS)
    if answer.source == "statistics":
        step_s = max(step_s, next((step_s for upto_s, step_s in _FINEST_S if range_s <= upto_s), DAY_S))
    graph = Graph(group_by=None, top=1, step_s=step_s, whole_steps=False)
    return read_series(scope, graph, answer.source)


def _of_ring(scope: Scope, graph: Graph) -> tuple[Sequence[AnyLine], int, Span]:
    span = scope.span
    step_s = graph.step_for(span.begin, span.end)
    lines = queries.series(scope.records, scope.ring, step_s=step_s, group_by=graph.group_by, top=graph.top)
    return lines, step_s, span


def _of_statistics(scope: Scope, graph: Graph) -> tuple[Sequence[AnyLine], int, Span]:
    where = source.where(scope)
    since = where.since or statistics.complete_since() or scope.now
    until = where.until or scope.now
    step_s = graph.step_for(since, until) if graph.step_s else statistics.auto_step_s(since, until)
    answer = statistics.series(where, step_s, graph.group_by, graph.top, whole_steps=graph.whole_steps)
    lines: dict[tuple[str | None, bool], queries.Line[statistics.Figures]] = {}
    for time, figures, is_other in answer.points:
        line = lines.setdefault((figures.group, is_other), queries.Line(value=figures.group))
        line.points[int(time.timestamp()) // answer.step_s] = figures
        line.total_ms += figures.total_ms
    others = lines.get((statistics.OTHER, True))
    if others is not None and (statistics.OTHER, False) in lines:
        others.value = queries.OTHER[1]
    ranked = sorted(lines.values(), key=lambda line: (line is others, -line.total_ms))
    return ranked, answer.step_s, source.span(scope, answer.since, answer.until, answer.complete_since)


def _points(span: Span, lines: Sequence[AnyLine], step_s: int, *, is_grouped: bool) -> Iterator[Point]:
    if span.complete_since is None:
        return
    first = int(span.begin.timestamp()) // step_s
    after = math.ceil(span.end.timestamp() / step_s)  # the end itself does not belong to it
    steps = {*range(first, after), *(bucket for line in lines for bucket in line.points)}
    for bucket in sorted(steps):
        time = rfc3339(datetime.fromtimestamp(bucket * step_s, UTC))
        for line in lines:
            fields = _fields(time, line.points.get(bucket, NO_CALLS))
            yield GroupPoint(**fields, group=line.value) if is_grouped else Point(**fields)


def _fields(time: str, figures: queries.Figures | statistics.Figures) -> dict[str, Any]:
    return {
        "time": time,
        "calls": figures.calls,
        "errors": figures.errors,
        "total_ms": figures.total_ms,
        "mean_ms": figures.mean_ms,
        "p50_ms": figures.p50_ms,
        "p95_ms": figures.p95_ms,
        "p99_ms": figures.p99_ms,
        "max_ms": figures.max_ms,
    }
