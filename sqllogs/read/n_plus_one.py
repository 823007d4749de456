"""Find N+1 queries and their remedies: the rows of `repeats/`.

One scan of the ring finds statements that one line sent repeatedly in one unit of work. The rules in
`sqllogs.sql.n_plus_one` decide which of them are suspects, and `sqllogs.sql.remedies` what to do. Feeds API,
page, admin, terminal and findings, in the reader's thread.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, Q, Sum
from django.http import HttpRequest

from sqllogs import conf
from sqllogs.models import SQLLog, Unit
from sqllogs.read.aggregates import as_time, columns_by_seq, fetch, newest
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import ReadTexts, Texts, fingerprint_of, rfc3339, statements, table_names
from sqllogs.read.ring import Records, RingSnapshot, chunks, in_ranges, in_ring
from sqllogs.read.scope import Answer, Scope, head
from sqllogs.record import REPEATS_MAX
from sqllogs.sql.advice import Kind, Remedy
from sqllogs.sql.n_plus_one import CANDIDATES, Repetition, Rules, SeenStatement
from sqllogs.sql.normalize import StatementInfo
from sqllogs.sql.remedies import Remedies


class _Repeated(NamedTuple):
    """A row of the scan: the first three columns are the group, the others aggregates."""

    unit_id: str
    statement_number: int
    call_site: str | None
    times: int
    total_ms: float
    first_seq: int
    last_seq: int
    asker: str | None
    any_group: Any


_KEYS = _Repeated._fields[:3]


class _End(NamedTuple):
    """The columns of the first and the last record of a repetition."""

    time: datetime
    rows: int | None
    sql_length: int
    trace_id: str
    route: str | None
    view: str | None


class SuspectRepetition(NamedTuple):
    """A statement that one line sent repeatedly in one unit of work, without that being intended."""

    trace_id: str
    fingerprint: str
    call_site: str | None
    times: int
    total_ms: float
    time: datetime
    """Time of the last one."""
    route: str | None
    view: str | None
    asked_by: str | None
    group: Any


@dataclass(slots=True, kw_only=True)
class Suspect:
    """An N+1 of one statement and line, over all units of work."""

    statement: StatementInfo
    call_site: str | None
    worst: SuspectRepetition
    asked: SuspectRepetition | None = None
    """The worst repetition whose `asked_by` is known."""
    ring: RingSnapshot
    requests: int = 0
    calls: int = 0
    total_ms: float = 0.0
    routes: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    last_seen: datetime

    @property
    def advice(self) -> str | None:
        """What to do; this depends on the other statements of the trace, which are read in one query."""
        (remedy,) = remedies_of(self.ring, [self])
        return remedy.advice if remedy else None

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
        # May differ from the worst: records stored by an earlier release have no `asked_by`.
        if repetition.asked_by and (self.asked is None or repetition.times > self.asked.times):
            self.asked = repetition


def find_suspects(filtered: Records, ring: RingSnapshot, read_texts: ReadTexts = statements) -> list[Suspect]:
    """Return the suspects among all matching records, in no particular order."""
    texts, repetitions = _suspect_repetitions(in_ring(filtered, ring), ring, "fingerprint", read_texts)
    suspects: dict[tuple[str, str | None, str | None], Suspect] = {}
    for repetition in repetitions:
        fingerprint, call_site = repetition.fingerprint, repetition.call_site
        # Without a call site, suspects are kept apart by route or view.
        origin = repetition.route or repetition.view if call_site is None else None
        suspect = suspects.get((fingerprint, call_site, origin))
        if suspect is None:
            suspect = suspects[fingerprint, call_site, origin] = Suspect(
                statement=texts[fingerprint],
                call_site=call_site,
                worst=repetition,
                ring=ring,
                last_seen=repetition.time,
            )
        suspect.add(repetition)
    return list(suspects.values())


def worst_by_group(
    filtered: Records, ring: RingSnapshot, column: str, read_texts: ReadTexts = statements
) -> dict[Any, int]:
    """Return, by group, how often a line recently repeated a statement in a unit of work, at most."""
    # Only the newest records, because grouping the whole ring by line too would take twice as long.
    worst: dict[Any, int] = {}
    for repetition in _suspect_repetitions(newest(filtered, ring), ring, column, read_texts)[1]:
        worst[repetition.group] = max(worst.get(repetition.group, 0), repetition.times)
    return worst


def seen_statements(
    ring: RingSnapshot, trace_ids: Iterable[str], known: Texts = MappingProxyType({})
) -> dict[str, list[SeenStatement]]:
    """Return all statements of some traces, by trace, regardless of the reader's filters.

    `known` has texts that need not be read again.
    """
    seen: dict[str, list[SeenStatement]] = {}
    for chosen in chunks(list(trace_ids)):
        found = (
            in_ring(SQLLog.objects.all(), ring)
            .filter(trace_id__in=chosen)
            .order_by()
            .values("trace_id", "fingerprint", "call_site")
            .annotate(most_rows=Max("rows"), asker=Min("asked_by"))
            .values_list("trace_id", "fingerprint", "call_site", "most_rows", "asker")
        )
        rows = list(fetch(found))
        texts = {**known, **statements({row[1] for row in rows} - known.keys())}
        for trace_id, fingerprint, call_site, most_rows, asker in rows:
            if fingerprint in texts:
                text = texts[fingerprint]
                one = SeenStatement.of_statement(text.sql, table_names(text), most_rows, asker, call_site)
                seen.setdefault(trace_id, []).append(one)
    return seen


def _suspect_repetitions(
    records: Records, ring: RingSnapshot, group: str, read_texts: ReadTexts
) -> tuple[Texts, list[SuspectRepetition]]:
    # The scan sorts only keys, counts and ids; everything else is read from the first and last record of each
    # repetition. This takes 168 instead of 268 ms for 100,000 records on SQLite.
    settings = conf.load()
    key = "statement_number" if group == "fingerprint" else group
    rows = [_Repeated._make(row) for row in _repeated(records, ring, key, settings.n_plus_one_threshold)]
    fingerprints = {row.statement_number: fingerprint_of(row.statement_number) for row in rows}
    texts = read_texts(fingerprints.values())
    ends = _ends(ring, {seq for row in rows for seq in (row.first_seq, row.last_seq)})
    rules = Rules(settings)
    suspects = []
    for row in rows:
        fingerprint = fingerprints[row.statement_number]
        statement, first, last = texts.get(fingerprint), ends.get(row.first_seq), ends.get(row.last_seq)
        # The rules need the text and both records, which may just have been overwritten.
        if statement is None or first is None or last is None:
            continue
        repetition = Repetition(times=row.times, first=first, last=last, asked_by=row.asker)
        if rules.is_suspect(statement, row.call_site, repetition):
            suspects.append(
                SuspectRepetition(
                    trace_id=last.trace_id,
                    fingerprint=fingerprint,
                    call_site=row.call_site,
                    times=row.times,
                    total_ms=row.total_ms,
                    time=last.time,
                    route=last.route,
                    view=last.view,
                    asked_by=row.asker,
                    group=fingerprint if group == "fingerprint" else row.any_group,
                )
            )
    return texts, suspects


def _ends(ring: RingSnapshot, seqs: Collection[int]) -> dict[int, _End]:
    """Read records by their numbers."""
    rows = columns_by_seq(ring, seqs, *_End._fields)
    return {seq: _End(as_time(time), *rest) for seq, time, *rest in rows}


SPANS_MAX, SPANS_SHARE_MAX = 32, 0.25
"""With more or longer units, one scan of all records is faster than reading the records of each unit."""
SPANS_FROM_ROWS = 10_000
"""Below this, a scan of all records takes less time than further queries."""


def _repeated(records: Records, ring: RingSnapshot, group: str, threshold: int) -> Iterator[Any]:
    # The writer has counted repetitions, which excludes most units. Without this, 100,000 records took 240
    # ms.
    counted = Q(worst_repeat__gte=threshold) | Q(queries__gt=REPEATS_MAX) | Q(unit_id=None)
    units = Unit.objects.using(records.db).filter(counted, last_seq__gte=ring.oldest, first_seq__lte=ring.seq)
    slots, outside = units.values("slot"), Q(unit=None)
    if ring.seq - ring.oldest < SPANS_FROM_ROWS:
        yield from fetch(_counted(records.filter(Q(unit__in=slots) | outside), group, threshold))
        return
    found = sorted(units.values_list("first_seq", "last_seq")[: SPANS_MAX + 1])
    spans = [(max(first, ring.oldest), min(last, ring.seq)) for first, last in found]
    numbers = sum(last - first + 1 for first, last in spans)
    if len(spans) > SPANS_MAX or numbers > SPANS_SHARE_MAX * ring.capacity:
        chosen = [records.filter(Q(unit__in=slots) | outside)]
    else:
        # The first condition excludes nearly all records, so it is tested first: that takes half the time.
        first = SQLLog.objects.using(records.db).filter(outside) & records
        chosen = [first, *in_ranges(records.filter(unit__in=slots), ring, spans)]
    for some in chosen:
        yield from fetch(_counted(some, group, threshold))


def _counted(records: Records, group: str, threshold: int) -> Any:
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
            # Min() returns the text without " same", if capture reported both: at first, all values were
            # equal.
            asker=Min("asked_by"),
            any_group=Max(group),
        )
        .filter(times__gte=threshold)
        .values_list(*_Repeated._fields)
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
    """The relation through which they are read, or the deferred field, as app.Model.field."""
    queryset: str | None
    """The model to whose queryset the code belongs, as app.Model."""
    code: str | None
    """The method to add to it, as in `select_related("author")`; `...` stands for what is not known."""
    is_guess: bool
    """The advice was concluded from statements alone, without knowing the code in the ORM."""
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


def read_repeats(
    request: HttpRequest, scope: Scope, page: OffsetPage, read_texts: ReadTexts = statements
) -> RepeatsAnswer:
    """Find the suspects among the matching records; return the requested page."""
    suspects = find_suspects(scope.records, scope.ring, read_texts)
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
    found = remedies_of(scope.ring, shown) if scope.wants(*_REMEDY) else [None] * len(shown)
    return [_row(suspect, remedy, scope) for suspect, remedy in zip(shown, found, strict=True)]


_REMEDY = ("remedy", "model", "field", "queryset", "code", "is_guess", "advice")


def remedies_of(ring: RingSnapshot, suspects: Iterable[Suspect]) -> list[Remedy | None]:
    """Return the remedy of each suspect; None if none is known."""
    # A known origin gives a certain remedy; the statement alone allows only a guess.
    pairs = [(suspect.statement, suspect.asked or suspect.worst) for suspect in suspects]
    known = {statement.fingerprint: statement for statement, _ in pairs}
    remedies, seen = Remedies(), seen_statements(ring, {one.trace_id for _, one in pairs}, known)
    return [
        remedies.remedy(
            statement.operation,
            statement.sql,
            table_names(statement),
            seen.get(one.trace_id, ()),
            asked_by=one.asked_by,
            call_site=one.call_site,
        )
        for statement, one in pairs
    ]


def _row(suspect: Suspect, remedy: Remedy | None, scope: Scope) -> RepeatRow:
    statement = suspect.statement
    return RepeatRow(
        fingerprint=statement.fingerprint,
        call_site=suspect.call_site,
        sql=statement.sql if scope.with_text else None,
        operation=statement.operation,
        tables=table_names(statement),
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
        queryset=remedy.queryset if remedy else None,
        code=remedy.code if remedy else None,
        is_guess=remedy.is_guess if remedy else False,
        advice=remedy.advice if remedy else None,
    )


def _most_common(counts: Counter[str]) -> str | None:
    return next((name for name, _ in counts.most_common(1)), None)
