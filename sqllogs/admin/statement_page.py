"""Lay out the page of one statement in the admin.

Fed by `sqllogs.read.statement_detail`, feeds statement.html; runs in the reader's thread and
queries nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from sqllogs.admin.read_only import page
from sqllogs.admin.statement_filters import DEFAULT_RANGE, RANGES
from sqllogs.models import Review
from sqllogs.page import charts
from sqllogs.read import explain, parameters
from sqllogs.read.records import rfc3339
from sqllogs.read.statement_detail import DetailPart, StatementDetail
from sqllogs.record import RecordJSON
from sqllogs.sql.format import break_lines, highlight_keywords

CHANGE_PERCENT_MIN = 10
"""A mean that differs by less is called the same."""

CALL_SITES_SHOWN = (("Route", "route"), ("Call site", "call_site"), ("View", "view"), ("Database", "alias"))
"""What a row is, and the filter for its records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsRow:
    """A row of a table of figures."""

    part: DetailPart
    url: str | None
    """The records from there, on the page."""
    change: str
    """How the mean differs from that of the row below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsTable:
    title: str
    of: str
    """What its rows are."""
    lines: list[StatisticsRow]
    has_change: bool = False
    of_records: bool = False
    """Statistics do not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """A record, and where it leads to."""

    record: RecordJSON
    url: str
    trace: str | None


def values(dossier: StatementDetail, begin: str, *, with_text: bool) -> Mapping[str, Any]:
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
        "sql": highlight_keywords(break_lines(statement.sql)) if statement and with_text else None,
        "with_text": with_text,
        "ranges": [(label, range_query(value), value == begin) for value, label in RANGES.items()],
        "range": range_query(begin),
        "graphs": charts.time_charts(dossier.points),
        "places": _call_sites(dossier),
        "comparisons": _comparisons(dossier),
        "samples": [
            (name, [_sample(record) for record in records])
            for name, records in dossier.samples.items()
            if records
        ],
        "suspects": [(row, page("trace", row.trace_id)) for row in dossier.suspects],
        "status": review.status if review else str(Review.Status.OPEN.value),
        "reviewed_at": rfc3339(review.at) if review else "",
        "is_explained": operation in explain.READING,
        "aliases": [part.label for part in dossier.origins["alias"]],
        "on_page": page("fingerprint", dossier.fingerprint),
    }


def range_query(begin: str) -> str:
    """Return the query string of a time."""
    return "" if begin == DEFAULT_RANGE else f"?{urlencode({'from': begin})}"


def _call_sites(dossier: StatementDetail) -> list[StatisticsTable]:
    return [
        StatisticsTable(
            title=f"{of}s", of=of, lines=_statistics_rows(dossier, name), of_records=name == "call_site"
        )
        for of, name in CALL_SITES_SHOWN
        if any(part.label for part in dossier.origins[name])
    ]


def _statistics_rows(dossier: StatementDetail, name: str) -> list[StatisticsRow]:
    return [
        StatisticsRow(part=part, url=_records(dossier.fingerprint, name, part.label), change="")
        for part in dossier.origins[name]
    ]


def _records(fingerprint: str, name: str, value: str | None) -> str | None:
    """Return the address of a statement's records from one place."""
    records = page("list")
    if not (records and value):
        return None
    return f"{records}?{urlencode({'fingerprint': fingerprint, name: parameters.escaped(value)})}"


def _comparisons(dossier: StatementDetail) -> list[StatisticsTable]:
    """Return the releases, if there is more than one, and the time around the review."""
    found = (
        ("Releases compared", "Release", dossier.releases),
        ("Since the review and before", "Time", dossier.around_review),
    )
    return [
        StatisticsTable(title=title, of=of, lines=_compared(parts), has_change=True)
        for title, of, parts in found
        if len(parts) > 1
    ]


def _compared(parts: Sequence[DetailPart]) -> list[StatisticsRow]:
    following = [*parts[1:], None]
    return [
        StatisticsRow(part=part, url=None, change=_change(part, before))
        for part, before in zip(parts, following, strict=True)
    ]


def _change(part: DetailPart, before: DetailPart | None) -> str:
    now_ms, before_ms = part.figures.mean_ms, before.figures.mean_ms if before else None
    if not now_ms or not before_ms:
        return ""
    percent = 100 * (now_ms / before_ms - 1)
    return "same" if abs(percent) < CHANGE_PERCENT_MIN else f"{percent:+,.0f} %"


def _sample(record: RecordJSON) -> SampleRow:
    url = reverse("admin:sqllogs_sqllog_change", args=[record["id"]])
    return SampleRow(
        record=record, url=url, trace=page("trace", record["trace_id"]) if record["trace_id"] else None
    )
