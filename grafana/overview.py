"""Build the dashboard "Django Overview": the health of the site and of its parts.

Fed by the site's metrics; its panels lead to the dashboards of requests and of SQL.
"""

from grafana_foundation_sdk.builders import dashboard

from grafana import events, promql
from grafana.metric_panels import BY_VIEW, SQL_OF_ALIAS, Column, lines, page, ranking, value
from grafana.panels import COUNT, AnyPanel, none_is_good, thresholds
from grafana.promql import (
    ALIAS,
    RESPONSES,
    SITE,
    by_status_class,
    increase,
    over_time,
    quantile,
    quantiles,
    ranked,
    rate,
    success,
)

UID = "django-overview"

_GOOD_SHARE = ((None, "red"), (0.95, "orange"), (0.99, "green"))


def _summary() -> list[AnyPanel]:
    return [
        value(
            "Requests",
            "Requests per second to all views.",
            "reqps",
            f"sum(job:django_http_requests:rate5m{{{SITE}}})",
        ),
        value(
            "Answered without a 5xx",
            "Share of responses that are not 5xx; a 4xx is the client's error and counts as answered.",
            "percentunit",
            success(SITE, "5.."),
            colors=thresholds(*_GOOD_SHARE),
        ),
        value(
            "p95 of requests",
            "95 % of the responses took at most this long, over five minutes, of the slowest selected site.",
            "s",
            f"max(job:django_http_latency_seconds:p95_5m{{{SITE}}})",
            colors=thresholds((None, "green"), (0.5, "orange"), (2.0, "red")),
        ),
        value(
            "Statements",
            "Queries per second on all databases.",
            "ops",
            f"sum(job_alias:sqllogs_queries:rate5m{{{SITE}}})",
        ),
        value(
            "Cache hits",
            "Share of cache reads that were hits, over 15 minutes.",
            "percentunit",
            f"sum(rate(django_cache_get_hits_total{{{SITE}}}[15m])) "
            f"/ (sum(rate(django_cache_get_total{{{SITE}}}[15m])) > 0)",
            empty="no reads",
        ),
        value(
            "Targets up",
            "Share of the site's targets that Prometheus can scrape.",
            "percentunit",
            f"avg(up{{{SITE}}})",
            colors=thresholds((None, "red"), (1.0, "green")),
            empty="no target",
        ),
    ]


def _requests() -> list[AnyPanel]:
    by_class = by_status_class("rate", SITE)
    return [
        lines(
            "Answers by status class",
            "Answers per second, stacked: 2xx and 3xx are successes, 4xx client errors, 5xx server errors.",
            "reqps",
            over_time(by_class, "{{class}}"),
            stacked=True,
        ),
        ranking(
            "Views by requests",
            "Views with the most responses in the time range, with server errors and p95.",
            "view",
            Column(title="Requests", expression=ranked(increase(RESPONSES, SITE, "view"))),
            Column(
                title="5xx",
                expression=increase(RESPONSES, SITE + ', status=~"5.."', "view"),
            ),
            Column(
                title="p95",
                unit="s",
                expression=quantile(0.95, promql.LATENCY, SITE, "view", over=promql.RANGE),
            ),
            links=BY_VIEW,
        ),
    ]


