"""Sum up what an answer is about, and draw its course over time: milliseconds and calls in each step.

Fed with a series that has been read already, feeds sums.html. Runs in the reader's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, NamedTuple, TypeVar

from sqllogs.page.graph import round_up, told
from sqllogs.page.links import Links
from sqllogs.page.wording import clock, day, milliseconds
from sqllogs.reports.series import Point, Series
from sqllogs.rows import rfc3339

AnyAnswer = TypeVar("AnyAnswer")


class Charted(NamedTuple, Generic[AnyAnswer]):
    """An answer, and its course over time; None where there is nothing to show."""

    answer: AnyAnswer
    course: Series | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Of all steps together, durations in milliseconds as they are written."""

    calls: int
    total: str
    unit: str
    """Of the total: ms, or s where it is long."""
    mean: str
    max: str
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """Percent of the chart, from its top."""

    y: str
    height: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of time in which there was a call."""

    x: str
    width: str
    total: Rect
    calls: Rect
    failed: Rect | None
    told: str
    url: str
    """The same list of that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Milliseconds above, calls below, over the same time."""

    steps: list[Step]
    total: str
    calls: str
    """What the upper end of each of the two stands for."""
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """A part of the chart's height, and the value that fills it."""

    foot: int
    full: float

    def rect(self, value: float) -> Rect:
        # A call among thousands is still to be seen.
        height = max(HEIGHT * value / self.full, HEIGHT_MIN)
        return Rect(y=f"{self.foot - height:.2f}", height=f"{height:.2f}")


TOTAL_FOOT, CALLS_FOOT = 44, 100
HEIGHT, HEIGHT_MIN = 44, 1.5
"""Percent of the chart that a bar takes."""
SECONDS_FROM_MS = 1_000_000
"""A total of so much would not fit on a phone beside two other figures."""


def sums(points: Sequence[Point]) -> Sums:
    calls, total_ms = sum(point.calls for point in points), sum(point.total_ms for point in points)
    return Sums(
        calls=calls,
        total=f"{total_ms / 1_000:,.0f}" if total_ms >= SECONDS_FROM_MS else milliseconds(total_ms),
        unit="s" if total_ms >= SECONDS_FROM_MS else "ms",
        mean=milliseconds(total_ms / calls) if calls else "-",
        max=milliseconds(max((point.max_ms or 0.0 for point in points), default=0.0)) if calls else "-",
        failed=sum(point.errors for point in points),
    )


def bars(course: Series, links: Links) -> Bars | None:
    """Return the chart of at least two steps, in which there was a call; else None."""
    points = course.results
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    total_full_ms = round_up(max(point.total_ms for point in points) or 1.0)
    total, calls = _Scale(TOTAL_FOOT, total_full_ms), _Scale(CALLS_FOOT, round_up(calls_max))
    in_s = total_full_ms >= 1_000
    return Bars(
        steps=[
            Step(
                x=f"{100 * number / len(points):.2f}",
                width=f"{80 / len(points):.2f}",
                total=total.rect(point.total_ms),
                calls=calls.rect(point.calls),
                failed=calls.rect(point.errors) if point.errors else None,
                told=f"{told(point)}, {milliseconds(point.total_ms)} ms in all",
                url=links.setting(**_range(course, point, links)),
            )
            for number, point in enumerate(points)
            if point.calls
        ],
        total=f"{total_full_ms / 1_000:,.10g} s" if in_s else f"{total_full_ms:,.10g} ms",
        calls=f"{calls.full:,.10g}",
        begin=_instant(points[0].time),
        end=_instant(_end(course, points[-1])),
    )


def _range(course: Series, point: Point, links: Links) -> dict[str, str]:
    """Return the filters of a step, no wider than those that are on: what is found is what is drawn."""
    begin, end = point.time, _end(course, point)
    if "from" in links.on and begin < course.begin < end:
        begin = course.begin
    if "to" in links.on and begin < course.end < end:
        end = course.end
    return {"from": _short(begin), "to": _short(end)}


def _end(course: Series, point: Point) -> str:
    return rfc3339(datetime.fromisoformat(point.time) + timedelta(seconds=course.step_s))


def _short(time: str) -> str:
    return time.replace(".000000Z", "Z")


def _instant(time: str) -> str:
    return f"{day(time)} {clock(time)[:8]}"
