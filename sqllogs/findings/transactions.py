"""Search for transactions that fail because of others, and for those that others wait for.

Called by `sqllogs.findings.patterns` and `sqllogs.findings.detection` in the thread that searches. Reads
units of work and the ring with `sqllogs.read`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Aggregate, Count, F, Max, Min, Q, QuerySet

from sqllogs.capture import LOCK_TIMEOUT
from sqllogs.findings.causes import Evidence, covering, of_route, rules_of_text
from sqllogs.models import SQLLog, Statement, Unit
from sqllogs.pipeline.transactions import ends as transaction_ends
from sqllogs.read.aggregates import as_time, fetch
from sqllogs.read.records import statements
from sqllogs.read.ring import Records, RingSnapshot, chunks, in_ring, since
from sqllogs.record import IDLE_TRANSACTION_MS
from sqllogs.sql.normalize import StatementInfo

SQLSTATES = {
    ("postgresql", "40P01"): "deadlock",
    ("mysql", "40001"): "deadlock",
    ("postgresql", "55P03"): "lock_timeout",
    ("postgresql", "40001"): "serialization",
    ("mysql", LOCK_TIMEOUT): "lock_timeout",
    ("sqlite", LOCK_TIMEOUT): "lock_timeout",
}
"""The kind of finding by vendor and SQLSTATE; see `error_code` for those of MySQL and SQLite."""
RETRIED_MIN = 5
"""Failures that are retried are a finding from this number on: an occasional retry is intended."""
WITHOUT_WAITING = re.compile(r" (?:NOWAIT|SKIP LOCKED)\b")

HOLDERS_MAX = 3
"""Maximum lock timeouts of a search for which the holder of the lock is searched, each up to 0.4 s of CPU."""
UNITS_MAX = 500
"""Maximum units of work that are searched for the holder, newest first."""
HELD_MAX = timedelta(days=1)
"""The holder's unit of work began at most this long before the failure."""
SLACK = timedelta(milliseconds=50)
"""Tolerance, because a lock is released before COMMIT returns, and clocks of hosts differ."""
CHANGES = frozenset(["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"])
ROW_LOCKS = re.compile(r" FOR (?:NO KEY )?(?:KEY )?(?:UPDATE|SHARE)\b")

CONNECTIONS_MIN = 5
"""Connections of a unit of work that are a finding from this number on, with few queries each."""
QUERIES_PER_CONNECTION = 3
"""At most as many are few: those of a transaction with one statement are BEGIN, the statement and COMMIT."""
OUTSIDE_MS = 1.0
"""Shortest wait for another service that is reported; a service on the same machine takes less."""
UNITS_LATE = timedelta(seconds=5)
"""The row of a unit of work is completed at most this long after its end."""


class _Failure(NamedTuple):
    """A statement that failed because of other transactions."""

    route: str | None
    unit_id: str | None
    time: Any
    trace_id: str | None
    seq: int
    alias: str
    duration_ms: float


def find_failures(records: Records, snapshot: RingSnapshot) -> Iterator[Evidence]:
    """Yield deadlocks, lock timeouts and serialization failures, one for each statement and line.

    Serialization failures that the application retries are separate evidence. Raise database errors.
    """
    states = {state for _, state in SQLSTATES}
    key = ("vendor", "sqlstate", "fingerprint", "call_site")
    failed: dict[tuple[Any, ...], list[_Failure]] = defaultdict(list)
    found = records.filter(sqlstate__in=states).order_by("seq").values_list(*key, *_Failure._fields)
    for line in fetch(found):
        failed[line[:4]].append(_Failure(*line[4:]))
    texts = statements({fingerprint for _, _, fingerprint, _ in failed})
    searched = 0
    for (vendor, sqlstate, fingerprint, call_site), lines in failed.items():
        kind = SQLSTATES.get((vendor, sqlstate))
        text = texts.get(fingerprint)
        if kind is None:
            continue  # the same SQLSTATE has another meaning on this vendor
        if kind == "lock_timeout" and text and WITHOUT_WAITING.search(text.sql):
            continue  # the application expects that the row may be locked
        retried = _retried(records, fingerprint, lines) if kind == "serialization" else set()
        for name, some in (
            (kind, [line for line in lines if line.unit_id not in retried]),
            (f"{kind}_retried", [line for line in lines if line.unit_id in retried]),
        ):
            if not some or (name != kind and len(some) < RETRIED_MIN):
                continue
            figures = {"sqlstate": sqlstate, "trace_id": some[-1].trace_id}
            if kind == "lock_timeout" and text is not None and searched < HOLDERS_MAX:
                searched += 1
                figures |= _holder(some[-1], vendor, text, snapshot)
            yield _failure(name, fingerprint, call_site, some, figures)


