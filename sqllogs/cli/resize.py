"""`manage.py sqllogs resize ROWS`: change the capacity of the ring."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sqllogs.cli import table
from sqllogs.storage import resize

HELP = "Change the capacity of the ring; the newest records are kept."
ROWS_MAX = 2**31 - 1


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("rows", type=int, metavar="ROWS", help="new capacity, in records")


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    rows = options["rows"]
    if not 1 <= rows <= ROWS_MAX:
        raise CommandError(f"A ring cannot hold {rows:,} rows; give a number from 1 to {ROWS_MAX:,}.")
    kept = table.show_progress(resize.resize(rows), command.stderr)
    command.stdout.write(f"The ring holds {rows:,} rows now; {kept:,} records were kept.")
