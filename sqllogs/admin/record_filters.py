"""The admin's filters and search: a few fixed choices, so that no filter has to ask the ring for its values.

Feeds `sqllogs.admin`; the choices are filters of the API under the same names.
"""

from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from sqllogs import conf
from sqllogs.models import SQLLog, Statement
from sqllogs.read import parameters
from sqllogs.read.parameters import SQLLogFilter

CONTAINED = ("view", "route", "call_site")
EQUAL = ("fingerprint", "trace_id", "request_id")


class RecordListFilter(SimpleListFilter):
    """One filter of the API with the values that are asked for most; others work in the address."""

    choices_: tuple[tuple[str, str], ...]

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> tuple[tuple[str, str], ...]:
        return self.choices_

    def queryset(self, request: HttpRequest, queryset: QuerySet[SQLLog]) -> QuerySet[SQLLog]:
        if (value := self.value()) is None:
            return queryset
        filterset = SQLLogFilter({str(self.parameter_name): value}, queryset)
        if not filterset.is_valid():
            raise IncorrectLookupParameters
        return filterset.qs


class SinceListFilter(RecordListFilter):
    title = "time"
    parameter_name = "from"
    choices_ = (("now-5m", "5 minutes"), ("now-1h", "An hour"), ("now-1d", "A day"))


class DurationListFilter(RecordListFilter):
    title = "duration"
    parameter_name = "min_ms"
    choices_ = (
        ("1", "1 ms or longer"),
        ("10", "10 ms or longer"),
        ("100", "100 ms or longer"),
    )

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> tuple[tuple[str, str], ...]:
        slow = f"{conf.load().slow_ms:g}"
        choices = dict(self.choices_) | {slow: f"Slow: {slow} ms or longer"}
        return tuple(sorted(choices.items(), key=lambda choice: float(choice[0])))


class OutcomeListFilter(RecordListFilter):
    title = "outcome"
    parameter_name = "error"
    choices_ = (("true", "Failed"), ("false", "Not failed"))


class OperationListFilter(RecordListFilter):
    title = "operation"
    parameter_name = "operation"
    choices_ = tuple((name, name) for name in ("SELECT", "INSERT", "UPDATE", "DELETE", "COMMIT", "ROLLBACK"))


class KindListFilter(RecordListFilter):
    title = "unit of work"
    parameter_name = "kind"
    choices_ = tuple((name, name.capitalize()) for name in ("request", "command", "task", "thread"))


FILTERS = (SinceListFilter, DurationListFilter, OutcomeListFilter, OperationListFilter, KindListFilter)


def search(records: QuerySet[SQLLog], term: str, *, with_text: bool) -> QuerySet[SQLLog]:
    """Find a term in the names of where records come from, in ids and, for who may read it, in the text."""
    term = term.strip()[: parameters.VALUE_MAX_CHARACTERS]
    if not term:
        return records
    found = Q()
    for name in CONTAINED:
        found |= Q(**{f"{name}__contains": term})
    for name in EQUAL:
        found |= Q(**{name: term})
    if with_text:
        statements = Statement.objects.using(records.db).filter(sql__icontains=term)
        found |= Q(fingerprint__in=statements.values("fingerprint"))
    return records.filter(found)
