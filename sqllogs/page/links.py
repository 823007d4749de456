"""Build the page's URLs, table headers and tabs: the same list with one thing changed.

Fed with the query string of the request; used by every other module of the page in the reader's thread.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from django import urls
from django.conf import settings
from django.http import QueryDict
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve
from django.utils.functional import Promise
from django.utils.translation import get_language, override
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from sqllogs.models import SavedView
from sqllogs.read import findings, parameters, requests
from sqllogs.read.parameters import SQLLogFilter

POSITION = ("cursor", "offset")
"""The position in a list. A link that changes a filter drops it and starts at the first page."""


_LANGUAGE_OF_URLS: ContextVar[str | None] = ContextVar("sqllogs_language_of_urls", default=None)


@contextmanager
def written_in(language: str) -> Iterator[None]:
    """Write a page in a language; its URLs keep that of the request, which i18n_patterns put into them."""
    token = _LANGUAGE_OF_URLS.set(get_language())
    try:
        with override(language):
            yield
    finally:
        _LANGUAGE_OF_URLS.reset(token)


def reverse(name: str, args: Sequence[object] = ()) -> str:
    """Return the URL of a view in the language of the request."""
    with _in_language_of_urls():
        return urls.reverse(name, args=args)


def _in_language_of_urls() -> AbstractContextManager[None]:
    language = _LANGUAGE_OF_URLS.get()
    return override(language) if language is not None else nullcontext()


def in_admin(name: str, *args: object) -> str | None:
    """Return a URL of the admin, where people decide; None if the project has no admin."""
    try:
        return reverse(f"admin:sqllogs_{name}", args=args)
    except NoReverseMatch:
        return None


class Links:
    """URLs based on one path and the active filters."""

    def __init__(self, path: str, query: QueryDict) -> None:
        self.path = path
        self.home = reverse("sqllogs:list")
        self.active = {
            name: ",".join(values)
            for name in query
            if name != "format"
            and (values := [value for value in query.getlist(name) if value.strip() not in parameters.ABSENT])
        }
        """The parameters of the query string that have a value, without `format`."""
        self._kept = {name: value for name, value in self.active.items() if name not in POSITION}
        self._prefixes: dict[str, str] = {}

    def filters(self) -> dict[str, str]:
        """Return the filters alone, without ordering, position and other parameters of one view."""
        return {name: value for name, value in self.active.items() if name in SQLLogFilter.base_filters}

    def for_path(self, path: str) -> "Links":
        """Return the links of another view with the same filters."""
        return self._based_on(path, self.filters())

    def for_series(self) -> str:
        """Return the URL of the figures over time with all filters, those of requests too."""
        of_requests = {name: value for name, value in self.active.items() if name in requests.PARAMETERS}
        return self._based_on(reverse("sqllogs:series"), self.filters() | of_requests).with_values()

    def for_findings(self) -> str:
        """Return the URL of the findings with those of the filters that they have."""
        kept = {name: value for name, value in self.filters().items() if name in findings.PARAMETERS}
        return self._based_on(reverse(FINDINGS), kept).with_values()

    def with_filters(self, **more: str) -> "Links":
        """Return the links of the same view with more filters."""
        return self._based_on(self.path, {**self._kept, **more})

    def _based_on(self, path: str, filters: dict[str, str]) -> "Links":
        other = Links(path, QueryDict())
        other.active = other._kept = filters
        return other

    def with_filter(self, name: str, value: object) -> str:
        """Return the URL with one more filter, replacing the filter of this name if it is active."""
        # A page has about a thousand of these links, so the common prefix is built once per name.
        if name not in self._prefixes:
            others = self._write({key: kept for key, kept in self._kept.items() if key != name})
            self._prefixes[name] = f"{others}{'&' if '?' in others else '?'}{name}="
        return self._prefixes[name] + quote(parameters.escaped(str(value)), safe="")

    def with_values(self, **changes: str | None) -> str:
        """Return the URL with these parameters changed; None removes one."""
        changed: dict[str, str | None] = {**self._kept, **changes}
        return self._write({name: value for name, value in changed.items() if value is not None})

    def only(self, **query: str) -> str:
        """Return the URL with these parameters alone."""
        return self._write(query)

    def as_format(self, format: str) -> str:
        """Return the URL of the same answer in another format: json or csv."""
        return self._write({**self.active, "format": format})

    def _write(self, query: Mapping[str, str]) -> str:
        if not query and self.path == self.home:
            query = {"ordering": "-id"}  # without any parameter a browser is sent to the requests
        return f"{self.path}?{urlencode(query)}" if query else self.path


@dataclass(frozen=True, slots=True)
class TableColumn:
    label: str | Promise
    css: str
    ordering: str = ""
    """Value of the parameter `ordering`; empty if the column cannot be sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHeader:
    label: str | Promise
    css: str
    url: str
    sorted: str
    """ascending, descending or none."""