def _failure(
    kind: str, fingerprint: str, call_site: str | None, lines: list[_Failure], figures: dict[str, Any]
) -> Evidence:
    times = [as_time(line.time) for line in lines]
    return Evidence(
        kind=kind,
        fingerprint=fingerprint,
        call_site=call_site,
        route=lines[-1].route,
        figures=figures,
        started_at=min(times),
        seen_at=max(times),
        times=len(lines),
    )


def _retried(records: Records, fingerprint: str, lines: list[_Failure]) -> set[str | None]:
    """Return the units in which the statement has succeeded after its last failure."""
    last = {line.unit_id: line.seq for line in lines if line.unit_id is not None}
    found: set[str | None] = set()
    for chosen in chunks(sorted(last)):
        done = records.filter(fingerprint=fingerprint, unit_id__in=chosen, error__isnull=True).order_by()
        ends = done.values("unit_id").annotate(end=Max("seq")).values_list("unit_id", "end")
        found.update(unit_id for unit_id, end in fetch(ends) if end > last[unit_id])
    return found


class _Step(NamedTuple):
    """A statement of a transaction that locks something, or the end of the transaction."""

    unit_id: str
    fingerprint: str
    call_site: str | None
    route: str | None
    trace_id: str | None
    time: Any
    duration_ms: float

    @property
    def begin(self) -> datetime:
        return as_time(self.time)

    @property
    def end(self) -> datetime:
        return self.begin + timedelta(milliseconds=self.duration_ms)


class _Hold(NamedTuple):
    """A transaction that held the lock for which another one waited."""

    step: _Step
    """The first statement that locked it."""
    released_at: datetime | None
    """None if the log does not have its end."""


def _holder(failure: _Failure, vendor: str, text: StatementInfo, snapshot: RingSnapshot) -> dict[str, Any]:
    """Return as figures what held the lock that a statement gave up waiting for; empty if that is unknown.

    That is a transaction of another unit of work that had locked rows of the same tables before and had not
    ended by then. Which rows is not known, because values are not stored.
    """
    begin = as_time(failure.time)
    end = begin + timedelta(milliseconds=failure.duration_ms)
    units = Unit.objects.filter(
        Q(ended_at__isnull=True) | Q(ended_at__gte=end - SLACK),
        time__gte=begin - HELD_MAX,
        time__lt=begin,
        unit_id__isnull=False,
    ).exclude(unit_id=failure.unit_id or "")  # a transaction does not wait for itself
    begins = dict(units.order_by("-time").values_list("unit_id", "first_seq")[:UNITS_MAX])
    chosen = [unit_id for unit_id in begins if unit_id]
    locking = _locking(text)
    if not chosen or not locking:
        return {}
    of_database = SQLLog.objects.filter(alias=failure.alias, vendor=vendor)
    # Only from their first record on: searching the whole ring took 0.4 s if all of 100,000 records matched.
    records = since(of_database, snapshot, min(begins.values()))
    holds = [
        hold
        for steps in _steps(records, chosen, locking).values()
        if (hold := _hold(steps, begin)) is not None
        and (hold.released_at is None or hold.released_at >= end - SLACK)
    ]
    if not holds:
        return {}
    # One without an end is still running, or its process was killed. The newest is most likely still running.
    ended = [hold.step for hold in holds if hold.released_at is not None]
    steps = [hold.step for hold in holds]
    step = min(ended, key=lambda one: one.begin) if ended else max(steps, key=lambda one: one.begin)
    return {
        "holder": step.call_site or step.route or step.unit_id,
        "holder_route": step.route,
        "holder_trace_id": step.trace_id,
        "held_ms": round((end - step.end) / timedelta(milliseconds=1), 1),
    }


def _locking(text: StatementInfo) -> set[str]:
    """Return the statements whose locks on the same tables this one waits for."""
    tables = set(text.tables.split(",")) - {""}
    if not tables:
        return set()
    # A change of the schema also waits for transactions that have only read the table.
    waits_for_readers = text.operation not in {*CHANGES, "SELECT"}
    # The query compares parts of names; the sets below compare whole names.
    named = reduce(or_, (Q(tables__contains=table) for table in tables))
    rows = Statement.objects.filter(named).values_list("fingerprint", "sql", "operation", "tables")
    return {
        fingerprint
        for fingerprint, sql, operation, others in rows
        if tables & set(others.split(","))
        and (waits_for_readers or operation != "SELECT" or ROW_LOCKS.search(sql))
    }


