"""Lay out the page of one statement in the admin.

Fed by `sqllogs.reports.dossier`, feeds statement.html; runs in the reader's thread and
queries nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from sqllogs import parameters, plans
from sqllogs.admin.addresses import page
from sqllogs.admin.choices import DEFAULT_RANGE, RANGES
from sqllogs.models import Review
from sqllogs.page import graph
from sqllogs.page.wording import emphasized, in_lines
from sqllogs.reports.dossier import Dossier, Part
from sqllogs.rows import Record, rfc3339

CHANGE_PERCENT_MIN = 10
"""A mean that differs by less is called the same."""

PLACES = (("Route", "route"), ("Call site", "call_site"), ("View", "view"), ("Database", "alias"))
"""What a row is, and the filter for its records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of a table of figures."""

    part: Part
    url: str | None
    """The records from there, on the page."""
    change: str
    """How the mean differs from that of the row below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    title: str
    of: str
    """What its rows are."""
    lines: list[Line]
    has_change: bool = False
    of_records: bool = False
    """Statistics do not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A record, and where it leads to."""

    record: Record
    url: str
    trace: str | None


def values(dossier: Dossier, begin: str, *, with_text: bool) -> Mapping[str, Any]:
    """Return what statement.html shows."""
    statement, figures = dossier.statement, dossier.whole
    operation = statement.operation if statement else ""
    tables = statement.tables.replace(",", ", ") if statement else ""
    review = dossier.review
    return {
        "dossier": dossier,
        "figures": figures,
        "rows_each": figures.rows / figures.calls if figures and figures.rows is not None else None,
        "title": " on ".join(filter(None, (operation or "Statement", tables))),
        "sql": emphasized(in_lines(statement.sql)) if statement and with_text else None,
        "with_text": with_text,
        "ranges": [(label, range_query(value), value == begin) for value, label in RANGES.items()],
        "range": range_query(begin),
        "graphs": graph.graphs(dossier.points),
        "places": _places(dossier),
        "comparisons": _comparisons(dossier),
        "samples": [
            (name, [_sample(record) for record in records])
            for name, records in dossier.samples.items()
            if records
        ],
        "suspects": [(row, page("trace", row.trace_id)) for row in dossier.suspects],
        "status": review.status if review else str(Review.Status.OPEN.value),
        "reviewed_at": rfc3339(review.at) if review else "",
        "is_explained": operation in plans.READING,
        "aliases": [part.label for part in dossier.origins["alias"]],
        "on_page": page("fingerprint", dossier.fingerprint),
    }


def range_query(begin: str) -> str:
    """Return the query string of a time."""
    return "" if begin == DEFAULT_RANGE else f"?{urlencode({'from': begin})}"


def _places(dossier: Dossier) -> list[Table]:
    return [
        Table(title=f"{of}s", of=of, lines=_lines(dossier, name), of_records=name == "call_site")
        for of, name in PLACES
        if any(part.label for part in dossier.origins[name])
    ]


def _lines(dossier: Dossier, name: str) -> list[Line]:
    return [
        Line(part=part, url=_records(dossier.fingerprint, name, part.label), change="")
        for part in dossier.origins[name]
    ]


def _records(fingerprint: str, name: str, value: str | None) -> str | None:
    """Return the address of a statement's records from one place."""
    records = page("list")
    if not (records and value):
        return None
    return f"{records}?{urlencode({'fingerprint': fingerprint, name: parameters.escaped(value)})}"


def _comparisons(dossier: Dossier) -> list[Table]:
    """Return the releases, if there is more than one, and the time around the review."""
    found = (
        ("Releases compared", "Release", dossier.releases),
        ("Since the review and before", "Time", dossier.around_review),
    )
    return [
        Table(title=title, of=of, lines=_compared(parts), has_change=True)
        for title, of, parts in found
        if len(parts) > 1
    ]


def _compared(parts: Sequence[Part]) -> list[Line]:
    following = [*parts[1:], None]
    return [
        Line(part=part, url=None, change=_change(part, before))
        for part, before in zip(parts, following, strict=True)
    ]


def _change(part: Part, before: Part | None) -> str:
    now_ms, before_ms = part.figures.mean_ms, before.figures.mean_ms if before else None
    if not now_ms or not before_ms:
        return ""
    percent = 100 * (now_ms / before_ms - 1)
    return "same" if abs(percent) < CHANGE_PERCENT_MIN else f"{percent:+,.0f} %"


def _sample(record: Record) -> Sample:
    url = reverse("admin:sqllogs_sqllog_change", args=[record["id"]])
    return Sample(
        record=record, url=url, trace=page("trace", record["trace_id"]) if record["trace_id"] else None
    )
