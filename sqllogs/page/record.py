"""Lay out the page of one record.

Fed by `sqllogs.queries` through the renderer, feeds record.html. Runs in the
reader's thread and queries nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict
from django.urls import reverse
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.authentication import VIEW_TEXT
from sqllogs.page.lines import Line, curl, line
from sqllogs.page.links import Links, in_admin
from sqllogs.page.wording import emphasized, in_lines, milliseconds
from sqllogs.rows import Record

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
        ("Span", "span_id", ""), ("Unit of work", "unit_id", ""), ("Trace is kept", "sampled", ""),
    ),
    "Statement": (
        ("Fingerprint", "fingerprint", ""), ("Operation", "operation", ""), ("Database", "alias", ""),
        ("Vendor", "vendor", ""), ("Sent as", "sql_length", "characters"), ("By executemany", "many", ""),
    ),
}  # fmt: skip
"""Fields of the detail page: label, name, unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One field of a record."""

    label: str
    value: Any
    url: str = ""
    note: str = ""


def detail_page(request: Request, record: Record, *, with_text: bool) -> Mapping[str, Any]:
    """Return what record.html shows."""
    links = Links(reverse("sqllogs:list"), QueryDict())  # of its own, and of no list one has come from
    shown = line(record, links, conf.load())
    return {
        "line": shown,
        "record": record,
        "sql": emphasized(in_lines(record["sql"])) if record["sql"] is not None else None,
        "is_cut": record["sql"] is not None and record["sql_length"] > len(record["sql"]) + 64,
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "groups": _groups(record, shown, links),
        "of_statement": reverse("sqllogs:fingerprint", args=[record["fingerprint"]]),
        "in_admin": in_admin(record["fingerprint"]),
        "of_trace": reverse("sqllogs:trace", args=[record["trace_id"]]) if record["trace_id"] else None,
        "around": links.plain(cursor=str(record["id"] + 10), limit="20"),
        "as_json": f"{request.path}?format=json",
        "curl": curl(request),
    }


def _groups(record: Record, shown: Line, links: Links) -> list[tuple[str, list[Fact]]]:
    """Return the fields of a record, in groups; those that are not known are left out."""
    groups = {
        title: [
            Fact(label=label, value=_told(name, record), url=shown.links.get(name, ""), note=note)
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
