"""The N+1 suspects with what to do about them: the rows of `repeats/`."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from sqllogs import conf, queries
from sqllogs.aggregation import Slice
from sqllogs.queries.repeats import Suspect
from sqllogs.remedies import Kind, Remedies
from sqllogs.reports.scope import Answer, Scope, head
from sqllogs.rows import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatRow:
    """A statement that one line sends again and again; durations in milliseconds."""

    fingerprint: str
    call_site: str | None
    sql: str | None
    operation: str
    tables: list[str]
    times_per_request: float
    """On average over the requests hit."""
    times_max: int
    requests: int
    """Requests, commands and tasks that it hits."""
    calls: int
    total_ms: float
    route: str | None
    """The one hit most often."""
    view: str | None
    last_seen: str
    trace_id: str
    """Of the worst example."""
    remedy: Kind | None
    """None where the statement does not tell."""
    model: str | None
    """Whose rows are asked for one by one, as app.Model."""
    field: str | None
    """The relation that leads to them, as app.Model.field."""
    advice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats(Answer):
    """The answer of `repeats/`, in the order of its JSON."""

    threshold: int
    """So many times make a suspect."""
    count: int
    next: str | None
    previous: str | None
    results: list[RepeatRow]


ORDERINGS: dict[str, Callable[[Suspect], Any]] = {
    "total_ms": lambda suspect: suspect.total_ms,
    "calls": lambda suspect: suspect.calls,
    "requests": lambda suspect: suspect.requests,
    "times_per_request": lambda suspect: suspect.calls / suspect.requests,
    "times_max": lambda suspect: suspect.worst.times,
    "last_seen": lambda suspect: suspect.last_seen,
}
DEFAULT_ORDERING = "-total_ms"


def read_repeats(request: HttpRequest, scope: Scope, page: Slice) -> Repeats:
    """Find the suspects among what matches and return the page asked for."""
    suspects = queries.suspects(scope.records, scope.ring)
    shown = page.cut(suspects, ORDERINGS[page.column])
    return Repeats(
        **head(scope.span),
        threshold=conf.load().n_plus_one_threshold,
        count=len(suspects),
        next=page.next_url(request, len(suspects)),
        previous=page.previous_url(request),
        results=_rows(scope, shown) if shown else [],
    )


def _rows(scope: Scope, shown: list[Suspect]) -> list[RepeatRow]:
    remedies = Remedies()
    seen = queries.tables_of(scope.records, scope.ring, {suspect.worst.trace_id for suspect in shown})
    return [_row(suspect, remedies, seen.get(suspect.worst.trace_id, set()), scope) for suspect in shown]


def _row(suspect: Suspect, remedies: Remedies, seen: set[str], scope: Scope) -> RepeatRow:
    statement = suspect.statement
    tables = statement.tables.split(",") if statement.tables else []
    remedy = remedies.remedy(statement.operation, statement.sql, tables, seen)
    return RepeatRow(
        fingerprint=statement.fingerprint,
        call_site=suspect.call_site,
        sql=statement.sql if scope.with_text else None,
        operation=statement.operation,
        tables=tables,
        times_per_request=suspect.calls / suspect.requests,
        times_max=suspect.worst.times,
        requests=suspect.requests,
        calls=suspect.calls,
        total_ms=suspect.total_ms,
        route=_most(suspect.routes),
        view=_most(suspect.views),
        last_seen=rfc3339(suspect.last_seen),
        trace_id=suspect.worst.trace_id,
        remedy=remedy.kind if remedy else None,
        model=remedy.model if remedy else None,
        field=remedy.field if remedy else None,
        advice=remedy.advice if remedy else None,
    )


def _most(counted: Counter[str]) -> str | None:
    return next((name for name, _ in counted.most_common(1)), None)
