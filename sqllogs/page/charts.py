"""Turn series into numbers for SVG charts: time bars of the page, charts and sparklines of the admin.

Called with series and events that have been read before, in the reader's thread; used by templates of page
and admin. Positions are SVG attributes in percent, because a strict CSP forbids inline styles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, floor, log10
from typing import Generic, NamedTuple, TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sqllogs.models import Event
from sqllogs.page.links import Links, reverse
from sqllogs.read.records import rfc3339
from sqllogs.read.series import SeriesAnswer, SeriesPoint
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S
from sqllogs.templatetags.sqllogs import clock, day, milliseconds

SPARKLINE_HEIGHT = 20
"""Height of a sparkline's view box; its width is 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled time on the axis, in percent from the left."""

    x: str
    label: str
    anchor: str
    """SVG's text-anchor, so that a label at an end of the axis stays within the chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A deploy or a migration on the time axis."""

    x: str
    label: str
    """The release or migration; empty if the next mark is too near for a text."""
    event: Event
    time: str
    url: str = ""
    """URL of the statements since then, compared with the same time before; empty in the admin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoomStep:
    """A link to another part of the time axis."""

    name: str
    """in, out, earlier or later: page.js binds keys to it."""
    label: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """What all charts over time have in common."""

    begin: str
    end: str
    """Times of the left and the right edge of the chart, RFC 3339."""
    begin_shown: str
    end_shown: str
    ticks: list[Tick]
    marks: list[Mark]
    zoom: list[ZoomStep]
    as_table: str
    """The page with the same figures as text."""


TICK_STEPS_S = (
    *(step * power for power in (0.001, 0.01, 0.1) for step in (1, 2, 5)), 1, 2, 5, 10, 15, 30,
    *(MINUTE_S * step for step in (1, 2, 5, 10, 15, 30)), *(HOUR_S * step for step in (1, 2, 3, 6, 12)),
    *(DAY_S * step for step in (1, 2, 7, 14, 30, 90, 365)),
)  # fmt: skip
TICKS_MAX = 6
MARK_LABEL_MAX_CHARACTERS = 16
MARK_LABEL_PERCENT = 14
"""Width of a mark's text; a mark that is nearer to the next one has none."""
ZOOM_MIN_S = 4
"""Shortest range that can be halved, because times in links are whole seconds."""


def time_axis(begin: str, end: str, events: Sequence[Event], links: Links) -> TimeAxis:
    """Return the axis from one RFC 3339 time to another."""
    since, until = datetime.fromisoformat(begin), datetime.fromisoformat(end)
    return TimeAxis(
        begin=begin,
        end=end,
        begin_shown=_short_time(begin),
        end_shown=clock(end)[:8] if day(begin) == day(end) else _short_time(end),
        ticks=time_ticks(since, until),
        marks=_marks(events, since, until, links.for_path(reverse("sqllogs:stats"))),
        zoom=_zoom(since, until, links),
        as_table=links.for_series(),
    )


def time_ticks(since: datetime, until: datetime) -> list[Tick]:
    """Return at most TICKS_MAX times that are multiples of a second, minute, hour or day in UTC."""
    begin_s, length_s = since.timestamp(), (until - since).total_seconds()
    if length_s <= 0:
        return []
    # A range that begins in the year 1 needs several times the longest step.
    longest = TICK_STEPS_S[-1] * max(1, ceil(length_s / TICK_STEPS_S[-1] / TICKS_MAX))
    step_s = next((step for step in TICK_STEPS_S if length_s / step < TICKS_MAX), longest)
    numbers = range(ceil(begin_s / step_s), floor((begin_s + length_s) / step_s) + 1)
    return [
        _tick(number * step_s, 100 * (number * step_s - begin_s) / length_s, step_s) for number in numbers
    ]


