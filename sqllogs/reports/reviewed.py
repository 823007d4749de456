"""Statements by their share of the load, with what has been decided about each.

Feeds the list of the admin and the files made of it. Figures of all statements are read
once; what a share or a further column needs is read when it is asked for. Runs in the
reader's thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from dataclasses import replace as replaced
from functools import cached_property
from typing import Any

from django.http import QueryDict

from sqllogs import reviews
from sqllogs.aggregation import Graph, step_of
from sqllogs.filters import SQLLogFilter
from sqllogs.models import Review
from sqllogs.reports import series, source, stats
from sqllogs.reports.scope import Answer, Scope, head
from sqllogs.reports.stats import Group, Grouped, StatementStatsRow
from sqllogs.rows import rfc3339
from sqllogs.statistics.resolution import MINUTE_S

COURSE_STEPS = 30
"""About so many points show the course of a statement's load."""

YES, NO = "true", "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedRow(StatementStatsRow):
    """All calls of one statement, and what has been decided about it."""

    rows_per_call: float | None
    """Returned or changed, where the driver told."""
    status: str
    """open, reviewed or ignored."""
    reviewed_by: str | None
    reviewed_at: str | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed(Answer):
    """Some of the statements, as a file has them."""

    count: int
    results: list[ReviewedRow]


class Statements:
    """What the filters of the API and the marks leave of the statements; raise ParameterError.

    Marks are what a statement's figures tell of it; see `MARKS`.
    """

    def __init__(self, filters: Mapping[str, str], marks: Mapping[str, str], *, with_text: bool) -> None:
        self._filters = dict(filters)
        self._marks = dict(marks)
        self.scope = Scope.of(self._filterset(), version="", with_text=with_text)
        self.chosen = source.cheapest()

    def _filterset(self, *without: str) -> SQLLogFilter:
        query = QueryDict(mutable=True)
        query.update({name: value for name, value in self._filters.items() if name not in without})
        return SQLLogFilter.of(query)

    @cached_property
    def found(self) -> Grouped:
        """The figures of what the filters leave."""
        return stats.read_groups(self.scope, "fingerprint", self.chosen)

    @cached_property
    def reviews(self) -> dict[str, Review]:
        return reviews.decided()

    @cached_property
    def repeats(self) -> Mapping[Any, int]:
        """How often at worst one line of one unit of work has lately sent a statement."""
        return stats.worst(self.scope, "fingerprint")

    def left(self, *without: str) -> list[Group]:
        """Return what filters and marks leave, in no particular order; some marks may be left out."""
        wanted = [(MARKS[name], value) for name, value in self._marks.items() if name not in without]
        return [
            group for group in self.found.groups if all(mark(self, group) == value for mark, value in wanted)
        ]

    def shares(self, name: str) -> dict[str, float]:
        """Return the percentage of the load of each value of a filter or mark, under the others."""
        totals: dict[str, float] = {}
        if name in MARKS:
            for group in self.left(name):
                value = MARKS[name](self, group)
                totals[value] = totals.get(value, 0.0) + group.total_ms
        else:
            filterset = self._filterset(name)
            scope = replaced(self.scope, records=filterset.qs, asked=filterset.form.cleaned_data)
            for group in stats.read_groups(scope, name, self.chosen).groups:
                if group.group:
                    totals[group.group] = group.total_ms
        whole_ms = self.found.total_ms if name in MARKS else sum(totals.values())
        ranked = sorted(totals.items(), key=lambda item: -item[1])
        return {value: 100 * total_ms / whole_ms if whole_ms else 0.0 for value, total_ms in ranked}

    def rows(self, shown: Sequence[Group]) -> list[ReviewedRow]:
        """Return all that is told of some statements."""
        found = stats.rows(self.scope, self.found, "fingerprint", shown, self.repeats)
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
        )

    def answer(self, shown: Sequence[Group]) -> Reviewed:
        """Return some statements with what they are a part of."""
        return Reviewed(**head(self.found.span), count=len(shown), results=self.rows(shown))

    def courses(self, shown: Sequence[Group]) -> dict[Any, list[float]]:
        """Return milliseconds in each step of the range, but for the last one, which is not over."""
        if not shown:
            return {}
        fingerprints = [str(group.group) for group in shown]
        scope = replaced(
            self.scope,
            records=self.scope.records.filter(fingerprint__in=fingerprints),
            asked={**self.scope.asked, "fingerprint": fingerprints},
        )
        graph = Graph(group_by="fingerprint", top=len(shown), step_s=self._step_s)
        courses: dict[Any, list[float]] = {}
        for point in series.read_series(scope, graph, self.chosen).results:
            if isinstance(point, series.GroupPoint):
                courses.setdefault(point.group, []).append(point.total_ms)
        return {group: course[:-1] for group, course in courses.items()}

    @property
    def _step_s(self) -> int:
        return max(step_of(self.found.span.seconds, COURSE_STEPS), MINUTE_S)


def _status(statements: Statements, group: Group | StatementStatsRow) -> str:
    review = statements.reviews.get(str(group.group))
    return review.status if review else str(Review.Status.OPEN.value)


def _is_repeated(statements: Statements, group: Group) -> str:
    return YES if group.group in statements.repeats else NO


def _has_failed(statements: Statements, group: Group) -> str:
    return YES if group.errors else NO


MARKS: dict[str, Callable[[Statements, Group], str]] = {
    "status": _status,
    "repeats": _is_repeated,
    "error": _has_failed,
}
"""What can be asked of a statement's figures, by the name of the parameter."""
