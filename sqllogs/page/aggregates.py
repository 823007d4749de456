"""Build the template context of the tabs Findings, Statements, Requests and N+1.

Called by the renderer with the answers of `sqllogs.read`, in the reader's thread; sends no query. The
templates are findings.html, statements.html, requests.html and repeats.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, ngettext_lazy, pgettext_lazy
from rest_framework.request import Request

from sqllogs.models import Event, Finding
from sqllogs.page.charts import WithSeries, time_bars
from sqllogs.page.frame import tab
from sqllogs.page.links import Links, TableColumn, curl, in_admin, reverse, table_headers
from sqllogs.read import comparison, findings, n_plus_one, requests, stats
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.series import SeriesAnswer, SeriesPoint
from sqllogs.sql.text import highlight_keywords, preview
from sqllogs.templatetags.sqllogs import milliseconds

LINKED = ("route", "view", "call_site", "fingerprint", "kind", "method", "worst_call_site")
GROUPS = {
    "fingerprint": (_("Statement"), ngettext_lazy("statement", "statements"), _("Statements")),
    "route": (_("Route"), ngettext_lazy("route", "routes"), _("Routes")),
    "view": (pgettext_lazy("Django view", "View"), ngettext_lazy("view", "views"), _("Views")),
    "call_site": (_("Call site"), ngettext_lazy("call site", "call sites"), _("Call sites")),
    "operation": (_("Operation"), ngettext_lazy("operation", "operations"), _("Operations")),
    "table": (_("Table"), ngettext_lazy("table", "tables"), _("Tables")),
    "alias": (_("Database"), ngettext_lazy("database", "databases"), _("Databases")),
    "kind": (_("Kind"), ngettext_lazy("kind", "kinds"), _("Kinds")),
    "release": (_("Release"), ngettext_lazy("release", "releases"), _("Releases")),
    "service": (_("Service"), ngettext_lazy("service", "services"), _("Services")),
    "host": (_("Host"), ngettext_lazy("host", "hosts"), _("Hosts")),
}
"""By value of `group_by`: label, noun after a count, title of the count."""

STATS_COLUMNS = (
    TableColumn(_("Load"), "load number", "load_percent"),
    TableColumn(_("Statement"), "statement"),
    TableColumn(_("Calls"), "number", "calls"),
    TableColumn(_("Mean ms"), "number", "mean_ms"),
    TableColumn(_("p95 ms"), "number", "p95_ms"),
    TableColumn(_("Max ms"), "number", "max_ms"),
    TableColumn(_("Total ms"), "number", "total_ms"),
    TableColumn(_("Rows"), "number", "rows"),
    TableColumn(_("Errors"), "number", "errors"),
    TableColumn(_("Last seen"), "time", "last_seen"),
)
COMPARED_COLUMNS = (
    TableColumn(_("Change, ms/s"), "number", "load_change"),
    TableColumn(_("Statement"), "statement"),
    TableColumn(_("Load, ms/s"), "number", "total_ms"),
    TableColumn(_("Calls per s"), "number", "calls"),
    TableColumn(_("p95 ms"), "number", "p95_ms"),
    TableColumn(_("Calls per request"), "number"),
    TableColumn(_("Rows per call"), "number"),
)
RATES = ("total_ms_per_s", "calls_per_s", "p95_ms", "calls_per_unit", "rows_per_call")
"""Fields of the columns of rates, in their order."""
COMPARISONS = {
    None: _("Nothing"),
    "previous": _("Period before"),
    "day": _("Yesterday"),
    "week": _("A week ago"),
    "release": _("Previous release"),
}
"""By value of `compare`."""
REQUESTS_COLUMNS = (
    TableColumn(_("Time, UTC"), "time", "time"),
    TableColumn(_("Request"), "origin"),
    TableColumn(_("Queries"), "number", "queries"),
    TableColumn(_("Repeated"), "number", "duplicates"),
    TableColumn(_("Errors"), "number", "errors"),
    TableColumn(_("Query ms"), "number", "total_ms"),
    TableColumn(_("Elapsed ms"), "number", "elapsed_ms"),
    TableColumn(_("Most repeated"), "statement"),
)
REPEATS_COLUMNS = (
    TableColumn(_("Statement"), "statement"),
    TableColumn(_("Times per request"), "number", "times_per_request"),
    TableColumn(_("At most"), "number", "times_max"),
    TableColumn(_("Requests"), "number", "requests"),
    TableColumn(_("Calls"), "number", "calls"),
    TableColumn(_("Total ms"), "number", "total_ms"),
    TableColumn(_("Last seen"), "time", "last_seen"),
)

FINDINGS_COLUMNS = (
    TableColumn(_("Finding"), "statement", "kind"),
    TableColumn(_("State"), "state"),
    TableColumn(_("Since"), "since"),
    TableColumn(_("Found, UTC"), "time", "first_seen"),
    TableColumn(_("Last seen, UTC"), "time", "last_seen"),
    TableColumn(_("Times seen"), "number", "occurrences"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One row of a table."""

    row: Any
    sql: SafeString | None
    url: str
    """Its records, statement or trace."""
    links: dict[str, str]
    """By field: the same tab, filtered by the value as well."""
    call_sites: tuple[tuple[str, str], ...] = ()
    """Each with the same tab filtered by it."""
    rates: "tuple[Rate, ...]" = ()
    """Where two ranges are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate in this range and the one compared with."""

    label: str | Promise
    now: float | None
    before: float | None
    change_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingTableRow(TableRow):
    """One problem in words."""

    kind: str | Promise
    state: str | Promise


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """A link to another `group_by` or `compare`."""

    label: str | Promise
    url: str
    is_current: bool


