"""Build the template context of the tab Queries: a row per record, a summary and a scatter chart.

Called by the renderer with a page of records, in the reader's thread; sends no query. Other pages with
records use its rows too. The template is records.html.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Any, NamedTuple

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.conf import Conf
from sqllogs.models import Event
from sqllogs.page.charts import TimeAxis, WithSeries, time_axis
from sqllogs.page.frame import tab
from sqllogs.page.links import Links, TableColumn, table_headers
from sqllogs.read.pagination import CursorPage, Page
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.records import epoch_ms
from sqllogs.record import FIELDS, RecordJSON
from sqllogs.sql.text import highlight_keywords, preview
from sqllogs.templatetags.sqllogs import clock, day, milliseconds

NEWEST_FIRST = "-id"
COLUMNS = (
    TableColumn(_("Time, UTC"), "time", "id"),
    TableColumn(_("Duration"), "duration number", "duration_ms"),
    TableColumn(_("Rows"), "rows number", "rows"),
    TableColumn(_("Statement"), "statement"),
    TableColumn(_("Origin"), "origin"),
    TableColumn(_("Trace"), "trace"),
)


def list_page(request: Request, charted: WithSeries[Page], *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of records.html."""
    page, _series, events = charted
    links = Links(request.path, request.query_params)
    settings = conf.load()
    ordering = _ordering(request.query_params)
    frame = tab(request, links, page, with_text=with_text, records=page.results)
    return frame | {
        "title": _("Queries"),
        "rows": [record_row(record, links, settings) for record in page.results],
        "headers": table_headers(links, COLUMNS, ordering, NEWEST_FIRST),
        "summary": duration_summary(page.results),
        "chart": scatter_chart(page.results, settings.slow_ms, links, events),
        # New records can be added on top only if the page starts with the newest one.
        "may_follow": frame["first_page"] is None and ordering == NEWEST_FIRST,
    }


def _ordering(query: QueryDict) -> str:
    ordering = CursorPage.from_query(query).ordering
    column = "id" if ordering.column == "seq" else ordering.column
    return f"-{column}" if ordering.descending else column


DECADES_MS = (0.001, 0.01, 0.1, 1, 10, 100, 1_000, 10_000, 100_000)
"""Durations that may get a guide line in the chart; where fewer than two fit, 2 and 5 times them too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationSummary:
    """Summary of the page's records; durations are formatted milliseconds."""

    shown: int
    p50: str
    p95: str
    max: str
    total: str
    failed: int


def duration_summary(records: Sequence[RecordJSON]) -> DurationSummary:
    # Of this page only: its records have been read anyway, while totals of all that match would be a scan.
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
    """One record, in percent of the chart from the left and the top."""

    x: str
    y: str
    kind: str
    """failed, slow or plain."""
    record: RecordJSON
    tooltip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideLine:
    """A labelled horizontal line."""

    y: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterChart:
    """Durations over time, on a logarithmic scale."""

    dots: list[Dot]
    guide_lines: list[GuideLine]
    axis: TimeAxis


def scatter_chart(
    records: Iterable[RecordJSON], slow_ms: float, links: Links, events: Sequence[Event] = ()
) -> ScatterChart | None:
    """Return the chart; None for fewer than two records."""
    by_time = sorted(records, key=lambda record: record["time"])
    if len(by_time) < 2:
        return None
    durations = [max(record["duration_ms"], 0.001) for record in by_time]  # 0 has no logarithm
    # An eighth of a decade above and below, so that no dot is cut off.
    top, bottom = log10(max(durations)) + 0.12, log10(min(durations)) - 0.12
    instants = [epoch_ms(record["time"]) for record in by_time]
    began, took = instants[0], max(instants[-1] - instants[0], 1e-3)
    tooltip = gettext("%(duration)s ms at %(time)s")  # once, not for each of a thousand dots
    dots = [
        Dot(
            x=f"{100 * (instant - began) / took:.2f}",
            y=f"{100 * (top - log10(duration)) / (top - bottom):.2f}",
            kind=kind(record, slow_ms),
            record=record,
            tooltip=tooltip % {"duration": milliseconds(duration), "time": clock(record["time"])},
        )
        for record, instant, duration in zip(by_time, instants, durations, strict=True)
    ]
    lines_ms = [line for line in DECADES_MS if bottom < log10(line) < top]
    if len(lines_ms) < 2:
        finer = (line * factor for line in DECADES_MS for factor in (1, 2, 5))
        lines_ms = [line for line in finer if bottom < log10(line) < top]
    guide_lines = [
        GuideLine(y=f"{100 * (top - log10(line)) / (top - bottom):.2f}", label=f"{line:,g}")
        for line in lines_ms
    ]
    axis = time_axis(by_time[0]["time"], by_time[-1]["time"], events, links)
    return ScatterChart(dots=dots, guide_lines=guide_lines, axis=axis)


