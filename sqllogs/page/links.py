"""Make the addresses that a page links to: the same list, with one thing changed.

Fed with the query string of the request, feeds every other module of the page.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from django.http import QueryDict
from django.urls import NoReverseMatch, reverse

from sqllogs import parameters
from sqllogs.filters import SQLLogFilter

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
