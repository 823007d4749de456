"""How figures of groups of statements look in a terminal."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.utils import timezone

from sqllogs.brief import brief
from sqllogs.reports.scope import Answer
from sqllogs.reports.stats import Stats, StatsRow
from sqllogs.terminal.records import by_duration, number
from sqllogs.terminal.screen import Screen
from sqllogs.terminal.table import Column, Table

BAR = 10

Text = Callable[[Any], str]


def show(screen: Screen, answer: Stats) -> None:
    """Write the table of `stats/`, under a line that says what it is about."""
    shown = len(answer.results)
    of = f"{shown:,} of {answer.count:,}" if shown < answer.count else f"{answer.count:,}"
    screen.line(screen.paint(f"{of} by {answer.group_by}, {span(answer)}", "dim"))
    for line in Table(columns(answer.group_by), screen).lines(answer.results):
        screen.line(line)


def span(answer: Answer) -> str:
    """Return the time that an answer is about, and what it is made from."""
    begin, end = (timezone.localtime(datetime.fromisoformat(time)) for time in (answer.begin, answer.end))
    until = f"{end:%H:%M:%S}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M:%S}"
    return f"{begin:%Y-%m-%d %H:%M:%S} to {until} {end:%Z}, from the {answer.source}"


def columns(group_by: str) -> tuple[Column, ...]:
    """Return the columns of `stats/`; the group comes last."""
    return (*NUMBERS, *(STATEMENT if group_by == "fingerprint" else (_group(group_by),)))


def _number(title: str, text: Text, *, rank: int = 0, style: Text = lambda _: "") -> Column:
    return Column(title=title, text=text, right=True, rank=rank, style=style)


def _group(group_by: str) -> Column:
    return Column(title=group_by, text=lambda row: row.group or "-")


def _bar(row: StatsRow) -> str:
    return "#" * round(BAR * row.load_percent / 100)


def _statement(row: Any) -> str:
    return row.sql or f"{row.operation or 'statement'} {row.fingerprint}"


NUMBERS = (
    _number("load %", lambda row: number(row.load_percent, 1)),
    Column(title="", text=_bar, style=lambda _: "cyan", rank=5),
    _number("calls", lambda row: number(row.calls)),
    _number("calls/s", lambda row: number(row.calls_per_s, 2), rank=6),
    _number("total ms", lambda row: number(row.total_ms, 1), rank=2),
    _number("mean ms", lambda row: number(row.mean_ms, 2), style=lambda row: by_duration(row.mean_ms)),
    _number("p95 ms", lambda row: number(row.p95_ms, 2), rank=1, style=lambda row: by_duration(row.p95_ms)),
    _number("max ms", lambda row: number(row.max_ms, 1), rank=3, style=lambda row: by_duration(row.max_ms)),
    _number("rows", lambda row: number(row.rows), rank=7),
    _number("errors", lambda row: number(row.errors or None), rank=3, style=lambda _: "red"),
    _number("N+1", lambda row: f"{row.repeats}x" if row.repeats else "", rank=2, style=lambda _: "yellow"),
)
STATEMENT = (
    Column(title="route", text=lambda row: row.route or "", rank=8, most=28),
    Column(title="fingerprint", text=lambda row: row.fingerprint, rank=4),
    Column(title="statement", text=_statement, cut=brief),
)
