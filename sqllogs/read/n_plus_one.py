"""Find the N+1 suspects, with a remedy for each: the rows of `repeats/`.

One scan of the ring finds what one line sends repeatedly in one unit of work; `sqllogs.sql.n_plus_one`
decides which of these are suspects. Runs in the reader's thread.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, Sum
from django.http import HttpRequest

from sqllogs import conf
from sqllogs.read.aggregates import Records, as_time, columns_by_seq, fetch, newest
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import rfc3339, statements
from sqllogs.read.ring import RingSnapshot, chunks, in_ring
from sqllogs.read.scope import Answer, Scope, head
from sqllogs.sql.n_plus_one import CANDIDATES, Repetition, Rules
from sqllogs.sql.normalize import StatementInfo
from sqllogs.sql.remedies import Kind, Remedies

_KEYS = ("unit_id", "fingerprint", "call_site")
_FIGURES = ("times", "total_ms", "first_seq", "last_seq", "a_group")


class _End(NamedTuple):
    """What is read of the first and the last record of a repetition."""

    time: datetime
    rows: int | None
    sql_length: int
    trace_id: str
    route: str | None
    view: str | None


class Found(NamedTuple):
    """A statement that one line of one unit of work has sent often, and is not meant to."""

    trace_id: str
    fingerprint: str
    call_site: str | None
    times: int
    total_ms: float
    time: datetime
    """Of the last one."""
    route: str | None
    view: str | None
    group: Any


@dataclass(slots=True, kw_only=True)
class Suspect:
    """A statement and a line that belong to an N+1, over all requests."""

    statement: StatementInfo
    call_site: str | None
    worst: Found
    requests: int = 0
    calls: int = 0
    total_ms: float = 0.0
    routes: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    last_seen: datetime

    def add(self, found: Found) -> None:
        self.requests += 1
        self.calls += found.times
        self.total_ms += found.total_ms
        if found.route:
            self.routes[found.route] += 1
        if found.view:
            self.views[found.view] += 1
        self.last_seen = max(self.last_seen, found.time)
        if found.times > self.worst.times:
            self.worst = found


def find_suspects(filtered: Records, ring: RingSnapshot) -> list[Suspect]:
    """Return the suspects among all matching records, in no particular order."""
    texts, found = _found(in_ring(filtered, ring), ring, "fingerprint")
    made: dict[tuple[str, str | None, str | None], Suspect] = {}
    for one in found:
        # Without a call site the same statement of two routes would be one suspect.
        key = (one.fingerprint, one.call_site, one.route or one.view if one.call_site is None else None)
        if key not in made:
            text = texts[one.fingerprint]
            made[key] = Suspect(statement=text, call_site=one.call_site, worst=one, last_seen=one.time)
        made[key].add(one)
    return list(made.values())


def worst_by_group(filtered: Records, ring: RingSnapshot, column: str) -> dict[Any, int]:
    """Return the largest number of times one line of a unit of work has sent a group's statement recently."""
    worst: dict[Any, int] = {}
    for one in _found(newest(filtered, ring), ring, column)[1]:
        worst[one.group] = max(worst.get(one.group, 0), one.times)
    return worst


def tables_of(filtered: Records, ring: RingSnapshot, trace_ids: Iterable[str]) -> dict[str, set[str]]:
    """Return what tables each of some traces has asked."""
    seen: dict[str, set[str]] = {}
    for chosen in chunks(list(trace_ids)):
        pairs = in_ring(filtered, ring).filter(trace_id__in=chosen).order_by()
        found = list(fetch(pairs.values_list("trace_id", "fingerprint").distinct()))
        texts = statements({fingerprint for _, fingerprint in found})
        for trace_id, fingerprint in found:
            if fingerprint in texts:
                seen.setdefault(trace_id, set()).update(texts[fingerprint].tables.split(","))
    return seen


def _found(records: Records, ring: RingSnapshot, group: str) -> tuple[dict[str, StatementInfo], list[Found]]:
    settings = conf.load()
    rows = list(fetch(_repeated(records, group, settings.n_plus_one_threshold)))
    texts = statements({row[1] for row in rows})
    ends = _ends(ring, {seq for row in rows for seq in row[5:7]})
    rules = Rules(settings)
    found = []
    for _, fingerprint, call_site, times, total_ms, first_seq, last_seq, value in rows:
        statement, first, last = texts.get(fingerprint), ends.get(first_seq), ends.get(last_seq)
        # A statement without a text, or one that is just being overwritten, cannot be judged.
        if statement is None or first is None or last is None:
            continue
        if rules.is_suspect(statement, call_site, Repetition(times=times, first=first, last=last)):
            repeated = (fingerprint, call_site, times, total_ms)
            found.append(Found(last.trace_id, *repeated, last.time, last.route, last.view, value))
    return texts, found


def _ends(ring: RingSnapshot, seqs: Collection[int]) -> dict[int, _End]:
    """Look records up by their numbers."""
    found = columns_by_seq(ring, seqs, *_End._fields)
    return {seq: _End(as_time(time), *rest) for seq, time, *rest in found}


def _repeated(records: Records, group: str, threshold: int) -> Any:
    keys = dict.fromkeys((*_KEYS, group))
    return (
        records.filter(unit_id__isnull=False, **CANDIDATES)
        .order_by()
        .values(*keys)
        .annotate(
            times=Count("*"),
            total_ms=Sum("duration_ms"),
            first_seq=Min("seq"),
            last_seq=Max("seq"),
            a_group=Max(group),
        )
        .filter(times__gte=threshold)
        .values_list(*_KEYS, *_FIGURES)
    )


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
    """None if the statement does not show it."""
    model: str | None
    """Whose rows are asked for one by one, as app.Model."""
    field: str | None
    """The relation that leads to them, as app.Model.field."""
    advice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsAnswer(Answer):
    """The answer of `repeats/`, in the order of its JSON."""

    threshold: int
    """Repetitions in one unit of work from which a statement is a suspect."""
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


def read_repeats(request: HttpRequest, scope: Scope, page: OffsetPage) -> RepeatsAnswer:
    """Find the suspects among what matches and return the page asked for."""
    suspects = find_suspects(scope.records, scope.ring)
    shown = page.cut(suspects, ORDERINGS[page.column])
    return RepeatsAnswer(
        **head(scope.span),
        threshold=conf.load().n_plus_one_threshold,
        count=len(suspects),
        next=page.next_url(request, len(suspects)),
        previous=page.previous_url(request),
        results=_rows(scope, shown) if shown else [],
    )


def _rows(scope: Scope, shown: list[Suspect]) -> list[RepeatRow]:
    remedies = Remedies()
    seen = tables_of(scope.records, scope.ring, {suspect.worst.trace_id for suspect in shown})
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
