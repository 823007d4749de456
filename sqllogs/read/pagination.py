"""Pagination: cursor pages of records, offset pages of computed rows.

A cursor is the id of a record instead of an offset, so pages neither repeat nor skip a record while new ones
arrive. Reads with `sqllogs.read.records` in the reader's thread, feeds API and page.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sqllogs.errors import ParameterError
from sqllogs.read import parameters, records
from sqllogs.read import ring as read_ring
from sqllogs.read.parameters import clean_parameters
from sqllogs.read.records import Row
from sqllogs.read.ring import Ordering, Position, Records, RingSnapshot, Window
from sqllogs.record import COLUMNS, RecordJSON
from sqllogs.storage.blocks import UNKNOWN

LIMIT = 100
LIMIT_MAX = 1_000
# The database reads all rows before an offset; a cursor starts at its record.
OFFSET_MAX = 10_000

ORDERINGS = {
    "id": "seq",
    "time": "seq",  # ids follow time, except for records of several processes within a flush interval
    "duration_ms": "duration_ms",
    "execute_ms": "execute_ms",
    "rows": "rows",
    "sql_length": "sql_length",
}
PARAMETERS = ("ordering", "limit", "offset", "cursor")

# "-" for a previous page; the id, whose 18 digits fit into 64 bits; "~" and the value of the ordering.
_CURSOR = re.compile(r"(-?)(\d{1,18})(?:~(-?[0-9.e+-]{1,25}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The record after which a page begins: `<id>`, or `<id>~<value>` if the records are ordered by a value.

    With a leading `-`, the record before which the page ends.
    """

    position: Position
    backward: bool = False

    def __str__(self) -> str:
        value = "" if self.position.value is None else f"~{self.position.value!r}"
        return f"{'-' if self.backward else ''}{self.position.seq}{value}"

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Parse a cursor; raise ValueError if it is invalid."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError(text)
        value = None if match[3] is None else float(match[3])
        # Not one of our cursors: 1e999, for example, is infinite.
        if value is not None and abs(value) > 2**53:
            raise ValueError(text)
        return cls(position=Position(int(match[2]), value), backward=bool(match[1]))


class CursorField(forms.CharField):
    def clean(self, value: str | None) -> Cursor | None:
        text = super().clean(value)
        try:
            return Cursor.read(text) if text else None
        except ValueError:
            raise ValidationError(_("Must be the next_cursor of an earlier answer.")) from None


INVALID_ORDERING = _("Must be one of: %(names)s; a leading - sorts descending.")


class RecordOrderingField(forms.CharField):
    def clean(self, value: str | None) -> Ordering:
        text = super().clean(value) or "-id"
        column = ORDERINGS.get(text.removeprefix("-"))
        if column is None:
            raise ValidationError(INVALID_ORDERING, params={"names": ", ".join(ORDERINGS)})
        return Ordering(column=column, descending=text.startswith("-"))


