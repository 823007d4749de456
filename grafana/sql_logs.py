"""Build the dashboard "Django SQL Logs": duration and frequency of SQL, slow statements, N+1, records.

Fed by `/sql-logs/` through Infinity and by the site's metrics, side by side; `sql_logs_figures` has
the panels of aggregates, `sql_logs_metrics` those of Prometheus.
"""

import json
from urllib.parse import quote

from grafana_foundation_sdk.builders import common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    GraphGradientMode,
    ScaleDistribution,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import FieldColorModeId

from grafana import events, metric_panels, panels
from grafana import sql_logs_figures as figures
from grafana import sql_logs_metrics as metrics
from grafana import sql_logs_variables as variables
from grafana.infinity import Column, Query, columns
from grafana.panels import link, prop, transformation

UID = "django-sql-logs"
NEWEST = "1000"
"""Records that a chart requests: the maximum of one API response."""

_TABLE = (
    "id", "trace_id", "time", "duration_ms", "sql", "rows", "alias", "kind", "method", "view",
    "status", "error", "call_site",
)  # fmt: skip


def _records(*names: str, **params: str) -> Query:
    return Query(columns=columns(*names), params=variables.FILTERS | params)


def _counted(**params: str) -> Query:
    """Request the count of all results; the API returns at least one record with it."""
    return Query(columns=columns("count"), params=variables.FILTERS | params | {"limit": "1"}, root="")


def _count() -> stat.Panel:
    about = "Queries in the time range that match the filters."
    query = Query(
        path="stats/",
        columns=columns("calls"),
        params=variables.FILTERS | {"group_by": "kind", "limit": "100"},
    )
    return panels.figure("Queries", about, query, "calls", "sum")


def _p95() -> stat.Panel:
    about = f"95 % of the newest {NEWEST} matching queries took at most this long."
    query = _records("duration_ms", limit=NEWEST)
    figure = panels.figure("p95 of the newest", about, query, "duration_ms", "p95")
    return figure.unit("ms").thresholds(panels.slow())


def _slowest() -> stat.Panel:
    about = "Duration of the slowest matching query in the time range."
    query = _records("duration_ms", ordering="-duration_ms", limit="1")
    return panels.figure("Slowest", about, query, "duration_ms").unit("ms").thresholds(panels.slow())


def _failed() -> stat.Panel:
    about = "Matching queries that raised an exception, regardless of the filter Failed."
    query = _counted(error="true")
    return panels.figure("Failed", about, query, "count").thresholds(panels.none_is_good())


def _health() -> stat.Panel:
    about = (
        "The ring, independent of the time range: how full it is, what all processes have captured, "
        "stored and dropped, and the lag of the slowest process."
    )
    fields = (
        Column(selector="ring.fill_percent", type="number", text="fill"),
        Column(selector="captured", type="number"),
        Column(selector="stored", type="number"),
        Column(selector="dropped_total", type="number", text="dropped"),
        Column(selector="lag_ms", type="number", text="lag"),
    )
    return (
        panels.figure("Ring", about, Query(path="health/", columns=fields, root=""), ".*")
        .override_by_name("fill", [prop("unit", "percent")])
        .override_by_name("lag", [prop("unit", "ms")])
        .override_by_name("dropped", [prop("thresholds", panels.none_is_good().build())])
        .span(8)
    )


def _duration() -> timeseries.Panel:
    about = f"Each of the newest {NEWEST} matching queries is a point; the scale is logarithmic."
    query = _records("time", "duration_ms", limit=NEWEST)
    return (
        panels.chart("Duration of SQL requests", about, query)
        # The API answers newest first, a chart needs ascending time.
        .with_transformation(transformation("sortBy", sort=[{"field": "time"}]))
        .unit("ms")
        .draw_style(GraphDrawStyle.POINTS)
        .show_points(VisibilityMode.ALWAYS)
        .point_size(4)
        .scale_distribution(common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        # Otherwise the whole line has the colour of its last value.
        .gradient_mode(GraphGradientMode.SCHEME)
        .thresholds(panels.slow())
        .span(24)
    )


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
_RECORD_LINKS = [link("Record in the SQL log", f"{variables.SITE}${{__value.raw}}/", blank=True)]


def _table(title: str, about: str, **params: str) -> table.Panel:
    return (
        panels.listing(title, about, _records(*_TABLE, **params), _TABLE)
        .override_by_name("duration_ms", [prop("unit", "ms")])
        .override_by_name("sql", [prop("custom.wrapText", False)])  # as many records as fit
        .override_by_name("trace_id", [prop("links", _TRACE_LINKS)])
        .override_by_name("id", [prop("links", _RECORD_LINKS)])
    )


def _slow_statements() -> table.Panel:
    about = "The 50 slowest matching queries in the time range."
    return _table("Slowest statements", about, ordering="-duration_ms", limit="50").height(9)


def _newest() -> table.Panel:
    about = "The newest 500 matching queries. Click a trace id to see all queries of its request."
    return _table("Newest queries", about, limit="500").height(14)


def _errors() -> table.Panel:
    about = "The newest 100 matching queries that raised an exception."
    return _table("Failed statements", about, error="true", limit="100").height(8)


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    about = "Every SQL statement of the site, from the SQL log at /sql-logs/, next to the site's metrics."
    board = metric_panels.page("Django SQL Logs", UID, about).time("now-15m", "now")
    board.variables(variables.build()).annotation(events.annotation())
    for title, parts in (
        ("Now", (_count(), _p95(), _slowest(), _failed(), _health())),
        ("Duration and frequency", (*figures.charts(), *metrics.load())),
        ("Each of the newest", (_duration(),)),
        ("Statements", (figures.statements(), figures.groups(), _slow_statements())),
        ("N+1 and requests", (figures.repeats(_TRACE_LINKS), figures.requests(_TRACE_LINKS))),
        ("Records", (_errors(), _newest())),
        ("The log itself", metrics.log()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
