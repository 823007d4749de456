"""Print aligned tables, JSON, refreshed screens and progress bars to a terminal or a pipe.

If a table is wider than the terminal, columns are left out by rank, and the last one is cut. A pipe has no
width, because a program wants all of it. Fed by the subcommands, runs in the command's thread.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, TypeVar

import orjson
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.management.color import no_style
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from sqllogs.sql.format import cut

Answer = TypeVar("Answer")

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
CLEAR = "\033[H\033[2J\033[3J"
PIPE_WIDTH = 1_000_000
"""Wide enough that nothing is cut."""


class Screen:
    """The output of a subcommand: a terminal with a size and colours, or a pipe without them."""

    def __init__(self, command: BaseCommand, options: Mapping[str, Any]) -> None:
        self._out = command.stdout
        self._out.style_func = None  # by default a command's output is styled again
        command.style = no_style()
        self.is_terminal = self._out.isatty()
        self.has_colours = _has_colours(options, is_terminal=self.is_terminal)
        self.as_json = bool(options.get("json"))

    @property
    def width(self) -> int:
        """Current number of columns; a terminal can be resized while it is refreshed."""
        if self.is_terminal or os.environ.get("COLUMNS", "").isdecimal():
            return shutil.get_terminal_size().columns
        return PIPE_WIDTH

    @property
    def height(self) -> int | None:
        """Current number of lines; None for a pipe."""
        return shutil.get_terminal_size().lines if self.is_terminal else None

    def paint(self, text: str, style: str) -> str:
        """Return a text in one of STYLES, if the output has colours; an empty style changes nothing."""
        if not (style and self.has_colours and text.strip()):
            return text
        return f"\033[{STYLES[style]}m{text}\033[0m"

    def line(self, text: str = "") -> None:
        self._out.write(text, ending="\n")

    def prose(self, text: str, *, style: str = "", first: str = "", rest: str = "") -> None:
        """Write a text wrapped to the width; `first` and `rest` are the indents of its lines."""
        for line in wrap(text, self.width, initial_indent=first, subsequent_indent=rest):
            self.line(self.paint(line, style))

    def json(self, data: Any, *, indent: bool = True) -> None:
        """Write an answer with the field names of the API; without indent it is one line."""
        option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
        self.line(orjson.dumps(data, option=option).decode())

    def show(self, answer: Answer, print_answer: Callable[["Screen", Answer], None]) -> None:
        """Write an answer as JSON if that was asked for, else by a function."""
        if self.as_json:
            self.json(answer)
        else:
            print_answer(self, answer)

    def clear(self) -> None:
        if self.is_terminal:
            self._out.write(CLEAR, ending="")
        else:
            self.line()

    def flush(self) -> None:
        self._out.flush()


def _has_colours(options: Mapping[str, Any], *, is_terminal: bool) -> bool:
    if options.get("force_color"):
        return True
    # https://no-color.org: any value that is not empty disables colours.
    is_disabled = options.get("no_color") or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return is_terminal and not is_disabled


GAP = "  "
LAST_COLUMN_WIDTH_MIN = 16
LAST_COLUMN_WIDTH_PER_RANK = 8
"""A column of rank n is left out if it would leave the last column less than 16 + 8 n characters."""


def _no_style(row: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """One column of a table."""

    title: str | Promise
    text: Callable[[Any], str]
    """Returns the text of a row."""
    right: bool = False
    """Align to the right, as numbers are."""
    style: Callable[[Any], str] = _no_style
    """Returns the style of a row, one of STYLES or empty."""
    rank: int = 0
    """Columns of the highest rank are left out first; those of rank 0 are always shown."""
    max_width: int = 40
    """Characters; longer text is cut. The last column takes the rest of the line instead."""
    cut: Callable[[str, int], str] = cut


class TextTable:
    """Formats rows in batches; widths never shrink, so that later batches stay aligned with earlier ones."""

    def __init__(self, columns: Sequence[TextColumn], screen: Screen) -> None:
        self._columns = tuple(columns)
        self._screen = screen
        self._widths = {column: len(str(column.title)) for column in self._columns}

    def lines(self, rows: Iterable[Any], *, header: bool = True) -> Iterator[str]:
        """Yield the lines of some rows, below the header if it is wanted."""
        rows = list(rows)
        cells = [[printable(column.text(row)) for column in self._columns] for row in rows]
        for texts in cells:
            for column, text in zip(self._columns, texts, strict=True):
                self._widths[column] = max(self._widths[column], min(len(text), column.max_width))
        widths = self._shown_widths()
        if header:
            titles = [str(column.title) for column in self._columns]
            yield self._line(widths, titles, ["bold"] * len(self._columns))
        for row, texts in zip(rows, cells, strict=True):
            yield self._line(widths, texts, [column.style(row) for column in self._columns])

    def _shown_widths(self) -> dict[TextColumn, int]:
        """Return the columns that fit, with their widths."""
        shown = list(self._columns)
        for column in sorted(self._columns[:-1], key=lambda column: -column.rank):
            needed = LAST_COLUMN_WIDTH_MIN + LAST_COLUMN_WIDTH_PER_RANK * column.rank
            if column.rank and self._last_column_width(shown) < needed:
                shown.remove(column)
        last_width = max(self._last_column_width(shown), 1)
        return {**{column: self._widths[column] for column in shown[:-1]}, shown[-1]: last_width}

    def _last_column_width(self, shown: Sequence[TextColumn]) -> int:
        return self._screen.width - sum(self._widths[column] + len(GAP) for column in shown[:-1])

    def _line(self, widths: dict[TextColumn, int], texts: Sequence[str], styles: Sequence[str]) -> str:
        cells: list[str] = []
        for column, text, style in zip(self._columns, texts, styles, strict=True):
            if column not in widths:
                continue
            width = widths[column]
            text = column.cut(text, width)
            if len(cells) < len(widths) - 1:
                text = text.rjust(width) if column.right else text.ljust(width)
            cells.append(self._screen.paint(text, style))
        return GAP.join(cells).rstrip()


def printable(text: str) -> str:
    """Replace control characters: a name or a route may contain an escape sequence for the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


PROGRESS_BAR_WIDTH = 30
"""Characters."""


def show_progress(steps: Iterable[tuple[int, int]], stderr: OutputWrapper) -> int:
    """Run through (done, total) pairs, with a progress bar on a terminal; return the last `done`."""
    done = 0
    is_drawn = False
    for done, total in steps:
        if stderr.isatty():
            bar = "#" * (PROGRESS_BAR_WIDTH * done // max(total, 1))
            rows = _("%(done)s of %(total)s rows") % {"done": f"{done:,}", "total": f"{total:,}"}
            stderr.write(f"\r[{bar:<{PROGRESS_BAR_WIDTH}}] {rows}", style_func=str, ending="")
            is_drawn = True
    if is_drawn:
        stderr.write("")
    return done


WATCH_MIN_S = 0.2


def repeat_every(screen: Screen, interval_s: float | None, show: Callable[[], None]) -> None:
    """Call `show` once, or every `interval_s` seconds until Ctrl-C; raise CommandError."""
    if interval_s is None:
        show()
        return
    if not interval_s >= WATCH_MIN_S:  # NaN too
        message = _("--watch: Must be at least %(minimum)s seconds.")
        raise CommandError(message % {"minimum": f"{WATCH_MIN_S:g}"})
    while True:
        screen.clear()
        show()
        screen.flush()
        time.sleep(interval_s)
