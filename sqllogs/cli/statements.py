"""`manage.py sqllogs repeats` and `explain`: the N+1 queries with their remedies, and a statement's plan.

They print what `sqllogs.read.n_plus_one` and `sqllogs.read.explain` return, in the command's thread.
"""

from collections.abc import Callable, Mapping
from string import hexdigits
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import Subcommand, read_repeats
from sqllogs.cli.rendering import format_number
from sqllogs.cli.table import Screen, TextColumn, TextTable, printable, repeat_every
from sqllogs.read import explain
from sqllogs.read.n_plus_one import DEFAULT_ORDERING, ORDERINGS, RepeatRow, RepeatsAnswer
from sqllogs.sql.format import break_lines, truncate_sql

FINGERPRINT_DIGITS = 16


def _add_repeats_arguments(parser: CommandParser) -> None:
    shared.add_table_options(parser, ORDERINGS, DEFAULT_ORDERING, _("maximum number of rows"))


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
