"""Draw figures over time: bars and lines as numbers for SVG, which no style has to place.

Fed with points that have been read already, feeds the admin's templates. Runs in the reader's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from sqllogs.page.wording import clock, day, milliseconds
from sqllogs.reports.series import Point

COURSE_HEIGHT = 20
"""Units of a small graph's height; its width is 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
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
class Graphs:
    """Calls as bars and durations as lines, over the same time."""

    bars: list[Bar]
    calls: Axis
    mean: str
    p95: str
    """Paths in a square of 100, from the left and from the top; a step without a call interrupts them."""
    durations: Axis
    begin: str
    end: str


def graphs(points: Sequence[Point]) -> Graphs | None:
    """Return the graphs of at least two steps, in which there was a call; else None."""
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    calls_top = round_up(calls_max)
    ms_top = round_up(max(max(point.p95_ms or 0.0, point.mean_ms or 0.0) for point in points) or 1.0)
    return Graphs(
        bars=[_bar(number, len(points), point, calls_top) for number, point in enumerate(points)],
        calls=Axis(top=f"{calls_top:,.10g}", middle=f"{calls_top / 2:,.10g}"),
        mean=_path([point.mean_ms for point in points], ms_top),
        p95=_path([point.p95_ms for point in points], ms_top),
        durations=Axis(top=f"{ms_top:,.10g} ms", middle=f"{ms_top / 2:,.10g}"),
        begin=_instant(points[0]),
        end=_instant(points[-1]),
    )


def course(values: Sequence[float]) -> str:
    """Return a small graph of one line as a path, 100 wide and COURSE_HEIGHT high."""
    top = max(values, default=0.0)
    if len(values) < 2 or not top:
        return ""
    return _path(values, top, height=COURSE_HEIGHT)


def round_up(value: float) -> float:
    """Return the next number of 1, 2, 4 or 10 times a power of ten, whose half is short to write too."""
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 4, 10, 20) if step * power >= value * (1 - 1e-9))


def _bar(number: int, count: int, point: Point, top: float) -> Bar:
    height, failed = 100 * point.calls / top, 100 * point.errors / top
    return Bar(
        x=f"{100 * number / count:.2f}",
        width=f"{80 / count:.2f}",
        y=f"{100 - height:.2f}",
        height=f"{height:.2f}",
        failed_y=f"{100 - failed:.2f}",
        failed_height=f"{failed:.2f}" if point.errors else "",
        told=told(point),
    )


def told(point: Point) -> str:
    """Say all of a step in a line."""
    parts = [f"{_instant(point)}: {point.calls:,} calls"]
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


def _instant(point: Point) -> str:
    return f"{day(point.time)} {clock(point.time)[:5]}"
