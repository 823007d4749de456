"""Lay out what records add up to: statements, requests, N+1 suspects.

Fed by `sqllogs.read` through the renderer, feeds statements.html, requests.html
and repeats.html. Runs in the reader's thread and queries nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.safestring import SafeString
from rest_framework.request import Request

from sqllogs.page.charts import Charted, series_totals, time_bars
from sqllogs.page.form import tab
from sqllogs.page.links import Links, TableColumn, table_headers
from sqllogs.read import n_plus_one, requests, stats
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.series import SeriesAnswer
from sqllogs.sql.format import excerpt, highlight_keywords

LINKED = ("route", "view", "call_site", "fingerprint", "kind", "method", "worst_call_site")
GROUPS = (
    ("Statement", "fingerprint"), ("Route", "route"), ("View", "view"), ("Operation", "operation"),
    ("Table", "table"), ("Database", "alias"), ("Kind", "kind"), ("Release", "release"),
    ("Service", "service"), ("Host", "host"),
)  # fmt: skip
"""What statements can be added up by: label, value of `group_by`."""
UNITS = {name: f"{label.lower()}s" for label, name in GROUPS}

STATS_COLUMNS = (
    TableColumn("Load", "load number", "load_percent"),
    TableColumn("Statement", "statement"),
    TableColumn("Calls", "number", "calls"),
    TableColumn("Mean ms", "number", "mean_ms"),
    TableColumn("p95 ms", "number", "p95_ms"),
    TableColumn("Max ms", "number", "max_ms"),
    TableColumn("Total ms", "number", "total_ms"),
    TableColumn("Rows", "number", "rows"),
    TableColumn("Errors", "number", "errors"),
    TableColumn("Last seen", "time", "last_seen"),
)
REQUESTS_COLUMNS = (
    TableColumn("Time, UTC", "time", "time"),
    TableColumn("Request", "origin"),
    TableColumn("Queries", "number", "queries"),
    TableColumn("Repeated", "number", "duplicates"),
    TableColumn("Errors", "number", "errors"),
    TableColumn("In queries ms", "number", "total_ms"),
    TableColumn("Elapsed ms", "number"),
    TableColumn("Sent most often", "statement"),
)
REPEATS_COLUMNS = (
    TableColumn("Statement", "statement"),
    TableColumn("Times each", "number", "times_per_request"),
    TableColumn("At worst", "number", "times_max"),
    TableColumn("Requests", "number", "requests"),
    TableColumn("Calls", "number", "calls"),
    TableColumn("Total ms", "number", "total_ms"),
    TableColumn("Last seen", "time", "last_seen"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One row of an answer."""

    row: Any
    sql: SafeString | None
    url: str
    """Its records, or its trace."""
    links: dict[str, str]
    """By field: the same tab under that value too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Another way to add up."""

    label: str
    url: str
    is_current: bool


def stats_page(
    request: Request, charted: Charted[stats.StatsAnswer], *, with_text: bool
) -> Mapping[str, Any]:
    """Return what statements.html shows."""
    page, course = charted
    links = Links(request.path, request.query_params)
    records = links.at(links.home)
    labels = {name: label for label, name in GROUPS}
    ordering = OffsetPage.from_query(request.query_params, stats.ORDERINGS, stats.DEFAULT_ORDERING).ordering
    columns = [
        TableColumn(labels[page.group_by], column.css, "group") if column.css == "statement" else column
        for column in STATS_COLUMNS
    ]
    around = tab(request, links, page, with_text=with_text) | _time_bars(course, links)
    return around | {
        "title": "Statements",
        "unit": UNITS[page.group_by],
        "counted": UNITS[page.group_by].capitalize(),
        "lines": [
            TableRow(
                row=row,
                sql=_excerpt(getattr(row, "sql", None)),
                url=_destination(page.group_by, row.group, records),
                links=_links(row, links) | {"call_sites": links.adding("call_site", "")},
            )
            for row in page.results
        ],
        "of_statements": page.group_by == "fingerprint",
        "groupings": [
            Grouping(
                label=label,
                url=links.setting(group_by=None if name == "fingerprint" else name, ordering=None),
                is_current=name == page.group_by,
            )
            for label, name in GROUPS
        ],
        "heads": table_headers(links, columns, ordering, stats.DEFAULT_ORDERING),
    }


def requests_page(
    request: Request, charted: Charted[requests.RequestsAnswer], *, with_text: bool
) -> Mapping[str, Any]:
    """Return what requests.html shows."""
    page, course = charted
    links = Links(request.path, request.query_params)
    ordering = OffsetPage.from_query(
        request.query_params, requests.ORDERINGS, requests.DEFAULT_ORDERING
    ).ordering
    around = tab(request, links, page, with_text=with_text) | _time_bars(course, links)
    return around | {
        "title": "Requests",
        "unit": "requests, commands and tasks",
        "counted": "Requests",
        "lines": [
            TableRow(
                row=row,
                sql=_excerpt(row.worst_sql),
                url=reverse("sqllogs:trace", args=[row.trace_id]),
                links=_links(row, links),
            )
            for row in page.results
        ],
        "heads": table_headers(links, REQUESTS_COLUMNS, ordering, requests.DEFAULT_ORDERING),
    }


def repeats_page(request: Request, page: n_plus_one.RepeatsAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return what repeats.html shows."""
    links = Links(request.path, request.query_params)
    records = links.at(links.home)
    ordering = OffsetPage.from_query(
        request.query_params, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING
    ).ordering
    return tab(request, links, page, with_text=with_text) | {
        "title": "N+1",
        "figures": _totals(page.results),
        "unit": f"statements that one line sends {page.threshold} times or more in a request",
        "lines": [
            TableRow(
                row=row,
                sql=_excerpt(row.sql),
                url=_destination("fingerprint", row.fingerprint, records),
                links=_links(row, links) | {"trace": reverse("sqllogs:trace", args=[row.trace_id])},
            )
            for row in page.results
        ],
        "heads": table_headers(links, REPEATS_COLUMNS, ordering, n_plus_one.DEFAULT_ORDERING),
    }


def _time_bars(course: SeriesAnswer | None, links: Links) -> dict[str, Any]:
    if course is None:
        return {}
    return {"sums": series_totals(course.results), "bars": time_bars(course, links)}


def _totals(rows: Sequence[n_plus_one.RepeatRow]) -> dict[str, Any]:
    """Return the figures of the suspects that are shown."""
    return {
        "calls": sum(row.calls for row in rows),
        "total_ms": sum(row.total_ms for row in rows),
        "times_max": max((row.times_max for row in rows), default=0),
    }


def _destination(group_by: str, value: Any, records: Links) -> str:
    """Return the page of a statement, or the records of another group; of no value there are none to show."""
    if value is None:
        return ""
    if group_by == "fingerprint":
        return records.at(reverse("sqllogs:fingerprint", args=[value])).setting()
    return records.adding(group_by, value)


def _excerpt(sql: str | None) -> SafeString | None:
    return highlight_keywords(excerpt(sql)) if sql is not None else None


def _links(row: Any, links: Links) -> dict[str, str]:
    found = {name: getattr(row, name, None) for name in LINKED}
    return {name: links.adding(name.removeprefix("worst_"), value) for name, value in found.items() if value}
