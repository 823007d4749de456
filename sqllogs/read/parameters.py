"""Read a query string: values, filters, groups; what is wrong with one is an error that names the parameter.

Nothing that a database could fail on gets past the form fields. SQLLogFilter is the one set of filters of
API, page, admin and terminal; it makes the queryset that the other modules of `sqllogs.read` read.
Runs in the reader's thread.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import QueryDict
from django_filters import Filter

from sqllogs import conf
from sqllogs.errors import ParameterError
from sqllogs.models import SQLLog, Statement
from sqllogs.read import ring
from sqllogs.read.aggregates import GROUPS
from sqllogs.read.ring import Records

VALUE_MAX_CHARACTERS = 2_000
VALUES_MAX = 100

ABSENT = frozenset({"", "All", "$__all"})
"""What Grafana sends for a variable of which nothing, or everything, is chosen."""

_SEPARATOR = re.compile(r"(?<!\\),")
_RELATIVE = re.compile(r"now(?:([+-])(\d{1,9})([smhdw]))?", re.ASCII)
_EPOCH = re.compile(r"\d{1,13}(?:\.\d{1,9})?", re.ASCII)
_EPOCH_MS_FROM = 1e11
"""1973 in milliseconds, the year 5138 in seconds."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def refuse_unknown(query: QueryDict, known: Collection[str]) -> None:
    """Raise ParameterError for the first parameter that a view does not know."""
    for name in query:
        if name not in known:
            names = ", ".join(sorted(known))
            message = f"Unknown parameter {name[:50]!r}. Valid parameters: {names}."
            raise ParameterError(name[:50], message, code="unknown_parameter")


def given(query: QueryDict, names: Iterable[str], several: Collection[str] = ()) -> dict[str, str]:
    """Return those of the parameters `names` that say something; raise ParameterError.

    `several` are those that may stand more than once, which is the same as values by comma.
    """
    found = {}
    for name in names:
        values = [value for value in query.getlist(name) if value.strip() not in ABSENT]
        if len(values) > 1 and name not in several:
            raise ParameterError(name, f"{name} is given {len(values)} times; give it once.")
        if values:
            found[name] = _sound(name, ",".join(values))
    return found


def _sound(name: str, value: str) -> str:
    if len(value) > VALUE_MAX_CHARACTERS:
        raise ParameterError(name, f"{name} is longer than {VALUE_MAX_CHARACTERS} characters.")
    # No database takes a lone surrogate. NUL, which PostgreSQL refuses, is what forms.CharField refuses too.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ParameterError(name, f"{name} holds a character that no stored text can hold.")
    return value


def with_defaults(query: QueryDict, **values: str) -> QueryDict:
    """Return a query string with values for what it does not say."""
    filled = query.copy()
    for name, value in values.items():
        if not given(query, [name]):
            filled[name] = value
    return filled


def escaped(value: str) -> str:
    r"""Write one value for a parameter that takes several: a comma in it is `\,`."""
    return value.replace(",", "\\,")


def separated(text: str) -> list[str]:
    r"""Read several values by comma, as `escaped` writes them; empty ones are left out."""
    parts = (part.replace("\\,", ",").strip() for part in _SEPARATOR.split(text))
    return [part for part in parts if part]


def as_hex(digits: int) -> Callable[[str], str]:
    """Return what reads a hexadecimal id; leading zeros may be missing, some tools drop them."""
    pattern = re.compile(rf"[0-9a-f]{{1,{digits}}}")

    def convert(value: str) -> str:
        if not pattern.fullmatch(value.lower()):
            raise ValidationError(f"Give up to {digits} hexadecimal digits.")
        return value.lower().zfill(digits)

    return convert


