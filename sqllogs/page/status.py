"""Build the template context of the pages about the log itself: health, events, settings, API, series.

Fed with the answers of `sqllogs.read` by the renderer; feeds health.html, table.html and schema.html. Runs
in the reader's thread and sends no query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from rest_framework.request import Request

from sqllogs.models import Review
from sqllogs.page.frame import chips
from sqllogs.page.links import FINDINGS, Links, curl, in_admin, reverse
from sqllogs.read.decisions import ReviewsAnswer
from sqllogs.read.findings import ALL_STATES
from sqllogs.read.health import FINDING, EventRow, EventsAnswer, Health, SettingsAnswer
from sqllogs.read.series import GroupPoint, SeriesAnswer
from sqllogs.templatetags.sqllogs import clock, day, milliseconds

LINES_SHOWN = 5
STATES = {
    "ok": (
        _("Nothing was lost in the last hour. A process that sends no query is healthy too."),
        _("Nothing to do."),
    ),
    "degraded": (
        _("The log can be read, but records are missing or late, for the reasons listed here."),
        _("Do what each reason says. The application itself is not affected."),
    ),
    "failing": (
        _("The log's database does not answer, so this page is an error with status 503."),
        _("Start the database, run `manage.py migrate`, or fix the alias in `SQLLOGS['DATABASE']`."),
    ),
}
"""By status: what it means, and what to do."""

REMEDIES = {
    "buffer_rows": _("Queries came faster than the database stores them: raise BUFFER_ROWS or lower SAMPLE."),
    "buffer_bytes": _("Long statements filled the buffer: raise BUFFER_BYTES or lower SAMPLE."),
    "uncounted": _(
        "Queries came so fast that not even the statistics have them: raise BUFFER_ROWS and BUFFER_BYTES."
    ),
    "rejected": _("The database refused these records: its server's log and the logger sqllogs say why."),
}
"""By reason for which records are dropped."""
PROCESS_HEADERS = (
    _("Host"), _("Process"), _("Alive"), _("Captured"), _("Stored"), _("Queued"), _("Lag ms"),
)  # fmt: skip
LAG_REMEDY = _(
    "Lag is how old the oldest record of the last batch was when it was stored. If it is many seconds, the "
    "process waits for the log's database: look at that database's load and its disk."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTable:
    """Column headers and cells of texts."""

    headers: Sequence[str | Promise]
    rows: Sequence[Sequence[Any]]
    links: Sequence[str] = ()
    """Where the first cell of each row leads, if anywhere."""
    numbers: int = 0
    """How many of the last columns are numbers."""

    @property
    def _shown(self) -> list[int]:
        """The columns that have a text in some row."""
        # Of events, for example, only deploys have an author, and only several projects a service.
        return [at for at in range(len(self.headers)) if any(row[at] != "" for row in self.rows)]

    def _css(self, at: int) -> str:
        return "number" if at >= len(self.headers) - self.numbers else ""

    @property
    def columns(self) -> list[tuple[str | Promise, str]]:
        """Header and class of each column that is not empty."""
        return [(self.headers[at], self._css(at)) for at in self._shown]

    @property
    def cells(self) -> list[list[tuple[str | Promise, str, Any, str]]]:
        """The rows, each cell with its header: on a phone the rows are cards with labels."""
        links = self.links or [""] * len(self.rows)
        shown = [(at, self.headers[at], self._css(at)) for at in self._shown]
        return [
            [(header, css, row[at], "" if at else link) for at, header, css in shown]
            for row, link in zip(self.rows, links, strict=True)
        ]


def health_page(request: Request, health: Health, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of health.html."""
    meaning, remedy = STATES[health.status]
    return _frame(request) | {
        "title": _("Health"),
        "health": health,
        "meaning": meaning,
        "remedy": remedy,
        "states": [(name, *texts) for name, texts in STATES.items()],
        "dropped": [(reason, count, REMEDIES.get(reason, "")) for reason, count in health.dropped.items()],
        "lag_remedy": LAG_REMEDY,
        "processes": PlainTable(
            headers=PROCESS_HEADERS,
            numbers=4,
            rows=[
                (
                    one.host,
                    one.pid,
                    _("yes") if one.alive else _("no"),
                    f"{one.captured:,}",
                    f"{one.stored:,}",
                    f"{one.queued:,}",
                    milliseconds(one.lag_ms),
                )
                for one in health.processes
            ],
        ),
    }


