"""The subcommands of `manage.py sqllogs`: a module each, with HELP, add_arguments and handle.

They read by `sqllogs.read` in the command's thread, and write tables for people or JSON for programs.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandParser

from sqllogs.cli import clear, explain, health, repeats, resize, setup, stats, tail, token, top, trace


class Subcommand(Protocol):
    """What a module here has to have."""

    HELP: str

    def add_arguments(self, parser: CommandParser) -> None: ...

    def handle(self, command: BaseCommand, options: Mapping[str, Any]) -> None:
        """Answer on the command's stdout, with notes on its stderr; raise CommandError or SQLLogsError."""


SUBCOMMANDS: dict[str, Subcommand] = {
    "setup": setup,
    "top": top,
    "stats": stats,
    "repeats": repeats,
    "tail": tail,
    "trace": trace,
    "explain": explain,
    "health": health,
    "token": token,
    "resize": resize,
    "clear": clear,
}
