"""Build panels of the SQL log's API, and the parts that all panels use.

Fed by `grafana.infinity`, used by the dashboard modules; `metric_panels` has those of Prometheus.
"""

from collections.abc import Iterable, Mapping

from grafana_foundation_sdk.builders import common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMappingResult,
)

from grafana.infinity import DATASOURCE

AnyPanel = Builder[Panel]
"""The common interface of the library's panel builders."""

COUNT = "locale"
"""Unit of counts: 2,346 rather than 2.35 K."""

_HEADERS = {
    "id": ("Record", 95), "trace_id": ("Trace", 90), "fingerprint": ("Statement", 90), "time": ("Time", 185),
    "last_seen": ("Last seen", 160), "duration_ms": ("Duration", 90), "sql": ("SQL", 0), "rows": ("Rows", 95),
    "alias": ("Database", 80), "kind": ("Kind", 75), "method": ("Method", 70), "view": ("View", 210),
    "route": ("Route", 190), "status": ("Status", 65), "error": ("Error", 110),
    "exception": ("Exception", 110), "call_site": ("Call site", 190), "group": ("Group", 0),
    "calls": ("Calls", 95), "load_percent": ("Load", 120), "total_ms": ("Total", 90), "mean_ms": ("Mean", 90),
    "p95_ms": ("p95", 90),
    "p99_ms": ("p99", 90), "max_ms": ("Max", 90), "errors": ("Errors", 95), "repeats": ("Repeats", 75),
    "queries": ("Queries", 95), "times_per_request": ("Times", 65), "requests": ("Requests", 95),
    "advice": ("Advice", 0), "duplicates": ("Duplicates", 95), "worst_repeat": ("Worst", 65),
    "elapsed_ms": ("Duration", 90), "share_percent": ("SQL share", 120),
    "state": ("State", 100), "summary": ("What", 0),
    "first_seen": ("Found", 160), "occurrences": ("Seen", 65), "release": ("Since release", 110),
}  # fmt: skip
"""Header and width in pixels of a column; 0 takes the rest. Without a width a column takes at least 150.

Numbers are aligned right, so Grafana cuts off their first digits: there must be room for 999,999,999.
"""
_WRAPPED = ("sql", "advice", "summary", "kind", "call_site", "route", "view", "exception", "error", "group")
_IDS = ("fingerprint", "trace_id")
_COUNTS = ("calls", "rows", "errors", "queries", "requests", "duplicates")
_SHARES = ("load_percent", "share_percent")

NO_RECORDS = "No query in this time range matches the filters"


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Return colours by the lower limit of each; the first has None."""
    found = [Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def neutral() -> dashboard.ThresholdsConfig:
    """Return one colour for all values."""
    return thresholds((None, "blue"))


def plain() -> dashboard.ThresholdsConfig:
    """Return the colour of text for all values of a table; Grafana's own turns red from 80 on."""
    return thresholds((None, "text"))


def slow() -> dashboard.ThresholdsConfig:
    """Return the colours of a query's duration in milliseconds: red from the default of SLOW_MS on."""
    return thresholds((None, "green"), (100.0, "orange"), (500.0, "red"))


def none_is_good() -> dashboard.ThresholdsConfig:
    """Return the colours of a count that should be 0."""
    return thresholds((None, "green"), (1.0, "red"))


def no_value(panel: stat.Panel, text: str) -> stat.Panel:
    """Set what a figure without a value says, in the colour of text: it is neither good nor bad."""
    # noValue alone has the colour of the lowest threshold: "none" in red for a share of successes.
    result = ValueMappingResult(text=text, color="text")
    options = DashboardSpecialValueMapOptions(match=SpecialValueMatch.NULL_AND_NAN, result=result)
    return panel.no_value(text).mappings([SpecialValueMap(options=options)])


STATUS_COLORS = ((2, "green"), (3, "blue"), (4, "orange"), (5, "red"))


def by_status() -> list[DynamicConfigValue]:
    """Return the overrides of a column of HTTP statuses: their color by class."""
    steps = thresholds((None, "text"), *((100.0 * digit, color) for digit, color in STATUS_COLORS))
    return [prop("thresholds", steps.build()), prop("custom.cellOptions", {"type": "color-text"})]


