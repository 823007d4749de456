"""Count requests, the queries of each, and connections to databases, most by OpenTelemetry's conventions.

Fed by `sqllogs.metrics.sink` with each batch and the units of it that have ended, feeds its `MetricValues`;
runs in the writer's thread.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqllogs.context import UnitOfWork
from sqllogs.metrics import families
from sqllogs.metrics.families import REQUEST_QUERIES, REQUEST_SQL, REQUESTS_REPEATING
from sqllogs.metrics.instruments import connects
from sqllogs.metrics.values import MetricValues, ObservationContext
from sqllogs.record import IDLE_TRANSACTION_MS, CountedQueries, EndedUnit, Record
from sqllogs.sql.n_plus_one import Repetition, Rules, can_be_n_plus_one
from sqllogs.sql.normalize import StatementInfo
from sqllogs.statistics.counting import METHODS

OTHER_METHOD = "_OTHER"
"""https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/#http-request-method"""

UNNAMED_VIEW = "<unnamed view>"
"""The label of a request whose URL pattern has no name, as in django-prometheus, so panels can join both."""

IDLE_AFTER_S = 2.0
"""A request is counted this long after its last query: a streamed response sends queries after its end."""
OPEN_MAX = 5_000
"""Maximum number of open requests; beyond it the oldest is counted early."""
CALL_SITES_MAX = 500
"""Maximum pairs of statement and call site in one request; further ones are not checked for an N+1."""
CALL_SITES_TOTAL_MAX = 20_000
"""Maximum over all open requests, about 8 MB; beyond it the oldest request is counted early."""


def count_request(metric_values: MetricValues, ended: EndedUnit) -> None:
    """Count a request, with its trace as exemplar of its duration."""
    unit = ended.unit
    seconds = unit.duration_ns / 1e9
    origin = ObservationContext(f"{unit.trace_id:032x}", float(ended.ended_s))
    labels = (unit.url_name or UNNAMED_VIEW, ended.route or "")
    metric_values.observe(families.REQUEST_DURATION, labels, seconds, origin)
    error = ""
    if ended.failed:
        error = unit.exception or str(unit.status or "")
        metric_values.add(families.REQUEST_ERRORS, (*labels, error), 1)
    method = ended.method if ended.method in METHODS else OTHER_METHOD
    status = str(unit.status) if unit.status else ""
    http = (method or OTHER_METHOD, unit.scheme, status, error, ended.route or "")
    metric_values.observe(families.HTTP_DURATION, http, seconds, origin)


