"""Write aligned tables, a screen that refreshes until Ctrl-C, and progress bars to a terminal or a pipe.

Numbers are right-aligned below a header with their unit. If the width is too small, columns are left out by
rank, and the last one is cut. Runs in the command's thread.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.management.color import no_style

from sqllogs.sql.format import cut

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
CLEAR = "\033[H\033[2J\033[3J"
UNBOUNDED = 1_000_000
"""The width where nobody looks: what is piped or kept is not cut."""


class Screen:
    """Where a subcommand writes."""

    def __init__(self, command: BaseCommand, options: Mapping[str, Any]) -> None:
        self._out = command.stdout
        self._out.style_func = None  # what is painted here is painted already
        command.style = no_style()
        self.is_terminal = self._out.isatty()
        self.in_colour = _in_colour(options, is_terminal=self.is_terminal)
        self.as_json = bool(options.get("json"))

    @property
    def width(self) -> int:
        """Columns now; a terminal can be resized while it is watched."""
        if self.is_terminal or os.environ.get("COLUMNS", "").isdecimal():
            return shutil.get_terminal_size().columns
        return UNBOUNDED

    @property
    def height(self) -> int | None:
        """Lines now; None where there is no end of them."""
        return shutil.get_terminal_size().lines if self.is_terminal else None

    def paint(self, text: str, style: str) -> str:
        """Return a text in a style of STYLES, where there is colour; in none, and blank text, as it is."""
        return f"\033[{STYLES[style]}m{text}\033[0m" if style and self.in_colour and text.strip() else text

    def line(self, text: str = "") -> None:
        self._out.write(text, ending="\n")

    def prose(self, text: str, *, style: str = "", first: str = "", rest: str = "") -> None:
        """Write a sentence in as many lines as it takes, with what comes before the first and the rest."""
        for part in wrap(text, self.width, initial_indent=first, subsequent_indent=rest):
            self.line(self.paint(part, style))

    def json(self, data: Any, *, indent: bool = True) -> None:
        """Write an answer under the names of the API; without indent it is a line."""
        option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
        self.line(orjson.dumps(data, option=option).decode())

    def clear(self) -> None:
        if self.is_terminal:
            self._out.write(CLEAR, ending="")
        else:
            self.line()

    def flush(self) -> None:
        self._out.flush()


def _in_colour(options: Mapping[str, Any], *, is_terminal: bool) -> bool:
    if options.get("force_color"):
        return True
    # https://no-color.org: any value but none says no.
    is_wanted = not options.get("no_color") and not os.environ.get("NO_COLOR")
    return is_terminal and is_wanted and os.environ.get("TERM") != "dumb"


GAP = "  "
LAST_MIN = 16
LAST_MORE = 8
"""Columns give way until the last one has LAST_MIN characters, and this many for each rank that stays."""


def _plain(row: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """One column of a table."""

    title: str
    text: Callable[[Any], str]
    right: bool = False
    style: Callable[[Any], str] = _plain
    """A style of `sqllogs.cli.table` by row."""
    rank: int = 0
    """Columns of the highest rank give way first; those of 0 stay."""
    most: int = 40
    """Characters; longer text is cut. The last column takes what is left instead."""
    cut: Callable[[str, int], str] = cut


class TextTable:
    """Its widths only ever grow, so that what is written bit by bit stays in line."""

    def __init__(self, columns: Sequence[TextColumn], screen: Screen) -> None:
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

    def _fitting(self) -> dict[TextColumn, int]:
        """Return the columns that have room, with their widths."""
        shown = list(self._columns)
        for column in sorted(self._columns[:-1], key=lambda column: -column.rank):
            if column.rank and self._left(shown) < LAST_MIN + LAST_MORE * column.rank:
                shown.remove(column)
        left = self._left(shown)
        return {**{column: self._widths[column] for column in shown[:-1]}, shown[-1]: max(left, 1)}

    def _left(self, shown: Sequence[TextColumn]) -> int:
        return self._screen.width - sum(self._widths[column] + len(GAP) for column in shown[:-1])

    def _line(self, shown: dict[TextColumn, int], texts: Sequence[str], styles: Sequence[str]) -> str:
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


PROGRESS_BAR = 30
"""Width of the bar, characters."""


def show_progress(steps: Iterable[tuple[int, int]], stderr: OutputWrapper) -> int:
    """Go through (done, total) pairs to their end, drawing them on a terminal; return the last done."""
    done = 0
    drawn = False
    for done, total in steps:
        if stderr.isatty():
            bar = "#" * (PROGRESS_BAR * done // max(total, 1))
            stderr.write(f"\r[{bar:<{PROGRESS_BAR}}] {done:,} of {total:,} rows", style_func=str, ending="")
            drawn = True
    if drawn:
        stderr.write("")
    return done


WATCH_MIN_S = 0.2


def repeat_every(screen: Screen, options: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Call `show`, each `--watch` seconds if that is given."""
    interval_s = options["watch"]
    if interval_s is None:
        show()
        return
    if not interval_s >= WATCH_MIN_S:
        raise CommandError(f"--watch: Give at least {WATCH_MIN_S:g} seconds.")
    while True:
        screen.clear()
        show()
        screen.flush()
        time.sleep(interval_s)
