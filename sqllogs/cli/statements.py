"""`manage.py sqllogs stats`, `top`, `repeats` and `explain`: totals, N+1 queries and a statement's plan.

They print what `sqllogs.read.stats`, `n_plus_one` and `explain` return, in the command's thread.
"""

from collections.abc import Callable, Mapping
from string import hexdigits
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import STATS_PARAMETERS, Subcommand, read_repeats, read_stats
from sqllogs.cli.rendering import Screen, TextColumn, TextTable, format_number, printable, repeat_every
from sqllogs.read import explain, n_plus_one, stats
from sqllogs.read.n_plus_one import RepeatRow, RepeatsAnswer
from sqllogs.read.parameters import SOURCES
from sqllogs.read.stats import StatsAnswer
from sqllogs.sql.format import break_lines, truncate_sql

TOP_RANGE = "now-5m"
TOP_OTHER_LINES = 4
"""Lines of the terminal that `top` needs for anything but statements: summary, title, header and prompt."""


def _add_stats_arguments(parser: CommandParser) -> None:
    shared.add_group_by(parser)
    parser.add_argument(
        "--source",
        choices=SOURCES,
        help=_("read the ring, the statistics, or the statistics of units of work [auto]"),
    )
    shared.add_table_options(parser, stats.ORDERINGS, stats.DEFAULT_ORDERING, _("maximum number of rows"))


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
        parser,
        stats.ORDERINGS,
        stats.DEFAULT_ORDERING,
        _("maximum number of rows; a terminal shows those that fit"),
    )


def _show_top(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, *STATS_PARAMETERS)
    # What is slow now; the whole ring may be hours old on a quiet site.
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


FINGERPRINT_DIGITS = 16


def _add_repeats_arguments(parser: CommandParser) -> None:
    shared.add_table_options(
        parser, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING, _("maximum number of rows")
    )


def _show_repeats(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, "ordering", "limit")
    repeat_every(screen, options["watch"], lambda: screen.show(read_repeats(query), _print_repeats))


def _print_repeats(screen: Screen, answer: RepeatsAnswer) -> None:
    if not answer.results:
        message = _(
            "No N+1 found: no line ran the same statement %(count)s times or more in one request, command "
            "or task, %(span)s."
        )
        screen.line(message % {"count": answer.threshold, "span": rendering.format_span(answer)})
        return
    header, *lines = TextTable(REPEATS_COLUMNS, screen).lines(answer.results)
    screen.line(header)
    for row, line in zip(answer.results, lines, strict=True):
        screen.line(line)
        advice = row.advice or _("No remedy is known, because the statement does not belong to a model.")
        screen.prose(advice, style="green" if row.advice else "dim", first="  -> ", rest="     ")
        screen.line(screen.paint(_("     trace %(id)s") % {"id": row.trace_id}, "dim"))


def _number_column(
    title: Promise, text: Callable[[RepeatRow], str], *, rank: int = 0, style: str = ""
) -> TextColumn:
    return TextColumn(title=title, text=text, right=True, rank=rank, style=lambda _: style)


def _origin(row: RepeatRow) -> str:
    return row.route or row.view or ""


def _statement_text(row: RepeatRow) -> str:
    return row.sql or f"{row.operation} {row.fingerprint}"


REPEATS_COLUMNS = (
    _number_column(
        gettext_lazy("times"), lambda row: format_number(row.times_per_request, 1), style="yellow"
    ),
    _number_column(gettext_lazy("at most"), lambda row: format_number(row.times_max), rank=3),
    _number_column(gettext_lazy("requests"), lambda row: format_number(row.requests), rank=2),
    _number_column(gettext_lazy("calls"), lambda row: format_number(row.calls), rank=4),
    _number_column(gettext_lazy("total ms"), lambda row: format_number(row.total_ms, 1)),
    TextColumn(title=gettext_lazy("sent by"), text=_origin, style=lambda _: "cyan", rank=3, max_width=32),
    TextColumn(title=gettext_lazy("call site"), text=lambda row: row.call_site or "", rank=1, max_width=44),
    TextColumn(title=gettext_lazy("statement"), text=_statement_text, cut=truncate_sql),
)

REPEATS = Subcommand(
    help=gettext_lazy("Show N+1 queries: the line, how often it runs a statement, and the remedy."),
    add_arguments=_add_repeats_arguments,
    handle=_show_repeats,
)


def _add_explain_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "statement",
        metavar="FINGERPRINT|ID",
        help=_("a statement's fingerprint, 16 hexadecimal digits, or a record's id"),
    )
    parser.add_argument("--alias", default="", help=_("database to use instead of the one on which it ran"))
    parser.add_argument("--may-change", action="store_true", help=_("explain INSERT, UPDATE and DELETE too"))
    shared.add_json(parser)


def _explain(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    statement = _parse_statement(options["statement"].strip())
    plan = explain.explain(statement, alias=options["alias"], may_change=options["may_change"])
    screen.show(plan, _print_plan)


def _print_plan(screen: Screen, plan: explain.Plan) -> None:
    for line in break_lines(plan.sql).split("\n"):
        screen.line(printable(line))
    screen.line()
    title = _("%(vendor)s on '%(alias)s', %(fingerprint)s")
    names = {"vendor": plan.vendor, "alias": plan.alias, "fingerprint": plan.fingerprint}
    screen.line(screen.paint(title % names, "bold"))
    for line in plan.lines:
        screen.line(printable(line))
    screen.line()
    for note in plan.notes:
        screen.prose(note, style="dim")


def _parse_statement(text: str) -> int | str:
    """Return the id of a record, or a fingerprint: 16 digits are always a fingerprint."""
    if text.isdecimal() and text.isascii() and len(text) < FINGERPRINT_DIGITS:
        return int(text)
    if text and len(text) <= FINGERPRINT_DIGITS and set(text) <= set(hexdigits):
        return text
    raise CommandError(_("'%(text)s' is neither a fingerprint nor a record's id.") % {"text": text[:50]})


EXPLAIN = Subcommand(
    help=gettext_lazy("Show the plan of a statement, without running it."),
    add_arguments=_add_explain_arguments,
    handle=_explain,
)
