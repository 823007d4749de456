"""Sum up the records that a page shows, in figures and in a chart.

Fed with records that have been read already: no query is sent for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, log10

from sqllogs.page.wording import clock, day, milliseconds
from sqllogs.rows import Record

LINES_MS = (0.01, 0.1, 1, 10, 100, 1_000, 10_000, 100_000)
"""Where the chart may have a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of what is shown, durations in milliseconds as they are written."""

    shown: int
    p50: str
    p95: str
    max: str
    total: str
    failed: int


def figures(records: Sequence[Record]) -> Figures:
    durations = sorted(record["duration_ms"] for record in records)
    return Figures(
        shown=len(durations),
        p50=_percentile(durations, 0.50),
        p95=_percentile(durations, 0.95),
        max=_percentile(durations, 1),
        total=milliseconds(sum(durations)),
        failed=sum(record["error"] is not None for record in records),
    )


def _percentile(ordered: Sequence[float], share: float) -> str:
    return milliseconds(ordered[ceil(len(ordered) * share) - 1]) if ordered else "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One record; places are percent of the chart, from the left and from the top."""

    x: str
    y: str
    kind: str
    """failed, slow or plain."""
    record: Record
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A duration marked in the chart."""

    y: str
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Durations over time, on a logarithmic scale."""

    dots: list[Dot]
    lines: list[Line]
    begin: str
    end: str


def chart(records: Iterable[Record], slow_ms: float) -> Chart | None:
    """Return the chart of some records; None for fewer than two, which show no course of things."""
    by_time = sorted(records, key=lambda record: record["time"])
    if len(by_time) < 2:
        return None
    durations = [max(record["duration_ms"], 0.001) for record in by_time]
    top, bottom = log10(max(durations)) + 0.12, log10(min(durations)) - 0.12
    instants = [datetime.fromisoformat(record["time"]).timestamp() for record in by_time]
    began, took = instants[0], max(instants[-1] - instants[0], 1e-6)
    dots = [
        Dot(
            x=f"{100 * (instant - began) / took:.2f}",
            y=f"{100 * (top - log10(duration)) / (top - bottom):.2f}",
            kind=kind(record, slow_ms),
            record=record,
            told=f"{milliseconds(duration)} ms at {clock(record['time'])}",
        )
        for record, instant, duration in zip(by_time, instants, durations, strict=True)
    ]
    lines = [
        Line(y=f"{100 * (top - log10(line)) / (top - bottom):.2f}", told=f"{line:,g}")
        for line in LINES_MS
        if bottom < log10(line) < top
    ]
    return Chart(dots=dots, lines=lines, begin=_instant(by_time[0]), end=_instant(by_time[-1]))


def _instant(record: Record) -> str:
    return f"{day(record['time'])} {clock(record['time'])}"


def kind(record: Record, slow_ms: float) -> str:
    """Say what a record stands out by."""
    if record["error"] is not None:
        return "failed"
    return "slow" if record["duration_ms"] >= slow_ms else "plain"