def _tick(second: float, x: float, step_s: float) -> Tick:
    time = datetime.fromtimestamp(second, UTC)
    if step_s >= DAY_S * 30:
        label = f"{time.date()}"
    elif step_s >= DAY_S or (step_s >= MINUTE_S and not second % DAY_S):
        label = f"{time:%m-%d}"  # midnight, too, is a day
    else:
        label = f"{time:%H:%M}" if step_s >= MINUTE_S else f"{time:%H:%M:%S}"
        label += f"{time:.%f}"[:4] if step_s < 1 else ""
    # On a phone half of a label is wider than what is left behind 94 %.
    anchor = "start" if x < 2 else "end" if x > 94 else "middle"
    return Tick(x=f"{x:.2f}", label=label, anchor=anchor)


def _marks(events: Sequence[Event], since: datetime, until: datetime, statements: Links | None) -> list[Mark]:
    length_s = max((until - since).total_seconds(), 1e-6)  # never 0
    found = [(100 * (event.time - since).total_seconds() / length_s, event) for event in events]
    found = [(x, event) for x, event in found if 0 <= x <= 100]
    marks = []
    for number, (x, event) in enumerate(found):
        x_next = found[number + 1][0] if number + 1 < len(found) else 100.0
        label = _shortened(event.text if event.kind == "deploy" else event.title.split()[0])
        since_then = {"from": rfc3339(event.time), "compare": "previous"}
        url = statements.with_values(**since_then) if statements else ""
        is_wide = x_next - x >= MARK_LABEL_PERCENT
        marks.append(
            Mark(x=f"{x:.2f}", label=label if is_wide else "", event=event, time=rfc3339(event.time), url=url)
        )
    return marks


def _shortened(label: str) -> str:
    return label if len(label) <= MARK_LABEL_MAX_CHARACTERS else f"{label[: MARK_LABEL_MAX_CHARACTERS - 1]}…"


def _zoom(since: datetime, until: datetime, links: Links) -> list[ZoomStep]:
    """Return the links to half, double, the one before and the one after of the range."""
    length = until - since
    moves = {"earlier": (_("Earlier"), -1 / 2, -1 / 2)}
    if length.total_seconds() >= ZOOM_MIN_S:
        moves["in"] = (_("Zoom in"), 1 / 4, -1 / 4)
    moves["out"] = (_("Zoom out"), -1 / 2, 1 / 2)
    if "to" in links.active:  # otherwise it ends now already
        moves["later"] = (_("Later"), 1 / 2, 1 / 2)
    steps = []
    for name, (label, of_begin, of_end) in moves.items():
        try:
            begin, end = since + of_begin * length, until + of_end * length
        except OverflowError:  # before the year 1, or after 9999
            continue
        url = links.with_values(**{"from": _second(begin), "to": _second(end)})
        steps.append(ZoomStep(name=name, label=label, url=url))
    return steps


# Not strftime(), because on Linux %Y writes the year 1 as "1", which is invalid in RFC 3339.
def _second(time: datetime) -> str:
    return f"{rfc3339(time)[:19]}Z"


def _minute(time: datetime) -> str:
    return rfc3339(time)[:16].replace("T", " ")


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
    ticks: list[Tick]
    marks: list[Mark]
    begin: str
    end: str


def time_charts(points: Sequence[SeriesPoint], events: Sequence[Event] = ()) -> TimeCharts | None:
    """Return the charts; None if there are fewer than two steps or no calls."""
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    calls_top = round_up(calls_max)
    # The mean too, which exceeds the 95th percentile if a few calls took very long. Not 0 if all took 0 ms.
    ms_top = round_up(max(max(point.p95_ms or 0.0, point.mean_ms or 0.0) for point in points) or 1.0)
    since, until = range_of(points)
    return TimeCharts(
        bars=[_bar(number, len(points), point, calls_top) for number, point in enumerate(points)],
        calls=Axis(top=f"{calls_top:,.10g}", middle=f"{calls_top / 2:,.10g}"),
        mean=_path([point.mean_ms for point in points], ms_top),
        p95=_path([point.p95_ms for point in points], ms_top),
        durations=Axis(top=f"{ms_top:,.10g} ms", middle=f"{ms_top / 2:,.10g}"),
        ticks=time_ticks(since, until),
        marks=_marks(events, since, until, None),
        begin=_minute(since),
        end=_minute(until),
    )


