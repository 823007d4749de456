"""List statements by their share of the load, with their review, and store reviews.

Feeds the admin's list, its exports and its forms. The figures of all statements are read once; a further
column is read when it is needed. Runs in the thread of the request, on the ring's database.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from dataclasses import replace as replaced
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.db import router, transaction
from django.http import QueryDict

from sqllogs.models import Review
from sqllogs.read import series, stats
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.records import rfc3339
from sqllogs.read.ring import chunks
from sqllogs.read.scope import Answer, Scope, cheapest_source, head
from sqllogs.read.series import SeriesOptions, step_of
from sqllogs.read.stats import Grouped, StatementStatsRow, StatsGroup
from sqllogs.statistics.resolution import MINUTE_S

SPARKLINE_STEPS = 30
"""Approximate number of points of a sparkline."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed(Answer):
    """Some of the statements, as a file has them."""

    count: int
    results: list[ReviewedRow]


class ReviewList:
    """What the filters of the API and the marks leave of the statements; raise ParameterError.

    Derived filters follow from a statement's figures; see `DERIVED_FILTERS`.
    """

    def __init__(self, filters: Mapping[str, str], marks: Mapping[str, str], *, with_text: bool) -> None:
        self._filters = dict(filters)
        self._marks = dict(marks)
        self.scope = Scope.from_filters(self._filterset(), version="", with_text=with_text)
        self.chosen = cheapest_source()

    def _filterset(self, *without: str) -> SQLLogFilter:
        query = QueryDict(mutable=True)
        query.update({name: value for name, value in self._filters.items() if name not in without})
        return SQLLogFilter.from_query(query)

    @cached_property
    def found(self) -> Grouped:
        """The figures of what the filters leave."""
        return stats.read_groups(self.scope, "fingerprint", self.chosen)

    @cached_property
    def reviews(self) -> dict[str, Review]:
        return decided()

    @cached_property
    def repeats(self) -> Mapping[Any, int]:
        """How often, at most, one line of one unit of work recently sent a statement."""
        return stats.worst(self.scope, "fingerprint")

    def matching(self, *without: str) -> list[StatsGroup]:
        """Return what filters and marks leave, in no particular order; some marks may be left out."""
        wanted = [
            (DERIVED_FILTERS[name], value) for name, value in self._marks.items() if name not in without
        ]
        return [
            group for group in self.found.groups if all(mark(self, group) == value for mark, value in wanted)
        ]

    def load_by_value(self, name: str) -> dict[str, float]:
        """Return the percentage of the load of each value of a filter or mark, under the others."""
        totals: dict[str, float] = {}
        if name in DERIVED_FILTERS:
            for group in self.matching(name):
                value = DERIVED_FILTERS[name](self, group)
                totals[value] = totals.get(value, 0.0) + group.total_ms
        else:
            filterset = self._filterset(name)
            scope = replaced(self.scope, records=filterset.qs, filters=filterset.form.cleaned_data)
            for group in stats.read_groups(scope, name, self.chosen).groups:
                if group.group:
                    totals[group.group] = group.total_ms
        whole_ms = self.found.total_ms if name in DERIVED_FILTERS else sum(totals.values())
        ranked = sorted(totals.items(), key=lambda item: -item[1])
        return {value: 100 * total_ms / whole_ms if whole_ms else 0.0 for value, total_ms in ranked}

    def rows(self, shown: Sequence[StatsGroup]) -> list[ReviewedRow]:
        """Return the rows of some statements."""
        found = stats.stats_rows(self.scope, self.found, "fingerprint", shown, self.repeats)
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

    def answer(self, shown: Sequence[StatsGroup]) -> Reviewed:
        """Return some statements with what they are a part of."""
        return Reviewed(**head(self.found.span), count=len(shown), results=self.rows(shown))

    def sparklines(self, shown: Sequence[StatsGroup]) -> dict[Any, list[float]]:
        """Return milliseconds in each step of the range, but for the last one, which is not over."""
        if not shown:
            return {}
        fingerprints = [str(group.group) for group in shown]
        scope = replaced(
            self.scope,
            records=self.scope.records.filter(fingerprint__in=fingerprints),
            filters={**self.scope.filters, "fingerprint": fingerprints},
        )
        options = SeriesOptions(group_by="fingerprint", top=len(shown), step_s=self._step_s)
        sparklines: dict[Any, list[float]] = {}
        for point in series.read_series(scope, options, self.chosen).results:
            if isinstance(point, series.GroupPoint):
                sparklines.setdefault(point.group, []).append(point.total_ms)
        return {group: course[:-1] for group, course in sparklines.items()}

    @property
    def _step_s(self) -> int:
        return max(step_of(self.found.span.seconds, SPARKLINE_STEPS), MINUTE_S)


def _status(statements: ReviewList, group: StatsGroup | StatementStatsRow) -> str:
    review = statements.reviews.get(str(group.group))
    return review.status if review else str(Review.Status.OPEN.value)


def _is_repeated(statements: ReviewList, group: StatsGroup) -> str:
    return YES if group.group in statements.repeats else NO


def _has_failed(statements: ReviewList, group: StatsGroup) -> str:
    return YES if group.errors else NO


DERIVED_FILTERS: dict[str, Callable[[ReviewList, StatsGroup], str]] = {
    "status": _status,
    "repeats": _is_repeated,
    "error": _has_failed,
}
"""What can be asked of a statement's figures, by the name of the parameter."""

PERMISSION = "sqllogs.review_sqllog"
BY_MAX_CHARACTERS = 150


def decide(fingerprints: Iterable[str], status: str, *, by: str, note: str | None = None) -> int:
    """Note a decision about statements, return of how many; without a note those that there are stay."""
    decision: dict[str, Any] = {"status": status, "by": by[:BY_MAX_CHARACTERS], "at": datetime.now(UTC)}
    if note is not None:
        decision["note"] = note
    wanted = list(dict.fromkeys(fingerprints))
    with transaction.atomic(using=router.db_for_write(Review)):
        for chosen in chunks(wanted):
            new = [Review(fingerprint=fingerprint, **decision) for fingerprint in chosen]
            Review.objects.bulk_create(new, ignore_conflicts=True)
            Review.objects.filter(fingerprint__in=chosen).update(**decision)
    return len(wanted)


def decided() -> dict[str, Review]:
    """Return all that has been decided, by fingerprint: never more than people have clicked."""
    return Review.objects.in_bulk()


def get_review(fingerprint: str) -> Review | None:
    return Review.objects.filter(fingerprint=fingerprint).first()
