"""Find N+1 queries and their remedies: the rows of `repeats/`.

One scan of the ring finds statements that one line sends repeatedly in one unit of work; the rules in
`sqllogs.sql.n_plus_one` decide which of these are suspects. Runs in the reader's thread.
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
from sqllogs.read.records import fingerprint_of, rfc3339, statements
from sqllogs.read.ring import RingSnapshot, chunks, in_ring
from sqllogs.read.scope import Answer, Scope, head
from sqllogs.sql.n_plus_one import CANDIDATES, Kind, Remedies, Repetition, Rules
from sqllogs.sql.normalize import StatementInfo

_KEYS = ("unit_id", "statement_number", "call_site")
_FIGURES = ("times", "total_ms", "first_seq", "last_seq", "any_group")


class _End(NamedTuple):
    """The columns of the first and the last record of a repetition."""

    time: datetime
    rows: int | None
    sql_length: int
    trace_id: str
    route: str | None
    view: str | None


class SuspectRepetition(NamedTuple):
    """A statement that one line sent repeatedly in one unit of work, and that is no intended loop."""

    trace_id: str
    fingerprint: str
    call_site: str | None
    times: int
    total_ms: float
    time: datetime
    """Time of the last one."""
    route: str | None
    view: str | None
    group: Any


@dataclass(slots=True, kw_only=True)
class Suspect:
    """An N+1 of one statement and line, over all units of work."""

    statement: StatementInfo
    call_site: str | None
    worst: SuspectRepetition
    requests: int = 0
    calls: int = 0
    total_ms: float = 0.0
    routes: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    last_seen: datetime

    def add(self, repetition: SuspectRepetition) -> None:
        self.requests += 1
        self.calls += repetition.times
        self.total_ms += repetition.total_ms
        if repetition.route:
            self.routes[repetition.route] += 1
        if repetition.view:
            self.views[repetition.view] += 1
        self.last_seen = max(self.last_seen, repetition.time)
        if repetition.times > self.worst.times:
            self.worst = repetition


def find_suspects(filtered: Records, ring: RingSnapshot) -> list[Suspect]:
    """Return the suspects among all matching records, in no particular order."""
    texts, repetitions = _suspect_repetitions(in_ring(filtered, ring), ring, "fingerprint")
    suspects: dict[tuple[str, str | None, str | None], Suspect] = {}
    for repetition in repetitions:
        fingerprint, call_site = repetition.fingerprint, repetition.call_site
        # Without a call site the same statement of two routes would be one suspect.
        origin = repetition.route or repetition.view if call_site is None else None
        suspect = suspects.get((fingerprint, call_site, origin))
        if suspect is None:
            suspect = suspects[fingerprint, call_site, origin] = Suspect(
                statement=texts[fingerprint],
                call_site=call_site,
                worst=repetition,
                last_seen=repetition.time,
            )
        suspect.add(repetition)
    return list(suspects.values())


def worst_by_group(filtered: Records, ring: RingSnapshot, column: str) -> dict[Any, int]:
    """Return, by group, how often at most one line sent the same statement in a unit of work recently."""
    worst: dict[Any, int] = {}
    for repetition in _suspect_repetitions(newest(filtered, ring), ring, column)[1]:
        worst[repetition.group] = max(worst.get(repetition.group, 0), repetition.times)
    return worst


def tables_of(filtered: Records, ring: RingSnapshot, trace_ids: Iterable[str]) -> dict[str, set[str]]:
    """Return the tables that each of some traces has queried."""
    tables: dict[str, set[str]] = {}
    for chosen in chunks(list(trace_ids)):
        pairs = in_ring(filtered, ring).filter(trace_id__in=chosen).order_by()
        rows = list(fetch(pairs.values_list("trace_id", "fingerprint").distinct()))
        texts = statements({fingerprint for _, fingerprint in rows})
        for trace_id, fingerprint in rows:
            if fingerprint in texts:
                tables.setdefault(trace_id, set()).update(texts[fingerprint].tables.split(","))
    return tables


def _suspect_repetitions(
    records: Records, ring: RingSnapshot, group: str
) -> tuple[dict[str, StatementInfo], list[SuspectRepetition]]:
    # The scan sorts keys, counts and ids only; the rest is read from the first and the last record of each
    # repetition. Over 100,000 records on SQLite that took 168 ms instead of 268.
    settings = conf.load()
    key = "statement_number" if group == "fingerprint" else group
    rows = list(fetch(_repeated(records, key, settings.n_plus_one_threshold)))
    fingerprints = {row[1]: fingerprint_of(row[1]) for row in rows}
    texts = statements(fingerprints.values())
    ends = _ends(ring, {seq for row in rows for seq in row[5:7]})
    rules = Rules(settings)
    suspects = []
    for _, number, call_site, times, total_ms, first_seq, last_seq, value in rows:
        fingerprint = fingerprints[number]
        value = fingerprint if group == "fingerprint" else value
        statement, first, last = texts.get(fingerprint), ends.get(first_seq), ends.get(last_seq)
        # The rules need the text, and both records, which may just have been overwritten.
        if statement is None or first is None or last is None:
            continue
        if rules.is_suspect(statement, call_site, Repetition(times=times, first=first, last=last)):
            repeated = (fingerprint, call_site, times, total_ms)
            suspects.append(
                SuspectRepetition(last.trace_id, *repeated, last.time, last.route, last.view, value)
            )
    return texts, suspects


def _ends(ring: RingSnapshot, seqs: Collection[int]) -> dict[int, _End]:
    """Read records by their numbers."""
    rows = columns_by_seq(ring, seqs, *_End._fields)
    return {seq: _End(as_time(time), *rest) for seq, time, *rest in rows}


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
            any_group=Max(group),
        )
        .filter(times__gte=threshold)
        .values_list(*_KEYS, *_FIGURES)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatRow:
    """A statement that one line sends repeatedly in a unit of work; durations in milliseconds."""

    fingerprint: str
    call_site: str | None
    sql: str | None
    operation: str
    tables: list[str]
    times_per_request: float
    """Mean over the affected units of work."""
    times_max: int
    requests: int
    """Number of affected requests, commands and tasks."""
    calls: int
    total_ms: float
    route: str | None
    """The route affected most often."""
    view: str | None
    last_seen: str
    trace_id: str
    """Trace with the most repetitions."""
    remedy: Kind | None
    """Null if none is known."""
    model: str | None
    """The model whose rows are read one by one, as app.Model."""
    field: str | None
    """The relation through which they are read, as app.Model.field."""
    advice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsAnswer(Answer):
    """The answer of `repeats/`, in the order of its JSON."""

    threshold: int
    """Minimum number of repetitions in one unit of work: the setting N_PLUS_ONE_THRESHOLD."""
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
    """Find the suspects among the matching records; return the requested page."""
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
    tables: dict[str, set[str]] = {}
    if scope.wants("remedy", "model", "field", "advice"):
        tables = tables_of(scope.records, scope.ring, {suspect.worst.trace_id for suspect in shown})
    return [_row(suspect, remedies, tables.get(suspect.worst.trace_id, set()), scope) for suspect in shown]


def _row(suspect: Suspect, remedies: Remedies, queried_tables: set[str], scope: Scope) -> RepeatRow:
    statement = suspect.statement
    tables = statement.tables.split(",") if statement.tables else []
    remedy = remedies.remedy(statement.operation, statement.sql, tables, queried_tables)
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
        route=_most_common(suspect.routes),
        view=_most_common(suspect.views),
        last_seen=rfc3339(suspect.last_seen),
        trace_id=suspect.worst.trace_id,
        remedy=remedy.kind if remedy else None,
        model=remedy.model if remedy else None,
        field=remedy.field if remedy else None,
        advice=remedy.advice if remedy else None,
    )


def _most_common(counts: Counter[str]) -> str | None:
    return next((name for name, _ in counts.most_common(1)), None)
