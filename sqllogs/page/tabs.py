"""Name the pages that stand beside each other."""

from dataclasses import dataclass

from django.urls import reverse

from sqllogs.page.links import Links

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
