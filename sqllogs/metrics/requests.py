"""Count requests that have ended, and connections to databases, most by OpenTelemetry's conventions.

Fed by `sqllogs.metrics.sink` with the units of each batch, feeds its `MetricValues`; runs in the
writer's thread.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqllogs.metrics import families
from sqllogs.metrics.instruments import connects
from sqllogs.metrics.values import MetricValues, ObservationContext
from sqllogs.record import EndedUnit
from sqllogs.statistics.counting import METHODS

OTHER_METHOD = "_OTHER"
"""https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/#http-request-method"""


def count_request(metric_values: MetricValues, ended: EndedUnit) -> None:
    """Count a request, with its trace as exemplar of its duration."""
    unit = ended.unit
    seconds = unit.duration_ns / 1e9
    origin = ObservationContext(f"{unit.trace_id:032x}", float(ended.ended_s))
    # The same labels as the other metrics of requests, and as django-prometheus.
    labels = (unit.url_name or "<unnamed view>", ended.route or "")
    metric_values.observe(families.REQUEST_DURATION, labels, seconds, origin)
    error = ""
    if ended.failed:
        error = unit.exception or str(unit.status or "")
        metric_values.add(families.REQUEST_ERRORS, (*labels, error), 1)
    method = ended.method if ended.method in METHODS else OTHER_METHOD
    status = str(unit.status) if unit.status else ""
    http = (method or OTHER_METHOD, unit.scheme, status, error, ended.route or "")
    metric_values.observe(families.HTTP_DURATION, http, seconds, origin)


def count_connects(metric_values: MetricValues) -> bool:
    """Count how long connections took since the last call; return whether there were any."""
    had_any = bool(connects)
    while connects:
        alias, is_pooled, connect_ns = connects.popleft()
        family = families.CONNECTION_WAIT if is_pooled else families.CONNECTION_CREATE
        metric_values.observe(family, (alias,), connect_ns / 1e9)
    return had_any


class PoolState(NamedTuple):
    """The connections of one pool in this process, now."""

    alias: str
    used: int
    idle: int
    most: int
    pending: int
    timeouts: int
    """Requests for a connection that got none, since the process began."""


def pools() -> Iterator[PoolState]:
    """Yield the state of each pool of psycopg that Django uses; other backends have none."""
    backend: Any = sys.modules.get("django.db.backends.postgresql.base")
    found = getattr(getattr(backend, "DatabaseWrapper", None), "_connection_pools", {})
    for alias, pool in list(found.items()):
        stats = pool.get_stats()
        idle = stats.get("pool_available", 0)
        yield PoolState(
            alias=alias,
            used=max(0, stats.get("pool_size", 0) - idle),
            idle=idle,
            most=stats.get("pool_max", 0),
            pending=stats.get("requests_waiting", 0),
            timeouts=stats.get("requests_errors", 0),
        )


def set_pools(metric_values: MetricValues) -> bool:
    """Set the gauges of the pools; return whether one has changed."""
    is_changed = False
    for pool in pools():
        for family, labels, value in (
            (families.CONNECTION_COUNT, (pool.alias, "used"), pool.used),
            (families.CONNECTION_COUNT, (pool.alias, "idle"), pool.idle),
            (families.CONNECTION_MAX, (pool.alias,), pool.most),
            (families.CONNECTION_PENDING, (pool.alias,), pool.pending),
        ):
            if metric_values.series(family).get(labels) != value:
                metric_values.set(family, labels, value)
                is_changed = True
    return is_changed
