"""Render answers as JSON (the default), CSV or NDJSON, and all errors in one JSON shape.

Used by the views in the reader's thread. An error is {"error": {"code", "message", "field"}}; the host's
exception handler is not involved. CSV and NDJSON need an answer with `results`; `limit` bounds their size.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from io import StringIO
from operator import attrgetter, itemgetter
from typing import Any, get_args, get_type_hints

import orjson
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import Error as DatabaseAPIError
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.utils.cache import patch_vary_headers
from django.utils.connection import ConnectionDoesNotExist
from django.utils.translation import gettext as _
from rest_framework import exceptions, status
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.response import Response
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings

from sqllogs import conf, guard
from sqllogs.errors import ForbiddenParameterError, ParameterError, StoreUnavailableError
from sqllogs.read.parameters import given, separated
from sqllogs.sql.text import storable

REASON_MAX = 300
"""Maximum characters of an HTTP reason; some proxies refuse long headers."""
_MISSING_TABLE = ("no such table", "does not exist", "doesn't exist")
"""Parts of the messages of SQLite, PostgreSQL and MySQL."""
_READ_ONLY = ("readonly database", "read-only")
"""As SQLite says it, and as PostgreSQL, MySQL and MariaDB do."""


class UnavailableError(exceptions.APIException):
    """The log's database, or the database of the host's users, did not answer."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "store_unavailable"


def handle(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the response to an exception; None for a bug, which Django then reports as usual."""
    # Raised by `sqllogs.read`, which knows nothing of HTTP.
    if isinstance(exc, ParameterError):
        forbidden = isinstance(exc, ForbiddenParameterError)
        code = status.HTTP_403_FORBIDDEN if forbidden else status.HTTP_400_BAD_REQUEST
        return _response(code, exc.code, exc.message, field=exc.field)
    error = _as_api_exception(exc)
    if error is None:
        return None
    return _response(error.status_code, _code(error), _message(error), headers=_headers(error))


def _response(
    status_code: int, code: str, message: str, *, field: str | None = None, headers: Any = None
) -> Response:
    # A parameter's name may contain a lone surrogate, which is not valid JSON.
    message, field = storable(str(message)), None if field is None else storable(field)
    error = {"code": code, "message": message, "field": field}
    response = Response({"error": error}, status=status_code, headers=headers)
    response.reason_phrase = _reason(response.reason_phrase, message, field)
    return response


def _reason(standard: str, message: str, field: str | None) -> str:
    """Return an HTTP reason with the message, because a failed panel of Grafana shows only the reason."""
    text = message if field is None or field in message else f"{field}: {message}"
    # It is part of the status line, which servers encode as Latin-1.
    printable = "".join(character if " " <= character <= "~" else "?" for character in text[:REASON_MAX])
    is_readable = printable.count("?") * 2 <= len(printable)  # False for Cyrillic, for example
    return printable.rstrip() if is_readable else standard


def _as_api_exception(exc: Exception) -> exceptions.APIException | None:
    if isinstance(exc, exceptions.APIException):
        return exc
    if isinstance(exc, Http404):
        return exceptions.NotFound(str(exc) or None)
    if isinstance(exc, PermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(exc, SuspiciousOperation):
        return exceptions.ParseError(_("The request is malformed."))
    if isinstance(exc, (DatabaseAPIError, ConnectionDoesNotExist)):
        guard.fault("reading", StoreUnavailableError(f"The SQL log cannot be read: {exc}"))
        return UnavailableError(remedy(exc))
    return None


def remedy(exc: Exception) -> str:
    """Return what to do about a database error."""
    # Show only the exception's class, because drivers' messages contain hosts, users and values.
    alias = conf.load().database
    if isinstance(exc, ConnectionDoesNotExist):
        message = _("DATABASES has no alias '%(alias)s' for the SQL log; run `manage.py check`.")
    elif any(words in str(exc) for words in _MISSING_TABLE):
        message = _("The SQL log's tables are missing; run `manage.py migrate --database %(alias)s`.")
    elif any(words in str(exc) for words in _READ_ONLY):
        message = _("The SQL log cannot be written: database '%(alias)s' is read-only.")
    else:
        message = _(
            "The SQL log cannot be read (%(error)s). Check that database '%(alias)s' is running and "
            "reachable; the server's log has the reason."
        )
    return message % {"alias": alias, "error": type(exc).__name__}


def _code(exc: exceptions.APIException) -> str:
    codes = exc.get_codes()
    return codes if isinstance(codes, str) else exc.default_code


def _message(exc: exceptions.APIException) -> str:
    return exc.detail if isinstance(exc.detail, str) else str(exc.default_detail)


def _headers(exc: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if auth_header := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait_s := getattr(exc, "wait", None):
        headers["Retry-After"] = str(wait_s)
    return headers


# With explicit user settings, because otherwise APISettings reads the host's REST_FRAMEWORK.
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
    """Choose by `format` and Accept; a client that accepts anything gets the view's first renderer."""

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
"""Spreadsheets run text that starts with one of these as a formula, unless an apostrophe precedes it."""


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
        chosen = getattr((renderer_context or {}).get("view"), "fields", ())
        return self.lines(chosen or table_columns(data), data.results)

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
    return field_names(kind)


def cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ", ".join(map(str, value)) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA_STARTS) else text


FIELDS = "fields"
"""Name of the parameter."""


def field_names(row: type) -> list[str]:
    """Return the names of a row's fields, in the order of its JSON."""
    return [field.name for field in fields(row)] if is_dataclass(row) else list(row.__annotations__)


def read_fields(query: QueryDict, row: type) -> tuple[str, ...]:
    """Parse the requested fields of each row; () for all. Raise ParameterError."""
    chosen = tuple(dict.fromkeys(separated(given(query, [FIELDS], {FIELDS}).get(FIELDS, ""))))
    valid = field_names(row)
    for name in chosen:
        if name not in valid:
            message = _("Unknown field %(name)r. Valid fields: %(names)s.")
            raise ParameterError(FIELDS, message % {"name": name[:50], "names": ", ".join(valid)})
    return chosen


def with_fields(answer: Any, chosen: Sequence[str]) -> Any:
    """Return the answer with only some fields of its rows."""
    rows = answer.results
    getter: Any = itemgetter if rows and isinstance(rows[0], dict) else attrgetter
    # The first name once more, because with a single one it returns no tuple.
    values = getter(*chosen, chosen[0])
    return replace(answer, results=[dict(zip(chosen, values(row), strict=False)) for row in rows])


def cell_value(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, dict) else getattr(row, name)


GZIP_MIN_BYTES = 1_000
GZIP_LEVEL = 1
"""Level 6 takes three times as long for a quarter less."""


def accepts_gzip(request: HttpRequest) -> bool:
    for coding in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _semicolon, weight = coding.replace(" ", "").partition(";q=")
        if name == "gzip":
            return not weight or weight.strip("0.") != ""
    return False


def compress(response: HttpResponse, request: HttpRequest) -> None:
    """Compress a rendered answer if the client accepts it and it is worth it."""
    patch_vary_headers(response, ["Accept-Encoding"])
    if len(response.content) < GZIP_MIN_BYTES or not accepts_gzip(request):
        return
    response.content = gzip.compress(response.content, compresslevel=GZIP_LEVEL, mtime=0)
    response["Content-Encoding"] = "gzip"
