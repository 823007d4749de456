"""Build the template context of one statement's page in the admin.

Fed by `sqllogs.read.statement`, feeds statement.html; runs in the reader's thread and sends no query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from sqllogs import conf
from sqllogs.admin import admin_url, page_url
from sqllogs.admin.statement_filters import RANGES
from sqllogs.admin.statement_list import WORSE_LABELS, decision_end, range_query, statement_title, worse_text
from sqllogs.conf import Conf
from sqllogs.models import Review
from sqllogs.page import charts
from sqllogs.page.records import Viewer, viewers_of_record
from sqllogs.read import explain, parameters
from sqllogs.read.records import rfc3339
from sqllogs.read.statement import DetailPart, StatementDetail
from sqllogs.record import RecordJSON
from sqllogs.sql.text import break_lines, highlight_keywords

CHANGE_PERCENT_MIN = 10
"""A smaller difference between two means is shown as "same"."""

ORIGINS = (
    (_("Routes"), _("Route"), "route"),
    (_("Call sites"), _("Call site"), "call_site"),
    (_("Views"), pgettext_lazy("Django view", "View"), "view"),
    (_("Databases"), _("Database"), "alias"),
)
"""Title of the table, its first column, and the filter for the records."""
SAMPLES = {"slowest": _("Slowest"), "newest": _("Newest"), "failing": _("Failed")}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsRow:
    part: DetailPart
    label: str | Promise
    url: str | None
    """Its records on the page."""
    change: str
    """Difference between its mean and the next row's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsTable:
    title: str | Promise
    label: str | Promise
    """Header of the first column."""
    rows: list[StatisticsRow]
    has_change: bool = False
    of_records: bool = False
    """Computed from the records in the ring, because the statistics do not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    record: RecordJSON
    url: str | None
    """Its page in the admin."""
    trace: str | None
    """Its trace on the page."""
    viewers: list[Viewer]
    """Its trace in other programs."""


def page_context(
    detail: StatementDetail, begin: str, list_query: str, *, with_text: bool, site_name: str
) -> Mapping[str, Any]:
    """Return the context of statement.html."""
    statement, figures, review = detail.statement, detail.whole, detail.review
    operation = statement.operation if statement else ""
    tables = statement.tables.replace(",", ", ") if statement else ""
    settings = conf.load()
    return {
        "detail": detail,
        "figures": figures,
        "rows_per_call": figures.rows / figures.calls if figures and figures.rows is not None else None,
        "title": statement_title(operation or gettext("Statement"), tables),
        "sql": highlight_keywords(break_lines(statement.sql)) if statement and with_text else None,
        "with_text": with_text,
        "ranges": [
            (label, range_query(value, list_query), value == begin) for value, label in RANGES.items()
        ],
        "range": range_query(begin, list_query),
        "charts": charts.time_charts(detail.points, detail.events),
        "comparisons": _comparisons(detail),
        "origins": _origins(detail),
        "samples": [
            (title, [_sample(record, site_name, settings) for record in records])
            for name, title in SAMPLES.items()
            if (records := getattr(detail.samples, name))
        ],
        "suspects": [(row, page_url("trace", row.trace_id)) for row in detail.suspects],
        "status": Review.Status(review.status) if review else Review.Status.OPEN,
        "ended": Review.Status(review.ended).label if review and review.ended else "",
        "decision_end": _end(review) if review else "",
        "worse": worse_text(detail.worse) if detail.worse else "",
        "worse_rows": [(WORSE_LABELS[one.figure], one.before, one.since) for one in detail.worse],
        "until_day": review.until.date().isoformat() if review and review.until else "",
        "tomorrow": (datetime.now(UTC) + timedelta(days=1)).date().isoformat(),
        "known_releases": [part.label for part in detail.releases if part.label],
        "reviewed_at": rfc3339(review.at) if review else "",
        "can_be_explained": operation in explain.READING,
        "aliases": [part.label for part in detail.origins["alias"]],
        "on_page": page_url("fingerprint", detail.fingerprint),
    }


def _end(review: Review) -> str:
    if not (review.until or review.until_release):
        return ""
    return decision_end(rfc3339(review.until) if review.until else None, review.until_release)


def _origins(detail: StatementDetail) -> list[StatisticsTable]:
    # Statistics know the route, not the call site: as a key it would multiply their rows.
    return [
        StatisticsTable(
            title=title, label=label, rows=_origin_rows(detail, name), of_records=name == "call_site"
        )
        for title, label, name in ORIGINS
        if any(part.label for part in detail.origins[name])
    ]


def _origin_rows(detail: StatementDetail, name: str) -> list[StatisticsRow]:
    return [
        StatisticsRow(
            part=part,
            label=part.label or _("none"),
            url=_records_url(detail.fingerprint, name, part.label),
            change="",
        )
        for part in detail.origins[name]
    ]


def _records_url(fingerprint: str, name: str, value: str | None) -> str | None:
    """Return the URL of a statement's records from one origin."""
    records = page_url("list")  # a project may have the admin without the page
    if not (records and value):
        return None
    return f"{records}?{urlencode({'fingerprint': fingerprint, name: parameters.escaped(value)})}"


def _comparisons(detail: StatementDetail) -> list[StatisticsTable]:
    """Return the releases, if there are several, and the time since and before the review."""
    found = (
        (_("Releases compared"), _("Release"), detail.releases),
        (_("Since the review and before"), _("Time"), detail.around_review),
    )
    return [
        StatisticsTable(title=title, label=label, rows=_compared_rows(parts), has_change=True)
        for title, label, parts in found
        if len(parts) > 1  # one alone has nothing to be compared with
    ]


def _compared_rows(parts: Sequence[DetailPart]) -> list[StatisticsRow]:
    following = [*parts[1:], None]
    return [
        StatisticsRow(
            part=part,
            label=part.label or _("none"),
            url=None,
            change=_change(part, before),
        )
        for part, before in zip(parts, following, strict=True)
    ]


def _change(part: DetailPart, before: DetailPart | None) -> str:
    now_ms, before_ms = part.figures.mean_ms, before.figures.mean_ms if before else None
    if not now_ms or not before_ms:
        return ""
    percent = 100 * (now_ms / before_ms - 1)
    return gettext("same") if abs(percent) < CHANGE_PERCENT_MIN else f"{percent:+,.0f} %"


def _sample(record: RecordJSON, site_name: str, settings: Conf) -> SampleRow:
    return SampleRow(
        record=record,
        url=admin_url(site_name, "sqllog_change", record["id"]),
        trace=page_url("trace", record["trace_id"]) if record["trace_id"] else None,
        viewers=viewers_of_record(record, settings),
    )