def words(choices: Iterable[tuple[str, str]], colors: Mapping[str, str] | None = None) -> DynamicConfigValue:
    """Return the override that shows keys of the API as the words that page and admin have for them."""
    options = {
        key: {"text": text, "index": index} | ({"color": colors[key]} if colors and key in colors else {})
        for index, (key, text) in enumerate(choices)
    }
    return prop("mappings", [{"type": "value", "options": options}])


def figure(
    title: str, description: str, query: Builder[Dataquery], field: str, calc: str = "lastNotNull"
) -> stat.Panel:
    """Return a stat panel: `calc` over the values of each field that the expression `field` matches."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .with_target(query)
        .datasource(DATASOURCE)
        .reduce_options(common.ReduceDataOptions().calcs([calc]).fields(f"/^{field}$/").values(False))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .thresholds(neutral())
        .unit(COUNT)
        .height(4)
        .span(4)
    )
    return no_value(panel, "none")


def chart(title: str, description: str, query: Builder[Dataquery]) -> timeseries.Panel:
    """Return a time chart, half as wide as the dashboard."""
    return (
        timeseries.Panel()
        .title(title)
        .description(description)
        .with_target(query)
        .datasource(DATASOURCE)
        .legend(common.VizLegendOptions().show_legend(False))
        .height(9)
        .span(12)
    )


def listing(
    title: str, description: str, query: Builder[Dataquery], order: tuple[str, ...], widest: str = ""
) -> table.Panel:
    """Return a table of full width with columns in this order; `widest` takes what the others leave."""
    places = {name: index for index, name in enumerate(order)}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .with_target(query)
        .datasource(DATASOURCE)
        .with_transformation(
            transformation("organize", excludeByName={}, indexByName=places, renameByName={})
        )
        .unit("none")
        .thresholds(plain())
        .no_value(NO_RECORDS)
        # Or each cell without a value would say that there is nothing at all.
        .override_by_regexp("/.*/", [prop("noValue", "")])
        .inspect(True)
        .span(24)
    )
    for name in order:
        panel.override_by_name(name, _column(name, has_width=name != widest))
    return panel


def _column(name: str, *, has_width: bool) -> list[DynamicConfigValue]:
    header, width = _HEADERS[name]
    found = [prop("displayName", header)]
    if width and has_width:
        found.append(prop("custom.width", width))
    if name in _IDS:
        first = {"pattern": "^(.{8}).*", "result": {"text": "$1", "index": 0}}
        found.append(prop("mappings", [{"type": "regex", "options": first}]))
    if name in _WRAPPED:
        found.append(prop("custom.wrapText", True))
    if name in _COUNTS:
        found.append(prop("unit", COUNT))
    if name in ("first_seen", "last_seen"):
        found.append(prop("unit", "dateTimeAsIso"))
    if name.endswith("_ms"):
        found.append(prop("unit", "ms"))
    if name.endswith("_percent"):
        # Equal decimals, because the text takes its width from the gauge.
        found += [prop("unit", "percent"), prop("decimals", 1)]
    if name in _SHARES:
        # Without ends the longest gauge would be as long as the largest number of any column.
        found += [prop("min", 0), prop("max", 100), prop("custom.cellOptions", {"type": "gauge"})]
        # A share of the load is nothing good or bad: some statement always has the largest.
        found.append(prop("thresholds", neutral().build()))
    return found


def transformation(identifier: str, **options: object) -> DataTransformerConfig:
    """Return a transformation, which the browser applies to the response."""
    return DataTransformerConfig(id_val=identifier, options=options)


def prop(name: str, value: object) -> DynamicConfigValue:
    """Return an override of one field, such as its unit or width."""
    return DynamicConfigValue(id_val=name, value=value)


def link(title: str, url: str, *, blank: bool = False) -> dict[str, object]:
    """Return a link from a value; `blank` opens a new tab."""
    return {"title": title, "url": url, "targetBlank": blank}
