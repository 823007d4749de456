"""Lay out the list of records.

Fed by `sqllogs.read.pagination` through the renderer, feeds records.html. Runs in
the reader's thread and queries nothing.

Lay out one record as a line of a list, its values as links.

Feeds the pages that show records; runs in the reader's thread.

Sum up the records that a page shows, in figures and in a chart.

Fed with records that have been read already: no query is sent for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, log10
from typing import Any

from django.http import QueryDict
from django.utils.safestring import SafeString
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.conf import Conf
from sqllogs.page.form import tab
from sqllogs.page.formatting import clock, day, milliseconds
from sqllogs.page.links import Links, TableColumn, table_headers
from sqllogs.read.pagination import CursorPage, Page
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.record import FIELDS, RecordJSON
from sqllogs.sql.format import excerpt, highlight_keywords

NEWEST_FIRST = "-id"
COLUMNS = (
    TableColumn("Time, UTC", "time", "id"),
    TableColumn("Duration", "duration number", "duration_ms"),
    TableColumn("Rows", "rows number", "rows"),
    TableColumn("Statement", "statement"),
    TableColumn("Where from", "origin"),
    TableColumn("Trace", "trace"),
)


def list_page(request: Request, page: Page, *, with_text: bool) -> Mapping[str, Any]:
    """Return what records.html shows."""
    links = Links(request.path, request.query_params)
    settings = conf.load()
    ordering = _ordering(request.query_params)
    around = tab(request, links, page, with_text=with_text, records=page.results)
    return around | {
        "title": "Queries",
        "lines": [record_row(record, links, settings) for record in page.results],
        "heads": table_headers(links, COLUMNS, ordering, NEWEST_FIRST),
        "figures": duration_summary(page.results),
        "chart": scatter_chart(page.results, settings.slow_ms),
        # What comes in belongs on top only where the newest is there.
        "may_follow": around["first_page"] is None and ordering == NEWEST_FIRST,
    }


def _ordering(query: QueryDict) -> str:
    ordering = CursorPage.from_query(query).ordering
    column = "id" if ordering.column == "seq" else ordering.column
    return f"-{column}" if ordering.descending else column


GUIDE_LINES_MS = (0.01, 0.1, 1, 10, 100, 1_000, 10_000, 100_000)
"""Where the chart may have a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationSummary:
    """Of what is shown, durations in milliseconds as they are written."""

    shown: int
    p50: str
    p95: str
    max: str
    total: str
    failed: int


def duration_summary(records: Sequence[RecordJSON]) -> DurationSummary:
    durations = sorted(record["duration_ms"] for record in records)
    return DurationSummary(
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
    record: RecordJSON
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideLine:
    """A duration marked in the chart."""

    y: str
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterChart:
    """Durations over time, on a logarithmic scale."""

    dots: list[Dot]
    lines: list[GuideLine]
    begin: str
    end: str


def scatter_chart(records: Iterable[RecordJSON], slow_ms: float) -> ScatterChart | None:
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
        GuideLine(y=f"{100 * (top - log10(line)) / (top - bottom):.2f}", told=f"{line:,g}")
        for line in GUIDE_LINES_MS
        if bottom < log10(line) < top
    ]
    return ScatterChart(dots=dots, lines=lines, begin=_parse_time(by_time[0]), end=_parse_time(by_time[-1]))


def _parse_time(record: RecordJSON) -> str:
    return f"{day(record['time'])} {clock(record['time'])}"


def kind(record: RecordJSON, slow_ms: float) -> str:
    """Say what a record stands out by."""
    if record["error"] is not None:
        return "failed"
    return "slow" if record["duration_ms"] >= slow_ms else "plain"


LINKED = tuple(name for name in FIELDS if name in SQLLogFilter.base_filters)
"""Fields that are filters of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """One record in the list."""

    record: RecordJSON
    kind: str
    url: str
    day: str
    clock: str
    duration: str
    bar: str
    """Length of the bar behind the duration, percent."""
    sql: SafeString | None
    links: dict[str, str]
    """By field: the list under that value too."""
    slower: str
    """The list of what took as long or longer."""
    trace: str | None
    """The trace in its viewer."""


def record_row(record: RecordJSON, links: Links, settings: Conf) -> RecordRow:
    """Lay out a record; the settings are read once for a page, not for each line."""
    duration_ms = record["duration_ms"]
    return RecordRow(
        record=record,
        kind=kind(record, settings.slow_ms),
        url=f"{links.home}{record['id']}/",  # a thousand calls of reverse() take 50 ms
        day=day(record["time"]),
        clock=clock(record["time"]),
        duration=milliseconds(duration_ms),
        bar=f"{min(max((log10(max(duration_ms, 0.001)) + 2) / 6, 0.01), 1) * 100:.1f}",
        sql=highlight_keywords(excerpt(record["sql"])) if record["sql"] is not None else None,
        links={name: links.adding(name, value) for name in LINKED if (value := record[name])},  # type: ignore[literal-required]
        slower=links.adding("min_ms", f"{duration_ms:.4g}"),
        trace=trace_url(record, settings),
    )


def trace_url(record: RecordJSON, settings: Conf) -> str | None:
    template, trace_id = settings.trace_url, record["trace_id"]
    # A trace that is not sampled is in no viewer.
    if not (template and trace_id and record["sampled"]):
        return None
    return template.replace("{trace_id}", trace_id)
