"""Panels of "Django SQL Logs" from Prometheus: the same load over any time, and how the log itself is.

Of all databases and views of the sites chosen: the filters of the SQL log are not labels of metrics.
"""

from grafana_foundation_sdk.builders import stat, timeseries

from grafana.metric_panels import SQL_OF_ALIAS, lines, value
from grafana.panels import COUNT, none_is_good, thresholds
from grafana.promql import SITE, over_time, quantile, quantiles, rate

_DURATION = "sqllogs_query_duration_seconds"


def load() -> list[timeseries.Panel]:
    """Return what Prometheus has counted of the same statements."""
    return [
        lines(
            "Duration, from Prometheus",
            "Half, 95 % and 99 % took no longer. The points are statements with their traces.",
            "s",
            *quantiles(_DURATION, SITE),
        ),
        lines(
            "Statements by database, from Prometheus",
            "Statements a second, by alias.",
            "ops",
            over_time(f"sum by (alias) (job_alias:sqllogs_queries:rate5m{{{SITE}}})", "{{alias}}"),
            stacked=True,
            links=SQL_OF_ALIAS,
        ),
        lines(
            "Errors, from Prometheus",
            "Failed statements a second, by exception and SQLSTATE class, if the driver tells one.",
            "ops",
            over_time(
                rate("sqllogs_query_errors_total", SITE, "error, sqlstate_class"),
                "{{error}} {{sqlstate_class}}",
            ),
            empty="No failed statement in this time range",
        ),
    ]


def log() -> list[stat.Panel | timeseries.Panel]:
    """Return how the log itself is."""
    return [
        value(
            "Ring filled",
            "Share of the ring's slots that hold a record; once full it stays so.",
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
            "Age of the oldest record that waits to be stored, of the slowest process.",
            "s",
            f"max(sqllogs_lag_seconds{{{SITE}}})",
            colors=thresholds((None, "green"), (5.0, "orange"), (30.0, "red")),
        ),
        value(
            "Dropped",
            "Records lost on purpose in the time range, for any reason.",
            COUNT,
            f"sum(increase(sqllogs_dropped_total{{{SITE}}}[$__range])) or vector(0)",
            colors=none_is_good(),
        ),
        value(
            "Waiting",
            "Records that wait in memory, of all processes.",
            COUNT,
            f"sum(sqllogs_queue_rows{{{SITE}}})",
        ),
        value(
            "Memory",
            "Upper bound of the memory that waiting records hold, of all processes.",
            "bytes",
            f"sum(sqllogs_queue_bytes{{{SITE}}})",
        ),
        lines(
            "Captured and stored",
            "Statements seen and records written, a second; the rest waits or is dropped.",
            "ops",
            over_time(rate("sqllogs_captured_total", SITE), "captured", ref="A"),
            over_time(rate("sqllogs_stored_total", SITE), "stored", ref="B"),
            over_time(rate("sqllogs_dropped_total", SITE, "reason"), "dropped: {{reason}}", ref="C"),
        ),
        lines(
            "Time of a flush",
            "Half and 99 % of the flushes took no longer to resolve and write what was waiting.",
            "s",
            over_time(quantile(0.5, "sqllogs_flush_seconds", SITE), "p50", ref="A"),
            over_time(quantile(0.99, "sqllogs_flush_seconds", SITE), "p99", ref="B"),
        ),
    ]
