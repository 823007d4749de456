"""Lay out what records add up to: statements, requests, N+1 suspects.

Fed by `sqllogs.reports` through the renderer, feeds statements.html, requests.html
and repeats.html. Runs in the reader's thread and queries nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.safestring import SafeString
from rest_framework.request import Request

from sqllogs.aggregation import Slice
from sqllogs.page.bars import Charted, bars, sums
from sqllogs.page.heads import Column, heads
from sqllogs.page.links import Links
from sqllogs.page.tab import tab
from sqllogs.page.wording import emphasized, excerpt
from sqllogs.reports import repeats, requests, stats
from sqllogs.reports.series import Series

LINKED = ("route", "view", "call_site", "fingerprint", "kind", "method", "worst_call_site")
GROUPS = (
    ("Statement", "fingerprint"), ("Route", "route"), ("View", "view"), ("Operation", "operation"),
    ("Table", "table"), ("Database", "alias"), ("Kind", "kind"), ("Release", "release"), ("Host", "host"),
)  # fmt: skip
"""What statements can be added up by: label, value of `group_by`."""
UNITS = {name: f"{label.lower()}s" for label, name in GROUPS}

STATS_COLUMNS = (
    Column("Load", "load number", "load_percent"),
    Column("Statement", "statement"),
    Column("Calls", "number", "calls"),
    Column("Mean ms", "number", "mean_ms"),
    Column("p95 ms", "number", "p95_ms"),
    Column("Max ms", "number", "max_ms"),
    Column("Total ms", "number", "total_ms"),
    Column("Rows", "number", "rows"),
    Column("Errors", "number", "errors"),
    Column("Last seen", "time", "last_seen"),
)
REQUESTS_COLUMNS = (
    Column("Time, UTC", "time", "time"),
    Column("Request", "origin"),
    Column("Queries", "number", "queries"),
    Column("Repeated", "number", "duplicates"),
    Column("Errors", "number", "errors"),
    Column("In queries ms", "number", "total_ms"),
    Column("Elapsed ms", "number"),
    Column("Sent most often", "statement"),
)
REPEATS_COLUMNS = (
    Column("Statement", "statement"),
    Column("Times each", "number", "times_per_request"),
    Column("At worst", "number", "times_max"),
    Column("Requests", "number", "requests"),
    Column("Calls", "number", "calls"),
    Column("Total ms", "number", "total_ms"),
    Column("Last seen", "time", "last_seen"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
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


def stats_page(request: Request, charted: Charted[stats.Stats], *, with_text: bool) -> Mapping[str, Any]:
    """Return what statements.html shows."""
    page, course = charted
    links = Links(request.path, request.query_params)
    records = links.at(links.home)
    labels = {name: label for label, name in GROUPS}
    ordering = Slice.of(request.query_params, stats.ORDERINGS, stats.DEFAULT_ORDERING).ordering
    columns = [
        Column(labels[page.group_by], column.css, "group") if column.css == "statement" else column
        for column in STATS_COLUMNS
    ]
    around = tab(request, links, page, with_text=with_text) | _over_time(course, links)
    return around | {
        "title": "Statements",
        "unit": UNITS[page.group_by],
        "counted": UNITS[page.group_by].capitalize(),
        "lines": [
            Line(
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
        "heads": heads(links, columns, ordering, stats.DEFAULT_ORDERING),
    }


def requests_page(
    request: Request, charted: Charted[requests.Requests], *, with_text: bool
) -> Mapping[str, Any]:
    """Return what requests.html shows."""
    page, course = charted
    links = Links(request.path, request.query_params)
    ordering = Slice.of(request.query_params, requests.ORDERINGS, requests.DEFAULT_ORDERING).ordering
    around = tab(request, links, page, with_text=with_text) | _over_time(course, links)
    return around | {
        "title": "Requests",
        "unit": "requests, commands and tasks",
        "counted": "Requests",
        "lines": [
            Line(
                row=row,
                sql=_excerpt(row.worst_sql),
                url=reverse("sqllogs:trace", args=[row.trace_id]),
                links=_links(row, links),
            )
            for row in page.results
        ],
        "heads": heads(links, REQUESTS_COLUMNS, ordering, requests.DEFAULT_ORDERING),
    }


def repeats_page(request: Request, page: repeats.Repeats, *, with_text: bool) -> Mapping[str, Any]:
    """Return what repeats.html shows."""
    links = Links(request.path, request.query_params)
    records = links.at(links.home)
    ordering = Slice.of(request.query_params, repeats.ORDERINGS, repeats.DEFAULT_ORDERING).ordering
    return tab(request, links, page, with_text=with_text) | {
        "title": "N+1",
        "figures": _together(page.results),
        "unit": f"statements that one line sends {page.threshold} times or more in a request",
        "lines": [
            Line(
                row=row,
                sql=_excerpt(row.sql),
                url=_destination("fingerprint", row.fingerprint, records),
                links=_links(row, links) | {"trace": reverse("sqllogs:trace", args=[row.trace_id])},
            )
            for row in page.results
        ],
        "heads": heads(links, REPEATS_COLUMNS, ordering, repeats.DEFAULT_ORDERING),
    }


def _over_time(course: Series | None, links: Links) -> dict[str, Any]:
    if course is None:
        return {}
    return {"sums": sums(course.results), "bars": bars(course, links)}


def _together(rows: Sequence[repeats.RepeatRow]) -> dict[str, Any]:
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
    return emphasized(excerpt(sql)) if sql is not None else None


def _links(row: Any, links: Links) -> dict[str, str]:
    found = {name: getattr(row, name, None) for name in LINKED}
    return {name: links.adding(name.removeprefix("worst_"), value) for name, value in found.items() if value}
