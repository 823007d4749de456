"""Write an answer as JSON, and choose it whenever a reader does not ask for something else by name.

Fed by the views, in the reader's thread.

Write an answer's rows as CSV or as NDJSON, for spreadsheets and scripts.

Fed by the views with answers that have `results`; bounded as these are by `limit`.
Runs in the reader's thread.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from io import StringIO
from typing import Any, get_args, get_type_hints

import orjson
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings

from sqllogs.errors import ParameterError

# With a setting of its own it does not look at the host project's REST_FRAMEWORK.
PLAIN_SETTINGS: Any = APISettings({"URL_FORMAT_OVERRIDE": "format"}, DEFAULTS, IMPORT_STRINGS)


class ORJSONRenderer(BaseRenderer):
    """Dataclasses, datetimes and records as JSON; NaN is null."""

    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 and says no charset
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data, option=orjson.OPT_UTC_Z)


class Negotiation(DefaultContentNegotiation):
    """By Accept and `format`; the first renderer is for those who accept anything."""

    settings = PLAIN_SETTINGS

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        renderers = list(renderers)
        found = [renderer for renderer in renderers if renderer.format == format]
        if not found:
            formats = ", ".join(renderer.format for renderer in renderers)
            raise ParameterError("format", f"format: Give one of {formats}.")
        return found


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is run by spreadsheets, unless an apostrophe stands before it."""


class TableRenderer(BaseRenderer):
    """One line for each of the results. Only rows fit in: an error is written as JSON instead."""

    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        if renderer_context is not None:
            name = f'attachment; filename="sql-logs.{self.format}"'
            response = renderer_context["response"]
            response["Content-Disposition"] = name
            if following := getattr(data, "next", None):
                response["Link"] = f'<{following}>; rel="next"'
        return self.lines(table_columns(data), data.results)

    def lines(self, names: Sequence[str], rows: Iterable[Any]) -> bytes:
        raise NotImplementedError


class CSVRenderer(TableRenderer):
    """RFC 4180, with a line of names; nothing in it is a formula."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def lines(self, names: Sequence[str], rows: Iterable[Any]) -> bytes:
        written = StringIO()
        writer = csv.writer(written)
        writer.writerow(names)
        writer.writerows([cell(cell_value(row, name)) for name in names] for row in rows)
        return written.getvalue().encode()


class NDJSONRenderer(TableRenderer):
    """A JSON object a line."""

    media_type = "application/x-ndjson"
    format = "ndjson"
    charset = None

    def lines(self, names: Sequence[str], rows: Iterable[Any]) -> bytes:
        option = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        return b"".join(orjson.dumps(row, option=option) for row in rows)


def table_columns(data: Any) -> list[str]:
    """Return the names of an answer's columns: those of its rows, also where there are none."""
    kind = type(data.results[0]) if data.results else None
    if kind is None or not is_dataclass(kind):
        (kind,) = get_args(get_type_hints(type(data))["results"])
        kind = next(iter(get_args(kind)), kind)  # of several kinds of rows, the first has what all have
    return [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind.__annotations__)


def cell_value(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, dict) else getattr(row, name)


def cell(found: Any) -> Any:
    if isinstance(found, bool):
        return "true" if found else "false"
    text = ", ".join(map(str, found)) if isinstance(found, list) else found
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA) else text