class PageForm(forms.Form):
    """The parameters of a page of records."""

    limit = forms.IntegerField(min_value=1, max_value=LIMIT_MAX, required=False)
    offset = forms.IntegerField(min_value=0, max_value=OFFSET_MAX, required=False)
    cursor = CursorField(required=False)
    ordering = RecordOrderingField(required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorPage:
    """The requested page of records."""

    ordering: Ordering
    limit: int
    offset: int
    cursor: Cursor | None
    fields: tuple[str, ...] = ()
    """Of each record; () for all."""

    @classmethod
    def from_query(cls, query: QueryDict) -> "CursorPage":
        """Parse the page's parameters of a query string; raise ParameterError."""
        form = PageForm(parameters.given(query, PARAMETERS))
        for name, messages in form.errors.items():
            raise ParameterError(name, f"{name}: {messages[0]}")
        data = form.cleaned_data
        cursor, ordering = data["cursor"], data["ordering"]
        if cursor and data["offset"] is not None:
            raise ParameterError("offset", gettext("cursor and offset must not be combined."))
        if cursor and (cursor.position.value is None) != (ordering.column == "seq"):
            raise ParameterError("cursor", gettext("The cursor is from an answer with another ordering."))
        limit = data["limit"] or LIMIT
        return cls(ordering=ordering, limit=limit, offset=data["offset"] or 0, cursor=cursor)

    @property
    def window(self) -> Window:
        """The records to read: one more than fits, which shows whether there is a next page."""
        backward = self.cursor is not None and self.cursor.backward
        return Window(
            ordering=self.ordering.flipped() if backward else self.ordering,
            limit=self.limit + 1,
            after=self.cursor.position if self.cursor else None,
            offset=self.offset,
            fields=self.fields,
        )

    def cursor_at(self, row: Row, *, backward: bool = False) -> Cursor:
        """Return the cursor of the page after a row, or before it."""
        value = None
        if self.ordering.column != "seq":
            stored = row[COLUMNS.index(self.ordering.column)]
            # As the database sorts NULL, see records._key().
            value = float(UNKNOWN if stored is None else stored)
        return Cursor(position=Position(row[0], value), backward=backward)


PAGE = ("ordering", "limit", "offset")

AnyRow = TypeVar("AnyRow")
AnyModel = TypeVar("AnyModel", bound=Model)


class OrderingField(forms.CharField):
    """One of some names; a leading - sorts descending."""

    def __init__(self, *, names: Collection[str], default: str) -> None:
        super().__init__(required=False)
        self._names, self._default = names, default

    def clean(self, value: str | None) -> str:
        text = super().clean(value) or self._default
        if text.removeprefix("-") not in self._names:
            raise ValidationError(INVALID_ORDERING, params={"names": ", ".join(self._names)})
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetPage:
    """The requested part of an ordered list."""

    ordering: str
    limit: int
    offset: int

    @classmethod
    def from_query(cls, query: QueryDict, names: Collection[str], default: str) -> "OffsetPage":
        """Parse the page's parameters of a query string; raise ParameterError."""
        data = clean_parameters(
            query,
            ordering=OrderingField(names=names, default=default),
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

    def cut(self, rows: Iterable[AnyRow], value: Callable[[AnyRow], Any]) -> list[AnyRow]:
        """Sort rows by a value, None before all others, and return those of the page."""

        def key(row: AnyRow) -> tuple[bool, Any]:
            sort_value = value(row)
            return sort_value is not None, sort_value

        ordered = sorted(rows, key=key, reverse=self.is_descending)
        return ordered[self.offset : self.offset + self.limit]

    def read(self, matching: QuerySet[AnyModel]) -> tuple[list[AnyModel], int]:
        """Return the objects of the page, and the number of all, counted only if need be."""
        rows = list(matching[self.offset : self.offset + self.limit])
        shows_last = len(rows) < self.limit and (rows or not self.offset)
        return rows, self.offset + len(rows) if shows_last else matching.count()

    def next_url(self, request: HttpRequest, count: int) -> str | None:
        offset = self.offset + self.limit
        # No link beyond OFFSET_MAX, which would only be answered with an error.
        return self._url(request, offset) if offset < count and offset <= OFFSET_MAX else None

    def previous_url(self, request: HttpRequest) -> str | None:
        return self._url(request, max(0, self.offset - self.limit)) if self.offset else None

    def _url(self, request: HttpRequest, offset: int) -> str:
        query = request.GET.copy()
        query["offset"] = str(offset)
        return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


COUNT_MAX = 10_000
"""Records are counted up to this number; counting more would take longer than reading the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The answer of a list of records, in the order of its JSON."""

    count: int
    count_is_capped: bool
    """Whether there are more than `count` records."""
    next: str | None
    previous: str | None
    # Grafana's Infinity sends this value as a parameter; it cannot follow `next`.
    next_cursor: str | None
    results: list[RecordJSON]


def read_page(request: HttpRequest, filtered: Records, paging: CursorPage, *, with_text: bool) -> Page:
    """Read the requested page; one beyond the last is empty."""
    ring = read_ring.ring()
    # No error beyond the end: Grafana's Infinity requests all its pages, whatever the answers.
    rows = records.rows(filtered, ring, paging.window)
    shown, there_is_more = rows[: paging.limit], len(rows) > paging.limit
    if paging.cursor is not None and paging.cursor.backward:
        if not there_is_more:  # the beginning is reached, so return the first page instead, a full one
            return read_page(request, filtered, replace(paging, cursor=None), with_text=with_text)
        shown.reverse()
    count = _count(filtered, ring, paging, rows)
    following = str(paging.cursor_at(shown[-1])) if there_is_more else None
    return Page(
        count=min(count, COUNT_MAX),
        count_is_capped=count > COUNT_MAX,
        next=_next(request, paging, following),
        previous=_previous(request, paging, shown),
        next_cursor=following,
        results=records.records(shown, with_text=with_text, fields=paging.fields),
    )


def _count(filtered: Records, ring: RingSnapshot, paging: CursorPage, rows: list[Row]) -> int:
    """Count up to COUNT_MAX + 1, without scanning again the records before the end of the page."""
    # With a cursor, the position of the page in the whole list is unknown.
    if paging.cursor is not None or (paging.offset and not rows):
        return records.count(filtered, ring, COUNT_MAX + 1)
    seen = paging.offset + len(rows)
    if len(rows) <= paging.limit or seen > COUNT_MAX:
        return seen
    # Sorted by value, the records of the page may be anywhere in the ring.
    if paging.ordering.column != "seq":
        return records.count(filtered, ring, COUNT_MAX + 1)
    last = Position(rows[-1][0])
    return seen + records.count_after(last, filtered, ring, paging.ordering, COUNT_MAX + 1 - seen)


def _next(request: HttpRequest, paging: CursorPage, following: str | None) -> str | None:
    if following is None:
        return None
    offset = paging.offset + paging.limit
    # Readers who page by offset continue by offset, and by cursor once offsets end.
    if paging.offset and offset <= OFFSET_MAX:
        return _url(request, offset=str(offset))
    return _url(request, cursor=following)


def _previous(request: HttpRequest, paging: CursorPage, shown: list[Row]) -> str | None:
    if paging.offset:
        return _url(request, offset=str(max(0, paging.offset - paging.limit)))
    if paging.cursor is None or not shown:
        return None
    return _url(request, cursor=str(paging.cursor_at(shown[0], backward=True)))


def _url(request: HttpRequest, **changes: str) -> str:
    """Return the URL of another page of the same list."""
    query = request.GET.copy()
    for name in ("cursor", "offset"):
        query.pop(name, None)
    query.update(changes)
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
