"""Build the panels of "Django SQL Logs" with sums: over time, by statement, by group, by request.

Fed by `stats/`, `series/`, `requests/`, `repeats/` and `findings/` of the SQL log.
"""

from django.utils import translation
from grafana_foundation_sdk.builders import common, heatmap, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

from grafana import panels
from grafana import sql_logs_variables as variables
from grafana.infinity import DATASOURCE, Column, Query, Shared, columns
from grafana.panels import AnyPanel, link, prop, transformation, words

_BY, _BY_WORD = "${by}", "${by:text}"
_RANGE = "from=${__from}&to=${__to}"
"""The range of the dashboard, in addresses of the SQL log."""

_FIGURES = (
    "load_percent", "calls", "total_ms", "mean_ms", "p95_ms", "max_ms", "errors", "repeats", "rows",
    "route", "last_seen",
)  # fmt: skip
_SUSPECTS = (
    "fingerprint", "trace_id", "sql", "advice", "times_per_request", "requests", "total_ms", "call_site",
    "route",
)  # fmt: skip
_REQUESTS = (
    "trace_id", "time", "elapsed_ms", "share_percent", "total_ms", "queries", "duplicates", "worst_repeat",
    "errors", "status", "method", "route", "view", "exception",
)  # fmt: skip
_STATEMENT = [
    link("Statement in the SQL log", f"{variables.SITE}fingerprints/${{__value.raw}}/?{_RANGE}", blank=True)
]
_BUCKETS = {
    "to_100us": "≤ 100 µs", "to_300us": "≤ 300 µs", "to_1ms": "≤ 1 ms", "to_3ms": "≤ 3 ms",
    "to_10ms": "≤ 10 ms", "to_30ms": "≤ 30 ms", "to_100ms": "≤ 100 ms", "to_300ms": "≤ 300 ms",
    "to_1s": "≤ 1 s", "to_3s": "≤ 3 s", "to_10s": "≤ 10 s", "above_10s": "> 10 s",
}  # fmt: skip
"""Names that are no numbers, by which Grafana would sort the rows."""
_STATE_COLORS = {"open": "red", "reopened": "red", "acknowledged": "blue"}
_STEP, _STEPS_MAX = "${__interval}", 120
"""Enough steps for half a screen; more would be lines of a pixel."""
_HEATMAP = "Durations of all queries"


def _rows(match: str) -> DataTransformerConfig:
    """Keep the rows of all calls, or of their groups: only the former have calls by duration."""
    first = next(iter(_BUCKETS.values()))
    of_all = {"fieldName": first, "config": {"id": match, "options": {}}}
    return transformation("filterByValue", type="include", match="all", filters=[of_all])


_OF_ALL, _OF_GROUPS = _rows("isNotNull"), _rows("isNull")


def _choices(name: str) -> list[tuple[str, str]]:
    """Return the kinds or states of findings with their English words."""
    from sqllogs.models import Finding  # models need Django's settings, which only the build has

    with translation.override("en"):
        return [(key, str(text)) for key, text in getattr(Finding, name).choices]


def findings() -> table.Panel:
    """Return what the log reports without being asked."""
    about = (
        "Problems that are open or acknowledged and were seen in the time range: slower and new statements, "
        "N+1, unbounded results, idle transactions, deadlocks. The kind leads to their evidence and remedy."
    )
    names = (
        "kind", "fingerprint", "state", "summary", "call_site", "route", "release", "first_seen", "last_seen",
        "occurrences",
    )  # fmt: skip
    query = Query(
        path="findings/",
        columns=columns(*names),
        params=variables.RANGE | {"limit": "20", "route": "${route:csv}"},
    )
    page = f"{variables.SITE}findings/?finding=${{__value.raw}}&{_RANGE}"
    colored = prop("custom.cellOptions", {"type": "color-text"})
    return (
        panels.listing("Findings", about, query, names)
        .override_by_name("kind", [prop("links", [link("Findings in the SQL log", page, blank=True)])])
        .override_by_name("kind", [words(_choices("Kind")), prop("custom.width", 150)])
        .override_by_name("state", [words(_choices("State"), _STATE_COLORS), colored])
        .override_by_name("fingerprint", [prop("links", _STATEMENT)])
        .no_value("No finding in this time range")
        .height(9)
    )


def totals() -> list[stat.Panel]:
    """Return figures of the range, from the request of the heatmap."""

    def figure(title: str, about: str, field: str, calc: str) -> stat.Panel:
        panel = panels.figure(title, about, Shared(title=_HEATMAP), field, calc)
        return panel.with_transformation(_OF_ALL).span(6)

    now = "95 % of the queries of the newest step took at most this long."
    failed = figure("Failed queries", "Of these, how many raised an exception.", "errors", "sum")
    p95 = figure("p95 of queries, now", now, "p95_ms", "lastNotNull")
    slowest = figure("Slowest query", "Duration of the slowest query in the time range.", "max_ms", "max")
    return [
        figure("Queries", "Queries in the time range that match the filters.", "calls", "sum"),
        failed.thresholds(panels.none_is_good()),
        p95.unit("ms").thresholds(panels.slow()),
        slowest.unit("ms").thresholds(panels.slow()),
    ]


