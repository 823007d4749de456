"""Build the dashboard "Django Requests Overview": traffic, errors and latency.

Fed by the site's metrics; each view leads to "Django Requests by View".
"""

from grafana_foundation_sdk.builders import dashboard

from grafana import events, figures, promql
from grafana.metric_panels import BY_VIEW, SQL_OF_ROUTE, Column, lines, page, ranking, shares, value
from grafana.panels import COUNT, AnyPanel, none_is_good
from grafana.promql import (
    LATENCY,
    REQUESTS,
    RESPONSES,
    SITE,
    VIEW,
    VIEW_METHOD,
    by_status_class,
    increase,
    or_zero,
    over_time,
    quantile,
    ranked,
    rate,
    ratio,
)

UID = "django-requests-overview"

_FAILED = VIEW_METHOD + ', status=~"5.."'
_BAD = VIEW_METHOD + ', status=~"[45].."'
_REFUSED = VIEW_METHOD + ', status=~"4.."'


def _summary() -> list[AnyPanel]:
    return [
        figures.requests(VIEW_METHOD),
        figures.server_errors(VIEW_METHOD),
        figures.client_errors(VIEW_METHOD),
        figures.p95(VIEW_METHOD),
        value(
            "Exceptions",
            "Exceptions that no view caught, in the time range.",
            COUNT,
            or_zero(increase("django_http_exceptions_total_by_view_total", VIEW), f"{RESPONSES}{{{VIEW}}}"),
            colors=none_is_good(),
        ),
        value(
            "p95 of request bodies",
            "95 % of request bodies are at most this large; of all views.",
            "bytes",
            quantile(0.95, "django_http_requests_body_total_bytes", SITE, over=figures.WINDOW),
        ),
        shares(
            "Requests by method",
            "Requests in the time range by HTTP method.",
            ranked(increase(REQUESTS, VIEW_METHOD, "method")),
            "{{method}}",
        ),
        shares(
            "Answers by status class",
            "Responses in the time range by status class.",
            by_status_class("increase", VIEW_METHOD, over=promql.RANGE),
            "{{class}}",
        ),
        shares(
            "Requests by view",
            "The ten views with the most requests in the time range.",
            ranked(increase(REQUESTS, VIEW_METHOD, "view"), 10),
            "{{view}}",
        ),
    ]


def _success() -> list[AnyPanel]:
    answers = rate(RESPONSES, VIEW_METHOD)
    without_5xx = "Share of responses that are not 5xx."
    without_4xx = "Share of responses that are 2xx or 3xx."
    return [
        figures.success(VIEW_METHOD, "Success, 4xx aside", without_5xx, "5..").span(12),
        figures.success(VIEW_METHOD, "Success, 4xx counted", without_4xx, "[45]..").span(12),
        # Without the successes: 1 % of errors would be a line at the bottom of the chart.
        lines(
            "Errors",
            "Shares of all responses that are client errors, 4xx, and server errors, 5xx.",
            "percentunit",
            over_time(ratio(rate(RESPONSES, _REFUSED), answers), "4xx", ref="A"),
            over_time(ratio(rate(RESPONSES, _FAILED), answers), "5xx", ref="B"),
        ),
        lines(
            "Answers by status",
            "Responses per second by status code, stacked.",
            "reqps",
            over_time(rate(RESPONSES, VIEW_METHOD, "status"), "{{status}}"),
            stacked=True,
        ),
        figures.time_to_answer(VIEW_METHOD),
        figures.request_duration(VIEW),
        figures.without_sql(VIEW),
        lines(
            "Requests by method",
            "Requests per second by HTTP method, stacked.",
            "reqps",
            over_time(rate(REQUESTS, VIEW_METHOD, "method"), "{{method}}"),
            stacked=True,
        ),
    ]


