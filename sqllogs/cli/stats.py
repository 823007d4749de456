"""`manage.py sqllogs stats`: figures by statement or another column."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import STATS, read_stats
from sqllogs.cli.table import Screen, repeat_every
from sqllogs.read.parameters import SOURCES
from sqllogs.read.stats import DEFAULT_ORDERING, ORDERINGS

HELP = "Add up calls, time, rows and errors by statement, route, table, ..."
LINES = 20


def add_arguments(parser: CommandParser) -> None:
    shared.add_group_by(parser)
    parser.add_argument("--source", choices=SOURCES, help="read the ring or the statistics (auto)")
    shared.add_ordering(parser, ORDERINGS, DEFAULT_ORDERING)
    shared.add_limit(parser, LINES, "maximum rows")
    shared.add_json(parser)
    shared.add_watch(parser)
    shared.add_filters(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, *STATS)

    def show() -> None:
        answer = read_stats(query)
        if screen.as_json:
            screen.json(answer)
        else:
            rendering.show(screen, answer)

    repeat_every(screen, options, show)
