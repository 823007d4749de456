"""Keep the queries of the admin's own pages out of the SQL log, and tell when it cannot be read.

Wraps the views of `sqllogs.admin`; runs in the reader's thread.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.db import Error as DatabaseAPIError
from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import URLPattern
from django.utils.connection import ConnectionDoesNotExist

from sqllogs import guard
from sqllogs.context import muted
from sqllogs.errors import StoreUnavailableError

View = Callable[..., HttpResponse]


def unrecorded(urls: Iterable[URLPattern]) -> list[URLPattern]:
    """Wrap views from outside: the admin asks for session and permissions before it calls one of ours."""
    urls = list(urls)
    for url in urls:
        url.callback = _muted(url.callback)
    return urls


def _muted(view: View) -> View:
    @wraps(view)
    def quiet(*args: Any, **kwargs: Any) -> HttpResponse:
        with muted():
            return view(*args, **kwargs)

    return quiet


def told_when_down(view: View) -> View:
    """Decorate a view: for an unreachable ring or a missing table the admin has a page, here with 503."""

    @wraps(view)
    def told(*args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(*args, **kwargs)
        except (DatabaseAPIError, ConnectionDoesNotExist) as exc:
            guard.fault("reading", StoreUnavailableError(f"The SQL log cannot be read: {exc}"))
            return SimpleTemplateResponse("admin/invalid_setup.html", {"title": "Database error"}, status=503)

    return told
