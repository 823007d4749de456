"""The dashboard "Django Requests by View": one view, or some, in detail.

Reached from the rankings of the other dashboards; leads to the view's SQL.
"""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.dashboard import VariableOption

from grafana import events, figures, promql
from grafana.metric_panels import SQL_OF_ROUTE, Column, lines, page, ranking, shares, value
from grafana.panels import COUNT, AnyPanel, none_is_good
from grafana.promql import (
    LATENCY,
    REQUESTS,
    RESPONSES,
    VIEW,
    VIEW_METHOD,
    increase,
    of_top,
    or_zero,
    over_time,
    quantile,
    ranked,
    rate,
    success,
)

UID = "django-requests-by-view"

_EACH = "view, method"
_TOP = "of the five views with the most requests among those selected"
_PERCENTILE = "${percentile}"
_NOT_YET = "Nothing a week ago"


def _stats() -> list[AnyPanel]:
    queries = "sqllogs_request_queries"
    sums = f"({rate(f'{queries}_sum', VIEW, over=figures.WINDOW)})"
    return [
        figures.requests(VIEW_METHOD),
        figures.server_errors(VIEW_METHOD),
        figures.client_errors(VIEW_METHOD),
        figures.p95(VIEW_METHOD),
        value(
            "Queries of a request",
            "Mean of requests that send any.",
            "short",
            f"{sums} / ({rate(f'{queries}_count', VIEW, over=figures.WINDOW)} > 0)",
        ),
        value(
            "With an N+1",
            "Requests in the time range in which one line of code ran the same statement repeatedly.",
            COUNT,
            or_zero(
                increase("sqllogs_requests_repeating_total", VIEW),
                f"sqllogs_request_duration_seconds_count{{{VIEW}}}",
            ),
            colors=none_is_good(),
        ),
    ]


def _shares() -> list[AnyPanel]:
    return [
        shares(
            "Requests by view",
            "The ten views with the most requests in the time range.",
            ranked(increase(REQUESTS, VIEW_METHOD, "view"), 10),
            "{{view}}",
        ),
        shares(
            "Requests by method",
            "Requests in the time range by HTTP method.",
            ranked(increase(REQUESTS, VIEW_METHOD, "method")),
            "{{method}}",
        ),
        shares(
            "Answers by status",
            "Responses in the time range by status code.",
            ranked(increase(RESPONSES, VIEW_METHOD, "status")),
            "{{status}}",
        ),
    ]


def _of_each(expression: str, legend: str = "{{view}} {{method}}") -> Dataquery:
    return over_time(of_top(expression, VIEW_METHOD), legend)


def _over_time() -> list[AnyPanel]:
    requests = rate(REQUESTS, VIEW_METHOD, _EACH)
    # Means of what was measured: a rate over a day would take a site of an hour for one idle before.
    # Of fewer than ten steps a mean says nothing, and now is as usual: a site that had just been started had
    # eighty times the mean of its first step. Both are of five minutes for the same reason.
    recent = rate(REQUESTS, VIEW_METHOD, _EACH, figures.WINDOW)
    day, hour = (
        f"((avg_over_time(({recent})[{steps}]) and count_over_time(({recent})[{steps}]) >= 10) or ({recent}))"
        for steps in ("1d:5m", "1h:1m")
    )
    latency = quantile(_PERCENTILE, LATENCY, VIEW_METHOD, "view")
    earlier = quantile(_PERCENTILE, LATENCY, VIEW_METHOD, "view", promql.WEEK_AGO)
    time = "${percentile:text} of time to answer"
    return [
        lines("Requests by view", f"Requests per second {_TOP}.", "reqps", _of_each(requests), many=True),
        lines(
            time, f"Percentile of the response time {_TOP}.", "s", _of_each(latency, "{{view}}"), many=True
        ),
        lines(
            "Success, 4xx aside",
            f"Share of responses that are not 5xx, {_TOP}.",
            "percentunit",
            _of_each(success(VIEW_METHOD, "5..", _EACH)),
            many=True,
        ).max(1),
        lines(
            "Success, 4xx counted",
            f"Share of responses that are 2xx or 3xx, {_TOP}.",
            "percentunit",
            _of_each(success(VIEW_METHOD, "[45]..", _EACH)),
            many=True,
        ).max(1),
        lines(
            "Requests compared with the day's mean",
            f"Deviation of five minutes from the mean of the last day, 1 being twice as much, {_TOP}.",
            "percentunit",
            _of_each(f"({recent}) / ({day} > 0) - 1"),
            many=True,
        ).min(-1),
        lines(
            "Requests compared with the hour's mean",
            f"Deviation of five minutes from the mean of the last hour, 1 being twice as much, {_TOP}.",
            "percentunit",
            _of_each(f"({recent}) / ({hour} > 0) - 1"),
            many=True,
        ).min(-1),
        lines(
            "Requests by view, a week ago",
            f"Requests per second {_TOP}, seven days before.",
            "reqps",
            _of_each(rate(REQUESTS, VIEW_METHOD, _EACH, promql.WEEK_AGO)),
            many=True,
        ).no_value(_NOT_YET),
        lines(
            f"{time}, a week ago",
            f"Percentile of the response time {_TOP}, seven days before.",
            "s",
            _of_each(earlier, "{{view}}"),
            many=True,
        ).no_value(_NOT_YET),
    ]


