"""Make the addresses that a page links to: the same list, with one thing changed.

Fed with the query string of the request, feeds every other module of the page.

Name the pages that stand beside each other.

Make the heads of a table's columns, of which some order it.

Fed by the module of each page, feeds heads.html.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from django.http import QueryDict
from django.urls import NoReverseMatch, reverse
from rest_framework.request import Request

from sqllogs.read import parameters
from sqllogs.read.parameters import SQLLogFilter

PLACE = ("cursor", "offset")
"""Where one is in a list; a list with another filter begins at its beginning."""


def in_admin(fingerprint: str) -> str | None:
    """Return where a statement is reviewed and explained, if the project has the admin."""
    try:
        return reverse("admin:sqllogs_statement_change", args=[fingerprint])
    except NoReverseMatch:
        return None


class Links:
    """Addresses of one list under the filters that are on."""

    def __init__(self, path: str, query: QueryDict) -> None:
        self.path = path
        self.home = reverse("sqllogs:list")
        self.on = {
            name: ",".join(values)
            for name in query
            if name != "format"
            and (values := [value for value in query.getlist(name) if value.strip() not in parameters.ABSENT])
        }
        """What the query string says, but for the form of the answer."""
        self._kept = {name: value for name, value in self.on.items() if name not in PLACE}
        self._beginnings: dict[str, str] = {}

    def filters(self) -> dict[str, str]:
        """Return what chooses records: without order, place and what else belongs to one page."""
        return {name: value for name, value in self.on.items() if name in SQLLogFilter.base_filters}

    def at(self, path: str) -> "Links":
        """Return another list under the same filters."""
        return self._under(path, self.filters())

    def narrowed(self, **more: str) -> "Links":
        """Return the same list under more filters."""
        return self._under(self.path, {**self._kept, **more})

    def _under(self, path: str, filters: dict[str, str]) -> "Links":
        other = Links(path, QueryDict())
        other.on = other._kept = filters
        return other

    def adding(self, name: str, value: object) -> str:
        """Return the list under one more filter, or under another value of one that is on."""
        # A page holds a thousand of these links: what they have in common is written once for each name.
        if name not in self._beginnings:
            others = self._write({key: kept for key, kept in self._kept.items() if key != name})
            self._beginnings[name] = f"{others}{'&' if '?' in others else '?'}{name}="
        return self._beginnings[name] + quote(parameters.escaped(str(value)), safe="")

    def setting(self, **changes: str | None) -> str:
        """Return the list with other values; None takes one away."""
        changed: dict[str, str | None] = {**self._kept, **changes}
        return self._write({name: value for name, value in changed.items() if value is not None})

    def plain(self, **only: str) -> str:
        """Return the list under these filters and no other."""
        return self._write(only)

    def shaped(self, format: str) -> str:
        """Return the same page in another form: json or csv."""
        return self._write({**self.on, "format": format})

    def _write(self, query: Mapping[str, str]) -> str:
        return f"{self.path}?{urlencode(query)}" if query else self.path


@dataclass(frozen=True, slots=True)
class TableColumn:
    label: str
    css: str
    ordering: str = ""
    """Name that the API orders by; empty where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHeader:
    label: str
    css: str
    url: str
    sorted: str
    """ascending, descending or none."""


def table_headers(
    links: Links, columns: Iterable[TableColumn], ordering: str, default: str
) -> list[TableHeader]:
    """Return the heads of a list that is ordered by `ordering`, and by `default` if nothing is said."""
    name, is_descending = ordering.removeprefix("-"), ordering.startswith("-")
    made = []
    for column in columns:
        is_sorted = column.ordering == name
        # The first click shows what one looks for: the newest, the slowest, the most.
        turned = column.ordering if is_sorted and is_descending else f"-{column.ordering}"
        made.append(
            TableHeader(
                label=column.label,
                css=column.css,
                url=links.setting(ordering=None if turned == default else turned) if column.ordering else "",
                sorted=("descending" if is_descending else "ascending") if is_sorted else "none",
            )
        )
    return made


def curl(request: Request) -> str:
    """Return the line that reads the same as JSON with a token."""
    query = request.query_params.copy()
    query.pop("format", None)
    address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}" if query else request.path)
    return f'curl -H "Authorization: Bearer $SQLLOGS_TOKEN" {shlex.quote(address)}'


TABS = (
    ("Queries", "sqllogs:list"),
    ("Statements", "sqllogs:stats"),
    ("Requests", "sqllogs:requests"),
    ("N+1", "sqllogs:repeats"),
)
"""Label and URL name, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    label: str
    url: str
    is_current: bool


def paths() -> list[str]:
    """Return the addresses that take the filters."""
    return [reverse(name) for _, name in TABS]


def tabs(links: Links) -> list[Tab]:
    """Return the tabs under the filters that are on; the current one is that of the address."""
    return [
        Tab(label=label, url=links.at(path).setting(), is_current=links.path == path)
        for (label, _), path in zip(TABS, paths(), strict=True)
    ]
