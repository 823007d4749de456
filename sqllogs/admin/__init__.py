"""Read records, review slow queries and manage tokens in the Django admin.

`register` adds them to any admin site.

`admin.autodiscover` imports this module in every process with an admin, including management commands. So it
imports no reader; the first request to one of our views imports the admin class that does the work. Runs in
the reader's thread.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar

from django.contrib import admin
from django.db import Error as DatabaseAPIError
from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import NoReverseMatch, URLPattern, re_path, reverse
from django.utils.connection import ConnectionDoesNotExist
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from sqllogs import guard
from sqllogs.context import muted
from sqllogs.errors import StoreUnavailableError
from sqllogs.models import VIEW, VIEW_TEXT, Finding, SQLLog, Statement, Token

View = Callable[..., HttpResponse]


def page_url(name: str, *args: Any) -> str | None:
    """Return a URL of the page at `/sql-logs/`, or None if the project does not include it."""
    try:
        return reverse(f"sqllogs:{name}", args=args)
    except NoReverseMatch:
        return None


def admin_url(site_name: str, name: str, *args: Any) -> str | None:
    """Return a URL of our lists in the admin, or None if the project has removed that list."""
    try:
        return reverse(f"admin:sqllogs_{name}", args=args, current_app=site_name)
    except NoReverseMatch:
        return None


def may_read_text(request: HttpRequest) -> bool:
    return request.user.has_perm(VIEW_TEXT)


def may_manage_tokens(request: HttpRequest) -> bool:
    """Return True for superusers: a token can read everything, and stays valid without its creator."""
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Rows can be viewed with the permission for records, and never added, changed or deleted."""

    show_facets = admin.ShowFacets.NEVER  # each would count the whole ring
    when_empty: str | Promise = ""
    """What the list says if it has no rows: commands stand in backticks."""

    class Media:
        css = {"all": ("sqllogs/admin.css",)}
        js = ("sqllogs/admin.js",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(VIEW)  # the only one: the other models have no permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class DeferredAdmin(ReadOnlyAdmin):
    """The class registered with an admin site; its views import the class that does the work.

    Reading needs 374 modules and 21 MB, which processes that serve none of our pages save.
    """

    path: ClassVar[str]
    """Dotted path of the admin class."""
    views: ClassVar[dict[str, str]]
    """URL pattern by name of the view."""
    base: type[admin.ModelAdmin] = admin.ModelAdmin  # type: ignore[type-arg]

    @cached_property
    def loaded(self) -> Any:
        loaded = import_string(self.path)
        return type(loaded.__name__, (loaded, self.base), {})(self.model, self.admin_site)

    def get_urls(self) -> list[URLPattern]:
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            re_path(pattern, self._as_view(name), name=f"{prefix}_{name}")
            for name, pattern in self.views.items()
        ]

    def _as_view(self, name: str) -> View:
        view = self.admin_site.admin_view(partial(self._answer, name))
        # Muted here and not in the view, because the site reads session and permissions before it calls the
        # view.
        return muted()(view)  # type: ignore[no-any-return]

    def _answer(self, name: str, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Call a view; if the store cannot be read, return a page that says what to do, with status 503."""
        try:
            answer: HttpResponse = getattr(self.loaded, f"{name}_view")(request, *args, **kwargs)
        except (DatabaseAPIError, ConnectionDoesNotExist) as exc:
            guard.fault("reading", StoreUnavailableError(f"The SQL log cannot be read: {exc}"))
            from sqllogs.api.responses import remedy

            context = {"title": _("The SQL log cannot be read"), "remedy": remedy(exc)}
            return SimpleTemplateResponse("admin/sqllogs/unavailable.html", context, status=503)
        return answer


class DeferredSQLLogAdmin(DeferredAdmin):
    path = "sqllogs.admin.records.SQLLogAdmin"
    views = {
        "changelist": r"^$",
        "add": r"^add/$",
        "history": r"^(?P<object_id>.+)/history/$",
        "delete": r"^(?P<object_id>.+)/delete/$",
        "change": r"^(?P<object_id>.+)/change/$",
    }


class DeferredFindingAdmin(DeferredAdmin):
    path = "sqllogs.admin.findings.FindingAdmin"
    views = {
        "changelist": r"^$",
        "history": r"^(?P<object_id>[0-9]{1,18})/history/$",
        "change": r"^(?P<object_id>[0-9]{1,18})/change/$",
    }


class DeferredTokenAdmin(DeferredAdmin):
    path = "sqllogs.admin.findings.TokenAdmin"
    views = {
        "changelist": r"^$",
        "add": r"^add/$",
        "history": r"^(?P<object_id>[0-9]{1,18})/history/$",
        "change": r"^(?P<object_id>[0-9]{1,18})/change/$",
    }

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_manage_tokens(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_manage_tokens(request)


FINGERPRINT = "(?P<fingerprint>[0-9a-f]{16})"


class DeferredStatementAdmin(DeferredAdmin):
    path = "sqllogs.admin.statements.StatementAdmin"
    views = {
        "changelist": r"^$",
        "change": rf"^{FINGERPRINT}/change/$",
        "review": rf"^{FINGERPRINT}/review/$",
        # EXPLAIN is not in the API, because tokens and loopback readers have no permissions to check, and it
        # queries the application's database.
        "explain": rf"^{FINGERPRINT}/explain/$",
    }


def register(
    site: admin.AdminSite,
    base: type[admin.ModelAdmin] = admin.ModelAdmin,  # type: ignore[type-arg]
) -> None:
    """Show our four lists on a site, with the `ModelAdmin` of its theme as base class.

    Django's default site has them already; calling this again replaces the base class.
    """
    admins: tuple[tuple[Any, type[DeferredAdmin]], ...] = (
        (Finding, DeferredFindingAdmin),
        (SQLLog, DeferredSQLLogAdmin),
        (Statement, DeferredStatementAdmin),
        (Token, DeferredTokenAdmin),
    )
    for model, deferred in admins:
        if site.is_registered(model):
            site.unregister(model)
        site.register(model, deferred, base=base)


register(admin.site)
