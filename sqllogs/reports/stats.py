"""Figures by statement, view or what else is grouped by: the rows of `stats/`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from sqllogs import queries
from sqllogs.aggregation import Slice
from sqllogs.queries.groups import Group, Value, column
from sqllogs.reports.scope import Scope, Source, Span
from sqllogs.rows import StatementRow, rfc3339

CALL_SITES_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRow:
    """All calls of one group; durations in milliseconds."""

    group: Value
    """The value of what is grouped by; None for records that have none."""
    calls: int
    errors: int
    calls_per_s: float
    total_ms: float
    load_percent: float
    """Share of the total time of all that matched."""
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    rows: int | None
    """Rows returned or changed, where the driver told."""
    last_seen: str
    route: str | None
    """The route with the most calls."""
    call_sites: list[str]
    """Those with the most calls."""
    repeats: int
    """How often, at worst, one line of one unit of work has lately sent it; 0 if that is no N+1 suspect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementStatsRow(StatsRow):
    """All calls of one statement."""

    fingerprint: str
    sql: str | None
    operation: str | None
    tables: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The answer of `stats/`, in the order of its JSON."""

    source: Source
    complete_since: str | None
    begin: str
    end: str
    group_by: str
    count: int
    next: str | None
    previous: str | None
    results: list[StatsRow]


ORDERINGS: dict[str, Callable[[Group], Any]] = {
    "group": lambda group: group.value,
    "calls": lambda group: group.figures.calls,
    "errors": lambda group: group.figures.errors,
    "calls_per_s": lambda group: group.figures.calls,
    "total_ms": lambda group: group.figures.total_ms,
    "load_percent": lambda group: group.figures.total_ms,
    "mean_ms": lambda group: group.figures.mean_ms,
    "p50_ms": lambda group: group.figures.percentiles_ms(0.50)[0],
    "p95_ms": lambda group: group.figures.percentiles_ms(0.95)[0],
    "p99_ms": lambda group: group.figures.percentiles_ms(0.99)[0],
    "max_ms": lambda group: group.figures.max_ms,
    "rows": lambda group: group.figures.rows,
    "last_seen": lambda group: group.figures.last_seen,
}
DEFAULT_ORDERING = "-total_ms"


def read_stats(request: HttpRequest, scope: Scope, group_by: str, page: Slice) -> Stats:
    """Add up what matches and return the page asked for; one beyond the last is empty."""
    groups, total_ms = queries.groups(scope.records, scope.ring, group_by)
    shown = page.cut(groups, ORDERINGS[page.column])
    rows = _Rows(scope, group_by, shown, total_ms)
    span = Span.of(scope)
    return Stats(
        source=span.source,
        complete_since=span.complete_since,
        begin=span.begin,
        end=span.end,
        group_by=group_by,
        count=len(groups),
        next=page.next_url(request, len(groups)),
        previous=page.previous_url(request),
        results=[rows.row(group) for group in shown],
    )


class _Rows:
    """Makes rows of groups, with what is looked up for all of a page at once."""

    def __init__(self, scope: Scope, group_by: str, shown: list[Group], total_ms: float) -> None:
        self._scope = scope
        self._total_ms = total_ms
        self._of_statements = group_by == "fingerprint"
        self._worst = _worst(scope, group_by) if shown else {}
        self._texts: Mapping[str, StatementRow] = {}
        if self._of_statements:
            self._texts = queries.statements({str(group.value) for group in shown})

    def row(self, group: Group) -> StatsRow:
        return self._statement_row(group) if self._of_statements else StatsRow(**self._fields(group))

    def _statement_row(self, group: Group) -> StatementStatsRow:
        text = self._texts.get(str(group.value))
        return StatementStatsRow(
            **self._fields(group),
            fingerprint=str(group.value),
            sql=text.sql if text and self._scope.with_text else None,
            operation=text.operation if text else None,
            tables=text.tables.split(",") if text and text.tables else [],
        )

    def _fields(self, group: Group) -> dict[str, Any]:
        figures = group.figures
        p50_ms, p95_ms, p99_ms = figures.percentiles_ms(0.50, 0.95, 0.99)
        return {
            "group": group.value,
            "calls": figures.calls,
            "errors": figures.errors,
            "calls_per_s": figures.calls / self._scope.seconds,
            "total_ms": figures.total_ms,
            "load_percent": 100 * figures.total_ms / self._total_ms if self._total_ms else 0.0,
            "mean_ms": figures.mean_ms,
            "p50_ms": p50_ms,
            "p95_ms": p95_ms,
            "p99_ms": p99_ms,
            "max_ms": figures.max_ms,
            "rows": figures.rows,
            "last_seen": rfc3339(figures.last_seen) if figures.last_seen else None,
            "route": next((route for route, _ in group.routes.most_common(1)), None),
            "call_sites": [site for site, _ in group.call_sites.most_common(CALL_SITES_MAX)],
            "repeats": self._worst.get(group.value, 0),
        }


def _worst(scope: Scope, group_by: str) -> dict[Value, int]:
    found = queries.worst_by_group(scope.records, scope.ring, column(group_by))
    values = queries.Values(group_by, found)
    worst: dict[Value, int] = {}
    for key, times in found.items():
        for value in values[key]:
            worst[value] = max(worst.get(value, 0), times)
    return worst