def stats_page(
    request: Request, charted: WithSeries[stats.StatsAnswer], *, with_text: bool
) -> Mapping[str, Any]:
    """Return the context of statements.html."""
    page, series, events = charted
    links = Links(request.path, request.query_params)
    records = links.for_path(links.home)
    label, noun, plural = GROUPS[page.group_by]
    is_compared = isinstance(page, comparison.ComparedStatsAnswer)
    current = page.compare if isinstance(page, comparison.ComparedStatsAnswer) else None
    columns = [
        TableColumn(label, column.css, "group") if column.css == "statement" else column
        for column in (COMPARED_COLUMNS if is_compared else STATS_COLUMNS)
    ]
    orderings, default = stats.ORDERINGS, stats.DEFAULT_ORDERING
    if is_compared:
        orderings, default = comparison.ORDERINGS, comparison.DEFAULT_ORDERING
    ordering = OffsetPage.from_query(request.query_params, orderings, default).ordering
    frame = tab(request, links, page, with_text=with_text) | _time_chart(series, events, links)
    return frame | {
        "title": _("Statements"),
        # A lazy plural is chosen when % is applied, even if its text has no placeholder.
        "noun": noun % page.count,
        "count_title": plural,
        "rows": [
            TableRow(
                row=row,
                sql=_preview(getattr(row, "sql", None)),
                url=_destination(page.group_by, row.group, records),
                links=_links(row, links),
                call_sites=tuple((site, links.with_filter("call_site", site)) for site in row.call_sites),
                rates=_rates(row) if is_compared else (),
            )
            for row in page.results
        ],
        "are_statements": page.group_by == "fingerprint",
        "groupings": [
            Grouping(
                label=label,
                url=links.with_values(group_by=None if name == "fingerprint" else name, ordering=None),
                is_current=name == page.group_by,
            )
            for name, (label, _noun, _plural) in GROUPS.items()
        ],
        "is_compared": is_compared,
        "comparison": current,
        "shorter": links.with_values(**{"from": "now-15m", "to": None}),
        "comparisons": [
            # The ordering is dropped, because only a comparison can be sorted by the change of load.
            Grouping(
                label=label, url=links.with_values(compare=name, ordering=None), is_current=name == current
            )
            for name, label in COMPARISONS.items()
        ],
        "headers": table_headers(links, columns, ordering, default),
    }


def _rates(row: Any) -> tuple[Rate, ...]:
    return tuple(
        Rate(
            label=column.label,
            now=getattr(row, name),
            before=getattr(row, f"{name}_before"),
            change_percent=getattr(row, f"{name}_change_percent"),
        )
        for column, name in zip(COMPARED_COLUMNS[2:], RATES, strict=True)  # without change and statement
    )


def requests_page(
    request: Request, charted: WithSeries[requests.RequestsAnswer], *, with_text: bool
) -> Mapping[str, Any]:
    """Return the context of requests.html."""
    page, series, events = charted
    links = Links(request.path, request.query_params)
    ordering = OffsetPage.from_query(
        request.query_params, requests.ORDERINGS, requests.DEFAULT_ORDERING
    ).ordering
    noun = ngettext("request, command or task", "requests, commands and tasks", page.count)
    frame = tab(request, links, page, with_text=with_text) | _time_chart(series, events, links)
    # Programs get static files too, unless they say otherwise.
    shown = Links(request.path, query := requests.without_static_files(request.query_params))
    return frame | {
        "title": _("Requests"),
        "as_json": shown.as_format("json"),
        "as_csv": shown.as_format("csv"),
        "curl": curl(request, query),
        "are_without_static_files": shown.active.get("static_files") == "false",
        "with_static_files": links.with_values(static_files="all"),
        "noun": noun,
        "count_title": _("Requests"),
        "rows": [
            TableRow(
                row=row,
                sql=_preview(row.worst_sql),
                url=reverse("sqllogs:trace", args=[row.trace_id]) if row.trace_id else "",
                links=_links(row, links),
            )
            for row in page.results
        ],
        "headers": table_headers(links, REQUESTS_COLUMNS, ordering, requests.DEFAULT_ORDERING),
    }


