"""Know what the other end of stdout is: how wide, in colour or not, read by a person or a program."""

import os
import shutil
from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import orjson
from django.core.management.base import BaseCommand
from django.core.management.color import no_style

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
