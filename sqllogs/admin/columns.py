"""The columns of the slow queries: what is told of a statement in the list.

Fed with the rows of `sqllogs.reports.reviewed`; each is a function that the admin calls.
"""

from typing import Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from sqllogs.models import Review
from sqllogs.page.graph import COURSE_HEIGHT
from sqllogs.page.tags import number, percent
from sqllogs.page.wording import clock, day, emphasized, excerpt, milliseconds
from sqllogs.reports.reviewed import ReviewedRow
from sqllogs.statistics.counting import OTHER

NO_ROOM = "All statements that had no room of their own in the statistics"


@admin.display(description="Load", ordering="total_ms")
def load(statement: Any) -> SafeString:
    share = percent(statement.row.load_percent)
    return format_html(
        '{} <small>%</small><svg class="share" aria-hidden="true"><rect width="{}%" height="100%" rx="1.5"/>'
        "</svg>{}",
        share,
        share,
        _course(statement.course),
    )


def _course(path: str) -> SafeString | str:
    if not path:
        return ""
    return format_html(
        '<svg class="course" viewBox="0 -1 100 {}" preserveAspectRatio="none" role="img" '
        'aria-label="Its course over the time chosen"><path d="{}"/></svg>',
        COURSE_HEIGHT + 2,
        path,
    )


@admin.display(description="Statement")
def statement(statement: Any) -> SafeString:
    row: ReviewedRow = statement.row
    repeated = format_html('<b class="tag slow">N+1: {} times</b> ', row.repeats) if row.repeats else ""
    places = ((place,) for place in (row.route, *row.call_sites[:1]) if place)
    return format_html("{} {}{}", _text(row), repeated, format_html_join(" ", "<small>{}</small>", places))


def _text(row: ReviewedRow) -> SafeString:
    if row.sql is not None:
        return format_html('<code class="sql">{}</code>', emphasized(excerpt(row.sql)))
    if row.fingerprint == OTHER.fingerprint:
        return format_html("{}", NO_ROOM)
    told = " on ".join(filter(None, (row.operation, ", ".join(row.tables))))
    return format_html('<code class="sql">{}</code>', told or row.fingerprint)


@admin.display(description="Calls", ordering="calls")
def calls(statement: Any) -> str:
    return number(statement.row.calls)


@admin.display(description="Mean ms", ordering="mean_ms")
def mean(statement: Any) -> str:
    return milliseconds(statement.row.mean_ms)


@admin.display(description="p95 ms", ordering="p95_ms")
def p95(statement: Any) -> str:
    return milliseconds(statement.row.p95_ms)


@admin.display(description="Max ms", ordering="max_ms")
def longest(statement: Any) -> str:
    return milliseconds(statement.row.max_ms)


@admin.display(description="Rows/call", ordering="rows_per_call")
def rows_each(statement: Any) -> str:
    return number(statement.row.rows_per_call)


@admin.display(description="Errors", ordering="errors")
def errors(statement: Any) -> SafeString | str:
    failed = statement.row.errors
    return format_html('<b class="error">{}</b>', number(failed)) if failed else "0"


@admin.display(description="Last seen", ordering="last_seen")
def seen(statement: Any) -> SafeString:
    time = statement.row.last_seen
    return format_html("{} <small>{}</small>", clock(time)[:8], day(time))


@admin.display(description="Review")
def review(statement: Any) -> SafeString:
    row: ReviewedRow = statement.row
    told = (row.reviewed_by, day(row.reviewed_at)) if row.reviewed_by and row.reviewed_at else ()
    by = format_html_join("", " <small>{}</small>", ((part,) for part in told))
    return format_html('<span class="status {}">{}</span>{}', row.status, Review.Status(row.status).label, by)


COLUMNS = (load, statement, calls, mean, p95, longest, rows_each, errors, seen, review)