def durations() -> heatmap.Panel:
    """Return all queries by time and duration; its request has the figures and charts too."""
    counts = (Column(selector=f"buckets.{name}", type="number", text=text) for name, text in _BUCKETS.items())
    fields = columns("time", "group", "calls", "errors", "p95_ms", "max_ms", "total_ms_per_s", "calls_per_s")
    query = Query(
        path="series/",
        columns=(*fields, *counts),
        params=variables.FILTERS | {"group_by": _BY, "top": "8", "buckets": "true", "step": _STEP},
    )
    colors = (
        heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64)
    )
    return (
        heatmap.Panel()
        .title(_HEATMAP)
        .description("All matching queries, not a sample: the darker, the more of this duration in a step.")
        .with_target(query)
        .datasource(DATASOURCE)
        .with_transformation(_OF_ALL)
        .with_transformation(
            transformation("filterFieldsByName", include={"names": ["time", *_BUCKETS.values()]})
        )
        .calculate(False)
        .max_data_points(_STEPS_MAX)
        .color(colors)
        .filter_values(heatmap.FilterValueRange().le(0.5))
        .tooltip(heatmap.HeatmapTooltip().mode(TooltipDisplayMode.SINGLE))
        .hide_legend()
        .unit("short")
        .no_value(panels.NO_RECORDS)
        .height(9)
        .span(12)
    )  # fmt: skip


def charts() -> list[AnyPanel]:
    """Return load, frequency and p95 over time by the variable `by`, and the heatmap, from one request."""
    tops = "One line for each of the eight with the highest load, one for all others."
    load = "Milliseconds of SQL per second; 1,000 are one connection that is always busy."
    return [
        _stacked(_series(f"Time in SQL by {_BY_WORD}", f"{load} {tops}", "total_ms_per_s", "suffix:ms/s")),
        _stacked(_series(f"Queries by {_BY_WORD}", f"Queries per second. {tops}", "calls_per_s", "qps")),
        durations(),
        # Connected, because a group without a call in a step would be a row of dots.
        _series(f"p95 by {_BY_WORD}", f"95 % took at most this long. {tops}", "p95_ms", "ms").span_nulls(
            True
        ),
    ]


def _series(title: str, about: str, figure: str, unit: str) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True)
    legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.RIGHT)
    lines = transformation("groupingToMatrix", columnField="group", rowField="time", valueField=figure)
    return (
        panels.chart(title, about, Shared(title=_HEATMAP))
        .with_transformation(_OF_GROUPS)
        .with_transformation(lines)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .unit(unit)
        .min(0)
        .legend(legend)
        .override_by_name("Value", [prop("displayName", "none")])  # the group null
    )


def _stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return (
        panel.draw_style(GraphDrawStyle.BARS)
        .fill_opacity(70)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    )


def statements() -> table.Panel:
    """Return the statements by their share of the load."""
    about = (
        "The 100 statements with the highest load, without parameter values; repeats is how often one line "
        "of code ran the statement in one request, at most."
    )
    names = ("fingerprint", "load_percent", "sql", *_FIGURES[1:])
    panel = _by_load("Statements by load", about, "fingerprint", names)
    return panel.override_by_name("fingerprint", [prop("links", _STATEMENT)])


def groups() -> table.Panel:
    """Return the load grouped by the variable `by`."""
    about = (
        "The 100 groups with the highest load, by the variable Group by; repeats are those of one statement."
    )
    panel = _by_load(f"Load by {_BY_WORD}", about, _BY, ("group", *_FIGURES))
    url = f"{variables.SITE}?{_BY}=${{__value.raw:percentencode}}&{_RANGE}"
    records = [link("Its records in the SQL log", url, blank=True)]
    return panel.override_by_name("group", [prop("links", records)])


def _by_load(title: str, about: str, by: str, names: tuple[str, ...]) -> table.Panel:
    params = variables.FILTERS | {"group_by": by, "limit": "100"}
    query = Query(path="stats/", columns=columns(*names), params=params)
    return panels.listing(title, about, query, names).height(10)


def repeats(trace_links: list[dict[str, object]]) -> table.Panel:
    """Return the N+1 suspects with their remedies."""
    about = (
        "Statements that one line of code runs repeatedly in one request, command or task, "
        "the highest load first, and how to fix each."
    )
    query = Query(path="repeats/", columns=columns(*_SUSPECTS), params=variables.FILTERS | {"limit": "50"})
    return (
        panels.listing("N+1 suspects", about, query, _SUSPECTS)
        .override_by_name("fingerprint", [prop("links", _STATEMENT)])
        .override_by_name("trace_id", [prop("links", trace_links)])
        .no_value("No N+1 suspect in this time range")
        .height(11)
    )


def requests(trace_links: list[dict[str, object]]) -> table.Panel:
    """Return the slowest requests."""
    about = (
        "The 50 requests, commands and tasks that took longest, also those without SQL; "
        "duplicates repeat an earlier query, worst is the most frequent of one line."
    )
    params = variables.FILTERS | {"status": "${status:csv}", "ordering": "-elapsed_ms", "limit": "50"}
    query = Query(path="requests/", columns=columns(*_REQUESTS), params=params)
    return (
        panels.listing("Slowest requests", about, query, _REQUESTS, widest="view")
        .override_by_name("status", panels.by_status())
        .override_by_name("trace_id", [prop("links", trace_links)])
        .height(10)
    )