def _sql() -> list[AnyPanel]:
    def mean(metric: str) -> str:
        return f"({rate(f'{metric}_sum', VIEW, 'view')}) / ({rate(f'{metric}_count', VIEW, 'view')} > 0)"

    queries, seconds = "sqllogs_request_queries", "sqllogs_request_sql_seconds"
    return [
        figures.request_duration(VIEW),
        figures.without_sql(VIEW),
        lines(
            "Queries of a request by view",
            "Mean and p95 of requests that send any. Each point is a request with a link to its trace.",
            "short",
            over_time(of_top(mean(queries), VIEW), "{{view}} mean", ref="A"),
            over_time(
                of_top(quantile(0.95, queries, VIEW, "view"), VIEW), "{{view}} p95", ref="B", exemplars=True
            ),
            many=True,
        ),
        lines(
            "SQL time of a request by view",
            "Mean and p95. Each point is a request with a link to its trace.",
            "s",
            over_time(of_top(mean(seconds), VIEW), "{{view}} mean", ref="A"),
            over_time(
                of_top(quantile(0.95, seconds, VIEW, "view"), VIEW), "{{view}} p95", ref="B", exemplars=True
            ),
            many=True,
        ),
        lines(
            "Requests with an N+1",
            "Share of requests in which one line of code ran the same statement repeatedly.",
            "percentunit",
            over_time(
                of_top(f"avg by (view) (job_view:sqllogs_requests_repeating:ratio_rate5m{{{VIEW}}})", VIEW),
                "{{view}}",
            ),
            many=True,
        ),
        ranking(
            "SQL of these views",
            "SQL time and queries in the time range. Click a route to see its statements.",
            "route",
            Column(title="SQL time", unit="s", expression=ranked(increase(f"{seconds}_sum", VIEW, "route"))),
            Column(title="Queries", expression=increase(f"{queries}_sum", VIEW, "route")),
            links=SQL_OF_ROUTE,
        ),
    ]


def _percentile() -> dashboard.CustomVariable:
    return (
        dashboard.CustomVariable("percentile")
        .label("Percentile")
        .description("Of the time to answer by view.")
        .values("p50 : 0.5,p95 : 0.95,p99 : 0.99,p99.9 : 0.999")
        .current(VariableOption(selected=True, text="p95", value="0.95"))
    )


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    board = page("Django Requests by View", UID, "Details of selected views: requests, success, time, SQL.")
    board.variables([*promql.sites(), promql.view(), promql.method(), _percentile()])
    board.annotation(events.annotation())
    for title, parts in (
        ("Now", _stats()),
        ("Over time", _over_time()),
        ("SQL", _sql()),
        ("Shares", _shares()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
