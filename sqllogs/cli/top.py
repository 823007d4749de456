"""`manage.py sqllogs top`: the statements that take most time now, refreshed until Ctrl-C."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import STATS, read_stats
from sqllogs.cli.table import Screen, repeat_every
from sqllogs.read.stats import DEFAULT_ORDERING, ORDERINGS, StatsAnswer

HELP = "Show which statements take most time now; on a terminal, refresh every 2 s."
SINCE = "now-5m"
LINES = 20
AROUND = 4
"""Lines of a terminal that are not for statements."""


def add_arguments(parser: CommandParser) -> None:
    shared.add_group_by(parser)
    parser.add_argument("--once", action="store_true", help="do not refresh")
    shared.add_ordering(parser, ORDERINGS, DEFAULT_ORDERING)
    shared.add_limit(parser, LINES, "maximum rows; a terminal shows what fits")
    shared.add_json(parser)
    shared.add_watch(parser)
    shared.add_filters(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, *STATS)
    if "from" not in query and "to" not in query:
        query["from"] = SINCE

    def show() -> None:
        if screen.height is not None:
            query["limit"] = str(max(1, min(options["limit"], screen.height - AROUND)))
        answer = read_stats(query)
        if screen.as_json:
            screen.json(answer)
            return
        screen.line(_summary(answer, screen))
        rendering.show(screen, answer)

    follows = screen.is_terminal and not options["once"] and options["watch"] is None
    repeat_every(screen, {**options, "watch": shared.WATCH_S if follows else options["watch"]}, show)


def _summary(answer: StatsAnswer, screen: Screen) -> str:
    rows = answer.results
    shares = sum(row.load_percent for row in rows)
    calls_per_s = sum(row.calls_per_s for row in rows)
    errors = sum(row.errors for row in rows)
    failed = screen.paint(f"{errors:,} errors", "red" if errors else "")
    return f"{calls_per_s:,.1f} calls/s, {failed} and {shares:.0f} % of the load in these:"
