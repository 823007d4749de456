"""The filters of the slow queries, each value with its share of the load.

Fed by `sqllogs.read.reviews` through the changelist; a value that is on, and is not
among those with most load, is shown too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest

from sqllogs.models import Review
from sqllogs.read import parameters
from sqllogs.read.reviews import NO, YES

CHOICES_MAX = 8

RANGES = {
    "now-1h": "Last hour",
    "now-1d": "Last day",
    "now-1w": "Last week",
    "now-30d": "Last 30 days",
}
DEFAULT_RANGE = "now-1d"


class ReviewListFilter(SimpleListFilter):
    """A parameter of the list; the changelist reads it and shows the share of load of each value."""

    template = "admin/sqllogs/statement/filter.html"

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> tuple[tuple[str, str], ...]:
        return ()

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None

    def asked(self) -> str | None:
        """Return what is asked for, None for nothing; raise IncorrectLookupParameters."""
        return self.value() or None

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield self._choice(changelist, None, "All")
        for value, (label, share) in self.shared(changelist).items():
            yield self._choice(changelist, value, label) | {"share": f"{share:.1f}"}

    def shared(self, changelist: Any) -> dict[str, tuple[str, float]]:
        """Return label and percentage of the load of each value."""
        shares: dict[str, float] = changelist.shares[self.parameter_name]
        named = {parameters.escaped(value): (value, share) for value, share in shares.items()}
        shown = dict(list(named.items())[:CHOICES_MAX])
        if (on := self.value()) and on not in shown:
            shown[on] = named.get(on, (on, 0.0))
        return shown

    def _choice(self, changelist: Any, value: str | None, label: str) -> dict[str, Any]:
        return {
            "selected": self.value() == value,
            "query_string": changelist.get_query_string({self.parameter_name: value}),
            "display": label,
        }


class TimeRangeFilter(ReviewListFilter):
    """How far back; always one of them, or what else the address says."""

    title = "time"
    parameter_name = "from"

    def asked(self) -> str:
        return self.value() or DEFAULT_RANGE

    def choices(self, changelist: Any) -> Iterator[Any]:
        for value, label in RANGES.items():
            is_default = value == DEFAULT_RANGE
            choice = self._choice(changelist, None if is_default else value, label)
            yield choice | {"selected": self.asked() == value}


class DerivedListFilter(ReviewListFilter):
    """One of a few values that follow from a statement's figures."""

    labels: Mapping[str, str]

    def asked(self) -> str | None:
        if self.value() not in (None, *self.labels):
            raise IncorrectLookupParameters
        return self.value()

    def shared(self, changelist: Any) -> dict[str, tuple[str, float]]:
        shares: dict[str, float] = changelist.shares[self.parameter_name]
        return {value: (label, shares.get(value, 0.0)) for value, label in self.labels.items()}


class ReviewStatusFilter(DerivedListFilter):
    title = "review"
    parameter_name = "status"
    labels = {str(value): str(label) for value, label in Review.Status.choices}


class RepeatedFilter(DerivedListFilter):
    title = "N+1"
    parameter_name = "repeats"
    labels = {YES: "Suspects", NO: "No suspects"}


class FailedFilter(DerivedListFilter):
    title = "errors"
    parameter_name = "error"
    labels = {YES: "With errors", NO: "Without"}


class StatementOperationFilter(ReviewListFilter):
    title = "operation"
    parameter_name = "operation"


class DatabaseFilter(ReviewListFilter):
    title = "database"
    parameter_name = "alias"


class RouteFilter(ReviewListFilter):
    title = "route"
    parameter_name = "route"


SHARED = ("status", "repeats", "error", "operation", "alias", "route")
"""The parameters whose values have shares."""

FILTERS = (
    TimeRangeFilter,
    ReviewStatusFilter,
    RepeatedFilter,
    FailedFilter,
    StatementOperationFilter,
    DatabaseFilter,
    RouteFilter,
)
