"""`manage.py sqllogs clear [--yes]`: delete all records."""

import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sqllogs.cli import table
from sqllogs.storage import resize

HELP = "Delete all records, statement texts and statistics; tokens, events and reviews are kept."


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    if not options["yes"]:
        _ask()
    deleted = table.show_progress(resize.clear(), command.stderr)
    command.stdout.write(f"{deleted:,} records were deleted.")


def _ask() -> None:
    if not sys.stdin.isatty():
        raise CommandError("stdin is not a terminal. Use --yes to delete all records without a question.")
    if input("Delete all records of the SQL log? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was deleted.")
