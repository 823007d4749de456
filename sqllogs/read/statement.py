"""Read everything about one statement: figures by origin and sample records, `fingerprints/<fingerprint>/`.

Runs in the reader's thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import NamedTuple

from django.http import HttpRequest
from django.urls import reverse

from sqllogs.models import Statement, StatisticKey
from sqllogs.read import n_plus_one
from sqllogs.read.aggregates import AggregatePart, Figures, Group, GroupValue, Records, parts, times_by_seq
from sqllogs.read.n_plus_one import RepeatRow
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import records, rfc3339, rows
from sqllogs.read.ring import Ordering, RingSnapshot, Window, in_ring
from sqllogs.read.scope import Answer, Scope, head
from sqllogs.record import RecordJSON

ORIGINS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrigin:
    """All calls from one place; durations in milliseconds."""

    value: str | None
    calls: int
    errors: int
    total_ms: float
    mean_ms: float | None
    p95_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    slowest: list[RecordJSON]
    newest: list[RecordJSON]
    failing: list[RecordJSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementAnswer(Answer):
    """The answer, in the order of its JSON; what matches of the statement is in the ring."""

    fingerprint: str
    sql: str | None
    operation: str | None
    tables: list[str]
    first_seen: str | None
    """When its text was first stored; None where it is not kept."""
    last_seen: str | None
    calls: int
    errors: int
    calls_per_s: float
    total_ms: float
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    rows: int | None
    call_sites: list[CallOrigin]
    routes: list[CallOrigin]
    releases: list[CallOrigin]
    aliases: list[CallOrigin]
    samples: Samples
    repeats: list[RepeatRow]
    """The N+1 that it is a suspect of."""
    series: str
    """Address of its figures over time."""
    records: str
    """Address of its records."""


def read_statement(request: HttpRequest, scope: Scope, fingerprint: str) -> StatementAnswer | None:
    """Return None for a statement that neither a text nor a matching record is known of."""
    chosen = scope.records.filter(fingerprint=fingerprint)
    text = statement(fingerprint)
    whole, by = breakdown(chosen, scope.ring)
    if text is None and not whole.calls:
        return None
    span = scope.span
    last_seen = times_by_seq(scope.ring, [whole.last_seq]).get(whole.last_seq) if whole.calls else None
    page = OffsetPage(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    suspects = n_plus_one.read_repeats(request, replaced(scope, records=chosen), page).results
    return StatementAnswer(
        **head(span),
        fingerprint=fingerprint,
        sql=text.sql if text and scope.with_text else None,
        operation=text.operation if text else None,
        tables=text.tables.split(",") if text and text.tables else [],
        first_seen=rfc3339(text.first_seen) if text else None,
        last_seen=rfc3339(last_seen) if last_seen else None,
        calls=whole.calls,
        errors=whole.errors,
        calls_per_s=whole.calls / span.seconds,
        total_ms=whole.total_ms,
        mean_ms=whole.mean_ms,
        p50_ms=whole.p50_ms,
        p95_ms=whole.p95_ms,
        p99_ms=whole.p99_ms,
        max_ms=whole.max_ms,
        rows=whole.rows,
        call_sites=_origins(by["call_site"]),
        routes=_origins(by["route"]),
        releases=_origins(by["release"]),
        aliases=_origins(by["alias"]),
        samples=Samples(**samples(chosen, scope.ring, with_text=scope.with_text)),
        repeats=suspects,
        series=_address(request, "sqllogs:series", fingerprint),
        records=_address(request, "sqllogs:list", fingerprint),
    )


def _origins(groups: Sequence[Group]) -> list[CallOrigin]:
    return [
        CallOrigin(
            value=group.group,
            calls=group.calls,
            errors=group.errors,
            total_ms=group.total_ms,
            mean_ms=group.mean_ms,
            p95_ms=group.p95_ms,
            max_ms=group.max_ms,
        )
        for group in groups[:ORIGINS_MAX]
    ]


def _address(request: HttpRequest, name: str, fingerprint: str) -> str:
    """Return the address of the same filters elsewhere."""
    query = request.GET.copy()
    query["fingerprint"] = fingerprint
    query.pop("format", None)
    return request.build_absolute_uri(f"{reverse(name)}?{query.urlencode()}")


SAMPLES = 5
BY = ("call_site", "route", "release", "alias")


class Breakdown(NamedTuple):
    """The figures of one statement, as a whole and by where it came from."""

    whole: Figures
    by: dict[str, list[Group]]
    """For each of BY, the groups that took most time first."""


def statement(fingerprint: str) -> Statement | None:
    return Statement.objects.filter(fingerprint=fingerprint).first()


def is_counted(fingerprint: str) -> bool:
    """Whether the statistics have a statement, at any time."""
    return StatisticKey.objects.filter(fingerprint=fingerprint).exists()


def breakdown(filtered: Records, ring: RingSnapshot) -> Breakdown:
    """Add the records of one statement up, in one scan."""
    found = list(parts(in_ring(filtered, ring), *BY))
    whole = Figures()
    for part in found:
        whole.add(part)
    return Breakdown(whole, {name: _by(found, number) for number, name in enumerate(BY)})


def _by(found: Iterable[AggregatePart], number: int) -> list[Group]:
    groups: dict[GroupValue, Group] = {}
    for part in found:
        value = part.keys[number]
        (groups.get(value) or groups.setdefault(value, Group(group=value))).add(part)
    return sorted(groups.values(), key=lambda group: -group.total_ms)


def samples(filtered: Records, ring: RingSnapshot, *, with_text: bool) -> dict[str, list[RecordJSON]]:
    """Return the slowest, newest and last failing records."""
    slowest = Window(ordering=Ordering(column="duration_ms"), limit=SAMPLES)
    newest = Window(ordering=Ordering(), limit=SAMPLES)
    failing = filtered.filter(error__isnull=False)
    found = {
        "slowest": rows(filtered, ring, slowest),
        "newest": rows(filtered, ring, newest),
        "failing": rows(failing, ring, newest),
    }
    return {name: records(rows, with_text=with_text) for name, rows in found.items()}
