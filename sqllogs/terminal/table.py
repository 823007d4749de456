"""Lay rows out in aligned columns that fit a width.

Numbers stand right, under a header with their unit. Where the width is short,
columns give way by rank, and the last one is cut.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqllogs.brief import cut
from sqllogs.terminal.screen import Screen

GAP = "  "
LAST_MIN = 16
LAST_MORE = 8
"""Columns give way until the last one has LAST_MIN characters, and this many for each rank that stays."""


def _plain(row: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    text: Callable[[Any], str]
    right: bool = False
    style: Callable[[Any], str] = _plain
    """A style of `sqllogs.terminal.screen` by row."""
    rank: int = 0
    """Columns of the highest rank give way first; those of 0 stay."""
    most: int = 40
    """Characters; longer text is cut. The last column takes what is left instead."""
    cut: Callable[[str, int], str] = cut


class Table:
    """Its widths only ever grow, so that what is written bit by bit stays in line."""

    def __init__(self, columns: Sequence[Column], screen: Screen) -> None:
        self._columns = tuple(columns)
        self._screen = screen
        self._widths = {column: len(column.title) for column in self._columns}

    def lines(self, rows: Iterable[Any], *, header: bool = True) -> Iterator[str]:
        """Yield the table, or more lines of it."""
        rows = list(rows)
        cells = [[printable(column.text(row)) for column in self._columns] for row in rows]
        for texts in cells:
            for column, text in zip(self._columns, texts, strict=True):
                self._widths[column] = max(self._widths[column], min(len(text), column.most))
        shown = self._fitting()
        if header:
            yield self._line(shown, [column.title for column in self._columns], ["bold"] * len(self._columns))
        for row, texts in zip(rows, cells, strict=True):
            yield self._line(shown, texts, [column.style(row) for column in self._columns])

    def _fitting(self) -> dict[Column, int]:
        """Return the columns that have room, with their widths."""
        shown = list(self._columns)
        for column in sorted(self._columns[:-1], key=lambda column: -column.rank):
            if column.rank and self._left(shown) < LAST_MIN + LAST_MORE * column.rank:
                shown.remove(column)
        left = self._left(shown)
        return {**{column: self._widths[column] for column in shown[:-1]}, shown[-1]: max(left, 1)}

    def _left(self, shown: Sequence[Column]) -> int:
        return self._screen.width - sum(self._widths[column] + len(GAP) for column in shown[:-1])

    def _line(self, shown: dict[Column, int], texts: Sequence[str], styles: Sequence[str]) -> str:
        cells: list[str] = []
        for column, text, style in zip(self._columns, texts, styles, strict=True):
            if column not in shown:
                continue
            width = shown[column]
            text = column.cut(text, width)
            if len(cells) < len(shown) - 1:
                text = text.rjust(width) if column.right else text.ljust(width)
            cells.append(self._screen.paint(text, style))
        return GAP.join(cells).rstrip()


def printable(text: str) -> str:
    """Replace what a terminal would obey: a name or a route may hold an escape sequence."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
