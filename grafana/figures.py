"""Build the figures that several dashboards show, so that each has one name and one value.

Fed by `grafana.promql`; `labels` are the filters of a dashboard. Rates are over five minutes, whatever the
width of the panel.
"""

from grafana_foundation_sdk.builders import stat, timeseries

from grafana.metric_panels import lines, value
from grafana.panels import none_is_good, thresholds
from grafana.promql import (
    LATENCY,
    REQUESTS,
    RESPONSES,
    by_status_class,
    over_time,
    quantile,
    quantiles,
    rate,
    ratio,
)

WINDOW = "[5m]"
_ERRORS = ((None, "green"), (0.01, "orange"), (0.05, "red"))
_BUSY = ((None, "green"), (0.5, "orange"), (0.8, "red"))


def _share(labels: str, status: str) -> str:
    bad = rate(RESPONSES, f'{labels}, status=~"{status}"', over=WINDOW)
    return ratio(bad, rate(RESPONSES, labels, over=WINDOW))


def requests(labels: str) -> stat.Panel:
    about = "Requests per second that reached a view, without those of monitoring."
    return value("Requests", about, "reqps", rate(REQUESTS, labels, over=WINDOW))


def server_errors(labels: str) -> stat.Panel:
    about = "Share of responses that are 5xx."
    return value(
        "Server errors", about, "percentunit", _share(labels, "5.."), colors=thresholds(*_ERRORS)
    ).decimals(1)


def client_errors(labels: str) -> stat.Panel:
    about = "Share of responses that are 4xx."
    return value("Client errors", about, "percentunit", _share(labels, "4..")).decimals(1)


def success(labels: str, title: str, about: str, bad_status: str) -> stat.Panel:
    share = f"1 - ({_share(labels, bad_status)})"
    colors = thresholds((None, "red"), (0.95, "orange"), (0.99, "green"))
    return value(title, about, "percentunit", share, colors=colors).decimals(1)


def p95(labels: str) -> stat.Panel:
    return value(
        "p95 of requests",
        "95 % of the responses took at most this long.",
        "s",
        quantile(0.95, LATENCY, labels, over=WINDOW),
        colors=thresholds((None, "green"), (0.5, "orange"), (2.0, "red")),
    )


def statements(labels: str) -> stat.Panel:
    about = "SQL statements per second."
    return value(
        "Statements", about, "ops", rate("sqllogs_query_duration_seconds_count", labels, over=WINDOW)
    )


def failed_statements(labels: str) -> stat.Panel:
    failed = f"sum(increase(django_db_errors_total{{{labels}}}[$__range])) or vector(0)"
    about = "SQL statements that raised an exception in the time range."
    return value("Failed statements", about, "locale", failed, colors=none_is_good())


def database_busy(labels: str) -> stat.Panel:
    load = rate("sqllogs_query_duration_seconds_sum", labels, over=WINDOW)
    about = "SQL time per second and process: at 100 % each process waits for the database all the time."
    return _busy("Database busy", about, load, labels)


def log_busy(labels: str) -> stat.Panel:
    load = rate("sqllogs_flush_seconds_sum", labels, over=WINDOW)
    about = "Time that the SQL log's writer threads work: beyond 100 % it falls behind and drops records."
    return _busy("SQL log busy", about, load, labels)


def _busy(title: str, about: str, load: str, labels: str) -> stat.Panel:
    return value(
        title,
        about,
        "percentunit",
        f"({load}) / sum(sqllogs_processes{{{labels}}})",
        colors=thresholds(*_BUSY),
    ).decimals(1)


def answers(labels: str) -> timeseries.Panel:
    return lines(
        "Answers by status class",
        "Responses per second, stacked: 2xx and 3xx are successes, 4xx client errors, 5xx server errors.",
        "reqps",
        over_time(by_status_class("rate", labels), "{{class}}"),
        stacked=True,
    )


def time_to_answer(labels: str) -> timeseries.Panel:
    about = "p50, p95, p99 and p99.9 of the response time."
    return lines("Time to answer", about, "s", *quantiles(LATENCY, labels))


def duration_of_statements(labels: str, width: int = 12) -> timeseries.Panel:
    about = "p50, p95, p99 and p99.9. Each point is a query with a link to its trace."
    queries = quantiles("sqllogs_query_duration_seconds", labels)
    return lines("Duration of statements", about, "s", *queries, width=width)
