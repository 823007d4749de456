"""`manage.py sqllogs stats` and `top`: totals by statement or another column, once or refreshed.

Both print what `sqllogs.read.stats` returns, in the command's thread.
"""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import STATS_PARAMETERS, Subcommand, read_stats
from sqllogs.cli.table import Screen, repeat_every
from sqllogs.read.parameters import SOURCES
from sqllogs.read.stats import DEFAULT_ORDERING, ORDERINGS, StatsAnswer

TOP_RANGE = "now-5m"
TOP_OTHER_LINES = 4
"""Lines of the terminal that `top` needs for anything but statements: summary, title, header and prompt."""


def _add_stats_arguments(parser: CommandParser) -> None:
    shared.add_group_by(parser)
    parser.add_argument("--source", choices=SOURCES, help=_("read the ring or the statistics [auto]"))
    shared.add_table_options(parser, ORDERINGS, DEFAULT_ORDERING, _("maximum number of rows"))


def _show_stats(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, *STATS_PARAMETERS)
    repeat_every(screen, options["watch"], lambda: screen.show(read_stats(query), rendering.show_stats))


STATS = Subcommand(
    help=gettext_lazy("Show calls, time, rows and errors by statement, route, table or another column."),
    add_arguments=_add_stats_arguments,
    handle=_show_stats,
)


def _add_top_arguments(parser: CommandParser) -> None:
    shared.add_group_by(parser)
    parser.add_argument("--once", action="store_true", help=_("print once, without refreshing"))
    shared.add_table_options(
        parser, ORDERINGS, DEFAULT_ORDERING, _("maximum number of rows; a terminal shows those that fit")
    )


def _show_top(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, *STATS_PARAMETERS)
    if "from" not in query and "to" not in query:
        query["from"] = TOP_RANGE
    interval_s = options["watch"]
    if interval_s is None and screen.is_terminal and not options["once"]:
        interval_s = shared.WATCH_INTERVAL_S
    repeat_every(screen, interval_s, lambda: _show_top_once(screen, query, options["limit"]))


def _show_top_once(screen: Screen, query: QueryDict, limit: int) -> None:
    if screen.height is not None:
        query["limit"] = str(max(1, min(limit, screen.height - TOP_OTHER_LINES)))
    screen.show(read_stats(query), _print_top)


def _print_top(screen: Screen, answer: StatsAnswer) -> None:
    screen.line(_summary(answer, screen))
    rendering.show_stats(screen, answer)


def _summary(answer: StatsAnswer, screen: Screen) -> str:
    rows = answer.results
    errors = sum(row.errors for row in rows)
    failed = ngettext("%(count)s error", "%(count)s errors", errors) % {"count": f"{errors:,}"}
    return _("%(calls)s calls/s, %(errors)s and %(load)s %% of the load in these rows:") % {
        "calls": f"{sum(row.calls_per_s for row in rows):,.1f}",
        "errors": screen.paint(failed, "red" if errors else ""),
        "load": f"{sum(row.load_percent for row in rows):.0f}",
    }


TOP = Subcommand(
    help=gettext_lazy("Show which statements take most time now; a terminal is refreshed every 2 s."),
    add_arguments=_add_top_arguments,
    handle=_show_top,
)