def table_headers(
    links: Links, columns: Iterable[TableColumn], ordering: str, default: str
) -> list[TableHeader]:
    """Return the headers of a list that is ordered by `ordering`, or by `default` without one."""
    name, is_descending = ordering.removeprefix("-"), ordering.startswith("-")
    headers = []
    for column in columns:
        is_sorted = column.ordering == name
        # The first click sorts descending: people look for the newest, the slowest, the most.
        next_ordering = column.ordering if is_sorted and is_descending else f"-{column.ordering}"
        headers.append(
            TableHeader(
                label=column.label,
                css=column.css,
                # The default has no parameter, so that each list has a single address.
                url=links.with_values(ordering=None if next_ordering == default else next_ordering)
                if column.ordering
                else "",
                sorted=("descending" if is_descending else "ascending") if is_sorted else "none",
            )
        )
    return headers


def curl(request: Request, query: QueryDict | None = None) -> str:
    """Return a curl command that gets the same answer as JSON; `query` if it is not that of the request."""
    query = (query or request.query_params).copy()
    query.pop("format", None)
    address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}" if query else request.path)
    return f'curl -H "Authorization: Bearer $SQLLOGS_TOKEN" {shlex.quote(address)}'


FINDINGS = "sqllogs:findings"
CALL_SITES = {"group_by": "call_site"}
TABS: tuple[tuple[Promise, str, dict[str, str]], ...] = (
    (_("Findings"), FINDINGS, {}),
    (_("Requests"), "sqllogs:requests", {}),
    (_("Statements"), "sqllogs:stats", {}),
    (_("Call sites"), "sqllogs:stats", CALL_SITES),
    (_("N+1"), "sqllogs:repeats", {}),
    (_("Queries"), "sqllogs:list", {}),
)
"""Label, URL name and parameters: from what people look for to its details."""


SAVED_PAGES = {
    "requests": _("Requests"),
    "stats": _("Statements"),
    "repeats": _("N+1"),
    "list": _("Queries"),
    "findings": _("Findings"),
}
"""URL names of the tabs whose views can be saved, with their labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedLink:
    id: int
    name: str
    page: str | Promise
    url: str
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedViews:
    """The user's views of this tab, and what the form needs that saves one more."""

    page: str
    query: str
    share: str
    """The absolute URL of what is shown."""
    links: list[SavedLink]


def saved_url(view: SavedView) -> str:
    """Return the address of a saved view; what is not a parameter of the page is an error there."""
    return Links(reverse(f"sqllogs:{view.page}"), QueryDict(view.query)).with_values()


def saved_views(request: Request, views: Iterable[SavedView]) -> SavedViews | None:
    """Return the saved views of a tab; None on a page without filters."""
    names = {reverse(f"sqllogs:{name}"): name for name in SAVED_PAGES}
    if (page := names.get(request.path)) is None:
        return None
    shown = Links(request.path, request.query_params).with_values()
    return SavedViews(
        page=page,
        query=urlsplit(shown).query,
        share=request.build_absolute_uri(shown),
        links=[link for link in saved_links(views, shown) if link.page == SAVED_PAGES[page]],
    )


def saved_links(views: Iterable[SavedView], shown: str = "") -> list[SavedLink]:
    return [
        SavedLink(
            id=view.pk,
            name=view.name,
            page=SAVED_PAGES[view.page],
            url=(url := saved_url(view)),
            is_current=url == shown,
        )
        for view in views
        if view.page in SAVED_PAGES  # a newer release may have saved one of another tab
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    label: str | Promise
    url: str
    is_current: bool
    count: int | None


def filter_paths() -> list[str]:
    """Return the paths of the tabs, which all take the filters."""
    return [reverse(name) for _label, name, _query in TABS]


def tabs(links: Links, live_findings: int | None = None) -> list[Tab]:
    """Return the tabs with the active filters; `live_findings` is the number in the first."""
    # Two tabs have the same path and differ by this parameter.
    is_by_call_site = links.active.get("group_by") == CALL_SITES["group_by"]
    return [
        Tab(
            label=label,
            url=links.for_findings() if name == FINDINGS else links.for_path(path).with_values(**query),
            is_current=links.path == path and (name != "sqllogs:stats" or is_by_call_site == bool(query)),
            count=live_findings if name == FINDINGS else None,
        )
        for (label, name, query), path in zip(TABS, filter_paths(), strict=True)
    ]


def login_url(request: Request) -> str | None:
    """Return the URL of the project's login, or the admin's, which leads back; None if there is neither."""
    login = _login_of_project() or _login_of_admin()
    if login is None:
        return None
    here = request.get_full_path()
    if urlsplit(login).netloc:  # on another host it needs the whole address to lead back
        here = request.build_absolute_uri()
    return f"{login}{'&' if '?' in login else '?'}{urlencode({'next': here})}"


def _login_of_project() -> str | None:
    """Return LOGIN_URL; None if it leads nowhere, as its default does in most projects."""
    try:
        with _in_language_of_urls():
            login = str(resolve_url(settings.LOGIN_URL))
            parts = urlsplit(login)
            if not parts.netloc:
                resolve(parts.path.removeprefix(get_script_prefix().rstrip("/")))
    except (NoReverseMatch, Resolver404):
        return None
    return login


def _login_of_admin() -> str | None:
    try:
        return reverse("admin:login")
    except NoReverseMatch:
        return None