def _steps(records: Records, units: list[str], locking: set[str]) -> dict[str, list[_Step]]:
    """Return by unit of work, in order, what locks the tables and what ends a transaction."""
    found: dict[str, list[_Step]] = defaultdict(list)
    wanted = sorted({*locking, *transaction_ends()})
    rows = records.filter(in_transaction=True, error__isnull=True).order_by("seq")
    for some in chunks(units):
        for names in chunks(wanted):
            chosen = rows.filter(unit_id__in=some, fingerprint__in=names)
            for line in fetch(chosen.values_list(*_Step._fields)):
                found[line[0]].append(_Step(*line))
    # Ordered by time, because a query whose rows were fetched slowly is stored later and has a higher number.
    return {unit_id: sorted(steps, key=lambda one: one.begin) for unit_id, steps in found.items()}


def _hold(steps: list[_Step], at: datetime) -> _Hold | None:
    """Return the transaction of a unit of work that had locked something at a time."""
    ends, first = transaction_ends(), None
    for step in steps:
        is_end = step.fingerprint in ends
        if step.begin < at:
            # The first lock of each transaction: it holds at least this one until it ends.
            first = None if is_end else first or step
        elif is_end and first is not None:
            return _Hold(first, step.end)
    return None if first is None else _Hold(first, None)


def find_in_units(after: datetime, after_seq: int, snapshot: RingSnapshot) -> Iterator[Evidence]:
    """Yield evidence in units of work that ended after a time, or have a record after a number."""
    # By number too, because clocks of hosts differ, and a row is late if a host cannot reach the store for a
    # while. Some are found twice, which only increases the number of occurrences.
    has_new = Q(last_seq__gt=after_seq, last_seq__lte=snapshot.seq, slot__gte=0)
    is_new = has_new | Q(ended_at__gte=after - UNITS_LATE)
    ended = Unit.objects.filter(is_new, ended_at__isnull=False)
    # A unit of work may use all databases, and open each of them twice.
    many = max(CONNECTIONS_MIN, 2 * len(settings.DATABASES) + 1)
    idle = ended.filter(idle_transaction_ms__gte=IDLE_TRANSACTION_MS)
    for one in _of_units("idle_transaction", idle, idle_ms_max=Max("idle_transaction_ms")):
        yield _with_line(one, idle, snapshot)
    yield from _of_units(
        "outside_call", ended.filter(outside_ms__gte=OUTSIDE_MS), outside_ms_max=Max("outside_ms")
    )
    yield from _of_units(
        "connection_per_query",
        ended.filter(connections__gte=many, queries__lte=F("connections") * QUERIES_PER_CONNECTION),
        connections_max=Max("connections"),
        queries=Max("queries"),
    )


def _with_line(one: Evidence, units: "QuerySet[Unit]", snapshot: RingSnapshot) -> Evidence:
    """Add the line after whose statement a transaction waited longest, and that trace."""
    same_route = units.filter(of_route(one.route)).order_by("-idle_transaction_ms")
    worst = same_route.values_list("unit_id", "trace_id").first()
    if worst is None:
        return one
    unit_id, trace_id = worst
    sent = in_ring(SQLLog.objects.filter(unit_id=unit_id, in_transaction=True), snapshot).order_by("seq")
    steps = [_Step(*line) for line in fetch(sent.values_list(*_Step._fields))] if unit_id else []
    gaps = [
        (after.begin - before.end, before.call_site)
        for before, after in pairwise(steps)
        if before.fingerprint not in transaction_ends()
    ]
    _, line = max(gaps, key=lambda gap: gap[0], default=(None, None))
    return replace(one, example=line, figures={**one.figures, "trace_id": trace_id})


def _of_units(kind: str, units: "QuerySet[Unit]", **figures: Aggregate) -> Iterator[Evidence]:
    """Yield one piece of evidence for each route or view of some units of work, with these figures."""
    key = ("route", "view", "outside_call_site", "ignored")
    rest = {"first": Min("time"), "last": Max("ended_at"), "times": Count("*"), "trace": Max("trace_id")}
    found = units.order_by().values(*key).annotate(**rest, **figures).values_list(*key, *rest, *figures)
    for route, view, outside, ignored, first, last, times, trace, *values in fetch(found):
        shown = {name: round(value, 1) for name, value in zip(figures, values, strict=True)}
        line = outside if kind == "outside_call" else None
        one = Evidence(
            kind=kind,
            call_site=line,
            route=route or view,
            figures={**shown, "trace_id": trace},
            started_at=as_time(first),
            seen_at=as_time(last),
            times=times,
        )
        yield replace(one, ignored=covering(rules_of_text(ignored), one))
