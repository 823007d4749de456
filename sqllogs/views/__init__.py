"""Answer the requests to /sql-logs/: a module for each family of views."""

from sqllogs.views.aggregates import RepeatsView, RequestsView, SeriesView, StatsView, TraceView
from sqllogs.views.health import HealthView
from sqllogs.views.records import RecordDetail, RecordList

__all__ = [
    "HealthView",
    "RecordDetail",
    "RecordList",
    "RepeatsView",
    "RequestsView",
    "SeriesView",
    "StatsView",
    "TraceView",
]