def _views(title: str, about: str, labels: str) -> list[AnyPanel]:
    """Return panels of responses and latencies: of the admin's views, or of all others."""
    classes = by_status_class("rate", labels)
    return [
        lines(
            f"Answers of {title}",
            f"Answers per second of {about}, by status class.",
            "reqps",
            over_time(classes, "{{class}}"),
            stacked=True,
        ),
        ranking(
            f"Latency of {title}",
            f"Requests of {about} in the time range, with response times.",
            "view",
            Column(title="Requests", expression=ranked(increase(REQUESTS, labels, "view"))),
            *(
                Column(
                    title=f"p{share * 100:g}",
                    unit="s",
                    expression=quantile(share, LATENCY, labels, "view", over=promql.RANGE),
                )
                for share in promql.QUANTILES
            ),
            links=BY_VIEW,
            empty="No requests",
        ),
    ]


def _rankings() -> list[AnyPanel]:
    exceptions = "django_http_exceptions_total_by"
    return [
        ranking(
            "Views by errors",
            "Views with the most 4xx and 5xx in the time range.",
            "view",
            Column(title="Errors", expression=ranked(increase(RESPONSES, _BAD, "view"))),
            Column(title="5xx", expression=increase(RESPONSES, _FAILED, "view")),
            Column(title="4xx", expression=increase(RESPONSES, _REFUSED, "view")),
            links=BY_VIEW,
        ),
        ranking(
            "Views by count",
            "Views with the most responses in the time range.",
            "view",
            Column(title="Answers", expression=ranked(increase(RESPONSES, VIEW_METHOD, "view"))),
            links=BY_VIEW,
        ),
        ranking(
            "Exceptions by view",
            "Exceptions that the view did not catch, in the time range.",
            "view",
            Column(
                title="Exceptions",
                expression=ranked(increase(f"{exceptions}_view_total", VIEW, "view")),
            ),
            links=BY_VIEW,
        ),
        ranking(
            "Exceptions by type",
            "Uncaught exceptions in the time range, by class; of all views.",
            "type",
            Column(
                title="Exceptions",
                expression=ranked(increase(f"{exceptions}_type_total", SITE, "type")),
            ),
        ),
        ranking(
            "Templates",
            "Templates of TemplateResponses in the time range; of all views.",
            "template",
            Column(
                title="Answers",
                expression=ranked(_templates()),
            ),
            empty="No TemplateResponse in this time range",
        ),
        ranking(
            "Routes by SQL",
            "Routes with the most SQL in the time range: time, queries, and requests with an N+1.",
            "route",
            Column(
                title="SQL time",
                unit="s",
                expression=ranked(increase("sqllogs_request_sql_seconds_sum", VIEW, "route")),
            ),
            Column(
                title="Queries",
                expression=increase("sqllogs_request_queries_sum", VIEW, "route"),
            ),
            Column(
                title="With an N+1",
                expression=increase("sqllogs_requests_repeating_total", VIEW, "route"),
            ),
            links=SQL_OF_ROUTE,
        ),
    ]


def _templates() -> str:
    """Return responses by template; django-prometheus exports some as the text of a list, some as None."""
    metric = "django_http_responses_total_by_templatename_total"
    increase = f'increase({metric}{{{SITE}, templatename!="None"}}{promql.RANGE})'
    plain = f'label_replace({increase}, "template", "$1", "templatename", "(.*)")'
    first = f"""label_replace({plain}, "template", "$1", "templatename", "\\\\['(.*?)'.*")"""
    return f"sum by (template) ({first})"


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    about = "Traffic, errors and latency of all views."
    board = page("Django Requests Overview", UID, about)
    board.variables([*promql.sites(), promql.view(), promql.method()]).annotation(events.annotation())
    for title, parts in (
        ("Summary", _summary()),
        ("Success and time", _success()),
        ("Ranked", _rankings()),
        (
            "Views except the admin's",
            _views("the site's views", "all views except the admin's", VIEW_METHOD + ', view!~"admin:.*"'),
        ),
        (
            "The admin's views",
            _views("the admin's views", "the admin's views", VIEW_METHOD + ', view=~"admin:.*"'),
        ),
    ):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
