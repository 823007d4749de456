"""List statements by their share of the load, with what has been decided about them.

Feeds the admin's list and its exports. All figures, and the shares of the filters, come from one query by
statement, database and route; further columns are read when needed. Runs in the thread of the request, on the
store.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from dataclasses import replace as replaced
from functools import cached_property
from typing import Any

from django.http import QueryDict

from sqllogs.models import Review, Statement
from sqllogs.read import series, statistics, stats
from sqllogs.read.comparison import WorseFigure
from sqllogs.read.decisions import PERMISSION, decide, decided, get_review, worse_since_review
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.records import Texts, rfc3339, statements
from sqllogs.read.scope import Answer, Scope, Source, head, statistics_filter
from sqllogs.read.series import SeriesOptions, step_of
from sqllogs.read.stats import Grouped, Part, StatementStatsRow, StatsGroup
from sqllogs.sql.normalize import StatementInfo
from sqllogs.statistics.resolution import MINUTE_S

__all__ = ("PERMISSION", "ReviewList", "Reviewed", "ReviewedRow", "decide", "decided", "get_review")

SPARKLINE_STEPS = 30
"""Approximate number of points of a sparkline."""

COLUMNS = ("operation", "alias", "route")
"""Filters that are applied to the sums."""

LIST_FIELDS = tuple(field.name for field in fields(StatementStatsRow) if field.name != "calls_per_unit")
"""`calls_per_unit` takes a scan of its own, and is in the answer of `stats/`."""

YES, NO = "true", "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedRow(StatementStatsRow):
    """All calls of one statement, and what has been decided about it."""

    rows_per_call: float | None
    """Returned or changed, if the driver reported it."""
    status: str
    """open, reviewed or ignored."""
    reviewed_by: str | None
    reviewed_at: str | None
    note: str
    assignee: str
    until: str | None
    """When the decision ends."""
    until_release: str
    """The decision ends when a later release runs the statement."""
    got_worse: list[str]
    """Figures that are worse since the review."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed(Answer):
    """Some of the statements, for an export."""

    count: int
    results: list[ReviewedRow]


