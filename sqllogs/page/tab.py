"""What all tabs have in common: the filters, the way on and back, the same as JSON.

Feeds the module of each tab, for tab.html.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from rest_framework.request import Request

from sqllogs.authentication import VIEW_TEXT
from sqllogs.page.form import filter_form
from sqllogs.page.lines import curl
from sqllogs.page.links import Links
from sqllogs.rows import Record


class Listed(Protocol):
    """A page of any list."""

    @property
    def next(self) -> str | None: ...

    @property
    def previous(self) -> str | None: ...


def tab(
    request: Request, links: Links, page: Listed, *, with_text: bool, records: Sequence[Record] = ()
) -> dict[str, Any]:
    """Return what tab.html shows around a list; `records` suggest values of the filters."""
    return {
        "page": page,
        "form": filter_form(links, records, with_text=with_text),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "first_page": links.setting() if "cursor" in links.on or "offset" in links.on else None,
        "as_json": links.shaped("json"),
        "as_csv": links.shaped("csv"),
        "curl": curl(request),
    }
