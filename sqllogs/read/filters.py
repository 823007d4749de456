"""Choose records by the parameters of a query string: one set of filters for API, page and admin.

Fed by the readers' requests, makes the queryset that `sqllogs.read` reads.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import django_filters
from django import forms
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import QueryDict
from django_filters import Filter

from sqllogs import conf
from sqllogs.errors import ParameterError
from sqllogs.models import SQLLog, Statement
from sqllogs.read import parameters

Records = QuerySet[SQLLog]


class ValuesFilter(Filter):
    """Equal to one of several values."""

    field_class = parameters.ValuesField

    def __init__(self, field_name: str, **kwargs: Any) -> None:
        super().__init__(field_name, kwargs.pop("lookup_expr", "in"), **kwargs)


class ContainsFilter(ValuesFilter):
    """Containing one of several values."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        found = Q()
        for part in value:
            found |= Q(**{f"{self.field_name}__contains": part})
        return qs.filter(found)


class StatementFilter(ValuesFilter):
    """Of a statement that has one of several values; the texts stand in a table of their own."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        if not value:
            return qs
        return of_statements(qs, Statement.objects.filter(**{f"{self.field_name}__in": value}))


class TableFilter(ValuesFilter):
    """Of a statement that names one of several tables, in whatever case."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        if not value:
            return qs
        found = Q()
        for table in value:
            found |= Q(listed__icontains=f",{table},")
        listed = Concat(Value(","), "tables", Value(","))
        return of_statements(qs, Statement.objects.alias(listed=listed).filter(found))


class SearchFilter(Filter):
    """Of a statement whose text contains these words as they stand, in whatever case."""

    field_class = forms.CharField

    def filter(self, qs: Records, value: str) -> Records:
        return of_statements(qs, Statement.objects.filter(sql__icontains=value)) if value else qs


class MillisecondsFilter(Filter):
    field_class = parameters.MillisecondsField


class InstantFilter(Filter):
    field_class = parameters.InstantField


class SlowFilter(Filter):
    """Slow or not, by the setting SLOW_MS."""

    field_class = parameters.SwitchField

    def filter(self, qs: Records, value: bool | None) -> Records:
        if value is None:
            return qs
        slow_ms = conf.load().slow_ms
        return qs.filter(duration_ms__gte=slow_ms) if value else qs.filter(duration_ms__lt=slow_ms)


class ErrorFilter(ValuesFilter):
    """Failed with one of several exception classes; true is any, false is none."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        found = Q()
        for name in value:
            found |= Q(error__isnull=name == "false") if name in ("true", "false") else Q(error=name)
        return qs.filter(found)


def of_statements(records: Records, statements: QuerySet[Statement]) -> Records:
    return records.filter(fingerprint__in=statements.using(records.db).values("fingerprint"))


class SQLLogFilter(django_filters.FilterSet):
    """The filters of the API, in the order in which a database had best test them: cheap ones first."""

    min_ms = MillisecondsFilter("duration_ms", "gte", label="At least (ms)")
    max_ms = MillisecondsFilter("duration_ms", "lte", label="At most (ms)")
    slow = SlowFilter("duration_ms", label="Slow")
    to = InstantFilter("time", "lt", label="To")
    error = ErrorFilter("error", label="Error")
    alias = ValuesFilter("alias", label="Database")
    vendor = ValuesFilter("vendor", label="Vendor")
    kind = ValuesFilter("kind", label="Kind")
    method = ValuesFilter("method", convert=str.upper, label="Method")
    route = ValuesFilter("route", label="Route")
    view = ValuesFilter("view", label="View")
    release = ValuesFilter("release", label="Release")
    host = ValuesFilter("host", label="Host")
    trace_id = ValuesFilter("trace_id", convert=parameters.as_hex(32), label="Trace")
    request_id = ValuesFilter("request_id", label="Request")
    fingerprint = ValuesFilter("fingerprint", convert=parameters.as_hex(16), label="Fingerprint")
    call_site = ContainsFilter("call_site", label="Call site")
    operation = StatementFilter("operation", convert=str.upper, label="Operation")
    table = TableFilter("tables", label="Table")
    search = SearchFilter("sql", label="Search")

    class Meta:
        model = SQLLog
        fields = ()

    @classmethod
    def get_filters(cls) -> OrderedDict[str, Filter]:
        """Add `from`, which no attribute of a class can be called."""
        filters = super().get_filters()
        filters["from"] = InstantFilter("time", "gte", label="From")
        return filters

    @classmethod
    def from_query(cls, query: QueryDict, others: Collection[str] = ()) -> "SQLLogFilter":
        """Read a query string; `others` are the parameters that a view knows beside the filters.

        Raise ParameterError for one that nobody knows and for a value that makes no sense.
        """
        several = {name for name, one in cls.base_filters.items() if isinstance(one, ValuesFilter)}
        parameters.refuse_unknown(query, {*cls.base_filters, *others})
        filterset = cls(parameters.given(query, cls.base_filters, several))
        for name, messages in filterset.errors.items():
            raise ParameterError(name, f"{name}: {messages[0]}")
        return filterset