class ReviewList:
    """The statements that match the filters of the API and derived filters; raise ParameterError.

    Derived filters depend on a statement's figures; see `DERIVED_FILTERS`.
    """

    def __init__(self, filters: Mapping[str, str], derived: Mapping[str, str], *, with_text: bool) -> None:
        self._derived = dict(derived)
        self.scope = _scope(filters, with_text=with_text)
        # The sums serve these filters and the shares of their other values.
        others = {name: value for name, value in filters.items() if name not in COLUMNS}
        self._whole = _scope(others, like=self.scope)
        self._wanted = {name: frozenset(self.scope.filters[name] or ()) for name in COLUMNS}
        counted = self.scope.kept.complete_since_s is not None
        # Statistics, even if the ring covers the range, so that no figure scans the ring.
        self.chosen: Source = "statistics" if counted else "ring"
        self._shown: frozenset[str] = frozenset()
        self._asked: set[str] = set()
        self._texts: dict[str, StatementInfo] = {}

    @cached_property
    def _parts(self) -> tuple[list[Part], Any]:
        """Sums without the filters by column, so that the shares of all values can be computed."""
        return stats.read_parts(self._whole, self.chosen, "fingerprint", "alias", "route")

    @cached_property
    def operations(self) -> Mapping[str, str]:
        """The operation of each statement."""
        return dict(Statement.objects.values_list("fingerprint", "operation"))

    def _value(self, part: Part, name: str) -> str | None:
        fingerprint, alias, route = part.keys
        if name == "operation":
            return self.operations.get(str(fingerprint))
        return alias if name == "alias" else route

    def _filtered(self, without: str = "") -> list[Part]:
        tested = [(name, values) for name, values in self._wanted.items() if values and name != without]
        parts = self._parts[0]
        for name, values in tested:
            parts = [part for part in parts if self._value(part, name) in values]
        return parts

    @cached_property
    def found(self) -> Grouped:
        """The figures of the matching statements."""
        parts = self._filtered()
        total_ms = sum(part.total_ms for part in parts)
        return Grouped(stats.group_parts(parts, 0, route=2), total_ms, self._parts[1])

    @cached_property
    def reviews(self) -> dict[str, Review]:
        return decided()

    @cached_property
    def worse(self) -> dict[str, tuple[WorseFigure, ...]]:
        """The figures that became worse since the review, by statement."""
        return worse_since_review(self.reviews, self.scope.kept) if self.chosen == "statistics" else {}

    def _read_texts(self, fingerprints: Iterable[str]) -> Texts:
        """Return the texts of statements, read once together with those of the rows shown."""
        wanted = {*fingerprints, *self._shown} - self._asked
        self._asked |= wanted
        self._texts |= statements(wanted)
        return self._texts

    @cached_property
    def repeats(self) -> Mapping[Any, int]:
        """How often, at most, one line of one unit of work recently sent a statement."""
        return stats.worst(self.scope, "fingerprint", self._read_texts)

    def matching(self, *without: str) -> list[StatsGroup]:
        """Return the matching statements, in no particular order, `without` some of the derived filters."""
        groups = list(self.found.groups)
        for name, value in self._derived.items():
            if name not in without:
                mark = DERIVED_FILTERS[name]
                groups = [group for group in groups if mark(self, group) == value]
        return groups

    def load_by_value(self, name: str) -> dict[str, float]:
        """Return the percentage of the load of each value of a filter, under the others."""
        totals: dict[str, float] = {}
        if name in DERIVED_FILTERS:
            for group in self.matching(name):
                value = DERIVED_FILTERS[name](self, group)
                totals[value] = totals.get(value, 0.0) + group.total_ms
        else:
            for part in self._filtered(name):
                if label := self._value(part, name):
                    totals[label] = totals.get(label, 0.0) + part.total_ms
        # Shares of a column include all its values, as if it were not filtered.
        whole_ms = self.found.total_ms if name in DERIVED_FILTERS else sum(totals.values())
        ranked = sorted(totals.items(), key=lambda item: -item[1])
        return {value: 100 * total_ms / whole_ms if whole_ms else 0.0 for value, total_ms in ranked}

    def rows(self, shown: Sequence[StatsGroup], scope: Scope | None = None) -> list[ReviewedRow]:
        """Return the rows of some statements."""
        self._shown = frozenset(str(group.group) for group in shown)
        found = stats.stats_rows(
            scope or self.scope, self.found, "fingerprint", shown, self.repeats, self._read_texts
        )
        return [self._row(row) for row in found if isinstance(row, StatementStatsRow)]

    def _row(self, row: StatementStatsRow) -> ReviewedRow:
        review = self.reviews.get(row.fingerprint)
        return ReviewedRow(
            **{field.name: getattr(row, field.name) for field in fields(row)},
            rows_per_call=None if row.rows is None else row.rows / row.calls,
            status=_status(self, row),
            reviewed_by=review.by if review else None,
            reviewed_at=rfc3339(review.at) if review else None,
            note=review.note if review else "",
            assignee=review.assignee if review else "",
            until=rfc3339(review.until) if review and review.until else None,
            until_release=review.until_release if review else "",
            got_worse=[one.figure for one in self.worse.get(row.fingerprint, ())],
        )

    def answer(self, shown: Sequence[StatsGroup]) -> Reviewed:
        """Return an export of some statements."""
        # With `calls_per_unit`, which the list leaves out.
        complete = replaced(self.scope, fields=frozenset())
        return Reviewed(**head(self.found.span), count=len(shown), results=self.rows(shown, complete))

    def sparklines(self, shown: Sequence[StatsGroup]) -> dict[Any, list[float]]:
        """Return the milliseconds in each step of the range, without the last one, which has not ended."""
        if not shown:
            return {}
        wanted = [str(group.group) for group in shown]
        scope = replaced(
            self.scope,
            records=self.scope.records.filter(fingerprint__in=wanted),
            filters={**self.scope.filters, "fingerprint": wanted},
        )
        sparklines = (self._counted if self.chosen == "statistics" else self._of_ring)(scope, len(wanted))
        return {group: course[:-1] for group, course in sparklines.items()}

    def _counted(self, scope: Scope, _count: int) -> dict[Any, list[float]]:
        # The range that the step divides: the range that was asked for may begin in the year 1.
        where = replaced(statistics_filter(scope, self.chosen), since=self.found.span.begin)
        found = statistics.read_sparklines(where, self._step_s)
        return {group: [us / 1000 for us in points.values()] for group, points in found.items()}

    def _of_ring(self, scope: Scope, count: int) -> dict[Any, list[float]]:
        options = SeriesOptions(group_by="fingerprint", top=count, step_s=self._step_s)
        sparklines: dict[Any, list[float]] = {}
        for point in series.read_series(scope, options, self.chosen).results:
            if isinstance(point, series.GroupPoint):
                sparklines.setdefault(point.group, []).append(point.total_ms)
        return sparklines

    @property
    def _step_s(self) -> int:
        # Statistics have no finer rows.
        return max(step_of(self.found.span.seconds, SPARKLINE_STEPS), MINUTE_S)


DEFINING = frozenset(
    {
        "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET",
        "CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "ANALYZE", "VACUUM", "PRAGMA", "REINDEX",
    }
)  # fmt: skip
"""First words of statements that only begin, end or define something and cannot be made faster."""


def _scope(filters: Mapping[str, str], *, with_text: bool = False, like: Scope | None = None) -> Scope:
    """Return the scope of filters; one `like` another shares what that has read."""
    query = QueryDict(mutable=True)
    query.update(filters)
    filterset = SQLLogFilter.from_query(query)
    if like is not None:
        return replaced(like, records=filterset.qs, filters=filterset.values)
    return Scope.from_filters(filterset, with_text=with_text, fields=LIST_FIELDS)


OPEN = str(Review.Status.OPEN.value)  # an enum's value takes a microsecond, and a page asks for thousands


def _status(statements: ReviewList, group: StatsGroup | StatementStatsRow) -> str:
    review = statements.reviews.get(str(group.group))
    return review.status if review else OPEN


def _got_worse(statements: ReviewList, group: StatsGroup) -> str:
    return YES if group.group in statements.worse else NO


def _is_repeated(statements: ReviewList, group: StatsGroup) -> str:
    return YES if group.group in statements.repeats else NO


def _has_failed(statements: ReviewList, group: StatsGroup) -> str:
    return YES if group.errors else NO


def _defining(statements: ReviewList, group: StatsGroup) -> str:
    operation = statements.operations.get(str(group.group)) or ""
    return NO if operation.partition(" ")[0] in DEFINING else YES


DERIVED_FILTERS: dict[str, Callable[[ReviewList, StatsGroup], str]] = {
    "status": _status,
    "worse": _got_worse,
    "data": _defining,
    "repeats": _is_repeated,
    "error": _has_failed,
}
"""By name of the parameter: how its value follows from a statement's figures."""