def range_of(points: Sequence[SeriesPoint]) -> tuple[datetime, datetime]:
    """Return the time between the edges of a chart of two points or more."""
    first, second, last = (datetime.fromisoformat(points[number].time) for number in (0, 1, -1))
    return first, last + (second - first)  # a point's time is the begin of its step


def sparkline(values: Sequence[float]) -> str:
    """Return an SVG path, 100 wide and SPARKLINE_HEIGHT high; empty if there is nothing to draw."""
    top = max(values, default=0.0)
    if len(values) < 2 or not top:
        return ""
    return _path(values, top, height=SPARKLINE_HEIGHT)


def round_up(value: float) -> float:
    """Round up to 1, 2, 4 or 10 times a power of ten: half of it, the middle label, is short too."""
    power = 10.0 ** floor(log10(value))
    # 1e-9, so that a rounding error in the power does not select the next step.
    return next(step * power for step in (1, 2, 4, 10, 20) if step * power >= value * (1 - 1e-9))


def _bar(number: int, count: int, point: SeriesPoint, top: float) -> ChartBar:
    height, failed = 100 * point.calls / top, 100 * point.errors / top
    return ChartBar(
        x=f"{100 * number / count:.2f}",
        width=f"{80 / count:.2f}",  # a fifth of the step is the space between bars
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
        # h0 draws a line of length 0, which its round cap turns into a dot.
        written.append(f"L{position}" if is_open else f"M{position}h0")
        is_open = True
    return "".join(written)


def _point_time(point: SeriesPoint) -> str:
    return f"{day(point.time)} {clock(point.time)[:5]}"


AnyAnswer = TypeVar("AnyAnswer")


class WithSeries(NamedTuple, Generic[AnyAnswer]):
    """An answer, the series of its chart, None if there is nothing to draw, and the events to mark in it."""

    answer: AnyAnswer
    series: SeriesAnswer | None = None
    events: Sequence[Event] = ()


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
    step_count: int
    """With those that had no call."""
    total: Axis
    calls: Axis
    axis: TimeAxis


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
# Two bands of 44 %, with 12 % between them.
TOTAL_BOTTOM, CALLS_BOTTOM = 44, 100
HEIGHT, HEIGHT_MIN = 44, 1.5
"""Height of a band and of the lowest visible bar, in percent of the chart."""


def time_bars(series: SeriesAnswer, links: Links, events: Sequence[Event] = ()) -> TimeBars | None:
    """Return the chart; None if there are fewer than two steps or no calls."""
    points = series.results
    calls_max = max((point.calls for point in points), default=0)
    if len(points) < 2 or not calls_max:
        return None
    total_top_ms = round_up(max(point.total_ms for point in points) or 1.0)
    total, calls = _Scale(TOTAL_BOTTOM, total_top_ms), _Scale(CALLS_BOTTOM, round_up(calls_max))
    unit_ms, unit = (1_000, "s") if total_top_ms >= 1_000 else (1, "ms")
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
        step_count=len(points),
        total=Axis(
            top=f"{total_top_ms / unit_ms:,.10g} {unit}", middle=f"{total_top_ms / unit_ms / 2:,.10g}"
        ),
        calls=Axis(top=f"{calls.top_value:,.10g}", middle=f"{calls.top_value / 2:,.10g}"),
        axis=time_axis(points[0].time, _end(series, points[-1]), events, links),
    )


def _range(series: SeriesAnswer, point: SeriesPoint, links: Links) -> dict[str, str]:
    """Return the time filters of a step within the active ones: the link shows what the bar counts."""
    begin, end = point.time, _end(series, point)
    # RFC 3339 times in UTC with six digits compare as texts.
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