def count_idle_transaction(metric_values: MetricValues, ended: EndedUnit) -> None:
    """Count a unit of work that kept a transaction open while it did something else."""
    transactions = getattr(ended.unit.row, "transactions", None)
    if transactions is not None and transactions.idle_max_ms >= IDLE_TRANSACTION_MS:
        name = ended.unit.url_name or ended.view or (UNNAMED_VIEW if ended.kind == "request" else "")
        metric_values.add(families.TRANSACTIONS_IDLE, (ended.kind, name), 1)


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
    # Not imported, which would need psycopg: a project that uses a pool has done so.
    backend: Any = sys.modules.get("django.db.backends.postgresql.base")
    found = getattr(getattr(backend, "DatabaseWrapper", None), "_connection_pools", {})
    for alias, pool in list(found.items()):
        stats = pool.get_stats()
        idle = stats.get("pool_available", 0)
        yield PoolState(
            alias=alias,
            # The pool reads the two one after the other, while connections come and go.
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


class _CallSite:
    """One statement from one call site in one request, with its first and its last record."""

    __slots__ = ("asked_by", "first", "last", "times")

    def __init__(self, record: Record) -> None:
        self.first = self.last = record
        self.times = 0
        self.asked_by: str | None = None

    def add(self, record: Record, times: int = 1) -> None:
        self.times += times
        self.asked_by = record.form.asked_by or self.asked_by
        self.last = record

    def repetition(self) -> Repetition:
        return Repetition(times=self.times, first=self.first, last=self.last, asked_by=self.asked_by)


class _OpenRequest:
    """A request that may still send queries."""

    __slots__ = ("call_sites", "duration_ms", "last_s", "queries", "trace_id", "unit")

    def __init__(self, unit: UnitOfWork) -> None:
        self.unit = unit
        self.queries = 0
        self.duration_ms = 0.0
        self.call_sites: dict[tuple[str, str | None], _CallSite] = {}
        self.trace_id: str | None = None
        self.last_s = 0.0

    def add(self, records: list[Record], now_s: float) -> None:
        self.last_s = now_s
        self.queries += len(records)
        self.duration_ms += sum(record.duration_us for record in records) / 1000
        self.trace_id = next(
            (record.trace_id for record in reversed(records) if record.trace_id), self.trace_id
        )
        for record in records:
            if can_be_n_plus_one(record.form):
                self._add_to_call_site(record, 1)

    def add_group(self, group: CountedQueries, now_s: float) -> None:
        self.last_s = now_s
        self.queries += len(group.durations_us)
        self.duration_ms += sum(group.durations_us) / 1000
        self.trace_id = group.record.trace_id or self.trace_id
        if can_be_n_plus_one(group.record):
            self._add_to_call_site(group.record, len(group.durations_us))

    def _add_to_call_site(self, record: Record, times: int) -> None:
        line = record.form.line
        call_site = self.call_sites.get(line)
        if call_site is None and len(self.call_sites) < CALL_SITES_MAX:
            call_site = self.call_sites[line] = _CallSite(record)
        if call_site is not None:
            call_site.add(record, times)

    def is_repeating(self, rules: Rules) -> bool:
        return any(
            group.times > 1 and rules.is_suspect(_info(group.first), call_site, group.repetition())
            for (_, call_site), group in self.call_sites.items()
        )

    def is_complete(self, now_s: float) -> bool:
        return self.unit.ended and now_s - self.last_s >= IDLE_AFTER_S


class OpenRequests:
    """All open requests; a request is counted as a whole, when it is complete or the limits are reached."""

    def __init__(
        self, metric_values: MetricValues, rules: Rules, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._values = metric_values
        self._rules = rules
        self._clock = clock
        self._open: dict[int, _OpenRequest] = {}
        """By id(unit), because requests may share a trace id; the value keeps the unit alive."""
        self._call_sites_total = 0

    def add(self, unit: UnitOfWork, records: list[Record]) -> None:
        found = self._open_request(unit)
        before = len(found.call_sites)
        found.add(records, self._clock())
        self._add_call_sites(len(found.call_sites) - before)

    def add_group(self, unit: UnitOfWork, group: CountedQueries) -> None:
        """Add queries that have no record."""
        found = self._open_request(unit)
        before = len(found.call_sites)
        found.add_group(group, self._clock())
        self._add_call_sites(len(found.call_sites) - before)

    def _open_request(self, unit: UnitOfWork) -> _OpenRequest:
        """Return the open request of a unit; open it with its first queries."""
        found = self._open.get(id(unit))
        if found is None:
            if len(self._open) >= OPEN_MAX:
                self._close_oldest()
            found = self._open[id(unit)] = _OpenRequest(unit)
        return found

    def _add_call_sites(self, count: int) -> None:
        self._call_sites_total += count
        while self._call_sites_total > CALL_SITES_TOTAL_MAX:
            self._close_oldest()

    def _close_oldest(self) -> None:
        self._close(next(iter(self._open)))  # a dict keeps the order of its keys

    def close_complete(self) -> bool:
        """Count the requests that are complete; return whether there were any."""
        now_s = self._clock()
        complete = [key for key, request in self._open.items() if request.is_complete(now_s)]
        for key in complete:
            self._close(key)
        return bool(complete)

    def close_all(self) -> None:
        """Count all open requests, at the end of the process."""
        for key in list(self._open):
            self._close(key)

    def _close(self, key: int) -> None:
        request = self._open.pop(key)
        self._call_sites_total -= len(request.call_sites)
        unit = request.unit
        route, _ = unit.route_and_view()
        labels = (unit.url_name or UNNAMED_VIEW, route or "")
        origin = ObservationContext(request.trace_id, time.time()) if request.trace_id else None
        self._values.observe(REQUEST_QUERIES, labels, request.queries, origin)
        self._values.observe(REQUEST_SQL, labels, request.duration_ms / 1000, origin)
        if request.is_repeating(self._rules):
            self._values.add(REQUESTS_REPEATING, labels, 1)


def _info(record: Record) -> StatementInfo:
    statement = record.form.statement
    return StatementInfo(statement.fingerprint, statement.sql, statement.operation, "")
