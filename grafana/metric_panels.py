"""Build panels of metrics, and the links of their values.

Fed by `grafana.promql`, used by the dashboard modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    piechart,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DynamicConfigValue,
    MatcherConfig,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.piechart import PieChartLegendValues

from grafana import promql
from grafana.panels import (
    COUNT,
    STATUS_COLORS,
    link,
    neutral,
    no_value,
    plain,
    prop,
    thresholds,
    transformation,
)

TAG = "django"
"""The tag of every dashboard; the links at the top select by it."""
_KEPT = (
    "${__url_time_range}&${datasource:queryparam}&${app:queryparam}&${namespace:queryparam}&${job:queryparam}"
)
"""The time range and site that a link keeps."""

_RATES = ("cps", "ops", "reqps")
# A counter has a series for each reason and model from the start, or since the first event, days ago.
_ALWAYS_ZERO = MatcherConfig(id_val="byValue", options={"reducer": "allIsZero", "op": "gte", "value": 0})
"""What did not happen in the time range: without it the legend lists what did."""

Links = Sequence[dict[str, object]]

BY_VIEW = [link("Requests of this view", f"/d/django-requests-by-view?var-view=${{__value.raw}}&{_KEPT}")]
SQL_OF_ROUTE = [link("SQL of this route", f"/d/django-sql-logs?var-route=${{__value.raw}}&{_KEPT}")]
SQL_OF_ALIAS = [
    link("SQL of this database", f"/d/django-sql-logs?var-alias=${{__field.labels.alias}}&{_KEPT}")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a ranking: one instant query that yields a value for each row's label."""

    title: str
    expression: str
    unit: str = COUNT


def value(
    title: str,
    about: str,
    unit: str,
    expression: str,
    *,
    colors: dashboard.ThresholdsConfig | None = None,
    empty: str = "no data",
    width: int = 4,
) -> stat.Panel:
    """Return a stat panel of a value at the end of the range.

    The last step of a range query may be minutes older, by the width of the panel: 68 errors where there
    were 72, and another figure on each dashboard.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .with_target(promql.now(expression, title))
        .datasource(promql.DATASOURCE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .thresholds(colors or neutral())
        .unit(unit)
        .height(4)
        .span(width)
    )
    no_value(panel, empty)
    # An increase is extrapolated to the range's ends: 45.4 events where there were 44.
    return panel.decimals(0) if unit == COUNT else panel


def lines(
    title: str,
    about: str,
    unit: str,
    *queries: prometheus.Dataquery,
    stacked: bool = False,
    links: Links = (),
    width: int = 12,
    many: bool = False,
    logarithmic: bool = False,
) -> timeseries.Panel:
    """Return a line chart with its legend beside it, or below if there are many lines."""
    below = many or width < 10
    legend = common.VizLegendOptions().show_legend(True).calcs([] if below else ["mean", "max"])
    legend.display_mode(LegendDisplayMode.LIST if below else LegendDisplayMode.TABLE)
    legend.placement(LegendPlacement.BOTTOM if below else LegendPlacement.RIGHT)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .targets(list(queries))
        .datasource(promql.DATASOURCE)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .unit(unit)
        .fill_opacity(60 if stacked else 0 if many or logarithmic else 8)
        .height(8)
        .span(width)
    )
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10))
    else:
        panel.min(0)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    _color_by_status(panel)
    if unit in _RATES:
        panel.with_override(
            _ALWAYS_ZERO, [prop("custom.hideFrom", {"legend": True, "tooltip": True, "viz": False})]
        )
    return panel.override_by_regexp("/.*/", [prop("links", links)]) if links else panel


def _color_by_status(panel: timeseries.Panel | piechart.Panel) -> None:
    """Colour lines and slices of a status, or of a class of it, by its meaning."""
    for digit, color in STATUS_COLORS:
        fixed = prop("color", {"mode": "fixed", "fixedColor": color})
        panel.override_by_regexp(f"/^{digit}([0-9][0-9]|xx)/", [fixed])


def shares(title: str, about: str, expression: str, legend: str, *, width: int = 8) -> piechart.Panel:
    """Return a pie chart of counts."""
    legends = (
        piechart.PieChartLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT)
        .values([PieChartLegendValues.VALUE, PieChartLegendValues.PERCENT])
    )
    panel = (
        piechart.Panel()
        .title(title)
        .description(about)
        .with_target(promql.now(expression, legend))
        .datasource(promql.DATASOURCE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .legend(legends)
        .unit(COUNT)
        .decimals(0)
        .no_value("Nothing in this time range")
        .height(8)
        .span(width)
    )
    _color_by_status(panel)
    return panel


def ranking(
    title: str,
    about: str,
    label: str,
    *columns: Column,
    links: Links = (),
    empty: str = "None in this time range",
    width: int = 12,
) -> table.Panel:
    """Return a table with a row for each label value of the first column, largest first."""
    refs = "ABCDEFGH"
    # One query names its only column "Value"; of several each has its own.
    names = ["Value"] if len(columns) == 1 else [f"Value #{ref}" for ref in refs[: len(columns)]]
    titles = dict(zip(names, (column.title for column in columns), strict=True))
    head = label.capitalize()
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .targets(
            [
                promql.now(expression, ref=ref, as_table=True)
                for ref, expression in zip(refs, _of_the_first(columns, label), strict=False)
            ]
        )
        .datasource(promql.DATASOURCE)
        .with_transformation(transformation("merge"))
        .with_transformation(
            transformation(
                "organize",
                excludeByName={"Time": True},
                indexByName={name: place for place, name in enumerate([label, *names])},
                renameByName={label: head, **titles},
            )
        )
        .with_transformation(transformation("sortBy", sort=[{"field": columns[0].title, "desc": True}]))
        .unit(columns[0].unit)
        .thresholds(plain())
        .no_value(empty)
        .height(8)
        .span(width)
    )
    for column in columns:
        panel.override_by_name(column.title, [*_cells(column), prop("custom.width", 110)])
    return panel.override_by_name(head, [prop("custom.wrapText", True), prop("links", links)])


def _of_the_first(columns: Sequence[Column], label: str) -> list[str]:
    """Restrict the other columns to the labels of the first; otherwise they would add rows."""
    first, *others = (column.expression for column in columns)
    return [first, *(f"({other}) and on ({label}) ({first})" for other in others)]


def _cells(column: Column) -> list[DynamicConfigValue]:
    """Return unit and no-value text of a column; the panel's text is for a table without rows."""
    if column.unit == COUNT:
        return [prop("unit", COUNT), prop("decimals", 0), prop("noValue", "0")]
    return [prop("unit", column.unit), prop("noValue", "-")]


