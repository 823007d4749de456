"""The filters of the slow queries, each value with its share of the load.

Fed by the changelist with the shares that `sqllogs.read.reviews` has computed. A selected value is listed
even if it is not among those with the most load. Runs in the reader's thread.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from sqllogs.models import Review
from sqllogs.read import parameters
from sqllogs.read.reviews import NO, YES

CHOICES_MAX = 8

RANGES = {
    "now-1h": _("Last hour"),
    "now-1d": _("Last day"),
    "now-1w": _("Last week"),
    "now-30d": _("Last 30 days"),
}
DEFAULT_RANGE = "now-1d"


class ReviewListFilter(SimpleListFilter):
    """A parameter of the list; the changelist reads it and computes the share of load of each value."""

    template = "admin/sqllogs/statement/filter.html"

    # Required of every filter by the admin, but unused: the changelist computes the values.
    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> tuple[tuple[str, str], ...]:
        return ()

    def has_output(self) -> bool:
        return True  # by default a filter without lookups is hidden

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None

    def selected(self) -> str | None:
        """Return the selected value, None for all; raise IncorrectLookupParameters."""
        return self.value() or None

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield self._choice(changelist, None, _("All"))
        for value, (label, share) in self.load_by_value(changelist).items():
            yield self._choice(changelist, value, label) | {"share": f"{share:.1f}"}

    def load_by_value(self, changelist: Any) -> dict[str, tuple[str | Promise, float]]:
        """Return label and percentage of the load of each value."""
        shares: dict[str, float] = changelist.shares[self.parameter_name]
        # Escaped, because a comma in a parameter separates values: a route may contain one.
        by_value = {parameters.escaped(value): (value, share) for value, share in shares.items()}
        shown: dict[str, tuple[str | Promise, float]] = dict(list(by_value.items())[:CHOICES_MAX])
        if (value := self.value()) and value not in shown:
            shown[value] = by_value.get(value, (value, 0.0))
        return shown

    def _choice(self, changelist: Any, value: str | None, label: str | Promise) -> dict[str, Any]:
        return {
            "selected": self.value() == value,
            "query_string": changelist.get_query_string({self.parameter_name: value}),
            "display": label,
        }


class TimeRangeFilter(ReviewListFilter):
    """How far back: one of RANGES, or any other start of the range in the URL."""

    title = _("time")
    parameter_name = "from"

    def selected(self) -> str:
        return self.value() or DEFAULT_RANGE

    def choices(self, changelist: Any) -> Iterator[Any]:
        for value, label in RANGES.items():
            is_default = value == DEFAULT_RANGE
            # The default is absent from the URL, so that "Remove all filters" leads to it.
            choice = self._choice(changelist, None if is_default else value, label)
            yield choice | {"selected": self.selected() == value}


ALL = "all"
"""Value in the URL that selects everything where a filter has a default."""


class DerivedListFilter(ReviewListFilter):
    """One of a few values that follow from a statement's figures."""

    labels: Mapping[str, str | Promise]
    default: str | None = None
    """Selected if the URL has no value for the filter."""

    def selected(self) -> str | None:
        value = self.value() or self.default
        # Of the class, because an instance may have dropped its default, and `ALL` stays valid then.
        if value == ALL and type(self).default:
            return None
        # The admin answers with a redirect to the list without filters.
        if value not in (None, *self.labels):
            raise IncorrectLookupParameters
        return value

    def choices(self, changelist: Any) -> Iterator[Any]:
        selected = self.selected()
        choice = self._choice(changelist, ALL if self.default else None, _("All"))
        yield choice | {"selected": selected is None}
        for value, (label, share) in self.load_by_value(changelist).items():
            choice = self._choice(changelist, None if value == self.default else value, label)
            yield choice | {"selected": value == selected, "share": f"{share:.1f}"}

    def load_by_value(self, changelist: Any) -> dict[str, tuple[str | Promise, float]]:
        shares: dict[str, float] = changelist.shares[self.parameter_name]
        return {value: (label, shares.get(value, 0.0)) for value, label in self.labels.items()}


class ReviewStatusFilter(DerivedListFilter):
    title = _("review")
    parameter_name = "status"
    labels = {status.value: status.label for status in Review.Status}
    default: str | None = Review.Status.OPEN.value

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        if request.GET.get(WorseFilter.parameter_name):
            # A statement that got worse has been reviewed, so none of them is open.
            self.default = None


class WorseFilter(DerivedListFilter):
    title = _("change since the review")
    parameter_name = "worse"
    labels = {YES: _("Got worse"), NO: _("Not worse")}


class DataFilter(DerivedListFilter):
    title = _("purpose")
    parameter_name = "data"
    labels = {YES: _("Read or change data"), NO: _("Only begin, end or define")}
    default = YES


class RepeatedFilter(DerivedListFilter):
    title = _("N+1")
    parameter_name = "repeats"
    labels = {YES: _("Suspects"), NO: _("No suspects")}


class FailedFilter(DerivedListFilter):
    title = _("errors")
    parameter_name = "error"
    labels = {YES: _("With errors"), NO: _("Without errors")}


class StatementOperationFilter(ReviewListFilter):
    title = _("operation")
    parameter_name = "operation"


class DatabaseFilter(ReviewListFilter):
    title = _("database")
    parameter_name = "alias"


class RouteFilter(ReviewListFilter):
    title = _("route")
    parameter_name = "route"


FILTERS = (
    TimeRangeFilter,
    ReviewStatusFilter,
    WorseFilter,
    DataFilter,
    RepeatedFilter,
    FailedFilter,
    StatementOperationFilter,
    DatabaseFilter,
    RouteFilter,
)

NAMES_WITH_SHARES = tuple(str(choice.parameter_name) for choice in FILTERS if choice is not TimeRangeFilter)
"""Parameters whose values have a share of the load; a time range is compared with no other."""
