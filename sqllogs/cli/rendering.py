"""Columns, numbers and colours of statistics and records in a terminal.

Fed by the answers of `sqllogs.read`, feeds `sqllogs.cli.table`. Runs in the command's thread.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs import conf
from sqllogs.cli.table import Screen, TextColumn, TextTable
from sqllogs.read.scope import Answer
from sqllogs.read.stats import StatsAnswer, StatsRow
from sqllogs.record import RecordJSON
from sqllogs.sql.format import truncate_sql

LOAD_BAR_WIDTH = 10
NOTICEABLE = 0.2
"""A duration is coloured from this share of SLOW_MS on."""

Text = Callable[[Any], str]


def show_stats(screen: Screen, answer: StatsAnswer) -> None:
    """Print the table of `stats/` below a line with its number of rows and time range."""
    shown = len(answer.results)
    title = _("%(count)s by %(group_by)s, %(span)s")
    if shown < answer.count:
        title = _("%(shown)s of %(count)s by %(group_by)s, %(span)s")
    values = {"shown": f"{shown:,}", "count": f"{answer.count:,}", "group_by": answer.group_by}
    screen.line(screen.paint(title % {**values, "span": format_span(answer)}, "dim"))
    for line in TextTable(aggregate_columns(answer.group_by), screen).lines(answer.results):
        screen.line(line)


def format_span(answer: Answer) -> str:
    """Return the time range of an answer, and its source."""
    begin, end = (timezone.localtime(datetime.fromisoformat(time)) for time in (answer.begin, answer.end))
    until = f"{end:%H:%M:%S}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M:%S}"
    return _("%(begin)s to %(end)s, from the %(source)s") % {
        "begin": f"{begin:%Y-%m-%d %H:%M:%S}",
        "end": f"{until} {end:%Z}",
        "source": answer.source,
    }


def aggregate_columns(group_by: str) -> tuple[TextColumn, ...]:
    """Return the columns of `stats/`; the group is the last one."""
    if group_by == "fingerprint":
        return (*NUMBERS, *STATEMENT)
    return (*NUMBERS, TextColumn(title=group_by, text=lambda row: row.group or "-"))


def format_number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def duration_style(duration_ms: float | None) -> str:
    """Return the colour of a duration: red from SLOW_MS on."""
    slow_ms = conf.load().slow_ms
    if duration_ms is None or duration_ms < NOTICEABLE * slow_ms:
        return ""
    return "red" if duration_ms >= slow_ms else "yellow"


def _number_column(title: Promise, text: Text, *, rank: int = 0, style: Text = lambda _: "") -> TextColumn:
    return TextColumn(title=title, text=text, right=True, rank=rank, style=style)


def _duration_column(title: Promise, name: str, *, digits: int, rank: int) -> TextColumn:
    return _number_column(
        title,
        lambda row: format_number(getattr(row, name), digits),
        rank=rank,
        style=lambda row: duration_style(getattr(row, name)),
    )


def _load_bar(row: StatsRow) -> str:
    return "#" * round(LOAD_BAR_WIDTH * row.load_percent / 100)


def _statement_text(row: Any) -> str:
    return row.sql or f"{row.operation or _('statement')} {row.fingerprint}"


NUMBERS = (
    _number_column(gettext_lazy("load %"), lambda row: format_number(row.load_percent, 1)),
    TextColumn(title="", text=_load_bar, style=lambda _: "cyan", rank=5),
    _number_column(gettext_lazy("calls"), lambda row: format_number(row.calls)),
    _number_column(gettext_lazy("calls/s"), lambda row: format_number(row.calls_per_s, 2), rank=6),
    _number_column(gettext_lazy("total ms"), lambda row: format_number(row.total_ms, 1), rank=2),
    _duration_column(gettext_lazy("mean ms"), "mean_ms", digits=2, rank=0),
    _duration_column(gettext_lazy("p95 ms"), "p95_ms", digits=2, rank=1),
    _duration_column(gettext_lazy("max ms"), "max_ms", digits=1, rank=3),
    _number_column(gettext_lazy("rows"), lambda row: format_number(row.rows), rank=7),
    _number_column(
        gettext_lazy("errors"), lambda row: format_number(row.errors or None), rank=3, style=lambda _: "red"
    ),
    _number_column(
        gettext_lazy("N+1"),
        lambda row: f"{row.repeats}x" if row.repeats else "",
        rank=2,
        style=lambda _: "yellow",
    ),
)
STATEMENT = (
    TextColumn(title=gettext_lazy("route"), text=lambda row: row.route or "", rank=8, max_width=28),
    TextColumn(title=gettext_lazy("fingerprint"), text=lambda row: row.fingerprint, rank=4),
    TextColumn(title=gettext_lazy("statement"), text=_statement_text, cut=truncate_sql),
)


def time_of_day(time: str) -> str:
    """Return the time of day to the millisecond, in the project's time zone."""
    return f"{timezone.localtime(datetime.fromisoformat(time)):%H:%M:%S.%f}"[:-3]


def origin(record: RecordJSON) -> str:
    """Return the method and route of a request, the kind and name of any other unit of work."""
    if record["kind"] == "request":
        return f"{record['method'] or ''} {record['route'] or record['view'] or '?'}".strip()
    return f"{record['kind']} {record['view'] or ''}".strip()


def _record_text(record: RecordJSON) -> str:
    """Return the SQL text, or operation and fingerprint if it is not stored."""
    failed = f"{record['error']}: " if record["error"] else ""
    return failed + (record["sql"] or f"{record['operation'] or _('statement')} {record['fingerprint']}")


SQL = TextColumn(
    title=gettext_lazy("statement"),
    text=_record_text,
    style=lambda record: "red" if record["error"] else "",
    cut=truncate_sql,
)
DURATION = TextColumn(
    title=gettext_lazy("ms"),
    text=lambda record: format_number(record["duration_ms"], 2),
    right=True,
    style=lambda record: duration_style(record["duration_ms"]),
)
ROWS = _number_column(gettext_lazy("rows"), lambda record: format_number(record["rows"]), rank=2)
ALIAS = TextColumn(title=gettext_lazy("alias"), text=lambda record: record["alias"], rank=6, max_width=16)
CALL_SITE = TextColumn(
    title=gettext_lazy("call site"),
    text=lambda record: record["call_site"] or "",
    style=lambda _: "dim",
    rank=3,
    max_width=44,
)


def record_columns() -> tuple[TextColumn, ...]:
    """Return the columns of a list of records."""
    return (
        TextColumn(
            title=_("time %(zone)s") % {"zone": f"{timezone.localtime(datetime.now(UTC)):%Z}"},
            text=lambda record: time_of_day(record["time"]),
            style=lambda _: "dim",
        ),
        TextColumn(
            title=_("id"), text=lambda record: str(record["id"]), right=True, style=lambda _: "dim", rank=5
        ),
        DURATION,
        ROWS,
        ALIAS,
        TextColumn(title=_("sent by"), text=origin, style=lambda _: "cyan", rank=1, max_width=32),
        CALL_SITE,
        SQL,
    )