class ValuesField(forms.CharField):
    r"""Several values by comma; a comma inside of a value is written `\,`."""

    def __init__(self, *, convert: Callable[[str], str] = str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._convert = convert

    def clean(self, value: Any) -> list[str]:
        parts = separated(super().clean(value))
        if len(parts) > VALUES_MAX:
            raise ValidationError(f"Give {VALUES_MAX} values at most.")
        return [] if ABSENT.intersection(parts) else [self._convert(part) for part in parts]


class InstantField(forms.CharField):
    """A point in time: RFC 3339, seconds or milliseconds since the epoch, or now-5m."""

    def clean(self, value: Any) -> datetime | None:
        text = super().clean(value)
        try:
            return _instant(text) if text else None
        except (ValueError, OverflowError):
            raise ValidationError(
                "Give a time as 2026-01-31T12:00:00Z, as seconds or milliseconds since the epoch, "
                "or as now-5m (s, m, h, d, w)."
            ) from None


def _instant(text: str) -> datetime:
    if relative := _RELATIVE.fullmatch(text):
        sign, number, unit = relative.groups()
        delta = timedelta(**{_UNITS[unit]: int(sign + number)}) if unit else timedelta()
        return ring.utc_now() + delta
    if _EPOCH.fullmatch(text):
        number = float(text)
        return datetime.fromtimestamp(number / 1000 if number >= _EPOCH_MS_FROM else number, UTC)
    # A + that was not escaped in the query string arrives as a space.
    time = datetime.fromisoformat(re.sub(r" (\d\d:\d\d)$", r"+\1", text) if text.count(":") > 1 else text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class MillisecondsField(forms.FloatField):
    """A duration, or a bound of one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=1e12, **kwargs)


class SwitchField(forms.CharField):
    """true or false."""

    def clean(self, value: Any) -> bool | None:
        text = super().clean(value).lower()
        if text not in _SWITCH:
            raise ValidationError("Give true or false.")
        return _SWITCH[text]


_SWITCH = {"": None, "true": True, "1": True, "false": False, "0": False}

SOURCES = ("auto", "ring", "statistics")


class ChoiceField(forms.CharField):
    """One of some names, or nothing."""

    def __init__(self, *, names: Collection[str]) -> None:
        super().__init__(required=False)
        self._names = names

    def clean(self, value: str | None) -> str | None:
        text: str = super().clean(value)
        if text and text not in self._names:
            raise ValidationError(f"Give one of {', '.join(self._names)}.")
        return text or None


def read_group_by(query: QueryDict) -> str | None:
    """Read what is grouped by; raise ParameterError."""
    return clean_parameters(query, group_by=ChoiceField(names=GROUPS))["group_by"]  # type: ignore[no-any-return]


def read_source(query: QueryDict) -> str | None:
    """Read what the answer shall be made from; raise ParameterError."""
    return clean_parameters(query, source=ChoiceField(names=SOURCES))["source"]  # type: ignore[no-any-return]


def clean_parameters(query: QueryDict, **fields: forms.Field) -> dict[str, Any]:
    """Read parameters by the fields given; raise ParameterError."""
    several = [name for name, field in fields.items() if isinstance(field, ValuesField)]
    form = forms.Form(given(query, fields, several))
    form.fields.update(fields)
    for name, messages in form.errors.items():
        raise ParameterError(name, f"{name}: {messages[0]}")
    return form.cleaned_data


class ValuesFilter(Filter):
    """Equal to one of several values."""

    field_class = ValuesField

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
    field_class = MillisecondsField


class InstantFilter(Filter):
    field_class = InstantField


class SlowFilter(Filter):
    """Slow or not, by the setting SLOW_MS."""

    field_class = SwitchField

    def filter(self, qs: Records, value: bool | None) -> Records:
        if value is None:
            return qs
        slow_ms = conf.load().slow_ms
        return qs.filter(duration_ms__gte=slow_ms) if value else qs.filter(duration_ms__lt=slow_ms)


class ErrorFilter(ValuesFilter):
    """Failed with one of several exception classes; true means any error, false no error."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        found = Q()
        for name in value:
            found |= Q(error__isnull=name == "false") if name in ("true", "false") else Q(error=name)
        return qs.filter(found)


def of_statements(records: Records, statements: QuerySet[Statement]) -> Records:
    return records.filter(fingerprint__in=statements.using(records.db).values("fingerprint"))


class SQLLogFilter(django_filters.FilterSet):
    """The filters of the API, in the order in which a database should test them: cheap ones first."""

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
    service = ValuesFilter("service", label="Service")
    host = ValuesFilter("host", label="Host")
    trace_id = ValuesFilter("trace_id", convert=as_hex(32), label="Trace")
    request_id = ValuesFilter("request_id", label="Request")
    fingerprint = ValuesFilter("fingerprint", convert=as_hex(16), label="Fingerprint")
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

        Raise ParameterError for an unknown parameter and for an invalid value.
        """
        several = {name for name, one in cls.base_filters.items() if isinstance(one, ValuesFilter)}
        refuse_unknown(query, {*cls.base_filters, *others})
        filterset = cls(given(query, cls.base_filters, several))
        for name, messages in filterset.errors.items():
            raise ParameterError(name, f"{name}: {messages[0]}")
        return filterset
