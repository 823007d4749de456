"""Requests, commands and tasks by what they have queried: the rows of `requests/`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest

from sqllogs import queries
from sqllogs.aggregation import Slice
from sqllogs.queries.figures import as_time
from sqllogs.queries.units import Unit
from sqllogs.reports.scope import Answer, Scope, head
from sqllogs.rows import rfc3339


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
class Requests(Answer):
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


def read_requests(request: HttpRequest, scope: Scope, page: Slice) -> Requests:
    """Add up what matches by trace and return the page asked for; one beyond the last is empty."""
    units = queries.units(scope.records, scope.ring)
    shown = page.cut(units, ORDERINGS[page.column])
    return Requests(
        **head(scope.span),
        count=len(units),
        next=page.next_url(request, len(units)),
        previous=page.previous_url(request),
        results=_rows(scope, shown) if shown else [],
    )


def _rows(scope: Scope, shown: list[Unit]) -> list[RequestRow]:
    last = queries.last_records(scope.ring, [unit.last_seq for unit in shown])
    worst = queries.worst_repeats(scope.records, scope.ring, shown)
    begins = queries.times(scope.ring, [unit.first_seq for unit in shown])
    texts = queries.statements({repeat.fingerprint for repeat in worst.values()}) if scope.with_text else {}
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


NAMES = ("kind", "route", "view", "method", "status", "request_id", "release", "host")


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
