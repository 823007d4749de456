"""Columns and colours of statistics and records in a terminal.

Fed by the reports of `sqllogs.read`, feeds `sqllogs.cli.table`. Runs in the command's thread.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from sqllogs import conf
from sqllogs.cli.table import Screen, TextColumn, TextTable
from sqllogs.read.scope import Answer
from sqllogs.read.stats import StatsAnswer, StatsRow
from sqllogs.record import RecordJSON
from sqllogs.sql.format import truncate_sql

BAR = 10

Text = Callable[[Any], str]


def show(screen: Screen, answer: StatsAnswer) -> None:
    """Write the table of `stats/`, under a line that says what it is about."""
    shown = len(answer.results)
    of = f"{shown:,} of {answer.count:,}" if shown < answer.count else f"{answer.count:,}"
    screen.line(screen.paint(f"{of} by {answer.group_by}, {span(answer)}", "dim"))
    for line in TextTable(aggregate_columns(answer.group_by), screen).lines(answer.results):
        screen.line(line)


def span(answer: Answer) -> str:
    """Return the time that an answer is about, and what it is made from."""
    begin, end = (timezone.localtime(datetime.fromisoformat(time)) for time in (answer.begin, answer.end))
    until = f"{end:%H:%M:%S}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M:%S}"
    return f"{begin:%Y-%m-%d %H:%M:%S} to {until} {end:%Z}, from the {answer.source}"


def aggregate_columns(group_by: str) -> tuple[TextColumn, ...]:
    """Return the columns of `stats/`; the group comes last."""
    return (*NUMBERS, *(STATEMENT if group_by == "fingerprint" else (_group(group_by),)))


def _number(title: str, text: Text, *, rank: int = 0, style: Text = lambda _: "") -> TextColumn:
    return TextColumn(title=title, text=text, right=True, rank=rank, style=style)


def _group(group_by: str) -> TextColumn:
    return TextColumn(title=group_by, text=lambda row: row.group or "-")


def _bar(row: StatsRow) -> str:
    return "#" * round(BAR * row.load_percent / 100)


def _statement_text(row: Any) -> str:
    return row.sql or f"{row.operation or 'statement'} {row.fingerprint}"


NUMBERS = (
    _number("load %", lambda row: number(row.load_percent, 1)),
    TextColumn(title="", text=_bar, style=lambda _: "cyan", rank=5),
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
    TextColumn(title="route", text=lambda row: row.route or "", rank=8, most=28),
    TextColumn(title="fingerprint", text=lambda row: row.fingerprint, rank=4),
    TextColumn(title="statement", text=_statement_text, cut=truncate_sql),
)

NOTICEABLE = 0.2
"""Share of what is slow from which on a duration is coloured."""


def number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def by_duration(duration_ms: float | None) -> str:
    """Return the style of a duration."""
    slow_ms = conf.load().slow_ms
    if duration_ms is None or duration_ms < NOTICEABLE * slow_ms:
        return ""
    return "red" if duration_ms >= slow_ms else "yellow"


def clock(time: str) -> str:
    """Return the time of day, to the millisecond, in the project's time zone."""
    return f"{timezone.localtime(datetime.fromisoformat(time)):%H:%M:%S.%f}"[:-3]


def clock_title() -> str:
    return f"time {timezone.localtime(datetime.now(UTC)):%Z}"


def origin(record: Any) -> str:
    """Return what sent it: a request by method and route, anything else by kind and name."""
    if record["kind"] == "request":
        return f"{record['method'] or ''} {record['route'] or record['view'] or '?'}".strip()
    return f"{record['kind']} {record['view'] or ''}".strip()


def statement(record: RecordJSON) -> str:
    """Return the text, or what is known of it."""
    failed = f"{record['error']}: " if record["error"] else ""
    return failed + (record["sql"] or f"{record['operation'] or 'statement'} {record['fingerprint']}")


SQL = TextColumn(
    title="statement",
    text=statement,
    style=lambda record: "red" if record["error"] else "",
    cut=truncate_sql,
)
DURATION = TextColumn(
    title="ms",
    text=lambda record: number(record["duration_ms"], 2),
    right=True,
    style=lambda record: by_duration(record["duration_ms"]),
)
ROWS = TextColumn(title="rows", text=lambda record: number(record["rows"]), right=True, rank=2)
CALL_SITE = TextColumn(
    title="call site", text=lambda record: record["call_site"] or "", style=lambda _: "dim", rank=3, most=44
)


def record_columns() -> tuple[TextColumn, ...]:
    """Return the columns of a list of records."""
    return (
        TextColumn(title=clock_title(), text=lambda record: clock(record["time"]), style=lambda _: "dim"),
        TextColumn(
            title="id", text=lambda record: str(record["id"]), right=True, style=lambda _: "dim", rank=5
        ),
        DURATION,
        ROWS,
        TextColumn(title="alias", text=lambda record: record["alias"], rank=6, most=16),
        TextColumn(title="sent by", text=origin, style=lambda _: "cyan", rank=1, most=32),
        CALL_SITE,
        SQL,
    )
