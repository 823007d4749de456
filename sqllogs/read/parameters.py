"""Parse a query string: filters, grouping and other parameters. An error names its parameter.

SQLLogFilter has the filters of API, page, admin and terminal; the other modules of `sqllogs.read` use its
queryset. The form fields reject every value that could make a database fail. Runs in the reader's thread.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import QueryDict
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django_filters import Filter

from sqllogs import conf
from sqllogs.errors import ParameterError
from sqllogs.models import QuerySource, SQLLog, Statement
from sqllogs.read import ring
from sqllogs.read.aggregates import GROUPS
from sqllogs.read.ring import Records

VALUE_MAX_CHARACTERS = 2_000
VALUES_MAX = 100

ABSENT = frozenset({"", "All", "$__all"})
"""Values that Grafana sends for a variable without a selection, or with "All" selected."""

_SEPARATOR = re.compile(r"(?<!\\),")
_RELATIVE = re.compile(r"now(?:([+-])(\d{1,9})([smhdw]))?", re.ASCII)
_EPOCH = re.compile(r"\d{1,13}(?:\.\d{1,9})?", re.ASCII)
_EPOCH_MS_FROM = 1e11
"""Larger numbers are milliseconds: this one is 1973 in milliseconds, and the year 5138 in seconds."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def refuse_unknown(query: QueryDict, known: Collection[str]) -> None:
    """Raise ParameterError for the first parameter that is not in `known`."""
    for name in query:
        if name not in known:
            message = gettext("Unknown parameter %(name)r. Valid parameters: %(names)s.")
            values = {"name": name[:50], "names": ", ".join(sorted(known))}
            raise ParameterError(name[:50], message % values, code="unknown_parameter")


def given(query: QueryDict, names: Iterable[str], repeatable: Collection[str] = ()) -> dict[str, str]:
    """Return those of the parameters `names` that have a value; raise ParameterError.

    Repeating one of `repeatable` is the same as separating its values by commas.
    """
    present = {}
    for name in names:
        values = [value for value in query.getlist(name) if value.strip() not in ABSENT]
        if len(values) > 1 and name not in repeatable:
            raise ParameterError(name, gettext("%(name)s must not be repeated.") % {"name": name})
        if values:
            present[name] = _checked(name, ",".join(values))
    return present


def _checked(name: str, value: str) -> str:
    if len(value) > VALUE_MAX_CHARACTERS:
        message = gettext("%(name)s must have at most %(count)s characters.")
        raise ParameterError(name, message % {"name": name, "count": VALUE_MAX_CHARACTERS})
    # No database accepts a lone surrogate. PostgreSQL also rejects NUL, as forms.CharField does.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ParameterError(name, gettext("%(name)s contains an invalid character.") % {"name": name})
    return value


def with_defaults(query: QueryDict, **values: str) -> QueryDict:
    """Return a query string with default values for missing parameters."""
    filled = query.copy()
    for name, value in values.items():
        if not given(query, [name]):
            filled[name] = value
    return filled


def escaped(value: str) -> str:
    r"""Escape one value of a parameter that takes several: a comma in it is written `\,`."""
    return value.replace(",", "\\,")


def separated(text: str) -> list[str]:
    r"""Split values at commas not escaped by `escaped`; empty ones are left out."""
    parts = (part.replace("\\,", ",").strip() for part in _SEPARATOR.split(text))
    return [part for part in parts if part]


def as_hex(digits: int) -> Callable[[str], str]:
    """Return a parser of hexadecimal ids; leading zeros are optional."""
    pattern = re.compile(rf"[0-9a-f]{{1,{digits}}}")

    def convert(value: str) -> str:
        if not pattern.fullmatch(value.lower()):
            raise ValidationError(_("Must be up to %(count)s hexadecimal digits."), params={"count": digits})
        # Tempo's search and exemplars drop leading zeros of trace ids.
        return value.lower().zfill(digits)

    return convert


