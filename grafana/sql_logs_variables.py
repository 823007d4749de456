"""Build the filters of "Django SQL Logs": the variables above the panels, and the parameters of each request.

Fed by the list of `/sql-logs/`; used by `grafana.sql_logs`.
"""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana import promql
from grafana.infinity import DATASOURCE, Query, columns

SITE = "${site:raw}"
"""URL of the SQL log in the user's browser; the datasource has the URL for Grafana."""

# Milliseconds, not ISO times: those end at the second and would leave out the newest queries.
RANGE = {"from": "${__timeFrom}", "to": "${__timeTo}"}
# Several values go by comma. What is not chosen is sent as an empty value or as All: no filter.
FILTERS = RANGE | {
    "alias": "${alias:csv}",
    "kind": "${kind:csv}",
    "method": "${method:csv}",
    "view": "${dotted_view:csv}",
    "route": "${route:csv}",
    "min_ms": "${min_ms}",
    "search": "${search}",
    "trace_id": "${trace_id}",
    "error": "${error}",
}


_ALL = VariableOption(selected=True, text="All", value="$__all")


def _seen(name: str, label: str, about: str, group_by: str) -> dashboard.QueryVariable:
    """Offer what the range contained when the dashboard was loaded; other values can be typed in.

    Not with each change of the range: a refresh is one, and would send eleven requests instead of eight.
    """
    # Summarized, because the plugin takes an answer without any column for a broken variable, and an
    # empty list has none.
    query = Query(
        path="stats/",
        columns=columns("group"),
        params=RANGE | {"group_by": group_by, "limit": "1000"},
        summarize="count(group)",
        summarize_by="group",
    )
    wrapped = {
        "queryType": "infinity",
        "refId": "variable",
        "infinityQuery": query,
        "meta": {"textField": "group", "valueField": "group"},
    }
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(DATASOURCE)
        .query(wrapped)
        .regex("/.+/")
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value("All")
        .current(_ALL)
    )


def _choice(name: str, label: str, about: str, values: str) -> dashboard.CustomVariable:
    return (
        dashboard.CustomVariable(name)
        .label(label)
        .description(about)
        .values(values)
        .include_all(True)
        .all_value("All")
        .current(_ALL)
    )


def _text(name: str, label: str, about: str) -> dashboard.TextBoxVariable:
    empty = VariableOption(selected=True, text="", value="")
    return dashboard.TextBoxVariable(name).label(label).description(about).default_value("").current(empty)


def _by() -> dashboard.CustomVariable:
    """Select how the charts are grouped; as in the API, always by one field."""
    # A view's name in a legend says more than a fingerprint; statements have their own table.
    chosen = VariableOption(selected=True, text="view", value="view")
    return (
        dashboard.CustomVariable("by")
        .label("Group by")
        .description("How the charts and the table Load are grouped; a statement has its fingerprint.")
        .values(
            "view,route,call site : call_site,release,statement : fingerprint,operation,table,"
            "database : alias,kind,service,host"
        )
        .current(chosen)
    )


def _order() -> dashboard.CustomVariable:
    chosen = VariableOption(selected=True, text="newest", value="-id")
    return (
        dashboard.CustomVariable("order")
        .label("Records")
        .description("Which records the table of records has; for failed ones choose Failed.")
        .values("newest : -id,slowest : -duration_ms,most rows : -rows")
        .current(chosen)
    )


def build() -> list[Builder[VariableModel]]:
    """Return the variables in display order."""
    about_site = "Address of the SQL log for your browser, in links."
    methods = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    return [
        *promql.sites(),
        _by(),
        _seen("alias", "Database", "Alias in DATABASES.", "alias"),
        _choice("kind", "Kind", "Unit of work that sent the query.", "request,command,task,thread").multi(
            True
        ),
        _choice("method", "Method", "HTTP method.", methods).multi(True),
        _seen("dotted_view", "View function", "View, command or task by its dotted name.", "view"),
        _seen("route", "Route", "URL pattern of the request.", "route"),
        _choice("error", "Failed", "Queries that raised an exception.", "failed : true,succeeded : false"),
        _choice(
            "status", "Status", "Only in Slowest requests: class of the status.", "2xx,3xx,4xx,5xx"
        ).multi(True),
        _order(),
        _text("min_ms", "At least (ms)", "Shortest duration shown, milliseconds."),
        _text("search", "SQL contains", "Text to find in the statement."),
        _text("trace_id", "Trace", "W3C trace id, 32 hex digits."),
        promql.Hidden("site")
        .label("SQL log")
        .description(about_site)
        .value("http://localhost:8000/sql-logs/"),
    ]
