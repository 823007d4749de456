"""`manage.py sqllogs stats`, `top`, `repeats`, `reviews` and `explain`: totals, N+1, decisions and plans.

They print what `sqllogs.read.stats`, `n_plus_one`, `decisions` and `explain` return, in the command's thread.
"""

from collections.abc import Mapping
from dataclasses import replace
from string import hexdigits
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import STATS_PARAMETERS, QueryRequest, Subcommand, read_repeats, read_stats
from sqllogs.cli.rendering import (
    Screen,
    TextColumn,
    TextTable,
    format_number,
    number_column,
    printable,
    repeat_every,
)
from sqllogs.models import StoredPlan
from sqllogs.read import comparison, explain, n_plus_one, plans, stats
from sqllogs.read.comparison import ComparedStatsAnswer, ComparedStatsRow
from sqllogs.read.decisions import ReviewRow, ReviewsAnswer, read_reviews
from sqllogs.read.n_plus_one import RepeatRow, RepeatsAnswer
from sqllogs.read.parameters import COMPARISONS, SOURCES
from sqllogs.read.stats import StatsAnswer
from sqllogs.sql.text import break_lines, truncate_sql

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
    parser.add_argument(
        "--compare",
        choices=COMPARISONS,
        help=_("compare with the time before, the same time a day or week ago, or the previous release"),
    )
    # Includes the orderings of `stats/`; those by a change need --compare.
    shared.add_table_options(
        parser, comparison.ORDERINGS, stats.DEFAULT_ORDERING, _("maximum number of rows")
    )


def _show_stats(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, *STATS_PARAMETERS)
    repeat_every(screen, options["watch"], lambda: screen.show(read_stats(query), _print_stats))


def _print_stats(screen: Screen, answer: StatsAnswer) -> None:
    if isinstance(answer, ComparedStatsAnswer):
        _print_comparison(screen, answer)
    else:
        rendering.show_stats(screen, answer)


def _print_comparison(screen: Screen, answer: ComparedStatsAnswer) -> None:
    """Print the groups of two ranges, those whose load changed most first."""
    title = _("%(count)s by %(group_by)s, %(span)s")
    count = f"{answer.count:,}"
    values = {"count": count, "group_by": answer.group_by, "span": rendering.format_span(answer)}
    screen.line(screen.paint(title % values, "dim"))
    screen.line(screen.paint(_compared_with(answer), "dim"))
    group = (
        rendering.STATEMENT
        if answer.group_by == "fingerprint"
        else (rendering.group_column(answer.group_by),)
    )
    for line in TextTable((*COMPARED_COLUMNS, *group), screen).lines(answer.results):
        screen.line(line)


def _compared_with(answer: ComparedStatsAnswer) -> str:
    if answer.compare_begin is None or answer.compare_end is None:
        return _("There are no records of the time to compare with.")
    if answer.release_before is not None:
        names = {"release": answer.release, "before": answer.release_before}
        return printable(_("release %(release)s compared with %(before)s") % names)
    span = replace(answer, begin=answer.compare_begin, end=answer.compare_end)
    return _("compared with %(span)s") % {"span": rendering.format_span(span)}


def _rate_column(title: Promise, name: str, *, digits: int, rank: int) -> TextColumn:
    """Return a column of a rate and its change in percent."""

    def text(row: ComparedStatsRow) -> str:
        percent = getattr(row, f"{name}_change_percent")
        change = "" if percent is None else f" {percent:+,.0f}%"
        return format_number(getattr(row, name), digits) + change

    return TextColumn(title=title, text=text, right=True, rank=rank)


def _change(row: ComparedStatsRow) -> str:
    change = row.total_ms_per_s_change
    return "" if change is None else f"{change:+,.2f}"


def _novelty(row: ComparedStatsRow) -> str:
    return _("new") if row.is_new else _("gone") if row.is_vanished else ""


COMPARED_COLUMNS = (
    TextColumn(
        title=gettext_lazy("change ms/s"),
        text=_change,
        right=True,
        style=lambda row: "red" if (row.total_ms_per_s_change or 0) > 0 else "green",
    ),
    TextColumn(title="", text=_novelty, style=lambda _: "yellow"),
    _rate_column(gettext_lazy("load ms/s"), "total_ms_per_s", digits=2, rank=0),
    _rate_column(gettext_lazy("calls/s"), "calls_per_s", digits=2, rank=1),
    _rate_column(gettext_lazy("p95 ms"), "p95_ms", digits=2, rank=1),
    _rate_column(gettext_lazy("calls/unit"), "calls_per_unit", digits=1, rank=3),
    _rate_column(gettext_lazy("rows/call"), "rows_per_call", digits=1, rank=4),
)


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
    # Only the last minutes, because on a quiet site the ring covers many hours.
    if "from" not in query and "to" not in query:
        query["from"] = TOP_RANGE
    interval_s = options["watch"]
    # A pipe gets a single table, because its reader may wait for the end.
    if interval_s is None and screen.is_terminal and not options["once"]:
        interval_s = shared.WATCH_INTERVAL_S
    repeat_every(screen, interval_s, lambda: _show_top_once(screen, query, options["limit"]))


def _show_top_once(screen: Screen, query: QueryDict, limit: int) -> None:
    # Checked each time, because the terminal may have been resized.
    if screen.height is not None:
        # At least one row, however small the terminal is.
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
    help=gettext_lazy("Show which statements take the most time now; a terminal is refreshed every 2 s."),
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


def _origin(row: RepeatRow) -> str:
    return row.route or row.view or ""


