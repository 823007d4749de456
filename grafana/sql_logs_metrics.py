"""Build the panels of "Django SQL Logs" from Prometheus: load over any time, and the state of the SQL log.

Of all databases and views of the sites chosen: the filters of the SQL log are not labels of metrics.
"""

from grafana_foundation_sdk.builders import stat, timeseries

from grafana import figures
from grafana import sql_logs_variables as variables
from grafana.metric_panels import SQL_OF_ALIAS, lines, value
from grafana.panels import COUNT, link, none_is_good, prop, thresholds
from grafana.promql import SITE, increase, or_zero, over_time, quantile, rate


def load() -> list[timeseries.Panel]:
    """Return panels of the load as counted by Prometheus."""
    return [
        figures.duration_of_queries(SITE, width=8),
        lines(
            "Queries by database",
            "Queries per second, by alias.",
            "ops",
            over_time(f"sum by (alias) (job_alias:sqllogs_queries:rate5m{{{SITE}}})", "{{alias}}"),
            stacked=True,
            links=SQL_OF_ALIAS,
            width=8,
        ),
        lines(
            "Failed queries by error",
            "Failed queries per second, by exception and, if the driver reports it, SQLSTATE class.",
            "ops",
            # Without a class, SQLite for example, the legend has the exception alone.
            over_time(
                f"label_replace({rate('sqllogs_query_errors_total', SITE, 'error, sqlstate_class')}, "
                '"sqlstate_class", "", "sqlstate_class", "none")',
                "{{error}} {{sqlstate_class}}",
            ),
            width=8,
        ),
    ]


_STATE = [link("State of the log, with reasons", f"{variables.SITE}health/", blank=True)]


def health() -> list[stat.Panel]:
    """Return figures of the state of the SQL log, which lead to its reasons."""
    found = [
        value(
            "Ring filled",
            "Share of the ring's slots in use; once the ring is full it stays full.",
            "percentunit",
            f"max(sqllogs_ring_rows{{{SITE}}}) / max(sqllogs_ring_capacity_rows{{{SITE}}})",
        ),
        value(
            "Reaches back",
            "Age of the oldest record in the ring.",
            "s",
            f"max(sqllogs_ring_oldest_age_seconds{{{SITE}}})",
            empty="empty",
        ),
        value(
            "Lag",
            "Age of the oldest record waiting to be stored, in any process.",
            "s",
            f"max(sqllogs_lag_seconds{{{SITE}}})",
            colors=thresholds((None, "green"), (5.0, "orange"), (30.0, "red")),
        ),
        value(
            "Dropped",
            "Records dropped in the time range, for any reason.",
            COUNT,
            or_zero(increase("sqllogs_dropped_total", SITE), f"sqllogs_captured_total{{{SITE}}}"),
            colors=none_is_good(),
        ),
        value(
            "Waiting",
            "Records waiting in memory, in all processes.",
            COUNT,
            f"sum(sqllogs_queue_rows{{{SITE}}})",
        ),
        value(
            "Memory",
            "Upper bound of the memory of waiting records, in all processes.",
            "bytes",
            f"sum(sqllogs_queue_bytes{{{SITE}}})",
        ),
    ]
    return [panel.override_by_regexp("/.*/", [prop("links", _STATE)]) for panel in found]


def log() -> list[timeseries.Panel]:
    """Return charts of what the SQL log does."""
    return [
        lines(
            "Captured and stored",
            "Queries captured and records stored per second; the rest is waiting or dropped.",
            "ops",
            over_time(rate("sqllogs_captured_total", SITE), "captured", ref="A"),
            over_time(rate("sqllogs_stored_total", SITE), "stored", ref="B"),
            over_time(rate("sqllogs_dropped_total", SITE, "reason"), "dropped: {{reason}}", ref="C"),
        ),
        lines(
            "Time of a flush",
            "p50 and p99 of the time to resolve and write the records of one flush.",
            "s",
            over_time(quantile(0.5, "sqllogs_flush_seconds", SITE), "p50", ref="A"),
            over_time(quantile(0.99, "sqllogs_flush_seconds", SITE), "p99", ref="B"),
        ),
    ]
