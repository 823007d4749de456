"""Add up the statements of each request until it is over: how many, how long, and the N+1.

Called by `sqllogs.metrics.sink`, in the writer's thread.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqllogs.context import UnitOfWork
from sqllogs.metrics.families import REQUEST_QUERIES, REQUEST_SQL, REQUESTS_REPEATING
from sqllogs.metrics.values import MetricValues, ObservationContext
from sqllogs.record import Record
from sqllogs.sql.n_plus_one import Repetition, Rules, is_judged
from sqllogs.sql.normalize import ScannedStatement, StatementInfo

IDLE_AFTER_S = 2.0
"""A request that has ended is over when no statement has come of it for so long: a body may stream on."""
OPEN_MAX = 5_000
"""Requests followed at one time; the one that began first is counted as it is when there are more."""
CALL_SITES_MAX = 500
"""Pairs of statement and call site that are told apart in one request."""
CALL_SITES_TOTAL_MAX = 20_000
"""The same in all requests under way, about 8 MB; beyond it too the one that began first is counted."""


class _First(NamedTuple):
    time: datetime
    rows: int | None
    sql_length: int


class _CallSite:
    """One statement from one call site, in one request; it has what counts of the last record itself."""

    __slots__ = ("first", "rows", "sql_length", "statement", "time", "times")

    def __init__(self, statement: ScannedStatement, record: Record) -> None:
        self.statement = statement
        self.first = (record.time, record.rows, record.sql_length)  # a named one takes five times as long
        self.times = 0

    def add(self, record: Record) -> None:
        self.times += 1
        self.time, self.rows, self.sql_length = record.time, record.rows, record.sql_length

    def repetition(self) -> Repetition:
        return Repetition(times=self.times, first=_First._make(self.first), last=self)


class _OpenRequest:
    """A request that is under way, as far as its statements tell."""

    __slots__ = ("duration_ms", "last_s", "places", "queries", "trace_id", "unit")

    def __init__(self, unit: UnitOfWork) -> None:
        self.unit = unit
        self.queries = 0
        self.duration_ms = 0.0
        self.places: dict[tuple[str, str | None], _CallSite] = {}
        self.trace_id: str | None = None
        self.last_s = 0.0

    def add(self, records: list[Record], statements: Mapping[str, ScannedStatement], now_s: float) -> None:
        self.last_s = now_s
        self.queries += len(records)
        for record in records:
            self.duration_ms += record.duration_ms
            self.trace_id = record.trace_id or self.trace_id
            if not is_judged(record):
                continue
            key = (record.fingerprint, record.call_site)
            place = self.places.get(key)
            if place is None and len(self.places) < CALL_SITES_MAX:
                place = self.places[key] = _CallSite(statements[record.fingerprint], record)
            if place is not None:
                place.add(record)

    def is_repeating(self, rules: Rules) -> bool:
        return any(
            place.times > 1 and rules.is_suspect(_row(place.statement), call_site, place.repetition())
            for (_, call_site), place in self.places.items()
        )

    def is_over(self, now_s: float) -> bool:
        return self.unit.ended and now_s - self.last_s >= IDLE_AFTER_S


class OpenRequests:
    """Those under way."""

    def __init__(
        self, figures: MetricValues, rules: Rules, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._figures = figures
        self._rules = rules
        self._clock = clock
        self._open: dict[int, _OpenRequest] = {}
        """By identity: a trace id may be that of several requests. The unit is kept, so it stays unique."""
        self._places = 0

    def add(
        self, unit: UnitOfWork, records: list[Record], statements: Mapping[str, ScannedStatement]
    ) -> None:
        found = self._open.get(id(unit))
        if found is None:
            if len(self._open) >= OPEN_MAX or self._places >= CALL_SITES_TOTAL_MAX:
                self._close(next(iter(self._open)))
            found = self._open[id(unit)] = _OpenRequest(unit)
        before = len(found.places)
        found.add(records, statements, self._clock())
        self._places += len(found.places) - before

    def close_over(self) -> bool:
        """Count those that are over; return whether there were any."""
        now_s = self._clock()
        over = [key for key, request in self._open.items() if request.is_over(now_s)]
        for key in over:
            self._close(key)
        return bool(over)

    def close_all(self) -> None:
        """Count what is left, at the end of the process."""
        for key in list(self._open):
            self._close(key)

    def _close(self, key: int) -> None:
        request = self._open.pop(key)
        self._places -= len(request.places)
        unit = request.unit
        route, _ = unit.destination()
        # As in django-prometheus' labels.
        labels = (unit.url_name or "<unnamed view>", route or "")
        origin = ObservationContext(request.trace_id, time.time()) if request.trace_id else None
        self._figures.observe(REQUEST_QUERIES, labels, request.queries, origin)
        self._figures.observe(REQUEST_SQL, labels, request.duration_ms / 1000, origin)
        if request.is_repeating(self._rules):
            self._figures.add(REQUESTS_REPEATING, labels, 1)


def _row(statement: ScannedStatement) -> StatementInfo:
    return StatementInfo(statement.fingerprint, statement.sql, statement.operation, "")
