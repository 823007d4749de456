"""Build queries to Prometheus, and the variables that select a site.

Used by the dashboard modules; metrics and recorded series are those of docs/reference/metrics.md.
"""

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    VariableHide,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

UID = "django-prometheus"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

SITE = 'app=~"$app", namespace=~"$namespace", job=~"$job"'
"""Which sites: in every query."""
VIEWS = f'{SITE}, view!~"$excluded"'
"""Without monitoring, whose requests are no visitor's."""
VIEW = f'{VIEWS}, view=~"$view"'
VIEW_METHOD = f'{VIEW}, method=~"$method"'
ALIAS = f'{SITE}, alias=~"$alias"'

RESPONSES = "django_http_responses_total_by_status_view_method_total"
REQUESTS = "django_http_requests_total_by_view_transport_method_total"
LATENCY = "django_http_requests_latency_seconds_by_view_method"

_ALL = VariableOption(selected=True, text="All", value="$__all")


INTERVAL = "[$__rate_interval]"
WEEK_AGO = f"{INTERVAL} offset 1w"
RANGE = "[$__range]"


def rate(metric: str, labels: str, by: str = "", over: str = INTERVAL) -> str:
    """Return the summed rate of a counter, per second."""
    return f"sum {_by(by)}(rate({metric}{{{labels}}}{over}))"


def increase(metric: str, labels: str, by: str = "") -> str:
    """Return the increase of a counter over the dashboard's range."""
    return f"sum {_by(by)}(increase({metric}{{{labels}}}{RANGE}))"


def by_status_class(function: str, labels: str, over: str = INTERVAL) -> str:
    """Return responses by 2xx, 3xx, 4xx and 5xx, in the label `class`."""
    answers = f"{function}({RESPONSES}{{{labels}}}{over})"
    return f'sum by (class) (label_replace({answers}, "class", "${{1}}xx", "status", "(.).."))'


def success(labels: str, bad_status: str, by: str = "") -> str:
    """Return the share of responses without an error status, 0 to 1."""
    bad = rate(RESPONSES, f'{labels}, status=~"{bad_status}"', by)
    return f"1 - ({ratio(bad, rate(RESPONSES, labels, by))})"


def quantile(share: float | str, metric: str, labels: str, by: str = "", over: str = INTERVAL) -> str:
    """Return a quantile of a histogram, without series that have no observation (NaN)."""
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({groups}) (rate({metric}_bucket{{{labels}}}{over}))) >= 0"


def ratio(part: str, whole: str) -> str:
    """Return a share, 0 to 1; 0 and not an empty result if the part has no series."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def or_zero(expression: str, exists: str) -> str:
    """Return 0 and not an empty result if there is another metric: without any, nobody knows it is 0."""
    return f"({expression}) or 0 * count({exists})"


def ranked(expression: str, most: int = 20) -> str:
    """Return the largest values that are not 0."""
    return f"topk({most}, ({expression}) > 0)"


def of_top(expression: str, labels: str, most: int = 5) -> str:
    """Restrict an expression to the views with the most requests in the range, the same at each step."""
    counted = f"sum by (view) (increase({REQUESTS}{{{labels}}}{RANGE} @ end()))"
    return f"({expression}) and on (view) topk({most}, {counted})"


def of_largest(metric: str, labels: str, by: str, most: int = 10) -> str:
    """Return the rates of the label values that counted most in the range, the same at each step."""
    counted = f"sum by ({by}) (increase({metric}{{{labels}}}{RANGE} @ end()))"
    return f"({rate(metric, labels, by)}) and topk({most}, {counted})"


ALERT = ("alertname", "severity", "app", "view", "alias")
"""The labels that make one alert: two targets that are down are one."""


def firing(labels: str = SITE) -> str:
    """Return the alerts that fire."""
    return f'max by ({", ".join(ALERT)}) (ALERTS{{alertstate="firing", {labels}}})'


def _by(labels: str) -> str:
    return f"by ({labels}) " if labels else ""


def over_time(
    expression: str, legend: str, *, ref: str = "A", exemplars: bool = False
) -> prometheus.Dataquery:
    """Return a range query for one line."""
    return _query(expression, ref).legend_format(legend).range().exemplar(exemplars)


QUANTILES = (0.5, 0.95, 0.99, 0.999)


def quantiles(metric: str, labels: str) -> list[prometheus.Dataquery]:
    """Return range queries for the percentiles of a histogram, the first with exemplars if it has any."""
    return [
        over_time(
            quantile(share, metric, labels),
            f"p{share * 100:g}",
            ref=ref,
            exemplars=ref == "A" and metric != LATENCY,
        )
        for ref, share in zip("ABCD", QUANTILES, strict=True)
    ]


def now(expression: str, legend: str = "", *, ref: str = "A", as_table: bool = False) -> prometheus.Dataquery:
    """Return an instant query at the end of the range."""
    query = _query(expression, ref).legend_format(legend or "__auto").instant()
    return query.format(PromQueryFormat.TABLE) if as_table else query


def _query(expression: str, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).ref_id(ref).datasource(DATASOURCE)


_MONITORING = "sqllogs:.*|(.*:)?(metrics|prometheus-django-metrics|health.*|livez|readyz|ping)"
_ABOUT_EXCLUDED = "Views of monitoring, a regular expression; their requests are left out."


class Hidden(dashboard.ConstantVariable):
    """A hidden constant; the library's class cannot hide it."""

    def build(self) -> VariableModel:
        model = super().build()
        model.hide = VariableHide.HIDE_VARIABLE
        return model


def sites() -> list[Builder[VariableModel]]:
    """Return the variables that every dashboard with metrics has: datasource, app, namespace, job."""
    known = "django_http_requests_before_middlewares_total"
    chosen = VariableOption(selected=True, text="Prometheus", value=UID)
    return [
        dashboard.DatasourceVariable("datasource")
        .label("Metrics")
        .description("The Prometheus server that scrapes the site.")
        .type("prometheus")
        .current(chosen),
        label("app", "App", "Label set in the scrape configuration.", known),
        label("namespace", "Namespace", "Label set in the scrape configuration.", f'{known}{{app=~"$app"}}'),
        label(
            "job",
            "Job",
            "Job in the scrape configuration.",
            f'{known}{{app=~"$app", namespace=~"$namespace"}}',
        ),
        Hidden("excluded").label("Monitoring").description(_ABOUT_EXCLUDED).value(_MONITORING),
    ]


def label(name: str, title: str, about: str, series: str) -> dashboard.QueryVariable:
    """Return a variable with the values of a label in some series."""
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .description(about)
        .datasource(DATASOURCE)
        .query({"query": f"label_values({series}, {name})", "refId": "variable", "qryType": 1})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(_ALL)
    )


def view() -> dashboard.QueryVariable:
    about = "Name of the URL pattern in django-prometheus, as metrics have it."
    return label("view", "View", about, f"{RESPONSES}{{{VIEWS}}}")


def method() -> dashboard.QueryVariable:
    return label("method", "Method", "HTTP method.", f"{RESPONSES}{{{VIEW}}}")


def alias() -> dashboard.QueryVariable:
    about = "Alias in DATABASES."
    return label("alias", "Database", about, f"sqllogs_database_up{{{SITE}}}")
