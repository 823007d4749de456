"""Write figures and records for a person at a terminal, and as JSON for programs.

Serves the subcommands that read; each takes its data from `sqllogs.read`.

The subcommands of `manage.py sqllogs`, a module each: HELP, add_arguments and handle.
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
