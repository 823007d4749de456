"""Turn series into numbers for SVG charts: time bars of the page, charts and sparklines of the admin.

Fed with series that have been read already; feeds totals.html and the admin's templates. Positions are
SVG attributes in percent, because a strict CSP forbids inline styles. Runs in the reader's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor, log10
from typing import Generic, NamedTuple, TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sqllogs.page.links import Links
from sqllogs.read.records import rfc3339
from sqllogs.read.series import SeriesAnswer, SeriesPoint
from sqllogs.templatetags.sqllogs import clock, day, milliseconds

SPARKLINE_HEIGHT = 20
"""Height of a sparkline's view box; its width is 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartBar:
    """One step of time, in percent of the chart from the left and the top."""

    x: str
    width: str
    y: str
    height: str
    failed_y: str
    failed_height: str
    """The part that failed, at the bottom; empty if none did."""
    tooltip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Labels of an axis."""

    top: str
    middle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeCharts:
    """Calls as bars and durations as lines, over the same period."""

    bars: list[ChartBar]
    calls: Axis
    mean: str
    p95: str
    """SVG paths in a view box of 100 x 100; a step without calls is a gap."""
    durations: Axis
    begin: str
    end: str


def time_charts(points: Sequence[SeriesPoint]) -> TimeCharts | None:
    """Return the charts; None if there are fewer than two steps or no calls."""
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
    """Return an SVG path, 100 wide and SPARKLINE_HEIGHT high; empty if there is nothing to draw."""
    top = max(values, default=0.0)
    if len(values) < 2 or not top:
        return ""
    return _path(values, top, height=SPARKLINE_HEIGHT)


def round_up(value: float) -> float:
    """Round up to 1, 2, 4 or 10 times a power of ten: half of it, the middle label, is short too."""
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
        tooltip=tooltip(point),
    )


def tooltip(point: SeriesPoint) -> str:
    """Return all figures of a step on one line."""
    calls = ngettext("%(count)s call", "%(count)s calls", point.calls) % {"count": f"{point.calls:,}"}
    parts = [f"{_point_time(point)}: {calls}"]
    if point.errors:
        failed = ngettext("%(count)s failed", "%(count)s failed", point.errors)
        parts.append(failed % {"count": f"{point.errors:,}"})
    if point.mean_ms is not None:
        mean, p95 = milliseconds(point.mean_ms), milliseconds(point.p95_ms)
        parts.append(_("mean %(mean)s ms, p95 %(p95)s ms") % {"mean": mean, "p95": p95})
    return ", ".join(parts)


def _path(values: Sequence[float | None], top: float, height: float = 100) -> str:
    """Return a path through the middle of each step; a step between two gaps is a dot."""
    written, is_open = [], False
    for number, value in enumerate(values):
        if value is None:
            is_open = False
            continue
        position = f"{100 * (number + 0.5) / len(values):.2f} {height - height * value / top:.2f}"
        written.append(f"L{position}" if is_open else f"M{position}h0")
        is_open = True
    return "".join(written)


def _point_time(point: SeriesPoint) -> str:
    return f"{day(point.time)} {clock(point.time)[:5]}"


AnyAnswer = TypeVar("AnyAnswer")


class WithSeries(NamedTuple, Generic[AnyAnswer]):
    """An answer and the series of its chart; None if there is nothing to draw."""

    answer: AnyAnswer
    series: SeriesAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTotals:
    """Totals of all steps; durations are formatted milliseconds."""

    calls: int
    total: str
    unit: str
    """Unit of the total: ms, or s if it is long."""
    mean: str
    max: str
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """In percent of the chart, from the top."""

    y: str
    height: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStep:
    """One step of time with at least one call."""

    x: str
    width: str
    total: Rect
    calls: Rect
    failed: Rect | None
    tooltip: str
    url: str
    """The same list, limited to this step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBars:
    """Total duration above, calls below, over the same period."""

    steps: list[TimeStep]
    total: str
    calls: str
    """Label of the top of each of the two scales."""
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """A band of the chart, and the value that fills it."""

    bottom: int
    top_value: float

    def rect(self, value: float) -> Rect:
        # One failed call among thousands must stay visible.
        height = max(HEIGHT * value / self.top_value, HEIGHT_MIN)
        return Rect(y=f"{self.bottom - height:.2f}", height=f"{height:.2f}")


# Positions are attributes of SVG elements: the Content-Security-Policy allows no style attribute.
TOTAL_BOTTOM, CALLS_BOTTOM = 44, 100
HEIGHT, HEIGHT_MIN = 44, 1.5
"""Height of a band and of the lowest visible bar, in percent of the chart."""
SECONDS_FROM_MS = 1_000_000
"""A longer total in ms would not fit on a phone next to two other figures."""


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


def time_bars(series: SeriesAnswer, links: Links) -> TimeBars | None:
    """Return the chart; None if there are fewer than two steps or no calls."""
    points = series.results
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    total_top_ms = round_up(max(point.total_ms for point in points) or 1.0)
    total, calls = _Scale(TOTAL_BOTTOM, total_top_ms), _Scale(CALLS_BOTTOM, round_up(calls_max))
    in_s = total_top_ms >= 1_000
    return TimeBars(
        steps=[
            TimeStep(
                x=f"{100 * number / len(points):.2f}",
                width=f"{80 / len(points):.2f}",
                total=total.rect(point.total_ms),
                calls=calls.rect(point.calls),
                failed=calls.rect(point.errors) if point.errors else None,
                tooltip=tooltip(point)
                + _(", %(total)s ms in total") % {"total": milliseconds(point.total_ms)},
                url=links.with_values(**_range(series, point, links)),
            )
            for number, point in enumerate(points)
            if point.calls
        ],
        total=f"{total_top_ms / 1_000:,.10g} s" if in_s else f"{total_top_ms:,.10g} ms",
        calls=f"{calls.top_value:,.10g}",
        begin=_short_time(points[0].time),
        end=_short_time(_end(series, points[-1])),
    )


def _range(series: SeriesAnswer, point: SeriesPoint, links: Links) -> dict[str, str]:
    """Return the time filters of a step, clipped to the active ones: the link shows what the bar counts."""
    begin, end = point.time, _end(series, point)
    if "from" in links.active and begin < series.begin < end:
        begin = series.begin
    if "to" in links.active and begin < series.end < end:
        end = series.end
    return {"from": _without_zeros(begin), "to": _without_zeros(end)}


def _end(series: SeriesAnswer, point: SeriesPoint) -> str:
    return rfc3339(datetime.fromisoformat(point.time) + timedelta(seconds=series.step_s))


def _without_zeros(time: str) -> str:
    return time.replace(".000000Z", "Z")


def _short_time(time: str) -> str:
    return f"{day(time)} {clock(time)[:8]}"
