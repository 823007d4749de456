"""Build the filters of "Django SQL Logs": the variables above the panels, and the parameters of each request.

Fed by the list of `/sql-logs/`; used by `grafana.sql_logs`.
"""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    VariableHide,
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
_RANGE = {"from": "${__timeFrom}", "to": "${__timeTo}"}
# Several values go by comma. What is not chosen is sent as an empty value or as All: no filter.
FILTERS = _RANGE | {
    "alias": "${alias:csv}",
    "kind": "${kind:csv}",
    "method": "${method:csv}",
    "view": "${view:csv}",
    "route": "${route:csv}",
    "min_ms": "${min_ms}",
    "search": "${search}",
    "trace_id": "${trace_id}",
    "error": "${error}",
}


class _Hidden(dashboard.ConstantVariable):
    """A hidden constant; the library's class cannot hide it."""

    def build(self) -> VariableModel:
        model = super().build()
        model.hide = VariableHide.HIDE_VARIABLE
        return model


_ALL = VariableOption(selected=True, text="All", value="$__all")


def _seen(name: str, label: str, about: str) -> dashboard.QueryVariable:
    """Offer the values of the newest records; others can be typed in."""
    # Summarized, because the plugin takes an answer without any column for a broken variable, and an
    # empty list has none.
    query = Query(
        columns=columns(name),
        params=_RANGE | {"limit": "1000"},
        summarize=f"count({name})",
        summarize_by=name,
    )
    wrapped = {
        "queryType": "infinity",
        "refId": "variable",
        "infinityQuery": query,
        "meta": {"textField": name, "valueField": name},
    }
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(DATASOURCE)
        .query(wrapped)
        .regex("/.+/")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
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
        .description("How the charts and the table Load are grouped; a fingerprint identifies a statement.")
        .values("fingerprint,route,view,operation,table,alias,kind,release,host")
        .current(chosen)
    )


def build() -> list[Builder[VariableModel]]:
    """Return the variables in display order."""
    about_site = "Address of the SQL log for your browser, in links."
    methods = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    return [
        *promql.sites(),
        _by(),
        _seen("alias", "Database", "Alias in DATABASES."),
        _choice("kind", "Kind", "Unit of work that sent the query.", "request,command,task,thread").multi(
            True
        ),
        _choice("method", "Method", "HTTP method of the request.", methods).multi(True),
        _seen("view", "View", "View, command or task by its dotted name."),
        _seen("route", "Route", "URL pattern of the request."),
        _choice("error", "Failed", "Queries that raised an exception.", "failed : true,succeeded : false"),
        _text("min_ms", "At least (ms)", "Shortest duration shown, milliseconds."),
        _text("search", "SQL contains", "Text to find in the statement."),
        _text("trace_id", "Trace", "W3C trace id, 32 hex digits."),
        _Hidden("site").label("SQL log").description(about_site).value("http://localhost:8000/sql-logs/"),
    ]
