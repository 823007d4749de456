"""Turn every exception of a view into one JSON shape: {"error": {"code", "message", "field"}}.

Called by the API's views in the reader's thread. The host's own exception handler is not touched.
"""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import Error as DatabaseAPIError
from django.http import Http404
from django.utils.connection import ConnectionDoesNotExist
from django.utils.translation import gettext as _
from rest_framework import exceptions, status
from rest_framework.response import Response

from sqllogs import conf, guard
from sqllogs.errors import ForbiddenParameterError, ParameterError, StoreUnavailableError
from sqllogs.sql.text import storable

_MISSING_TABLE = ("no such table", "does not exist", "doesn't exist")
"""Parts of the messages of SQLite, PostgreSQL and MySQL."""


class UnavailableError(exceptions.APIException):
    """The log's database, or the database of the host's users, did not answer."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "store_unavailable"


def handle(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the response to an exception; None for a bug, which Django then reports as usual."""
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
    # A parameter's name may hold a lone surrogate, which is not valid JSON.
    error = {
        "code": code,
        "message": storable(str(message)),
        "field": None if field is None else storable(field),
    }
    return Response({"error": error}, status=status_code, headers=headers)


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
        return UnavailableError(_remedy(exc))
    return None


def _remedy(exc: Exception) -> str:
    """Return what to do about a database error."""
    # Only the exception's class is shown: a driver's message contains hosts, users and values.
    alias = conf.load().database
    if isinstance(exc, ConnectionDoesNotExist):
        message = _("DATABASES has no alias '%(alias)s' for the SQL log; run `manage.py check`.")
    elif any(words in str(exc) for words in _MISSING_TABLE):
        message = _("The SQL log's tables are missing; run `manage.py migrate --database %(alias)s`.")
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
