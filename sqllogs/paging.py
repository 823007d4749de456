"""Say which page is asked for: ordering, limit, and offset or cursor.

Fed by a view's parameters, feeds `sqllogs.pagination`. A cursor names a record,
not a distance, so pages neither repeat nor skip one while new ones come in.
"""

import re
from dataclasses import dataclass

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from sqllogs import parameters
from sqllogs.api_errors import ParameterError
from sqllogs.queries import UNKNOWN, Ordering, Place, Window
from sqllogs.rows import COLUMNS, Row

LIMIT = 100
LIMIT_MAX = 1_000
OFFSET_MAX = 10_000

ORDERINGS = {
    "id": "seq",
    "time": "seq",  # numbers are given out in time's order, but for what a flush interval mixes
    "duration_ms": "duration_ms",
    "execute_ms": "execute_ms",
    "rows": "rows",
    "sql_length": "sql_length",
}
PARAMETERS = ("ordering", "limit", "offset", "cursor")

_CURSOR = re.compile(r"(-?)(\d{1,18})(?:~(-?[0-9.e+-]{1,25}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a page begins: `<id>`, or `<id>~<value>` in an order by value.

    With `-` before it, it is where the page before ends.
    """

    place: Place
    backward: bool = False

    def __str__(self) -> str:
        value = "" if self.place.value is None else f"~{self.place.value!r}"
        return f"{'-' if self.backward else ''}{self.place.seq}{value}"

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Raise ValueError for a text that is no cursor."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValueError(text)
        value = None if found[3] is None else float(found[3])
        if value is not None and abs(value) > 2**53:
            raise ValueError(text)
        return cls(place=Place(int(found[2]), value), backward=bool(found[1]))


class CursorField(forms.CharField):
    def clean(self, value: str | None) -> Cursor | None:
        text = super().clean(value)
        try:
            return Cursor.read(text) if text else None
        except ValueError:
            raise ValidationError("Give the next_cursor of another answer as it is.") from None


class OrderingField(forms.CharField):
    def clean(self, value: str | None) -> Ordering:
        text = super().clean(value) or "-id"
        column = ORDERINGS.get(text.removeprefix("-"))
        if column is None:
            raise ValidationError(f"Give one of {', '.join(ORDERINGS)}, with - before it for descending.")
        return Ordering(column=column, descending=text.startswith("-"))


class PageForm(forms.Form):
    """The parameters of a page."""

    limit = forms.IntegerField(min_value=1, max_value=LIMIT_MAX, required=False)
    offset = forms.IntegerField(min_value=0, max_value=OFFSET_MAX, required=False)
    cursor = CursorField(required=False)
    ordering = OrderingField(required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Which page is asked for."""

    ordering: Ordering
    limit: int
    offset: int
    cursor: Cursor | None

    @classmethod
    def of(cls, query: QueryDict) -> "Paging":
        """Read a query string, whatever else it says; raise ParameterError."""
        form = PageForm(parameters.given(query, PARAMETERS))
        for name, messages in form.errors.items():
            raise ParameterError(name, f"{name}: {messages[0]}")
        data = form.cleaned_data
        cursor, ordering = data["cursor"], data["ordering"]
        if cursor and data["offset"] is not None:
            raise ParameterError("offset", "Give cursor or offset, not both.")
        if cursor and (cursor.place.value is None) != (ordering.column == "seq"):
            raise ParameterError("cursor", "The cursor belongs to another ordering.")
        limit = data["limit"] or LIMIT
        return cls(ordering=ordering, limit=limit, offset=data["offset"] or 0, cursor=cursor)

    @property
    def window(self) -> Window:
        """The records to read: one more than the page has, which tells whether another page follows."""
        backward = self.cursor is not None and self.cursor.backward
        return Window(
            ordering=self.ordering.flipped() if backward else self.ordering,
            limit=self.limit + 1,
            after=self.cursor.place if self.cursor else None,
            offset=self.offset,
        )

    def cursor_at(self, row: Row, *, backward: bool = False) -> Cursor:
        """Return the cursor of the page behind a row, or before it."""
        value = None
        if self.ordering.column != "seq":
            found = row[COLUMNS.index(self.ordering.column)]
            value = float(UNKNOWN if found is None else found)
        return Cursor(place=Place(row[0], value), backward=backward)