def kind(record: RecordJSON, slow_ms: float) -> str:
    """Return how the page highlights a record: failed, slow or plain."""
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
    """Length of the bar under the duration, in percent."""
    sql: SafeString | None
    links: dict[str, str]
    """By field: the list, filtered by the value as well."""
    slower: str
    """The list of records that took at least as long."""
    viewers: "list[Viewer]"
    """Where else its trace can be opened."""


def record_row(record: RecordJSON, links: Links, settings: Conf) -> RecordRow:
    """Return the row of a record; the caller passes the settings, which are loaded once per page."""
    duration_ms = record["duration_ms"]
    return RecordRow(
        record=record,
        kind=kind(record, settings.slow_ms),
        url=f"{links.home}{record['id']}/",  # not reverse(): a thousand calls take 50 ms
        day=day(record["time"]),
        clock=clock(record["time"]),
        duration=milliseconds(duration_ms),
        # Logarithmic: empty at 0.01 ms, full at 10 s.
        bar=f"{min(max((log10(max(duration_ms, 0.001)) + 2) / 6, 0.01), 1) * 100:.1f}",
        sql=highlight_keywords(preview(record["sql"])) if record["sql"] is not None else None,
        links={name: links.with_filter(name, value) for name in LINKED if (value := record[name])},  # type: ignore[literal-required]
        slower=links.with_filter("min_ms", f"{duration_ms:.4g}"),
        viewers=viewers_of_record(record, settings),
    )


MARGIN_MS = 300_000
"""How far the range of a viewer reaches beyond both ends: a record does not know those of its request."""


class Viewer(NamedTuple):
    """A link to a trace in another program."""

    label: str | Promise
    sign: str
    """Stands for the label in a narrow column."""
    url: str


def viewers_of_record(record: RecordJSON, settings: Conf) -> list[Viewer]:
    """Return the links of a record's trace to other programs."""
    if not (record["trace_id"] and (settings.trace_url or settings.logs_url)):
        return []  # first, because a page has a thousand records
    began_ms = epoch_ms(record["time"])
    ended_ms = began_ms + record["duration_ms"]
    return viewers(settings, record["trace_id"], began_ms, ended_ms, is_sampled=bool(record["sampled"]))


def viewers(
    settings: Conf, trace_id: str, began_ms: float, ended_ms: float, *, is_sampled: bool
) -> list[Viewer]:
    """Return the links of TRACE_URL and LOGS_URL to a trace; times in milliseconds since 1970."""
    values = {
        "{trace_id}": trace_id,
        "{from_ms}": str(int(began_ms) - MARGIN_MS),
        "{to_ms}": str(int(ended_ms) + MARGIN_MS),
    }

    def filled(template: str) -> str:
        for name, value in values.items():
            template = template.replace(name, value)
        return template

    # A trace that was not sampled is not in its viewer, while its log lines are where all are.
    of_trace = settings.trace_url if is_sampled else ""
    programs = (
        (_("Open in the trace viewer"), "↗", of_trace),
        (_("Open its log lines"), "≡", settings.logs_url),
    )
    return [Viewer(label, sign, filled(template)) for label, sign, template in programs if template]
