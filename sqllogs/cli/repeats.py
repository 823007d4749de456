"""`manage.py sqllogs repeats`: the N+1 suspects with their remedies."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import read_repeats
from sqllogs.cli.rendering import number
from sqllogs.cli.table import Screen, TextColumn, TextTable, repeat_every
from sqllogs.read.n_plus_one import DEFAULT_ORDERING, ORDERINGS, RepeatRow, RepeatsAnswer
from sqllogs.sql.format import truncate_sql

HELP = "Show N+1 suspects: the line, how often it runs a statement, and the remedy."
LINES = 20


def add_arguments(parser: CommandParser) -> None:
    shared.add_ordering(parser, ORDERINGS, DEFAULT_ORDERING)
    shared.add_limit(parser, LINES, "maximum suspects")
    shared.add_json(parser)
    shared.add_watch(parser)
    shared.add_filters(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    query = shared.query(options, "ordering", "limit")

    def show() -> None:
        answer = read_repeats(query)
        if screen.as_json:
            screen.json(answer)
        else:
            _show(screen, answer)

    repeat_every(screen, options, show)


def _show(screen: Screen, answer: RepeatsAnswer) -> None:
    if not answer.results:
        often = f"{answer.threshold} times or more in one request, command or task"
        screen.line(f"No line has sent a statement {often}, {rendering.span(answer)}.")
        return
    header, *lines = TextTable(COLUMNS, screen).lines(answer.results)
    screen.line(header)
    for row, line in zip(answer.results, lines, strict=True):
        screen.line(line)
        advice = row.advice or "No remedy is known: it is no statement of a model."
        screen.prose(advice, style="green" if row.advice else "dim", first="  -> ", rest="     ")
        screen.line(screen.paint(f"     trace {row.trace_id}", "dim"))


def _number(title: str, text: Any, *, rank: int = 0, style: str = "") -> TextColumn:
    return TextColumn(title=title, text=text, right=True, rank=rank, style=lambda _: style)


def _sent_by(row: RepeatRow) -> str:
    return row.route or row.view or ""


def _statement(row: RepeatRow) -> str:
    return row.sql or f"{row.operation} {row.fingerprint}"


COLUMNS = (
    _number("times", lambda row: number(row.times_per_request, 1), style="yellow"),
    _number("at most", lambda row: number(row.times_max), rank=3),
    _number("requests", lambda row: number(row.requests), rank=2),
    _number("calls", lambda row: number(row.calls), rank=4),
    _number("total ms", lambda row: number(row.total_ms, 1)),
    TextColumn(title="sent by", text=_sent_by, style=lambda _: "cyan", rank=3, most=32),
    TextColumn(title="call site", text=lambda row: row.call_site or "", rank=1, most=44),
    TextColumn(title="statement", text=_statement, cut=truncate_sql),
)
