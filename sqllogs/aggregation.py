"""Say which aggregate is asked for: grouped by what, in what steps of time, which page.

Fed by a view's parameters; the filters are read by `sqllogs.filters`.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, QueryDict

from sqllogs import parameters
from sqllogs.api_errors import ParameterError
from sqllogs.paging import LIMIT, LIMIT_MAX, OFFSET_MAX
from sqllogs.queries.groups import GROUPS

PAGE = ("ordering", "limit", "offset")
TOP, TOP_MAX = 10, 20
SOURCES = ("auto", "ring", "statistics")

STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 604_800,
)  # fmt: skip
BUCKETS = 200
"""How many a graph has, at most, where no step is given."""
BUCKETS_MAX = 1_000
"""A step that would make more is widened."""

_STEP = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)?", re.ASCII)
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
STEP_MAX_S = 366 * 86_400

Row = TypeVar("Row")


class StepField(forms.CharField):
    """A length of time in whole seconds: 30, 30s, 5m, 1h, 1d."""

    def clean(self, value: str | None) -> int | None:
        text = super().clean(value)
        if text in ("", "auto"):
            return None
        found = _STEP.fullmatch(text)
        seconds = int(found[1]) * _UNITS_S[found[2] or "s"] if found else 0
        if not 0 < seconds <= STEP_MAX_S:
            raise ValidationError("Give a step of time as 30s, 5m, 1h or 1d.")
        return max(1, round(seconds))


class OrderingOf(forms.CharField):
    """One of an allow-list, with - before it for descending."""

    def __init__(self, *, names: Collection[str], default: str) -> None:
        super().__init__(required=False)
        self._names, self._default = names, default

    def clean(self, value: str | None) -> str:
        text = super().clean(value) or self._default
        if text.removeprefix("-") not in self._names:
            raise ValidationError(f"Give one of {', '.join(self._names)}, with - before it for descending.")
        return text


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The part of an ordered list that is asked for."""

    ordering: str
    limit: int
    offset: int

    @classmethod
    def of(cls, query: QueryDict, names: Collection[str], default: str) -> "Slice":
        """Read a query string; raise ParameterError."""
        data = read(
            query,
            ordering=OrderingOf(names=names, default=default),
            limit=forms.IntegerField(min_value=1, max_value=LIMIT_MAX, required=False),
            offset=forms.IntegerField(min_value=0, max_value=OFFSET_MAX, required=False),
        )
        return cls(ordering=data["ordering"], limit=data["limit"] or LIMIT, offset=data["offset"] or 0)

    @property
    def column(self) -> str:
        return self.ordering.removeprefix("-")

    @property
    def is_descending(self) -> bool:
        return self.ordering.startswith("-")

    def cut(self, rows: Iterable[Row], value: Callable[[Row], Any]) -> list[Row]:
        """Sort rows by a value, the unknown below all others, and cut the page out."""

        def key(row: Row) -> tuple[bool, Any]:
            found = value(row)
            return found is not None, found

        ordered = sorted(rows, key=key, reverse=self.is_descending)
        return ordered[self.offset : self.offset + self.limit]

    def next_url(self, request: HttpRequest, count: int) -> str | None:
        offset = self.offset + self.limit
        return self._url(request, offset) if offset < count and offset <= OFFSET_MAX else None

    def previous_url(self, request: HttpRequest) -> str | None:
        return self._url(request, max(0, self.offset - self.limit)) if self.offset else None

    def _url(self, request: HttpRequest, offset: int) -> str:
        query = request.GET.copy()
        query["offset"] = str(offset)
        return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


def group_by(query: QueryDict) -> str | None:
    """Read what is grouped by; raise ParameterError."""
    return read(query, group_by=ChoiceField(names=GROUPS))["group_by"]  # type: ignore[no-any-return]


def source(query: QueryDict) -> str | None:
    """Read what the answer shall be made from; raise ParameterError."""
    return read(query, source=ChoiceField(names=SOURCES))["source"]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The lines that are asked for."""

    group_by: str | None
    top: int
    step_s: int | None
    """None leaves it to the range."""
    whole_steps: bool = True
    """Whether the first step of statistics has calls from before the range too."""

    @classmethod
    def of(cls, query: QueryDict) -> "Graph":
        """Read a query string; raise ParameterError."""
        data = read(
            query,
            group_by=ChoiceField(names=GROUPS),
            top=forms.IntegerField(min_value=1, max_value=TOP_MAX, required=False),
            step=StepField(required=False),
        )
        return cls(group_by=data["group_by"], top=data["top"] or TOP, step_s=data["step"])

    def step_for(self, since: datetime, until: datetime) -> int:
        """Return the step in seconds: as asked for if it does not make too many points."""
        range_s = max(1.0, (until - since).total_seconds())
        if self.step_s is not None and range_s / self.step_s <= BUCKETS_MAX:
            return self.step_s
        return step_of(range_s, BUCKETS if self.step_s is None else BUCKETS_MAX)


def step_of(range_s: float, buckets: int) -> int:
    """Return the shortest of the steps, or of so many weeks, that makes about so many buckets of a range."""
    least_s, last = range_s / buckets, STEPS_S[-1]
    return next((step for step in STEPS_S if step >= least_s), math.ceil(least_s / last) * last)


def read(query: QueryDict, **fields: forms.Field) -> dict[str, Any]:
    """Read parameters by the fields given; raise ParameterError."""
    several = [name for name, field in fields.items() if isinstance(field, parameters.ValuesField)]
    form = forms.Form(parameters.given(query, fields, several))
    form.fields.update(fields)
    for name, messages in form.errors.items():
        raise ParameterError(name, f"{name}: {messages[0]}")
    return form.cleaned_data
