"""Build the panels of "Django SQL Logs" with sums, as load of statements and requests.

Fed by `stats/`, `series/`, `requests/` and `repeats/` of the SQL log.
"""

from grafana_foundation_sdk.builders import common, table, timeseries
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)

from grafana import panels
from grafana import sql_logs_variables as variables
from grafana.infinity import Query, columns
from grafana.panels import link, prop

_BY = "${by}"

_FIGURES = (
    "load_percent", "calls", "total_ms", "mean_ms", "p95_ms", "max_ms", "errors", "repeats", "rows",
    "route", "last_seen",
)  # fmt: skip
_SUSPECTS = (
    "fingerprint", "trace_id", "sql", "advice", "times_per_request", "requests", "total_ms", "call_site",
    "route", "remedy",
)  # fmt: skip
_REQUESTS = (
    "trace_id", "time", "method", "route", "queries", "duplicates", "worst_repeat", "total_ms",
    "share_percent", "errors", "status",
)  # fmt: skip
_STATEMENT = [link("Statement in the SQL log", f"{variables.SITE}fingerprints/${{__value.raw}}/", blank=True)]
_MILLISECONDS = ("total_ms", "mean_ms", "p95_ms", "max_ms")


def _series(title: str, about: str, figure: str, unit: str) -> timeseries.Panel:
    query = Query(
        path="series/",
        format="timeseries",
        columns=columns("time", "group", figure),
        params=variables.FILTERS | {"group_by": _BY, "top": "8"},
    )
    legend = common.VizLegendOptions().show_legend(True)
    legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = panels.chart(title, about, query).unit(unit).min(0).legend(legend)
    return made.display_name("${__field.labels.group}")  # without the field name as prefix


def _stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return (
        panel.draw_style(GraphDrawStyle.BARS)
        .fill_opacity(70)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    )


def charts() -> list[timeseries.Panel]:
    """Return duration and frequency over time, grouped by the variable `by`."""
    tops = "One line for each of the eight with the highest load, one for all others"
    return [
        _stacked(_series("Time in SQL", f"Milliseconds of SQL per step. {tops}.", "total_ms", "ms")),
        _stacked(_series("Frequency of SQL requests", f"Queries per step. {tops}.", "calls", "short")),
        _series("p95 of SQL requests", f"p95 per step. {tops}.", "p95_ms", "ms"),
    ]


def statements() -> table.Panel:
    """Return the statements by their share of the load."""
    about = (
        "The 100 statements with the highest load, without parameter values; repeats is how often one line "
        "of code ran the statement in one request, at most."
    )
    names = ("fingerprint", "sql", *_FIGURES)
    panel = _by_load("Statements by load", about, "fingerprint", names)
    return panel.override_by_name("fingerprint", [prop("links", _STATEMENT)])


def groups() -> table.Panel:
    """Return the load grouped by the variable `by`."""
    about = (
        "The 100 groups with the highest load, by the variable Group by; repeats are those of one statement."
    )
    panel = _by_load(f"Load by {_BY}", about, _BY, ("group", *_FIGURES))
    records = [link("Its records", f"{variables.SITE}?{_BY}=${{__value.raw}}", blank=True)]
    return panel.override_by_name("group", [prop("links", records)])


def _by_load(title: str, about: str, by: str, names: tuple[str, ...]) -> table.Panel:
    params = variables.FILTERS | {"group_by": by, "limit": "100"}
    panel = panels.listing(title, about, Query(path="stats/", columns=columns(*names), params=params), names)
    for name in _MILLISECONDS:
        panel.override_by_name(name, [prop("unit", "ms")])
    gauge = [
        prop("unit", "percent"),
        prop("min", 0),  # or the longest gauge would be as long as the largest number of any column
        prop("max", 100),
        prop("custom.cellOptions", {"type": "gauge"}),
    ]
    return panel.override_by_name("load_percent", gauge).height(10)


def repeats(trace_links: list[dict[str, object]]) -> table.Panel:
    """Return the N+1 suspects with their remedies."""
    about = (
        "Statements that one line of code runs repeatedly in one request, command or task, "
        "the highest load first, and how to fix each."
    )
    query = Query(path="repeats/", columns=columns(*_SUSPECTS), params=variables.FILTERS | {"limit": "50"})
    return (
        panels.listing("N+1 suspects", about, query, _SUSPECTS)
        .override_by_name("total_ms", [prop("unit", "ms")])
        .override_by_name("fingerprint", [prop("links", _STATEMENT)])
        .override_by_name("trace_id", [prop("links", trace_links)])
        .no_value("No N+1 suspect in this time range")
        .height(11)
    )


def requests(trace_links: list[dict[str, object]]) -> table.Panel:
    """Return the requests with the most SQL time."""
    about = "The 50 requests, commands and tasks with the most SQL time; duplicates repeat an earlier query."
    query = Query(
        path="requests/",
        columns=columns(*_REQUESTS),
        params=variables.FILTERS | {"ordering": "-total_ms", "limit": "50"},
    )
    return (
        panels.listing("Requests with the most SQL", about, query, _REQUESTS)
        .override_by_name("total_ms", [prop("unit", "ms")])
        .override_by_name("share_percent", [prop("unit", "percent")])
        .override_by_name("trace_id", [prop("links", trace_links)])
        .height(9)
    )
