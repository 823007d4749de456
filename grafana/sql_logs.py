"""Build the dashboard "Django SQL Logs": findings, health, load, statements, loops, requests, records.

Fed by `/sql-logs/` through Infinity and by the site's metrics, side by side; `sql_logs_figures` has
the panels of aggregates, `sql_logs_metrics` those of Prometheus.
"""

import json
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard, table

from grafana import events, metric_panels, panels
from grafana import sql_logs_figures as figures
from grafana import sql_logs_metrics as metrics
from grafana import sql_logs_variables as variables
from grafana.infinity import Query, columns
from grafana.panels import link, prop

UID = "django-sql-logs"

_TABLE = (
    "id", "trace_id", "time", "duration_ms", "sql", "rows", "alias", "method", "view", "status", "error",
    "call_site",
)  # fmt: skip


def _explore(uid: str, kind: str, **query: str) -> str:
    """Return the address of a query in Explore; TRACE in it is the value that was clicked."""
    source = {"type": kind, "uid": uid}
    pane = {
        "datasource": uid,
        "queries": [{"refId": "A", "datasource": source} | query],
        "range": {"from": "now-24h", "to": "now"},
    }
    panes = quote(json.dumps({"one": pane}))
    return f"/explore?schemaVersion=1&panes={panes}".replace("TRACE", "${__value.raw}")


# A line that came over OTLP has its trace id as metadata, one of webapp.log in its text.
_LOG_LINES = (
    '{service_name=~".+"} | regexp `trace_id=(?P<trace>[0-9a-f]{32})` | trace_id="TRACE" or trace="TRACE"'
)
_TRACE_LINKS = [
    link("Trace", _explore("django-tempo", "tempo", queryType="traceql", query="TRACE"), blank=True),
    link("Log lines of this trace", _explore("django-loki", "loki", expr=_LOG_LINES), blank=True),
    link("Queries of this trace", f"/d/{UID}?var-trace_id=${{__value.raw}}&${{__url_time_range}}"),
    link("Trace in the SQL log", f"{variables.SITE}?trace_id=${{__value.raw}}", blank=True),
]
# A request without SQL has a row of its own, but no record.
_REQUEST_LINKS = [
    *_TRACE_LINKS[:-1],
    link("Request in the SQL log", f"{variables.SITE}requests/?trace_id=${{__value.raw}}", blank=True),
]
_RECORD_LINKS = [link("Record in the SQL log", f"{variables.SITE}${{__value.raw}}/", blank=True)]


def _records() -> table.Panel:
    about = "200 matching queries, the newest or the slowest; with the filter Failed only those that failed."
    params = variables.FILTERS | {"ordering": "${order}", "limit": "200"}
    query = Query(columns=columns(*_TABLE), params=params)
    return (
        panels.listing("Records, ${order:text} first", about, query, _TABLE)
        .override_by_name("sql", [prop("custom.wrapText", False)])  # as many records as fit
        .override_by_name("status", panels.by_status())
        .override_by_name("trace_id", [prop("links", _TRACE_LINKS)])
        .override_by_name("id", [prop("links", _RECORD_LINKS)])
        .height(14)
    )


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    about = "Every SQL query of the site, from the SQL log, next to the site's metrics."
    board = metric_panels.page("Django SQL Logs", UID, about).time("now-15m", "now")
    board.variables(variables.build()).annotation(events.annotation())
    for title, parts in (
        ("What has the log found?", (figures.findings(),)),
        ("Is the log healthy?", metrics.health()),
        ("How much SQL, and how slow?", (*figures.totals(), *figures.charts())),
        ("Which statements?", (figures.statements(),)),
        ("Which views, routes, call sites, releases?", (figures.groups(),)),
        ("Which loops?", (figures.repeats(_TRACE_LINKS),)),
        ("Which requests?", (figures.requests(_REQUEST_LINKS),)),
        ("What exactly?", (_records(),)),
        ("From Prometheus: all databases and views", metrics.load()),
        ("From Prometheus: the log itself", metrics.log()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
