"""Build the panels of the objectives for availability and latency: what is left of each error budget.

Fed by the recording rules of `grafana/prometheus/rules`, used by `grafana.overview`.
"""

from grafana.metric_panels import lines, value
from grafana.panels import AnyPanel, thresholds
from grafana.promql import SITE, over_time

FAILED_MAX, SLOW_MAX = 0.001, 0.01
"""Largest share of answers in a month that are 5xx, and that take over 500 ms."""


def panels() -> list[AnyPanel]:
    """Return the row: both objectives as figures, then their burn rates."""
    return [
        _met("Not a 5xx, 3 days", "failed", FAILED_MAX),
        _met("Within 500 ms, 3 days", "slow", SLOW_MAX),
        _burning("Error budget for availability", "failed", FAILED_MAX),
        _burning("Error budget for latency", "slow", SLOW_MAX),
    ]


def _met(title: str, what: str, share_max: float) -> AnyPanel:
    about = f"Share of the answers of the last three days; the objective is {1 - share_max:.1%} in a month."
    return (
        value(
            title,
            about,
            "percentunit",
            f"1 - max(job:django_http_{what}:ratio_rate3d{{{SITE}}})",
            colors=thresholds((None, "red"), (1 - 2 * share_max, "orange"), (1 - share_max, "green")),
        )
        .decimals(2)
        .height(8)
    )


def _burning(title: str, what: str, share_max: float) -> AnyPanel:
    about = (
        "How many times as fast as planned the error budget is used up: 1 lasts the month. "
        "Alerts fire at 14.4 over an hour and at 6 over six hours."
    )
    windows = [
        over_time(f"max(job:django_http_{what}:ratio_rate{window}{{{SITE}}}) / {share_max}", window, ref=ref)
        for ref, window in (("A", "1h"), ("B", "6h"), ("C", "3d"))
    ]
    return lines(title, about, "none", *windows, width=8)
