"""Add the ring up by trace: requests, commands and tasks with their queries, the rows of `requests/`.

One scan chooses the traces of a page; everything else is read for that page only. Runs in the reader's
thread.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, Sum
from django.http import HttpRequest

from sqllogs.read import records
from sqllogs.read.aggregates import Records, as_time, columns_by_seq, fetch, times_by_seq
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import rfc3339
from sqllogs.read.ring import RingSnapshot, chunks, in_ring, since
from sqllogs.read.scope import Answer, Scope, head

LAST = (
    "time", "duration_ms", "kind", "route", "view", "method", "status", "request_id", "release", "service",
    "host",
)  # fmt: skip
"""What is read from a trace's last record: status and route are known best there."""


class Unit(NamedTuple):
    """The matching records of one trace, added up."""

    trace_id: str
    queries: int
    errors: int
    total_ms: float
    statements: int
    """Different ones."""
    first_seq: int
    last_seq: int

    @property
    def duplicates(self) -> int:
        return self.queries - self.statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A statement that one line of one unit of work has sent several times."""

    times: int
    fingerprint: str
    call_site: str | None


def of_units(filtered: Records) -> Records:
    """Leave out the records without a trace, which belong to no unit of work."""
    return filtered.filter(trace_id__isnull=False)


def find_units(filtered: Records, ring: RingSnapshot) -> list[Unit]:
    """Add all matching records up by trace."""
    found = (
        in_ring(of_units(filtered), ring)
        .order_by()
        .values("trace_id")
        .annotate(
            queries=Count("*"),
            errors=Count("error"),
            total_ms=Sum("duration_ms"),
            statements=Count("fingerprint", distinct=True),
            # Numbers, not times: these are texts to SQLite, and sorted along.
            first_seq=Min("seq"),
            last_seq=Max("seq"),
        )
        .values_list(*Unit._fields)
    )
    return [Unit._make(row) for row in fetch(found)]


def last_records(ring: RingSnapshot, seqs: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Look the last records of traces up by their numbers."""
    return {seq: dict(zip(LAST, values, strict=True)) for seq, *values in columns_by_seq(ring, seqs, *LAST)}


def worst_repeats(filtered: Records, ring: RingSnapshot, units: Sequence[Unit]) -> dict[str, Repeat]:
    """Return, for each of some traces, what was sent most often from one line."""
    worst: dict[str, Repeat] = {}
    first = min((unit.first_seq for unit in units), default=0)
    for chosen in chunks([unit.trace_id for unit in units]):
        found = (
            since(filtered, ring, first)
            .filter(trace_id__in=chosen)
            .order_by()
            .values("trace_id", "unit_id", "fingerprint", "call_site")
            .annotate(times=Count("slot"))
            .filter(times__gt=1)
            .values_list("trace_id", "fingerprint", "call_site", "times")
        )
        for trace_id, fingerprint, call_site, times in fetch(found):
            if trace_id not in worst or times > worst[trace_id].times:
                worst[trace_id] = Repeat(times=times, fingerprint=fingerprint, call_site=call_site)
    return worst


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """The matching queries of one trace; durations in milliseconds."""

    trace_id: str
    time: str
    """When the first query was sent."""
    kind: str | None
    route: str | None
    view: str | None
    method: str | None
    status: int | None
    request_id: str | None
    release: str | None
    service: str | None
    host: str | None
    queries: int
    errors: int
    total_ms: float
    elapsed_ms: float | None
    """From the first query's begin to the last one's end."""
    share_percent: float | None
    """Share of the elapsed time that was spent in queries."""
    duplicates: int
    """Queries whose statement had been sent before."""
    worst_repeat: int
    """How often the statement that was sent most often from one line was sent."""
    worst_fingerprint: str | None
    """That statement; None if nothing was sent twice."""
    worst_call_site: str | None
    worst_sql: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsAnswer(Answer):
    """The answer of `requests/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[RequestRow]


ORDERINGS: dict[str, Callable[[Unit], Any]] = {
    "time": lambda unit: unit.first_seq,
    "queries": lambda unit: unit.queries,
    "errors": lambda unit: unit.errors,
    "total_ms": lambda unit: unit.total_ms,
    "duplicates": lambda unit: unit.duplicates,
}
DEFAULT_ORDERING = "-time"


def read_requests(request: HttpRequest, scope: Scope, page: OffsetPage) -> RequestsAnswer:
    """Add up what matches by trace and return the page asked for; one beyond the last is empty."""
    units = find_units(scope.records, scope.ring)
    shown = page.cut(units, ORDERINGS[page.column])
    return RequestsAnswer(
        **head(scope.span),
        count=len(units),
        next=page.next_url(request, len(units)),
        previous=page.previous_url(request),
        results=_rows(scope, shown) if shown else [],
    )


def _rows(scope: Scope, shown: list[Unit]) -> list[RequestRow]:
    last = last_records(scope.ring, [unit.last_seq for unit in shown])
    worst = worst_repeats(scope.records, scope.ring, shown)
    begins = times_by_seq(scope.ring, [unit.first_seq for unit in shown])
    texts = records.statements({repeat.fingerprint for repeat in worst.values()}) if scope.with_text else {}
    rows = []
    for unit in shown:
        repeat = worst.get(unit.trace_id)
        text = texts.get(repeat.fingerprint) if repeat else None
        rows.append(
            RequestRow(
                **_names(last.get(unit.last_seq)),
                **_times(unit, begins.get(unit.first_seq) or scope.begin, last.get(unit.last_seq)),
                trace_id=unit.trace_id,
                queries=unit.queries,
                errors=unit.errors,
                total_ms=unit.total_ms,
                duplicates=unit.duplicates,
                worst_repeat=repeat.times if repeat else 1,
                worst_fingerprint=repeat.fingerprint if repeat else None,
                worst_call_site=repeat.call_site if repeat else None,
                worst_sql=text.sql if text else None,
            )
        )
    return rows


NAMES = ("kind", "route", "view", "method", "status", "request_id", "release", "service", "host")


def _names(last: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the last record says of its request; it may have been overwritten meanwhile."""
    return {name: last[name] if last else None for name in NAMES}


def _times(unit: Unit, begin: datetime, last: dict[str, Any] | None) -> dict[str, Any]:
    if last is None:
        return {"time": rfc3339(begin), "elapsed_ms": None, "share_percent": None}
    end = as_time(last["time"]) + timedelta(milliseconds=last["duration_ms"])
    # Of queries that ran at once, the last one sent need not be the last to end.
    elapsed_ms = max((end - begin) / timedelta(milliseconds=1), 0.0)
    share_percent = min(100.0, 100 * unit.total_ms / elapsed_ms) if elapsed_ms else 100.0
    return {"time": rfc3339(begin), "elapsed_ms": elapsed_ms, "share_percent": share_percent}
