"""Draw figures over time: bars and lines as numbers for SVG, which no style has to place.

Fed with points that have been read already, feeds the admin's templates. Runs in the reader's thread.

Sum up what an answer is about, and draw its course over time: milliseconds and calls in each step.

Fed with a series that has been read already, feeds sums.html. Runs in the reader's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor, log10
from typing import Generic, NamedTuple, TypeVar

from sqllogs.page.formatting import clock, day, milliseconds
from sqllogs.page.links import Links
from sqllogs.read.records import rfc3339
from sqllogs.read.series import SeriesAnswer, SeriesPoint

SPARKLINE_HEIGHT = 20
"""Units of a small graph's height; its width is 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartBar:
    """One step of time; places are percent of the graph, from the left and from the top."""

    x: str
    width: str
    y: str
    height: str
    failed_y: str
    failed_height: str
    """The part of it that failed, at its foot; empty where none did."""
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What the upper end of a graph stands for, and its middle."""

    top: str
    middle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeCharts:
    """Calls as bars and durations as lines, over the same time."""

    bars: list[ChartBar]
    calls: Axis
    mean: str
    p95: str
    """Paths in a square of 100, from the left and from the top; a step without a call interrupts them."""
    durations: Axis
    begin: str
    end: str


def time_charts(points: Sequence[SeriesPoint]) -> TimeCharts | None:
    """Return the graphs of at least two steps, in which there was a call; else None."""
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    calls_top = round_up(calls_max)
    ms_top = round_up(max(max(point.p95_ms or 0.0, point.mean_ms or 0.0) for point in points) or 1.0)
    return TimeCharts(
        bars=[_bar(number, len(points), point, calls_top) for number, point in enumerate(points)],
        calls=Axis(top=f"{calls_top:,.10g}", middle=f"{calls_top / 2:,.10g}"),
        mean=_path([point.mean_ms for point in points], ms_top),
        p95=_path([point.p95_ms for point in points], ms_top),
        durations=Axis(top=f"{ms_top:,.10g} ms", middle=f"{ms_top / 2:,.10g}"),
        begin=_point_time(points[0]),
        end=_point_time(points[-1]),
    )


def sparkline(values: Sequence[float]) -> str:
    """Return a small graph of one line as a path, 100 wide and COURSE_HEIGHT high."""
    top = max(values, default=0.0)
    if len(values) < 2 or not top:
        return ""
    return _path(values, top, height=SPARKLINE_HEIGHT)


def round_up(value: float) -> float:
    """Return the next number of 1, 2, 4 or 10 times a power of ten, whose half is short to write too."""
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 4, 10, 20) if step * power >= value * (1 - 1e-9))


def _bar(number: int, count: int, point: SeriesPoint, top: float) -> ChartBar:
    height, failed = 100 * point.calls / top, 100 * point.errors / top
    return ChartBar(
        x=f"{100 * number / count:.2f}",
        width=f"{80 / count:.2f}",
        y=f"{100 - height:.2f}",
        height=f"{height:.2f}",
        failed_y=f"{100 - failed:.2f}",
        failed_height=f"{failed:.2f}" if point.errors else "",
        told=tooltip(point),
    )


def tooltip(point: SeriesPoint) -> str:
    """Say all of a step in a line."""
    parts = [f"{_point_time(point)}: {point.calls:,} calls"]
    if point.errors:
        parts.append(f"{point.errors:,} failed")
    if point.mean_ms is not None:
        parts.append(f"mean {milliseconds(point.mean_ms)} ms, p95 {milliseconds(point.p95_ms)} ms")
    return ", ".join(parts)


def _path(values: Sequence[float | None], top: float, height: float = 100) -> str:
    """Return a line through the middle of each step; one that stands alone is a dot."""
    written, is_open = [], False
    for number, value in enumerate(values):
        if value is None:
            is_open = False
            continue
        place = f"{100 * (number + 0.5) / len(values):.2f} {height - height * value / top:.2f}"
        written.append(f"L{place}" if is_open else f"M{place}h0")
        is_open = True
    return "".join(written)


def _point_time(point: SeriesPoint) -> str:
    return f"{day(point.time)} {clock(point.time)[:5]}"


AnyAnswer = TypeVar("AnyAnswer")


class Charted(NamedTuple, Generic[AnyAnswer]):
    """An answer, and its course over time; None where there is nothing to show."""

    answer: AnyAnswer
    course: SeriesAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTotals:
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
class TimeStep:
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
class TimeBars:
    """Milliseconds above, calls below, over the same time."""

    steps: list[TimeStep]
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


def series_totals(points: Sequence[SeriesPoint]) -> SeriesTotals:
    calls, total_ms = sum(point.calls for point in points), sum(point.total_ms for point in points)
    return SeriesTotals(
        calls=calls,
        total=f"{total_ms / 1_000:,.0f}" if total_ms >= SECONDS_FROM_MS else milliseconds(total_ms),
        unit="s" if total_ms >= SECONDS_FROM_MS else "ms",
        mean=milliseconds(total_ms / calls) if calls else "-",
        max=milliseconds(max((point.max_ms or 0.0 for point in points), default=0.0)) if calls else "-",
        failed=sum(point.errors for point in points),
    )


def time_bars(course: SeriesAnswer, links: Links) -> TimeBars | None:
    """Return the chart of at least two steps, in which there was a call; else None."""
    points = course.results
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    total_full_ms = round_up(max(point.total_ms for point in points) or 1.0)
    total, calls = _Scale(TOTAL_FOOT, total_full_ms), _Scale(CALLS_FOOT, round_up(calls_max))
    in_s = total_full_ms >= 1_000
    return TimeBars(
        steps=[
            TimeStep(
                x=f"{100 * number / len(points):.2f}",
                width=f"{80 / len(points):.2f}",
                total=total.rect(point.total_ms),
                calls=calls.rect(point.calls),
                failed=calls.rect(point.errors) if point.errors else None,
                told=f"{tooltip(point)}, {milliseconds(point.total_ms)} ms in all",
                url=links.setting(**_range(course, point, links)),
            )
            for number, point in enumerate(points)
            if point.calls
        ],
        total=f"{total_full_ms / 1_000:,.10g} s" if in_s else f"{total_full_ms:,.10g} ms",
        calls=f"{calls.full:,.10g}",
        begin=_parse_time(points[0].time),
        end=_parse_time(_end(course, points[-1])),
    )


def _range(course: SeriesAnswer, point: SeriesPoint, links: Links) -> dict[str, str]:
    """Return the filters of a step, no wider than those that are on: what is found is what is drawn."""
    begin, end = point.time, _end(course, point)
    if "from" in links.on and begin < course.begin < end:
        begin = course.begin
    if "to" in links.on and begin < course.end < end:
        end = course.end
    return {"from": _short(begin), "to": _short(end)}


def _end(course: SeriesAnswer, point: SeriesPoint) -> str:
    return rfc3339(datetime.fromisoformat(point.time) + timedelta(seconds=course.step_s))


def _short(time: str) -> str:
    return time.replace(".000000Z", "Z")


def _parse_time(time: str) -> str:
    return f"{day(time)} {clock(time)[:8]}"
