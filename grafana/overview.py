"""Build the dashboard "Django Overview": the health of the site and of its parts.

Fed by the site's metrics; its panels lead to the dashboards of requests and of SQL.
"""

from grafana_foundation_sdk.builders import dashboard

from grafana import events, figures, objectives, promql
from grafana.metric_panels import BY_VIEW, SQL_OF_ALIAS, Column, alerts, lines, page, ranking, states, value
from grafana.panels import COUNT, AnyPanel, none_is_good, thresholds
from grafana.promql import (
    ALIAS,
    REQUESTS,
    RESPONSES,
    SITE,
    VIEWS,
    increase,
    or_zero,
    over_time,
    quantile,
    ranked,
    rate,
)

UID = "django-overview"


def _health() -> list[AnyPanel]:
    urgent = promql.firing(f'{SITE}, severity!="info"')
    firing = or_zero(f"count({urgent})", f"up{{{SITE}}}")
    return [
        value(
            "Firing alerts",
            "Alerts that fire, without those of severity info.",
            COUNT,
            firing,
            colors=none_is_good(),
            width=3,
        ),
        figures.open_findings(SITE),
        figures.server_errors(VIEWS).span(4),
        figures.p95(VIEWS).span(4),
        figures.database_busy(SITE).span(4),
        figures.log_busy(SITE).span(3),
        value(
            "Targets up",
            "Share of the site's targets that Prometheus can scrape.",
            "percentunit",
            f"avg(up{{{SITE}}})",
            colors=thresholds((None, "red"), (1.0, "green")),
            empty="no target",
            width=3,
        ),
        alerts(),
        states(
            "Reachable",
            "Whether Prometheus reaches the site, and the site its databases.",
            over_time(f"min by (instance) (up{{{SITE}}})", "site {{instance}}", ref="A"),
            over_time(f"min by (alias) (sqllogs_database_up{{{ALIAS}}})", "database {{alias}}", ref="B"),
        ),
    ]


def _requests() -> list[AnyPanel]:
    return [
        figures.requests(VIEWS).span(6),
        figures.client_errors(VIEWS).span(6),
        figures.queries(ALIAS).span(6),
        value(
            "Cache hits",
            "Share of cache reads that were hits, over 15 minutes.",
            "percentunit",
            f"sum(rate(django_cache_get_hits_total{{{SITE}}}[15m])) "
            f"/ (sum(rate(django_cache_get_total{{{SITE}}}[15m])) > 0)",
            empty="no reads",
            width=6,
        ).decimals(1),
        figures.answers(VIEWS),
        figures.time_to_answer(VIEWS),
        ranking(
            "Views by requests",
            "Views with the most requests in the time range, with server errors and p95.",
            "view",
            Column(title="Requests", expression=ranked(increase(REQUESTS, VIEWS, "view"))),
            Column(
                title="5xx",
                expression=increase(RESPONSES, VIEWS + ', status=~"5.."', "view"),
            ),
            Column(
                title="p95",
                unit="s",
                expression=quantile(0.95, promql.LATENCY, VIEWS, "view", over=promql.RANGE),
            ),
            links=BY_VIEW,
            width=24,
        ),
    ]


def _database() -> list[AnyPanel]:
    return [
        value(
            "Databases connected",
            "Share of databases that accept connections.",
            "percentunit",
            f"avg(sqllogs_database_up{{{ALIAS}}})",
            colors=thresholds((None, "red"), (1.0, "green")),
            width=8,
        ),
        figures.failed_queries(ALIAS).span(8),
        value(
            "SQL load",
            "Seconds of SQL per second on all databases: 1 means one connection that is never idle.",
            "short",
            rate("sqllogs_query_duration_seconds_sum", ALIAS, over=figures.WINDOW),
            width=8,
        ),
        lines(
            "SQL load by database",
            "Seconds of SQL per second: the average number of busy connections.",
            "short",
            over_time(f"sum by (alias) (job_alias:sqllogs_query_seconds:rate5m{{{ALIAS}}})", "{{alias}}"),
            stacked=True,
            links=SQL_OF_ALIAS,
            width=8,
        ),
        figures.duration_of_queries(ALIAS, width=10),
        ranking(
            "Database errors",
            "Database exceptions in the time range, by class.",
            "type",
            Column(
                title="Errors",
                expression=ranked(increase("django_db_errors_total", ALIAS, "type")),
            ),
            width=6,
        ).height(8),
        lines(
            "New connections",
            "Connections opened per second. As many as requests: none is reused, see CONN_MAX_AGE.",
            "cps",
            over_time(rate("django_db_new_connections_total", ALIAS, "alias"), "{{alias}}"),
            width=6,
        ),
        figures.time_to_connect(SITE),
        figures.pools(SITE),
        figures.idle_transactions(SITE),
    ]


def _migrations() -> list[AnyPanel]:
    return [
        value(
            "Migrations to apply",
            "Migrations in the code that a database lacks: the site may fail until they are applied.",
            COUNT,
            f"max(django_migrations_unapplied_total{{{SITE}}})",
            colors=none_is_good(),
            width=6,
        ),
        value(
            "Migrations applied",
            "Applied migrations in all databases.",
            COUNT,
            f"max(django_migrations_applied_total{{{SITE}}})",
            width=6,
        ),
        states(
            "All migrations applied",
            "Whether a database has all migrations of the code.",
            over_time(
                f"max by (connection) (django_migrations_unapplied_total{{{SITE}}}) == bool 0",
                "{{connection}}",
            ),
        ).height(4),
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
        ),
        lines(
            "Hit rate by backend",
            "Share of reads that were hits, over 15 minutes.",
            "percentunit",
            over_time(
                f"avg by (backend) (job_backend:django_cache_hits:ratio_rate15m{{{SITE}}})", "{{backend}}"
            ),
        ),
    ]


def _jobs() -> list[AnyPanel]:
    ended = increase("sqllogs_jobs_total", SITE, "name")
    failed = increase("sqllogs_jobs_total", SITE + ', outcome="error"', "name")
    return [
        ranking(
            "Background jobs",
            "Management commands and tasks that ended in the time range, without the first of each name.",
            "name",
            Column(title="Ended", expression=ranked(ended)),
            Column(title="Failed", expression=f"({failed}) or 0 * ({ended})"),
            Column(
                title="p95",
                unit="s",
                expression=quantile(0.95, "sqllogs_job_duration_seconds", SITE, "name", over=promql.RANGE),
            ),
            Column(
                title="Queries",
                expression=increase("sqllogs_job_queries_total", SITE, "name"),
            ),
            width=24,
        ).height(7),
    ]


def _security() -> list[AnyPanel]:
    return [
        ranking(
            "Security events",
            "401 and 403 answers, CSRF failures, disallowed hosts, suspicious requests in the range.",
            "event",
            Column(
                title="Events",
                expression=ranked(increase("django_security_events_total", SITE, "event")),
            ),
        ).height(7),
        lines(
            "Security events over time",
            "Security events per second.",
            "ops",
            over_time(rate("django_security_events_total", SITE, "event"), "{{event}}"),
        ).height(7),
    ]


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    about = "Is the site healthy? Alerts, errors, times and load first, then each part of it."
    board = page("Django Overview", UID, about).variables([*promql.sites(), promql.alias()])
    board.annotation(events.annotation())
    for title, parts in (
        ("Is it OK?", _health()),
        ("Objectives", objectives.panels()),
        ("Requests", _requests()),
        ("Databases", _database()),
        ("Cache", _cache()),
        ("Migrations", _migrations()),
        ("Background jobs", _jobs()),
        ("Security", _security()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