def states(title: str, about: str, *queries: prometheus.Dataquery, width: int = 12) -> statetimeline.Panel:
    """Return a timeline of what is up, 1, or down, 0."""
    mappings = {
        "1": ValueMappingResult(text="up", color="green", index=0),
        "0": ValueMappingResult(text="down", color="red", index=1),
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .targets(list(queries))
        .datasource(promql.DATASOURCE)
        .mappings([ValueMap(options=mappings)])
        .thresholds(thresholds((None, "red"), (1.0, "green")))
        .show_value(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(False))
        .unit("none")
        .no_value("no data")
        .height(7)
        .span(width)
    )


def alerts() -> table.Panel:
    """Return the alerts that fire now."""
    firing = promql.firing()
    names = dict(zip(promql.ALERT, ("Alert", "Severity", "App", "View", "Database"), strict=True))
    colors = {
        name: {"color": color, "index": index}
        for index, (name, color) in enumerate((("critical", "red"), ("warning", "orange"), ("info", "blue")))
    }
    severity = [
        prop("mappings", [{"type": "value", "options": colors}]),
        prop("custom.cellOptions", {"type": "color-text"}),
        prop("custom.width", 90),
    ]
    return (
        table.Panel()
        .title("Alerts that fire")
        .description("Alerts of the selected sites; docs/reference/runbooks.md says what to do about each.")
        .with_target(promql.now(firing, as_table=True))
        .datasource(promql.DATASOURCE)
        .with_transformation(
            transformation(
                "organize",
                excludeByName={"Time": True, "Value": True},
                indexByName={name: place for place, name in enumerate(names)},
                renameByName=names,
            )
        )
        .override_by_regexp("/.*/", [prop("noValue", "")])
        .override_by_name("Severity", severity)
        .override_by_name("View", [prop("custom.wrapText", True)])
        .unit("none")
        .thresholds(plain())
        .no_value("None")
        .height(7)
        .span(12)
    )


def page(title: str, uid: str, about: str) -> dashboard.Dashboard:
    """Return an empty dashboard with the settings that all share."""
    others = (
        dashboard.DashboardLink("Django dashboards")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(others)
    )
