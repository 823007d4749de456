"""Answer the requests to /sql-logs/: a module for each family of views."""

from sqllogs.views.aggregates import (
    EventsView,
    FingerprintView,
    RepeatsView,
    RequestsView,
    SeriesView,
    StatsView,
    TraceView,
)
from sqllogs.views.health import HealthView
from sqllogs.views.records import RecordDetail, RecordList
from sqllogs.views.schema import SchemaView

__all__ = [
    "EventsView",
    "FingerprintView",
    "HealthView",
    "RecordDetail",
    "RecordList",
    "RepeatsView",
    "RequestsView",
    "SchemaView",
    "SeriesView",
    "StatsView",
    "TraceView",
]
