"""Name the pages that stand beside each other."""

from dataclasses import dataclass

from django.urls import reverse

TABS = (("Queries", "sqllogs:list"),)
"""Label and URL name, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    label: str
    url: str
    is_current: bool


def tabs(path: str) -> list[Tab]:
    """Return the tabs; the current one is that of the address."""
    return [Tab(label=label, url=(url := reverse(name)), is_current=path == url) for label, name in TABS]