REPEATS_COLUMNS = (
    number_column(
        gettext_lazy("times"), lambda row: format_number(row.times_per_request, 1), style=lambda _: "yellow"
    ),
    number_column(gettext_lazy("at most"), lambda row: format_number(row.times_max), rank=3),
    number_column(gettext_lazy("requests"), lambda row: format_number(row.requests), rank=2),
    number_column(gettext_lazy("calls"), lambda row: format_number(row.calls), rank=4),
    number_column(gettext_lazy("total ms"), lambda row: format_number(row.total_ms, 1)),
    TextColumn(title=gettext_lazy("sent by"), text=_origin, style=lambda _: "cyan", rank=3, max_width=32),
    TextColumn(title=gettext_lazy("call site"), text=lambda row: row.call_site or "", rank=1, max_width=44),
    TextColumn(title=gettext_lazy("statement"), text=rendering.statement_text, cut=truncate_sql),
)

REPEATS = Subcommand(
    help=gettext_lazy("Show N+1 queries: the line, how often it runs a statement, and the remedy."),
    add_arguments=_add_repeats_arguments,
    handle=_show_repeats,
)


def _add_reviews_arguments(parser: CommandParser) -> None:
    parser.add_argument("--review", default="", help=_("open, reviewed or ignored"))
    parser.add_argument("--assignee", default="", help=_("usernames"))
    parser.add_argument(
        "--got-worse", action="store_true", help=_("only statements that got worse since their review")
    )
    shared.add_limit(parser, shared.TABLE_ROWS, _("maximum number of rows"))
    shared.add_json(parser)


def _show_reviews(command: BaseCommand, options: Mapping[str, Any]) -> None:
    query = QueryDict(mutable=True)
    query.update({name: options[name] for name in ("review", "assignee") if options[name]})
    query["limit"] = str(options["limit"])
    if options["got_worse"]:
        query["got_worse"] = "true"
    Screen(command, options).show(read_reviews(QueryRequest(query), query), _print_reviews)


def _print_reviews(screen: Screen, answer: ReviewsAnswer) -> None:
    if not answer.results:
        screen.line(_("No reviews."))
        return
    for line in TextTable(REVIEWS_COLUMNS, screen).lines(answer.results):
        screen.line(line)


def _worse(row: ReviewRow) -> str:
    return ", ".join(
        one.figure if one.change_percent is None else f"{one.figure} +{one.change_percent:.0f} %"
        for one in row.got_worse
    )


def _until(row: ReviewRow) -> str:
    return " ".join(filter(None, (row.until and row.until[:10], row.until_release)))


REVIEWS_COLUMNS = (
    TextColumn(title=gettext_lazy("statement"), text=lambda row: row.fingerprint),
    TextColumn(title=gettext_lazy("review"), text=lambda row: row.status, style=lambda _: "cyan"),
    TextColumn(title=gettext_lazy("got worse"), text=_worse, style=lambda _: "red"),
    TextColumn(title=gettext_lazy("by"), text=lambda row: printable(row.reviewed_by), rank=2),
    TextColumn(title=gettext_lazy("at"), text=lambda row: row.reviewed_at[:16], rank=3),
    TextColumn(title=gettext_lazy("assignee"), text=lambda row: printable(row.assignee), rank=1),
    TextColumn(title=gettext_lazy("until"), text=_until, rank=2),
    TextColumn(title=gettext_lazy("note"), text=lambda row: printable(row.note), rank=4),
)

REVIEWS = Subcommand(
    help=gettext_lazy("Show what people have decided about statements, and which of them got worse since."),
    add_arguments=_add_reviews_arguments,
    handle=_show_reviews,
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
    plan = plans.advise(explain.explain(statement, alias=options["alias"], may_change=options["may_change"]))
    # Stored, so that the next plan is compared with it.
    stored = plans.store_plan(plan)
    screen.show(plan, _print_plan)
    # JSON is one document, the plan.
    if stored is not None and not screen.as_json:
        _print_changes(screen, stored)


def _print_changes(screen: Screen, stored: StoredPlan) -> None:
    before = plans.plan_before(stored, plans.stored_plans(stored.fingerprint))
    if before is None:
        return
    found = plans.changes(before, stored)
    screen.line()
    title = (
        _("Changed since the plan of %(time)s:")
        if found
        else _("Same as the plan of %(time)s, except details.")
    )
    screen.line(screen.paint(title % {"time": f"{before.made_at:%Y-%m-%d %H:%M}"}, "bold"))
    for change in found:
        name = change.table or change.what
        screen.line(printable(f"  {name}: {change.before or '-'} -> {change.after or '-'}"))


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
    if plan.advice:
        screen.prose(plan.advice, style="green", first="  -> ", rest="     ")
    for note in plan.notes:
        screen.prose(note, style="dim")


def _parse_statement(text: str) -> int | str:
    """Return the id of a record, or a fingerprint: 16 digits are always a fingerprint."""
    if text.isdecimal() and text.isascii() and len(text) < FINGERPRINT_DIGITS:
        return int(text)
    if text and len(text) <= FINGERPRINT_DIGITS and set(text) <= set(hexdigits):
        return text
    # Cut, because it may be a whole statement that was pasted.
    raise CommandError(_("'%(text)s' is neither a fingerprint nor a record's id.") % {"text": text[:50]})


EXPLAIN = Subcommand(
    help=gettext_lazy("Show the plan of a statement, without running it."),
    add_arguments=_add_explain_arguments,
    handle=_explain,
)
