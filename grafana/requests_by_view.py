"""The dashboard "Django Requests by View": one view, or some, in detail.

Reached from the rankings of the other dashboards; leads to the view's SQL.
"""

from grafana_foundation_sdk.builders import dashboard

from grafana import events, promql
from grafana.metric_panels import SQL_OF_ROUTE, Column, lines, page, ranking, shares
from grafana.panels import AnyPanel
from grafana.promql import (
    LATENCY,
    REQUESTS,
    RESPONSES,
    VIEW,
    VIEW_METHOD,
    increase,
    over_time,
    quantile,
    ranked,
    rate,
    success,
)

UID = "django-requests-by-view"

_EACH = "view, method"
_QUANTILES = (("A", 0.5), ("B", 0.95), ("C", 0.99))


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
            increase(REQUESTS, VIEW_METHOD, "method"),
            "{{method}}",
        ),
        shares(
            "Answers by status",
            "Responses in the time range by status code.",
            increase(RESPONSES, VIEW_METHOD, "status"),
            "{{status}}",
        ),
    ]


def _over_time() -> list[AnyPanel]:
    requests = rate(REQUESTS, VIEW_METHOD, _EACH)
    legend = "{{view}} {{method}}"
    # Means of what was measured: a rate over a day would take a site of an hour for one idle before.
    # Until the first step there is no mean, and now is as usual.
    recent = rate(REQUESTS, VIEW_METHOD, _EACH, "[5m]")
    day, hour = (f"(avg_over_time(({recent})[{steps}]) or ({recent}))" for steps in ("1d:5m", "1h:1m"))
    return [
        lines("Requests", "Requests per second by view and method.", "reqps", over_time(requests, legend)),
        lines(
            "Time to answer",
            "p50, p95 and p99 of the response time.",
            "s",
            *(
                over_time(
                    quantile(share, LATENCY, VIEW_METHOD, "view"),
                    f"{{{{view}}}} p{share * 100:g}",
                    ref=ref,
                )
                for ref, share in _QUANTILES
            ),
        ),
        lines(
            "Requests, a week ago",
            "Requests per second by view and method, seven days before.",
            "reqps",
            over_time(
                rate(REQUESTS, VIEW_METHOD, _EACH, promql.WEEK_AGO),
                legend,
            ),
            empty="Nothing was measured a week ago",
        ),
        lines(
            "Time to answer, a week ago",
            "p50, p95 and p99 of the response time, seven days before.",
            "s",
            *(
                over_time(
                    quantile(share, LATENCY, VIEW_METHOD, "view", promql.WEEK_AGO),
                    f"{{{{view}}}} p{share * 100:g}",
                    ref=ref,
                )
                for ref, share in _QUANTILES
            ),
            empty="Nothing was measured a week ago",
        ),
        lines(
            "Success, 4xx aside",
            "Share of responses that are not 5xx, by view and method.",
            "percentunit",
            over_time(success(VIEW_METHOD, "5..", _EACH), legend),
        ),
        lines(
            "Success, 4xx counted",
            "Share of responses that are 2xx or 3xx, by view and method.",
            "percentunit",
            over_time(success(VIEW_METHOD, "[45]..", _EACH), legend),
        ),
        lines(
            "Requests compared with the day's mean",
            "Deviation of the rate from the mean of the last day: 0 is the mean, 1 is twice as much.",
            "percentunit",
            over_time(f"({requests}) / ({day} > 0) - 1", legend),
        ).min(-1),
        lines(
            "Requests compared with the hour's mean",
            "Deviation of the rate from the mean of the last hour: 0 is the mean, 1 is twice as much.",
            "percentunit",
            over_time(f"({requests}) / ({hour} > 0) - 1", legend),
        ).min(-1),
    ]


def _sql() -> list[AnyPanel]:
    def mean(metric: str) -> str:
        return f"({rate(f'{metric}_sum', VIEW, 'view')}) / ({rate(f'{metric}_count', VIEW, 'view')} > 0)"

    queries, seconds = "sqllogs_request_queries", "sqllogs_request_sql_seconds"
    return [
        lines(
            "Statements of a request",
            "Mean and p95 of requests that send any. Each point is a request with a link to its trace.",
            "short",
            over_time(mean(queries), "{{view}} mean", ref="A"),
            over_time(quantile(0.95, queries, VIEW, "view"), "{{view}} p95", ref="B", exemplars=True),
        ),
        lines(
            "SQL time of a request",
            "Mean and p95. Each point is a request with a link to its trace.",
            "s",
            over_time(mean(seconds), "{{view}} mean", ref="A"),
            over_time(quantile(0.95, seconds, VIEW, "view"), "{{view}} p95", ref="B", exemplars=True),
        ),
        lines(
            "Requests with an N+1",
            "Share of requests in which one line of code ran the same statement repeatedly.",
            "percentunit",
            over_time(
                f"avg by (view) (job_view:sqllogs_requests_repeating:ratio_rate5m{{{VIEW}}})", "{{view}}"
            ),
        ),
        ranking(
            "SQL of these views",
            "SQL time and queries in the time range. Click a route to see its statements.",
            "route",
            Column(title="SQL time", unit="s", expression=ranked(increase(f"{seconds}_sum", VIEW, "route"))),
            Column(title="Statements", expression=increase(f"{queries}_sum", VIEW, "route")),
            links=SQL_OF_ROUTE,
        ),
    ]


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    board = page("Django Requests by View", UID, "Details of selected views: requests, success, time, SQL.")
    board.variables([*promql.sites(), promql.view(), promql.method()]).annotation(events.annotation())
    for title, parts in (("Shares", _shares()), ("Requests", _over_time()), ("SQL", _sql())):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
