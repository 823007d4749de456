"""Figures by time and group: the points of `series/`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqllogs import queries
from sqllogs.aggregation import Graph
from sqllogs.queries.figures import Figures
from sqllogs.queries.groups import Value
from sqllogs.reports.scope import Scope, Source, Span
from sqllogs.rows import rfc3339


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
class Series:
    """The answer of `series/`, in the order of its JSON."""

    source: Source
    complete_since: str | None
    begin: str
    end: str
    group_by: str | None
    step_s: int
    results: list[Point]
    """In the order of time; within a step, the group with the highest total first."""


NO_CALLS = Figures()


def read_series(scope: Scope, graph: Graph) -> Series:
    """Add up what matches; steps without a call are filled in from the begin to the end."""
    step_s = graph.step_for(scope.begin, scope.end)
    lines = queries.series(scope.records, scope.ring, step_s=step_s, group_by=graph.group_by, top=graph.top)
    span = Span.of(scope)
    return Series(
        source=span.source,
        complete_since=span.complete_since,
        begin=span.begin,
        end=span.end,
        group_by=graph.group_by,
        step_s=step_s,
        results=list(_points(scope, lines, step_s, is_grouped=graph.group_by is not None)),
    )


def _points(scope: Scope, lines: list[queries.Line], step_s: int, *, is_grouped: bool) -> Iterator[Point]:
    if scope.oldest is None:
        return
    first = int(scope.begin.timestamp()) // step_s
    after = math.ceil(scope.end.timestamp() / step_s)  # the end itself does not belong to it
    steps = {*range(first, after), *(bucket for line in lines for bucket in line.points)}
    for bucket in sorted(steps):
        time = rfc3339(datetime.fromtimestamp(bucket * step_s, UTC))
        for line in lines:
            figures = line.points.get(bucket, NO_CALLS)
            point = _fields(time, figures)
            yield GroupPoint(**point, group=line.value) if is_grouped else Point(**point)


def _fields(time: str, figures: Figures) -> dict[str, Any]:
    p50_ms, p95_ms, p99_ms = figures.percentiles_ms(0.50, 0.95, 0.99)
    return {
        "time": time,
        "calls": figures.calls,
        "errors": figures.errors,
        "total_ms": figures.total_ms,
        "mean_ms": figures.mean_ms,
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "p99_ms": p99_ms,
        "max_ms": figures.max_ms,
    }