def _database() -> list[AnyPanel]:
    duration = "sqllogs_query_duration_seconds"
    connected = f"min by (alias) (sqllogs_database_up{{{ALIAS}}})"
    return [
        value(
            "Databases connected",
            "Share of databases that accept connections.",
            "percentunit",
            f"avg(sqllogs_database_up{{{ALIAS}}})",
            colors=thresholds((None, "red"), (1.0, "green")),
            empty="no data",
        ),
        value(
            "Migrations applied",
            "Applied migrations in all databases.",
            COUNT,
            f"max(django_migrations_applied_total{{{SITE}}})",
            empty="no data",
        ),
        value(
            "Migrations to apply",
            "Migrations in the code that a database lacks: the site may fail until they are applied.",
            COUNT,
            f"max(django_migrations_unapplied_total{{{SITE}}})",
            colors=none_is_good(),
            empty="no data",
        ),
        value(
            "Failed statements",
            "Queries that raised an exception in the time range.",
            COUNT,
            f"sum(increase(django_db_errors_total{{{ALIAS}}}[$__range])) or vector(0)",
            colors=none_is_good(),
        ),
        value(
            "New connections",
            "Connections opened per second. As many as requests: none is reused, see CONN_MAX_AGE.",
            "ops",
            rate("django_db_new_connections_total", ALIAS),
        ),
        value(
            "SQL load",
            "Seconds of SQL per second on all databases: 1 means one connection that is never idle.",
            "short",
            f"sum(job_alias:sqllogs_query_seconds:rate5m{{{ALIAS}}})",
        ),
        lines(
            "SQL load by database",
            "Seconds of SQL per second: the average number of busy connections.",
            "short",
            over_time(f"sum by (alias) (job_alias:sqllogs_query_seconds:rate5m{{{ALIAS}}})", "{{alias}}"),
            stacked=True,
            links=SQL_OF_ALIAS,
        ),
        lines(
            "Duration of statements",
            "p50, p95 and p99. Each point is a query with a link to its trace.",
            "s",
            *quantiles(duration, ALIAS),
        ),
        lines(
            "Database reachable",
            "1 while a database accepts connections, otherwise 0.",
            "short",
            over_time(connected, "{{alias}}"),
            empty="no data",
        ),
        ranking(
            "Database errors",
            "Database exceptions in the time range, by class.",
            "type",
            Column(
                title="Errors",
                expression=ranked(increase("django_db_errors_total", ALIAS, "type")),
            ),
        ),
    ]


def _cache() -> list[AnyPanel]:
    kinds = (("A", "_hits", "hits"), ("B", "_misses", "misses"), ("C", "_fail", "failures"))
    return [
        lines(
            "Reads of the cache",
            "Hits, misses and failed reads per second.",
            "ops",
            *(
                over_time(rate(f"django_cache_get{kind}_total", SITE), legend, ref=ref)
                for ref, kind, legend in kinds
            ),
            stacked=True,
            empty="No reads in this time range",
        ),
        lines(
            "Hit rate by backend",
            "Share of reads that were hits, over 15 minutes.",
            "percentunit",
            over_time(
                f"avg by (backend) (job_backend:django_cache_hits:ratio_rate15m{{{SITE}}})", "{{backend}}"
            ),
            empty="No reads in this time range",
        ),
    ]


def _security_and_jobs() -> list[AnyPanel]:
    jobs = "sqllogs_jobs_total"
    return [
        ranking(
            "Background jobs",
            "Management commands and tasks that ended in the time range, without the first of each name.",
            "name",
            Column(title="Ended", expression=ranked(increase(jobs, SITE, "name"))),
            Column(title="Failed", expression=increase(jobs, SITE + ', outcome="error"', "name")),
            Column(
                title="p95",
                unit="s",
                expression=quantile(0.95, "sqllogs_job_duration_seconds", SITE, "name", over=promql.RANGE),
            ),
            Column(
                title="Statements",
                expression=increase("sqllogs_job_queries_total", SITE, "name"),
            ),
        ),
        ranking(
            "Security events",
            "401 and 403 answers, CSRF failures, disallowed hosts, suspicious requests in the range.",
            "event",
            Column(
                title="Events",
                expression=ranked(increase("django_security_events_total", SITE, "event")),
            ),
        ),
    ]


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    about = "Health of the site: requests, databases, migrations, cache, background jobs, security."
    board = page("Django Overview", UID, about).variables([*promql.sites(), promql.alias()])
    board.annotation(events.annotation())
    for title, parts in (
        ("Now", _summary()),
        ("Requests", _requests()),
        ("Databases", _database()),
        ("Cache", _cache()),
        ("Background jobs and security", _security_and_jobs()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