def repeats_page(request: Request, page: n_plus_one.RepeatsAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of repeats.html."""
    links = Links(request.path, request.query_params)
    records = links.for_path(links.home)
    ordering = OffsetPage.from_query(
        request.query_params, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING
    ).ordering
    noun = ngettext(
        "statement that one line sends %(threshold)s times or more in a request",
        "statements that one line sends %(threshold)s times or more in a request",
        page.count,
    )
    # No chart, because a series includes all calls of a statement, and not only the repeated ones.
    return tab(request, links, page, with_text=with_text) | {
        "title": _("N+1"),
        "totals": _totals(page.results),
        "noun": noun % {"threshold": page.threshold},
        "rows": [
            TableRow(
                row=row,
                sql=_preview(row.sql),
                url=_destination("fingerprint", row.fingerprint, records),
                links=_links(row, links) | {"trace": reverse("sqllogs:trace", args=[row.trace_id])},
            )
            for row in page.results
        ],
        "headers": table_headers(links, REPEATS_COLUMNS, ordering, n_plus_one.DEFAULT_ORDERING),
    }


def findings_page(
    request: Request, searched: findings.SearchedFindings, *, with_text: bool
) -> Mapping[str, Any]:
    """Return the context of findings.html."""
    page = searched.answer
    links = Links(request.path, request.query_params)
    records = Links(links.home, QueryDict())  # records do not have the filters of findings
    ordering = OffsetPage.from_query(
        request.query_params, findings.ORDERINGS, findings.DEFAULT_ORDERING
    ).ordering
    kinds, states = dict(Finding.Kind.choices), dict(Finding.State.choices)
    return tab(request, links, page, with_text=with_text) | {
        "title": _("Findings"),
        "noun": ngettext("finding", "findings", page.count),
        "is_searched": searched.is_searched,
        "searched_at": searched.searched_at,
        "kinds": list(kinds.values()),
        "rows": [
            FindingTableRow(
                row=row,
                sql=_preview(row.sql),
                url=_destination("fingerprint", row.fingerprint, records),
                links=_links(row, records) | _filters_of_finding(row, links),
                kind=kinds.get(row.kind, row.kind),  # unknown if a newer release has written it
                state=states.get(row.state, row.state),
            )
            for row in page.results
        ],
        "headers": table_headers(links, FINDINGS_COLUMNS, ordering, findings.DEFAULT_ORDERING),
    }


def _filters_of_finding(row: findings.FindingRow, links: Links) -> dict[str, str]:
    """Return the URLs of one row: the same tab with its values, its trace, and the admin."""
    found = {
        name: links.with_filter(name, value) for name in ("route", "release") if (value := getattr(row, name))
    }
    found["finding"] = links.with_filter("finding", row.kind)
    traces = {"trace": row.trace_id, "holder": row.evidence.get("holder_trace_id")}
    found |= {name: reverse("sqllogs:trace", args=[trace]) for name, trace in traces.items() if trace}
    if plan := row.evidence.get("plan"):
        found["plan"] = reverse("sqllogs:plan", args=[plan])
    if (admin := in_admin("finding_change", row.id)) is not None:
        found["admin"] = admin
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTotals:
    """Totals of all steps; durations are formatted milliseconds."""

    calls: int
    total: str
    unit: str
    """Unit of the total: ms, or s if it is long."""
    mean: str
    max: str
    failed: int


SECONDS_FROM_MS = 1_000_000
"""A longer total in ms would not fit on a phone next to two other figures."""


def series_totals(points: Sequence[SeriesPoint]) -> SeriesTotals:
    calls, total_ms = sum(point.calls for point in points), sum(point.total_ms for point in points)
    return SeriesTotals(
        calls=calls,
        total=f"{total_ms / 1_000:,.0f}" if total_ms >= SECONDS_FROM_MS else milliseconds(total_ms),
        unit="s" if total_ms >= SECONDS_FROM_MS else "ms",
        mean=milliseconds(total_ms / calls) if calls else "-",
        max=milliseconds(max((point.max_ms or 0.0 for point in points), default=0.0)) if calls else "-",
        failed=sum(point.errors for point in points),
    )


def _time_chart(series: SeriesAnswer | None, events: Sequence[Event], links: Links) -> dict[str, Any]:
    if series is None:
        return {}
    # Sums of the chart's own points, so that figures and chart agree.
    return {"totals": series_totals(series.results), "time_bars": time_bars(series, links, events)}


def _totals(rows: Sequence[n_plus_one.RepeatRow]) -> dict[str, Any]:
    """Return the totals of the suspects on this page."""
    return {
        "calls": sum(row.calls for row in rows),
        "total_ms": sum(row.total_ms for row in rows),
        "times_max": max((row.times_max for row in rows), default=0),
    }


def _destination(group_by: str, value: Any, records: Links) -> str:
    """Return the URL of a group: a statement's page or the records; empty for calls without a value."""
    if value is None:
        return ""
    if group_by == "fingerprint":
        return records.for_path(reverse("sqllogs:fingerprint", args=[value])).with_values()
    return records.with_filter(group_by, value)


def _preview(sql: str | None) -> SafeString | None:
    return highlight_keywords(preview(sql)) if sql is not None else None


def _links(row: Any, links: Links) -> dict[str, str]:
    found = {name: getattr(row, name, None) for name in LINKED}
    # worst_call_site filters by call_site.
    return {
        name: links.with_filter(name.removeprefix("worst_"), value) for name, value in found.items() if value
    }
