"""Make the heads of a table's columns, of which some order it.

Fed by the module of each page, feeds heads.html.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqllogs.page.links import Links


@dataclass(frozen=True, slots=True)
class Column:
    label: str
    css: str
    ordering: str = ""
    """Name that the API orders by; empty where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    label: str
    css: str
    url: str
    sorted: str
    """ascending, descending or none."""


def heads(links: Links, columns: Iterable[Column], ordering: str, default: str) -> list[Head]:
    """Return the heads of a list that is ordered by `ordering`, and by `default` if nothing is said."""
    name, is_descending = ordering.removeprefix("-"), ordering.startswith("-")
    made = []
    for column in columns:
        is_sorted = column.ordering == name
        # The first click shows what one looks for: the newest, the slowest, the most.
        turned = column.ordering if is_sorted and is_descending else f"-{column.ordering}"
        made.append(
            Head(
                label=column.label,
                css=column.css,
                url=links.setting(ordering=None if turned == default else turned) if column.ordering else "",
                sorted=("descending" if is_descending else "ascending") if is_sorted else "none",
            )
        )
    return made
