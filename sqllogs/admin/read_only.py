"""Keep the queries of the admin's own pages out of the SQL log, and answer 503 when it cannot be read.

Wraps the views of `sqllogs.admin`; runs in the reader's thread.

What the two lists of the admin have in common: nothing is added, changed or deleted by its forms.

Make the addresses that the admin's pages link to; feeds the templates and columns of `sqllogs.admin`.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.db import Error as DatabaseAPIError
from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import NoReverseMatch, URLPattern, reverse
from django.utils.connection import ConnectionDoesNotExist

from sqllogs import guard
from sqllogs.context import muted
from sqllogs.errors import StoreUnavailableError
from sqllogs.models import VIEW_TEXT

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


def answer_503_when_unavailable(view: View) -> View:
    """Decorate a view: for an unreachable ring or a missing table the admin has a page, here with 503."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(*args, **kwargs)
        except (DatabaseAPIError, ConnectionDoesNotExist) as exc:
            guard.fault("reading", StoreUnavailableError(f"The SQL log cannot be read: {exc}"))
            return SimpleTemplateResponse("admin/invalid_setup.html", {"title": "Database error"}, status=503)

    return guarded


def page(name: str, *args: Any) -> str | None:
    """Return an address of the page, if its URLs are included."""
    try:
        return reverse(f"sqllogs:{name}", args=args)
    except NoReverseMatch:
        return None


def may_read_text(request: HttpRequest) -> bool:
    return request.user.has_perm(VIEW_TEXT)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ("sqllogs/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
