"""Search new records for patterns that are problems: N+1, unbounded results, COUNT and list, lock failures.

Reads the ring with `sqllogs.read`, feeds `sqllogs.findings.detection`, in the thread that detects.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, Sum

from sqllogs.findings.causes import Evidence
from sqllogs.models import SQLLog, Statement, Unit
from sqllogs.read.aggregates import as_time, fetch
from sqllogs.read.n_plus_one import Suspect, find_suspects
from sqllogs.read.records import statements
from sqllogs.read.ring import Records, RingSnapshot, chunks, in_ring
from sqllogs.sql.normalize import StatementInfo

ROWS_MIN = 1_000
"""A result without LIMIT is unbounded from this number of rows on: ten pages of a hundred."""
ROWS_TIMES = 10
"""And if it has this many times the rows that a query of the log returns in the mean."""
IDLE_TRANSACTION_MS = 1_000.0
"""A transaction that is open for this long without a statement keeps its locks for nothing."""
UNITS_LATE = timedelta(seconds=5)
"""The row of a unit of work is completed at most this long after its end."""
SQLSTATES = {
    ("postgresql", "40P01"): "deadlock",
    ("mysql", "40001"): "deadlock",
    ("postgresql", "55P03"): "lock_timeout",
    ("postgresql", "40001"): "serialization",
}
"""The kind of finding by vendor and SQLSTATE. MySQL reports deadlocks as 40001, lock timeouts as HY000."""
WITHOUT_WAITING = re.compile(r" (?:NOWAIT|SKIP LOCKED)\b")
LIMITED = re.compile(r" (?:LIMIT|FETCH FIRST) ")
_COUNT = re.compile(r"\ASELECT COUNT\((?:\*|\?|[\w.\"]+)\)(?: AS [\w\"]+)? FROM (.+)\Z", re.DOTALL)
_LIST = re.compile(r"\ASELECT (?!COUNT\()(?:(?! FROM ).)+ FROM (.+?)(?: ORDER BY [^()]+)?\Z", re.DOTALL)
_AGGREGATE = re.compile(r"\ASELECT (?:COUNT|SUM|MIN|MAX|AVG|EXISTS|\? AS)\b")


def find_patterns(since_seq: int, snapshot: RingSnapshot) -> Iterator[Evidence]:
    """Yield the evidence in the records after a number; raise database errors."""
    records = in_ring(SQLLog.objects.filter(seq__gt=since_seq), snapshot)
    for suspect in find_suspects(records, snapshot):
        yield _n_plus_one(suspect)
    yield from _failures(records)
    yield from _unbounded(records)
    yield from _counts_and_lists(records)


def _n_plus_one(suspect: Suspect) -> Evidence:
    return Evidence(
        kind="n_plus_one",
        fingerprint=suspect.statement.fingerprint,
        call_site=suspect.call_site,
        route=next((route for route, _ in suspect.routes.most_common(1)), None),
        by_route=suspect.call_site is None,
        figures={
            "times_per_unit": round(suspect.calls / suspect.requests, 1),
            "times_max": suspect.worst.times,
            "total_ms": round(suspect.total_ms, 3),
            "trace_id": suspect.worst.trace_id,
        },
        started_at=suspect.worst.time,
        seen_at=suspect.last_seen,
        times=suspect.requests,
    )


class _Site(NamedTuple):
    """Records that have statement, line and route in common."""

    fingerprint: str
    call_site: str | None
    route: str | None
    first: datetime
    last: datetime
    times: int


def _failures(records: Records) -> Iterator[Evidence]:
    """Yield deadlocks, lock timeouts and serialization failures, each statement and line for itself."""
    states = {state for _, state in SQLSTATES}
    found = (
        records.filter(sqlstate__in=states)
        .order_by()
        .values("vendor", "sqlstate", "fingerprint", "call_site", "route")
        .annotate(first=Min("time"), last=Max("time"), times=Count("*"), trace=Max("trace_id"))
        .values_list(
            "vendor", "sqlstate", "fingerprint", "call_site", "route", "first", "last", "times", "trace"
        )
    )
    lines = list(fetch(found))
    texts = statements({line[2] for line in lines})
    for vendor, sqlstate, fingerprint, call_site, route, first, last, times, trace in lines:
        kind = SQLSTATES.get((vendor, sqlstate))
        text = texts.get(fingerprint)
        if kind is None or (kind == "lock_timeout" and text and WITHOUT_WAITING.search(text.sql)):
            continue  # the statement asked not to wait
        site = _Site(fingerprint, call_site, route, as_time(first), as_time(last), times)
        yield _evidence(kind, site, {"sqlstate": sqlstate, "trace_id": trace})


def _unbounded(records: Records) -> Iterator[Evidence]:
    """Yield SELECTs of requests without LIMIT that return very many rows."""
    found = (
        records.filter(rows__gte=ROWS_MIN, kind="request", error__isnull=True, many=False)
        .order_by()
        .values("fingerprint", "call_site", "route")
        .annotate(
            first=Min("time"), last=Max("time"), times=Count("*"), most=Max("rows"), trace=Max("trace_id")
        )
        .values_list("fingerprint", "call_site", "route", "first", "last", "times", "most", "trace")
    )
    lines = list(fetch(found))
    if not lines:
        return
    total, calls = (
        records.filter(rows__lt=ROWS_MIN).aggregate(total=Sum("rows"), calls=Count("rows")).values()
    )
    usual = (total or 0) / calls if calls else 0.0
    texts = statements({line[0] for line in lines})
    for fingerprint, call_site, route, first, last, times, most, trace in lines:
        text = texts.get(fingerprint)
        if text is None or not _is_open_list(text) or most < ROWS_TIMES * usual:
            continue
        site = _Site(fingerprint, call_site, route, as_time(first), as_time(last), times)
        yield _evidence(
            "unbounded", site, {"rows_max": most, "rows_usual": round(usual, 1), "trace_id": trace}
        )


def _is_open_list(text: StatementInfo) -> bool:
    return text.operation == "SELECT" and not LIMITED.search(text.sql) and not _AGGREGATE.match(text.sql)


def _counts_and_lists(records: Records) -> Iterator[Evidence]:
    """Yield COUNTs of what the same unit of work reads as a whole anyway, so that len() would do."""
    counts = {
        row.fingerprint: match[1]
        for row in Statement.objects.filter(operation="SELECT", sql__startswith="SELECT COUNT(")
        if (match := _COUNT.match(row.sql)) is not None
    }
    if not counts:
        return
    lists = _lists_of({part: fingerprint for fingerprint, part in counts.items()})
    sites: dict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for chosen in chunks(sorted({*counts, *lists})):
        wanted = records.filter(
            fingerprint__in=chosen, unit_id__isnull=False, error__isnull=True, repeats_allowed=False
        )
        columns = ("unit_id", "fingerprint", "call_site", "route", "time", "trace_id")
        for unit_id, fingerprint, *rest in fetch(wanted.order_by().values_list(*columns)):
            sites[unit_id].setdefault(fingerprint, tuple(rest))
    found: dict[tuple[str, str | None], list[tuple[Any, ...]]] = defaultdict(list)
    for of_unit in sites.values():
        for fingerprint in of_unit.keys() & lists.keys():
            for count in lists[fingerprint] & of_unit.keys():
                found[count, of_unit[count][0]].append((*of_unit[count], fingerprint))
    for (count, call_site), units in found.items():
        times = [as_time(unit[2]) for unit in units]
        site = _Site(count, call_site, units[0][1], min(times), max(times), len(units))
        yield _evidence("count_and_list", site, {"list": units[0][4], "trace_id": units[0][3]})


def find_idle_transactions(since: datetime) -> Iterator[Evidence]:
    """Yield the routes and commands of units that ended after a time and left a transaction idle."""
    found = (
        Unit.objects.filter(ended_at__gte=since - UNITS_LATE, idle_transaction_ms__gte=IDLE_TRANSACTION_MS)
        .order_by()
        .values("route", "view")
        .annotate(
            first=Min("time"),
            last=Max("ended_at"),
            times=Count("*"),
            longest_ms=Max("idle_transaction_ms"),
            trace=Max("trace_id"),
        )
        .values_list("route", "view", "first", "last", "times", "longest_ms", "trace")
    )
    for route, view, first, last, times, longest_ms, trace in fetch(found):
        yield Evidence(
            kind="idle_transaction",
            route=route or view,
            by_route=True,
            figures={"idle_ms_max": round(longest_ms, 1), "trace_id": trace},
            started_at=as_time(first),
            seen_at=as_time(last),
            times=times,
        )


def _lists_of(counts: dict[str, str]) -> dict[str, set[str]]:
    """Return, by the fingerprint of a list, those of the COUNTs with the same tables and conditions."""
    lists: dict[str, set[str]] = defaultdict(set)
    selects = Statement.objects.filter(operation="SELECT").exclude(sql__startswith="SELECT COUNT(")
    for fingerprint, sql in selects.values_list("fingerprint", "sql").iterator():
        match = None if LIMITED.search(sql) else _LIST.match(sql)
        if match is not None and match[1] in counts:
            lists[fingerprint].add(counts[match[1]])
    return lists


def _evidence(kind: str, site: _Site, figures: dict[str, Any]) -> Evidence:
    return Evidence(
        kind=kind,
        fingerprint=site.fingerprint,
        call_site=site.call_site,
        route=site.route,
        by_route=site.call_site is None,
        figures=figures,
        started_at=site.first,
        seen_at=site.last,
        times=site.times,
    )
