"""Lay out the list of records and the page of one.

Fed by `sqllogs.pagination` and `sqllogs.queries` through the renderer, feeds
records.html and record.html. Runs in the reader's thread and queries nothing.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from typing import Any

from django.urls import reverse
from django.utils.safestring import SafeString
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.authentication import VIEW_TEXT
from sqllogs.page import figures
from sqllogs.page.form import filter_form
from sqllogs.page.links import Links
from sqllogs.page.wording import clock, day, emphasized, excerpt, in_lines, milliseconds
from sqllogs.pagination import Page
from sqllogs.paging import Paging
from sqllogs.rows import Record

LINKED = (
    "fingerprint", "alias", "error", "trace_id", "kind", "route", "view", "method", "call_site", "operation",
    "vendor", "release", "host", "request_id",
)  # fmt: skip
"""Fields that are filters of the same name."""
COLUMNS = (
    ("Time, UTC", "id", "time"),
    ("Duration", "duration_ms", "duration number"),
    ("Rows", "rows", "rows number"),
)
"""Heads that order the list: label, ordering, class."""


GROUPS = {
    "How it went": (
        ("Time", "time", "UTC"), ("Duration", "duration_ms", "ms"), ("Execute", "execute_ms", "ms"),
        ("Fetch", "fetch_ms", "ms"), ("Rows", "rows", ""), ("Error", "error", ""),
        ("SQLSTATE", "sqlstate", ""), ("In a transaction", "in_transaction", ""),
    ),
    "Where from": (
        ("Kind", "kind", ""), ("Method", "method", ""), ("Route", "route", ""), ("View", "view", ""),
        ("Status", "status", ""), ("Call site", "call_site", ""), ("Request", "request_id", ""),
        ("Release", "release", ""), ("Host", "host", ""), ("Process", "pid", ""), ("Trace", "trace_id", ""),
        ("Span", "span_id", ""), ("Trace is kept", "sampled", ""),
    ),
    "Statement": (
        ("Fingerprint", "fingerprint", ""), ("Operation", "operation", ""), ("Database", "alias", ""),
        ("Vendor", "vendor", ""), ("Sent as", "sql_length", "characters"), ("By executemany", "many", ""),
    ),
}  # fmt: skip
"""Fields of the detail page: label, name, unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a column that orders the list."""

    label: str
    css: str
    url: str
    sorted: str
    """ascending, descending or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One record in the list."""

    record: Record
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One field of a record."""

    label: str
    value: Any
    url: str = ""
    note: str = ""


def list_page(request: Request, page: Page, *, with_text: bool) -> Mapping[str, Any]:
    """Return what records.html shows."""
    query = request.query_params
    links = Links(request.path, query)
    lines = [_line(record, links) for record in page.results]
    return {
        "lines": lines,
        "page": page,
        "count": f"{page.count:,}",
        "heads": _heads(links, Paging.of(query)),
        "figures": figures.figures(page.results),
        "chart": figures.chart(page.results),
        "form": filter_form(links, page.results, with_text=with_text),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "newest": links.setting() if "cursor" in links.on or "offset" in links.on else None,
        "as_json": links.as_json(),
        "curl": curl(request),
        # What comes in belongs on top only where the newest is there.
        "may_follow": "cursor" not in query
        and "offset" not in query
        and _is_newest_first(query.get("ordering")),
    }


def detail_page(request: Request, record: Record, *, with_text: bool) -> Mapping[str, Any]:
    """Return what record.html shows."""
    links = Links(reverse("sqllogs:list"), request.query_params.__class__())
    line = _line(record, links)
    return {
        "line": line,
        "record": record,
        "sql": emphasized(in_lines(record["sql"])) if record["sql"] is not None else None,
        "is_cut": record["sql"] is not None and record["sql_length"] > len(record["sql"]) + 64,
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "groups": _groups(record, line, links),
        "of_statement": links.plain(fingerprint=record["fingerprint"]),
        "of_trace": links.plain(trace_id=record["trace_id"], ordering="id") if record["trace_id"] else None,
        "around": links.plain(cursor=str(record["id"] + 10), limit="20"),
        "as_json": f"{request.path}?format=json",
        "curl": curl(request),
    }


def curl(request: Request) -> str:
    """Return the line that reads the same as JSON with a token."""
    query = request.query_params.copy()
    query.pop("format", None)
    address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}" if query else request.path)
    return f'curl -H "Authorization: Bearer $SQLLOGS_TOKEN" {shlex.quote(address)}'


def _is_newest_first(ordering: str | None) -> bool:
    return not ordering or ordering in ("-id", "-time")


def _heads(links: Links, paging: Paging) -> list[Head]:
    order = paging.ordering
    heads = []
    for label, name, css in COLUMNS:
        is_sorted = order.column == ("seq" if name == "id" else name)
        # The first click shows what one looks for: the newest, the slowest, the most.
        turned = name if is_sorted and order.descending else f"-{name}"
        heads.append(
            Head(
                label=label,
                css=css,
                url=links.setting(ordering=None if turned == "-id" else turned),
                sorted=("descending" if order.descending else "ascending") if is_sorted else "none",
            )
        )
    return heads


def _line(record: Record, links: Links) -> Line:
    duration_ms = record["duration_ms"]
    return Line(
        record=record,
        kind=figures.kind(record),
        url=f"{links.path}{record['id']}/",  # a thousand calls of reverse() take 50 ms
        day=day(record["time"]),
        clock=clock(record["time"]),
        duration=milliseconds(duration_ms),
        bar=f"{min(max((log10(max(duration_ms, 0.001)) + 2) / 6, 0.01), 1) * 100:.1f}",
        sql=emphasized(excerpt(record["sql"])) if record["sql"] is not None else None,
        links={name: links.adding(name, value) for name in LINKED if (value := record[name])},  # type: ignore[literal-required]
        slower=links.adding("min_ms", f"{duration_ms:.4g}"),
        trace=_trace_url(record),
    )


def _trace_url(record: Record) -> str | None:
    template, trace_id = conf.load().trace_url, record["trace_id"]
    # A trace that is not sampled is in no viewer.
    if not (template and trace_id and record["sampled"]):
        return None
    return template.replace("{trace_id}", trace_id)


def _groups(record: Record, line: Line, links: Links) -> list[tuple[str, list[Fact]]]:
    """Return the fields of a record, in groups; those that are not known are left out."""
    groups = {
        title: [
            Fact(label=label, value=_told(name, record), url=line.links.get(name, ""), note=note)
            for label, name, note in fields
            if record[name] not in (None, "")  # type: ignore[literal-required]
        ]
        for title, fields in GROUPS.items()
    }
    groups["Statement"] += [
        Fact(label="Table", value=table, url=links.plain(table=table)) for table in record["tables"]
    ]
    return [(title, facts) for title, facts in groups.items() if facts]


def _told(name: str, record: Record) -> Any:
    value = record[name]  # type: ignore[literal-required]
    if name == "time":
        return value[:-1].replace("T", " ")
    if name.endswith("_ms"):
        return milliseconds(value)
    return value if not isinstance(value, bool) else "yes" if value else "no"
