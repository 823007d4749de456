"""Render answers as JSON (the default), CSV or NDJSON, and choose the renderer.

Fed by the views in the reader's thread. CSV and NDJSON need an answer with `results`; `limit` bounds
their size.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from io import StringIO
from typing import Any, get_args, get_type_hints

import orjson
from django.utils.translation import gettext as _
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings

from sqllogs.errors import ParameterError

# Explicit user settings: otherwise APISettings reads the host's REST_FRAMEWORK.
PLAIN_SETTINGS: Any = APISettings({"URL_FORMAT_OVERRIDE": "format"}, DEFAULTS, IMPORT_STRINGS)


class ORJSONRenderer(BaseRenderer):
    """Dataclasses, datetimes and records as JSON; NaN is null."""

    media_type = "application/json"
    format = "json"
    charset = None  # JSON is always UTF-8; RFC 8259 defines no charset parameter
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data, option=orjson.OPT_UTC_Z)


class Negotiation(DefaultContentNegotiation):
    """By `format` and Accept; a client that accepts anything gets the view's first renderer."""

    settings = PLAIN_SETTINGS

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        renderers = list(renderers)
        matching = [renderer for renderer in renderers if renderer.format == format]
        if not matching:
            formats = ", ".join(renderer.format for renderer in renderers)
            message = _("format must be one of: %(formats)s.") % {"formats": formats}
            raise ParameterError("format", message)
        return matching


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs text that starts with one of these, unless an apostrophe precedes it."""


class TableRenderer(BaseRenderer):
    """One line per result. It cannot hold an error, so errors are always JSON."""

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
    """RFC 4180 with a header line; values that look like formulas are escaped."""

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
    """One JSON object per line."""

    media_type = "application/x-ndjson"
    format = "ndjson"
    charset = None

    def lines(self, names: Sequence[str], rows: Iterable[Any]) -> bytes:
        option = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        return b"".join(orjson.dumps(row, option=option) for row in rows)


def table_columns(data: Any) -> list[str]:
    """Return the column names of an answer, from the types if it has no rows."""
    kind = type(data.results[0]) if data.results else None
    if kind is None or not is_dataclass(kind):
        (kind,) = get_args(get_type_hints(type(data))["results"])
        kind = next(iter(get_args(kind)), kind)  # of a union, the first type has the common fields
    return [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind.__annotations__)


def cell_value(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, dict) else getattr(row, name)


def cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ", ".join(map(str, value)) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA_STARTS) else text
