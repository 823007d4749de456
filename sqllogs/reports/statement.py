"""All there is of one statement: the answer of `fingerprints/<fingerprint>/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced

from django.http import HttpRequest
from django.urls import reverse

from sqllogs import queries
from sqllogs.aggregation import Slice
from sqllogs.queries import Group
from sqllogs.reports import repeats
from sqllogs.reports.repeats import RepeatRow
from sqllogs.reports.scope import Answer, Scope, head
from sqllogs.rows import Record, rfc3339

ORIGINS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
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
    slowest: list[Record]
    newest: list[Record]
    failing: list[Record]


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
    call_sites: list[Origin]
    routes: list[Origin]
    releases: list[Origin]
    aliases: list[Origin]
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
    text = queries.statement(fingerprint)
    whole, by = queries.breakdown(chosen, scope.ring)
    if text is None and not whole.calls:
        return None
    span = scope.span
    last_seen = queries.times(scope.ring, [whole.last_seq]).get(whole.last_seq) if whole.calls else None
    page = Slice(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    suspects = repeats.read_repeats(request, replaced(scope, records=chosen), page).results
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
        samples=Samples(**queries.samples(chosen, scope.ring, with_text=scope.with_text)),
        repeats=suspects,
        series=_address(request, "sqllogs:series", fingerprint),
        records=_address(request, "sqllogs:list", fingerprint),
    )


def _origins(groups: Sequence[Group]) -> list[Origin]:
    return [
        Origin(
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