class ValuesField(forms.CharField):
    r"""Several values, separated by commas; a comma in a value is written `\,`."""

    def __init__(self, *, convert: Callable[[str], str] = str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._convert = convert

    def clean(self, value: Any) -> list[str]:
        parts = separated(super().clean(value))
        if len(parts) > VALUES_MAX:
            raise ValidationError(_("Must be at most %(count)s values."), params={"count": VALUES_MAX})
        # Grafana sends "All" among chosen values too; it means no filter.
        return [] if ABSENT.intersection(parts) else [self._convert(part) for part in parts]


class StatusField(ValuesField):
    """HTTP statuses, or classes of them: 404, 5xx."""

    def __init__(self) -> None:
        super().__init__(required=False, convert=_status)


def _status(value: str) -> str:
    if not re.fullmatch(r"[1-5](\d\d|xx)", value.lower(), re.ASCII):
        raise ValidationError(_("Must be a status such as 404 or 5xx."))
    return value.lower()


class InstantField(forms.CharField):
    """A point in time: RFC 3339, seconds or milliseconds since the epoch, or now-5m."""

    def clean(self, value: Any) -> datetime | None:
        text = super().clean(value)
        try:
            return _instant(text) if text else None
        except (ValueError, OverflowError):
            raise ValidationError(
                _(
                    "Must be a time such as 2026-01-31T12:00:00Z, seconds or milliseconds since the epoch, "
                    "or now-5m (s, m, h, d, w)."
                )
            ) from None


def _instant(text: str) -> datetime:
    if relative := _RELATIVE.fullmatch(text):
        sign, number, unit = relative.groups()
        delta = timedelta(**{_UNITS[unit]: int(sign + number)}) if unit else timedelta()
        return ring.utc_now() + delta
    if _EPOCH.fullmatch(text):
        number = float(text)
        return datetime.fromtimestamp(number / 1000 if number >= _EPOCH_MS_FROM else number, UTC)
    # An unescaped + in a query string arrives as a space.
    time = datetime.fromisoformat(re.sub(r" (\d\d:\d\d)$", r"+\1", text) if text.count(":") > 1 else text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class MillisecondsField(forms.FloatField):
    """A duration in milliseconds."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=1e12, **kwargs)


class SwitchField(forms.CharField):
    """true or false."""

    def clean(self, value: Any) -> bool | None:
        text = super().clean(value).lower()
        if text not in _SWITCH:
            raise ValidationError(_("Must be true or false."))
        return _SWITCH[text]


_SWITCH = {"": None, "true": True, "1": True, "false": False, "0": False}

SOURCES = ("auto", "ring", "statistics", "units")
COMPARISONS = ("previous", "day", "week", "release")


class ChoiceField(forms.CharField):
    """One of some names, or empty."""

    def __init__(self, *, names: Collection[str]) -> None:
        super().__init__(required=False)
        self._names = names

    def clean(self, value: str | None) -> str | None:
        text: str = super().clean(value)
        if text and text not in self._names:
            raise ValidationError(_("Must be one of: %(names)s."), params={"names": ", ".join(self._names)})
        return text or None


def read_group_by(query: QueryDict) -> str | None:
    """Parse the parameter `group_by`; raise ParameterError."""
    return clean_parameters(query, group_by=ChoiceField(names=GROUPS))["group_by"]  # type: ignore[no-any-return]


def read_source(query: QueryDict) -> str | None:
    """Parse the parameter `source`; raise ParameterError."""
    return clean_parameters(query, source=ChoiceField(names=SOURCES))["source"]  # type: ignore[no-any-return]


def read_compare(query: QueryDict) -> str | None:
    """Parse the parameter `compare`; raise ParameterError."""
    return clean_parameters(query, compare=ChoiceField(names=COMPARISONS))["compare"]  # type: ignore[no-any-return]


def clean_parameters(query: QueryDict, **fields: forms.Field) -> dict[str, Any]:
    """Parse parameters with the form fields given; raise ParameterError."""
    repeatable = [name for name, field in fields.items() if isinstance(field, ValuesField)]
    form = forms.Form(given(query, fields, repeatable))
    # Not class attributes, because `from` is a keyword.
    form.fields.update(fields)
    for name, messages in form.errors.items():
        raise ParameterError(name, f"{name}: {messages[0]}")
    return form.cleaned_data


class ValuesFilter(Filter):
    """Matches records whose field equals one of several values."""

    field_class = ValuesField

    def __init__(self, field_name: str, **kwargs: Any) -> None:
        super().__init__(field_name, kwargs.pop("lookup_expr", "in"), **kwargs)


class CallSiteFilter(ValuesFilter):
    """Matches records whose call site contains one of several values; call sites have their own table."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        if not value:
            return qs
        condition = Q()
        for part in value:
            condition |= Q(call_site__contains=part)
        # By id: comparing the text of each of 100,000 records takes 26 ms on SQLite instead of 8.
        sources = QuerySource.objects.using(qs.db).filter(condition)
        return qs.filter(source__in=sources.values("pk"))


class StatementFilter(ValuesFilter):
    """Matches records whose statement has one of several values; statements have their own table."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        if not value:
            return qs
        return of_statements(qs, Statement.objects.filter(**{f"{self.field_name}__in": value}))


class TableFilter(ValuesFilter):
    """Matches records whose statement uses one of several tables, ignoring case."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        if not value:
            return qs
        condition = Q()
        for table in value:
            # With commas at both ends, so that `user` does not match `user_group`.
            condition |= Q(listed__icontains=f",{table},")
        listed = Concat(Value(","), "tables", Value(","))
        return of_statements(qs, Statement.objects.alias(listed=listed).filter(condition))


class SearchFilter(Filter):
    """Matches records whose SQL text contains these words in this order, ignoring case."""

    field_class = forms.CharField

    def filter(self, qs: Records, value: str) -> Records:
        return of_statements(qs, Statement.objects.filter(sql__icontains=value)) if value else qs


class MillisecondsFilter(Filter):
    field_class = MillisecondsField


class InstantFilter(Filter):
    field_class = InstantField


class SlowFilter(Filter):
    """Matches slow records, or all others; SLOW_MS is the limit."""

    field_class = SwitchField

    def filter(self, qs: Records, value: bool | None) -> Records:
        if value is None:
            return qs
        slow_ms = conf.load().slow_ms
        return qs.filter(duration_ms__gte=slow_ms) if value else qs.filter(duration_ms__lt=slow_ms)


class ErrorFilter(ValuesFilter):
    """Matches records that failed with one of several exception classes; true is any error, false none."""

    def filter(self, qs: Records, value: list[str]) -> Records:
        condition = Q()
        for name in value:
            condition |= Q(error__isnull=name == "false") if name in ("true", "false") else Q(error=name)
        return qs.filter(condition)


def of_statements(records: Records, statements: QuerySet[Statement]) -> Records:
    # On the same alias: a router may choose a replica, and Django refuses subqueries across databases.
    return records.filter(fingerprint__in=statements.using(records.db).values("fingerprint"))


class SQLLogFilter(django_filters.FilterSet):
    """The filters of the API, in the order in which a database should test them: cheap ones first.

    A label names the field on the page; the help text describes it in the terminal and in OpenAPI.
    """

    min_ms = MillisecondsFilter(
        "duration_ms", "gte", label=_("At least (ms)"), help_text=_("Minimum duration in milliseconds.")
    )
    max_ms = MillisecondsFilter(
        "duration_ms", "lte", label=_("At most (ms)"), help_text=_("Maximum duration in milliseconds.")
    )
    slow = SlowFilter(
        "duration_ms",
        label=_("Slow"),
        help_text=_("true: slow queries, of at least SLOW_MS. false: all others."),
    )
    to = InstantFilter(
        "time", "lt", label=_("To"), help_text=_("End of the time range, exclusive; same format as `from`.")
    )
    error = ErrorFilter(
        "error",
        label=_("Error"),
        help_text=_("true: failed queries. false: all others. Or names of exception classes."),
    )
    alias = ValuesFilter(
        "alias",
        label=_("Database"),
        help_text=_("Aliases in DATABASES. Several values are separated by commas, as in most filters."),
    )
    vendor = ValuesFilter("vendor", label=_("Vendor"), help_text=_("Vendors: sqlite, postgresql, ..."))
    kind = ValuesFilter(
        "kind", label=_("Kind"), help_text=_("Kinds of units of work: request, command, task, thread.")
    )
    method = ValuesFilter("method", convert=str.upper, label=_("Method"), help_text=_("HTTP methods."))
    route = ValuesFilter("route", label=_("Route"), help_text=_("URL patterns."))
    view = ValuesFilter(
        "view", label=pgettext_lazy("Django view", "View"), help_text=_("Names of views, commands or tasks.")
    )
    release = ValuesFilter("release", label=_("Release"), help_text=_("Releases of the application."))
    service = ValuesFilter(
        "service", label=_("Service"), help_text=_("Names of projects, if several write to one log.")
    )
    host = ValuesFilter("host", label=_("Host"), help_text=_("Host names."))
    trace_id = ValuesFilter("trace_id", convert=as_hex(32), label=_("Trace"), help_text=_("Trace ids."))
    request_id = ValuesFilter("request_id", label=_("Request"), help_text=_("X-Request-ID headers."))
    fingerprint = ValuesFilter(
        "fingerprint", convert=as_hex(16), label=_("Fingerprint"), help_text=_("Fingerprints of statements.")
    )
    call_site = CallSiteFilter(
        "call_site",
        label=_("Call site"),
        help_text=_("Parts of a call site, which is `path/file.py:line function`."),
    )
    operation = StatementFilter(
        "operation", convert=str.upper, label=_("Operation"), help_text=_("SELECT, INSERT, ...")
    )
    table = TableFilter("tables", label=_("Table"), help_text=_("Tables that the statement uses."))
    search = SearchFilter(
        "sql",
        label=_("Search"),
        help_text=_("Part of the SQL text; requires the permission view_sqllog_text."),
    )

    class Meta:
        model = SQLLog
        fields = ()

    def __init__(self, data: dict[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        # Only those that have a value: copying all filters and making their form fields takes 1 ms.
        if data is not None:
            self.base_filters = OrderedDict(
                (name, self.base_filters[name]) for name in self.base_filters if name in data
            )
        super().__init__(data, *args, **kwargs)

    @classmethod
    def get_filters(cls) -> OrderedDict[str, Filter]:
        """Add `from`, a keyword that cannot be the name of a class attribute."""
        filters = super().get_filters()
        filters["from"] = InstantFilter(
            "time",
            "gte",
            label=_("From"),
            help_text=_(
                "Start of the time range: RFC 3339, seconds or milliseconds since the epoch, or now-5m."
            ),
        )
        return filters

    @property
    def values(self) -> dict[str, Any]:
        """The values of all filters."""
        return _values_if_absent() | self.form.cleaned_data

    @classmethod
    def from_query(cls, query: QueryDict, others: Collection[str] = ()) -> "SQLLogFilter":
        """Parse a query string; `others` are the parameters of a view besides the filters.

        Raise ParameterError for an unknown parameter or an invalid value.
        """
        repeatable = {name for name, filter in cls.base_filters.items() if isinstance(filter, ValuesFilter)}
        # If a mistyped filter were ignored, the answer would be about all records.
        refuse_unknown(query, {*cls.base_filters, *others})
        filterset = cls(given(query, cls.base_filters, repeatable))
        for name, messages in filterset.errors.items():
            raise ParameterError(name, f"{name}: {messages[0]}")
        return filterset


@cache
def _values_if_absent() -> dict[str, Any]:
    return {name: one.field.clean("") for name, one in SQLLogFilter.base_filters.items()}