def events_page(request: Request, answer: EventsAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of table.html for deploys and migrations."""
    rows = [
        (
            _time(row.time),
            row.kind,
            row.title,
            _listed(row.text.splitlines()),
            row.author or "",
            row.service or "",
        )
        for row in answer.results
    ]
    headers = (_("Time, UTC"), _("Kind"), _("Title"), _("Text"), _("By"), _("Service"))
    table = PlainTable(headers=headers, rows=rows, links=[_about(row) for row in answer.results])
    note = _("Deploys, migrations and new findings appear here.")
    return {
        **_table(request, _("Events"), table, answer),
        "empty": _("No events yet"),
        "empty_note": note,
    }


def _about(event: EventRow) -> str:
    """Return the URL of the finding, or of the statements since then, compared with those before."""
    if event.kind == FINDING:
        return in_admin("finding_change", event.id) or f"{reverse(FINDINGS)}?state={ALL_STATES}"
    statements = Links(reverse("sqllogs:stats"), QueryDict())
    return statements.with_values(**{"from": event.time, "compare": "previous"})


def reviews_page(request: Request, answer: ReviewsAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of table.html for the decisions about statements."""
    rows = [
        (
            row.fingerprint,
            _time(row.reviewed_at),
            Review.Status(row.status).label,
            ", ".join(one.figure for one in row.got_worse),
            row.reviewed_by,
            row.assignee,
            " ".join(filter(None, (row.until and day(row.until), row.until_release))),
            row.note,
        )
        for row in answer.results
    ]
    headers = (
        _("Statement"), _("Time, UTC"), _("Review"), _("Got worse"), _("User"), _("Assignee"), _("Until"),
        _("Note"),
    )  # fmt: skip
    links = [reverse("sqllogs:fingerprint", args=[row.fingerprint]) for row in answer.results]
    table = PlainTable(headers=headers, rows=rows, links=links)
    return {
        **_table(request, _("Reviews"), table, answer),
        "empty": _("No reviews yet"),
        "empty_note": _("Decisions about statements are made in the admin, under “Slow queries”."),
        "empty_link": in_admin("statement_changelist"),
        "empty_link_text": _("Review slow queries"),
    }


def series_page(request: Request, answer: SeriesAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of table.html for totals over time."""
    rows = [
        (
            _time(row.time),
            *([row.group or ""] if isinstance(row, GroupPoint) else []),
            f"{row.calls:,}",
            f"{row.errors:,}",
            milliseconds(row.total_ms),
        )
        for row in answer.results
    ]
    group = [_("Group")] if answer.group_by else []
    headers = (_("Time, UTC"), *group, _("Calls"), _("Errors"), _("Total ms"))
    return {
        **_table(request, _("Series"), PlainTable(headers=headers, rows=rows, numbers=3)),
        "empty": _("No queries recorded yet"),
        "empty_note": _("A query of the application appears here within a second."),
        "empty_link": reverse("sqllogs:health"),
        "empty_link_text": _("Health of the log"),
    }


def settings_page(request: Request, answer: SettingsAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of table.html for the settings in effect."""
    rows = [
        (row.name, row.value, _("yes") if row.is_default else row.default, row.problem or "")
        for row in answer.results
    ]
    headers = (_("Setting"), _("Value"), _("Default"), _("Problem"))
    return _table(request, _("Settings"), PlainTable(headers=headers, rows=rows))


def schema_page(request: Request, document: Mapping[str, Any], *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of schema.html."""
    operations = [
        (
            f"{urlsplit(document['servers'][0]['url']).path}{path}",
            described["get"]["description"],
            list(dict.fromkeys(one["name"] for one in described["get"]["parameters"])),
        )
        for path, described in document["paths"].items()
    ]
    return _frame(request) | {"title": _("API"), "operations": operations}


def views_page(request: Request, answer: object, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of views.html; the views themselves are in every page."""
    return _frame(request) | {"title": _("Saved views")}


def _table(
    request: Request,
    title: str | Promise,
    table: PlainTable,
    page: EventsAnswer | ReviewsAnswer | None = None,
) -> Mapping[str, Any]:
    links = Links(request.path, request.query_params)
    filters = {"chips": chips(links), "clear": links.only()}
    return _frame(request) | filters | {"title": title, "table": table, "page": page}


def _frame(request: Request) -> dict[str, Any]:
    links = Links(request.path, request.query_params)
    return {
        "as_json": links.as_format("json"),
        "curl": curl(request),
        "first_page": links.with_values(),
    }


def _listed(lines: Sequence[str]) -> str:
    """Return the first of some lines: a project's first migration has 50 names, which fill a phone."""
    more = len(lines) - LINES_SHOWN
    shown = ", ".join(lines[:LINES_SHOWN])
    if more <= 0:
        return shown
    text = ngettext("%(shown)s and %(count)s more", "%(shown)s and %(count)s more", more)
    return text % {"shown": shown, "count": more}


def _time(time: str) -> str:
    return f"{day(time)} {clock(time)[:8]}"
