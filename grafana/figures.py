"""Build the figures that several dashboards show, so that each has one name and one value.

Fed by `grafana.promql`; `labels` are the filters of a dashboard. Rates are over five minutes, whatever the
width of the panel.
"""

from grafana_foundation_sdk.builders import stat, timeseries

from grafana.metric_panels import lines, value
from grafana.panels import link, none_is_good, prop, thresholds
from grafana.promql import (
    LATENCY,
    REQUESTS,
    RESPONSES,
    by_status_class,
    increase,
    of_largest,
    or_zero,
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


def queries(labels: str) -> stat.Panel:
    about = "SQL queries per second."
    return value(
        "Queries per second", about, "ops", rate("sqllogs_query_duration_seconds_count", labels, over=WINDOW)
    )


def failed_queries(labels: str) -> stat.Panel:
    failed = or_zero(increase("django_db_errors_total", labels), f"sqllogs_database_up{{{labels}}}")
    about = "SQL queries that raised an exception in the time range."
    return value("Failed queries", about, "locale", failed, colors=none_is_good())


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
    return lines("Time to answer", about, "s", *quantiles(LATENCY, labels), logarithmic=True)


def duration_of_queries(labels: str, width: int = 12) -> timeseries.Panel:
    about = "p50, p95, p99 and p99.9. Each point is a query with a link to its trace."
    percentiles = quantiles("sqllogs_query_duration_seconds", labels)
    return lines("Duration of queries", about, "s", *percentiles, width=width, logarithmic=True)


def open_findings(labels: str) -> stat.Panel:
    found = f'max by (kind, state) (sqllogs_findings{{{labels}, state=~"open|reopened"}})'
    return value(
        "Open findings",
        "Problems that the SQL log has found and nobody has decided about.",
        "locale",
        f"sum({found})",
        colors=thresholds((None, "green"), (1.0, "orange")),
        width=3,
    ).override_by_regexp("/.*/", [prop("links", [link("Findings", "/d/django-sql-logs")])])


def request_duration(labels: str) -> timeseries.Panel:
    about = (
        "p50, p95, p99 and p99.9 of requests until the last byte, also those without SQL. "
        "Each point is a request with a link to its trace."
    )
    percentiles = quantiles("sqllogs_request_duration_seconds", labels)
    return lines("Duration of requests", about, "s", *percentiles, logarithmic=True)


def without_sql(labels: str) -> timeseries.Panel:
    every = rate("sqllogs_request_duration_seconds_count", labels)
    with_sql = rate("sqllogs_request_queries_count", labels)
    return lines(
        "Requests with and without SQL",
        "Requests per second that sent a query, and that sent none.",
        "reqps",
        over_time(with_sql, "with SQL", ref="A"),
        over_time(f"clamp_min(({every}) - (({with_sql}) or 0 * ({every})), 0)", "without", ref="B"),
        stacked=True,
    )


_POOL = "db_client_connection_pool_name"


def time_to_connect(labels: str) -> timeseries.Panel:
    opened, waited = "db_client_connection_create_time_seconds", "db_client_connection_wait_time_seconds"
    return lines(
        "Time to get a connection",
        "p95 of the time to open a connection, and to get one from a pool, by database.",
        "s",
        over_time(quantile(0.95, opened, labels, _POOL), f"opened {{{{{_POOL}}}}}", ref="A"),
        over_time(quantile(0.95, waited, labels, _POOL), f"from the pool {{{{{_POOL}}}}}", ref="B"),
        width=6,
    )


def pools(labels: str) -> timeseries.Panel:
    count = f"sum by ({_POOL}, db_client_connection_state) (db_client_connection_count{{{labels}}})"
    return lines(
        "Connections of the pools",
        "Connections of psycopg's pools that are used and idle, the most there may be, and who waits. "
        'Empty unless a database has OPTIONS["pool"].',
        "short",
        over_time(count, f"{{{{{_POOL}}}}} {{{{db_client_connection_state}}}}", ref="A"),
        over_time(
            f"sum by ({_POOL}) (db_client_connection_max{{{labels}}})", f"{{{{{_POOL}}}}} most", ref="B"
        ),
        over_time(
            f"sum by ({_POOL}) (db_client_connection_pending_requests{{{labels}}})",
            f"{{{{{_POOL}}}}} waiting",
            ref="C",
        ),
        width=6,
    ).no_value("No pool in use")


def idle_transactions(labels: str) -> timeseries.Panel:
    return lines(
        "Idle transactions",
        "Requests, commands and tasks per second with a transaction that was open for a second "
        "without a statement, the ten with the most.",
        "ops",
        over_time(of_largest("sqllogs_transactions_idle_total", labels, "kind, name"), "{{kind}} {{name}}"),
        width=6,
    ).no_value("None in this time range")
