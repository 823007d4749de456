"""Print tables, JSON, refreshed screens and progress bars to a terminal or a pipe.

Fed by the subcommands with the answers of `sqllogs.read`; runs in the command's thread. If a table is wider
than the terminal, columns are left out by rank, and the last one is cut. A pipe has no width, because a
program wants all of it.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any, TypeVar

import orjson
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.management.color import no_style
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs import conf
from sqllogs.read.scope import Answer
from sqllogs.read.stats import StatsAnswer, StatsRow
from sqllogs.record import RecordJSON
from sqllogs.sql.text import cut, truncate_sql

Shown = TypeVar("Shown")

# Basic colours of ANSI escape codes: terminals show them as their theme says, light or dark.
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
# Cursor to the top, clear the screen, clear what has scrolled out: without the third sequence, each refresh
# would stay above the next.
CLEAR = "\033[H\033[2J\033[3J"
PIPE_WIDTH = 1_000_000
"""Wide enough that nothing is cut."""

LOAD_BAR_WIDTH = 10
NOTICEABLE = 0.2
"""A duration is coloured from this share of SLOW_MS on."""

Text = Callable[[Any], str]
"""Returns a text for a row of a table."""


class Screen:
    """The output of a subcommand: a terminal with a size and colours, or a pipe without them."""

    def __init__(self, command: BaseCommand, options: Mapping[str, Any]) -> None:
        self._out = command.stdout
        self._out.style_func = None  # Django's own styles would be added to those of `paint`
        command.style = no_style()
        self.is_terminal = self._out.isatty()
        self.has_colours = _has_colours(options, is_terminal=self.is_terminal)
        self.as_json = bool(options.get("json"))

    @property
    def width(self) -> int:
        """Current number of columns; a terminal can be resized while it is refreshed."""
        # get_terminal_size() takes COLUMNS first, so a script can ask for a width.
        if self.is_terminal or os.environ.get("COLUMNS", "").isdecimal():
            return shutil.get_terminal_size().columns
        return PIPE_WIDTH

    @property
    def height(self) -> int | None:
        """Current number of lines; None for a pipe."""
        return shutil.get_terminal_size().lines if self.is_terminal else None

    def paint(self, text: str, style: str) -> str:
        """Return a text in one of STYLES, if the output has colours; an empty style changes nothing."""
        if not (style and self.has_colours and text.strip()):
            return text
        return f"\033[{STYLES[style]}m{text}\033[0m"

    def line(self, text: str = "") -> None:
        self._out.write(text, ending="\n")

    def prose(self, text: str, *, style: str = "", first: str = "", rest: str = "") -> None:
        """Write a text wrapped to the width; `first` and `rest` are the indents of its lines."""
        for line in wrap(text, self.width, initial_indent=first, subsequent_indent=rest):
            self.line(self.paint(line, style))

    def json(self, data: Any, *, indent: bool = True) -> None:
        """Write an answer with the field names of the API; without indent it is one line."""
        option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)  # Z, as the API writes UTC
        self.line(orjson.dumps(data, option=option).decode())

    def show(self, answer: Shown, print_answer: Callable[["Screen", Shown], None]) -> None:
        """Write an answer as JSON if that was asked for, else by a function."""
        if self.as_json:
            self.json(answer)
        else:
            print_answer(self, answer)

    def clear(self) -> None:
        if self.is_terminal:
            self._out.write(CLEAR, ending="")
        else:
            self.line()

    def flush(self) -> None:
        self._out.flush()


def _has_colours(options: Mapping[str, Any], *, is_terminal: bool) -> bool:
    if options.get("force_color"):
        return True
    # https://no-color.org: any value that is not empty disables colours.
    is_disabled = options.get("no_color") or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return is_terminal and not is_disabled


GAP = "  "
LAST_COLUMN_WIDTH_MIN = 16
LAST_COLUMN_WIDTH_PER_RANK = 8
"""A column of rank n is left out if it would leave the last column less than 16 + 8 n characters."""


def _no_style(row: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """One column of a table."""

    title: str | Promise
    text: Text
    """Returns the text of a row."""
    right: bool = False
    """Align to the right, as numbers are."""
    style: Text = _no_style
    """Returns the style of a row, one of STYLES or empty."""
    rank: int = 0
    """Columns of the highest rank are left out first; those of rank 0 are always shown."""
    max_width: int = 40
    """Characters; longer text is cut. The last column takes the rest of the line instead."""
    cut: Callable[[str, int], str] = cut


class TextTable:
    """Formats rows in batches; widths never shrink, so that later batches stay aligned with earlier ones."""

    def __init__(self, columns: Sequence[TextColumn], screen: Screen) -> None:
        self._columns = tuple(columns)
        self._screen = screen
        # str() here, because the language is known only when the command runs.
        self._widths = {column: len(str(column.title)) for column in self._columns}

    def lines(self, rows: Iterable[Any], *, header: bool = True) -> Iterator[str]:
        """Yield the lines of some rows, below the header if it is wanted."""
        rows = list(rows)
        cells = [[printable(column.text(row)) for column in self._columns] for row in rows]
        for texts in cells:
            for column, text in zip(self._columns, texts, strict=True):
                self._widths[column] = max(self._widths[column], min(len(text), column.max_width))
        widths = self._shown_widths()
        if header:
            titles = [str(column.title) for column in self._columns]
            yield self._line(widths, titles, ["bold"] * len(self._columns))
        for row, texts in zip(rows, cells, strict=True):
            yield self._line(widths, texts, [column.style(row) for column in self._columns])

    def _shown_widths(self) -> dict[TextColumn, int]:
        """Return the columns that fit, with their widths."""
        shown = list(self._columns)
        for column in sorted(self._columns[:-1], key=lambda column: -column.rank):
            needed = LAST_COLUMN_WIDTH_MIN + LAST_COLUMN_WIDTH_PER_RANK * column.rank
            if column.rank and self._last_column_width(shown) < needed:
                shown.remove(column)
        # At least 1: a terminal may be narrower than the columns that are always shown.
        last_width = max(self._last_column_width(shown), 1)
        return {**{column: self._widths[column] for column in shown[:-1]}, shown[-1]: last_width}

    def _last_column_width(self, shown: Sequence[TextColumn]) -> int:
        return self._screen.width - sum(self._widths[column] + len(GAP) for column in shown[:-1])

    def _line(self, widths: dict[TextColumn, int], texts: Sequence[str], styles: Sequence[str]) -> str:
        cells: list[str] = []
        for column, text, style in zip(self._columns, texts, styles, strict=True):
            if column not in widths:
                continue
            width = widths[column]
            text = column.cut(text, width)
            if len(cells) < len(widths) - 1:
                # Before painting, because escape codes count as characters, but take no room.
                text = text.rjust(width) if column.right else text.ljust(width)
            cells.append(self._screen.paint(text, style))
        return GAP.join(cells).rstrip()


def printable(text: str) -> str:
    """Replace control characters: a name or a route may contain an escape sequence for the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


PROGRESS_BAR_WIDTH = 30
"""Characters."""


def show_progress(steps: Iterable[tuple[int, int]], stderr: OutputWrapper) -> int:
    """Run through (done, total) pairs, with a progress bar on a terminal; return the last `done`."""
    done = 0
    is_drawn = False
    for done, total in steps:
        # Without a terminal it is a log, which would get a line per step.
        if stderr.isatty():
            bar = "#" * (PROGRESS_BAR_WIDTH * done // max(total, 1))
            rows = _("%(done)s of %(total)s rows") % {"done": f"{done:,}", "total": f"{total:,}"}
            stderr.write(f"\r[{bar:<{PROGRESS_BAR_WIDTH}}] {rows}", style_func=str, ending="")
            is_drawn = True
    if is_drawn:
        stderr.write("")  # ends the line of the bar
    return done


WATCH_MIN_S = 0.2


def repeat_every(screen: Screen, interval_s: float | None, show: Callable[[], None]) -> None:
    """Call `show` once, or every `interval_s` seconds until Ctrl-C; raise CommandError if too often."""
    if interval_s is None:
        show()
        return
    if not interval_s >= WATCH_MIN_S:  # not `<`, which is false for NaN
        message = _("--watch: Must be at least %(minimum)s seconds.")
        raise CommandError(message % {"minimum": f"{WATCH_MIN_S:g}"})
    while True:
        screen.clear()
        show()
        screen.flush()
        time.sleep(interval_s)


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
    return (*NUMBERS, group_column(group_by))


def group_column(group_by: str) -> TextColumn:
    return TextColumn(title=group_by, text=lambda row: row.group or "-")


def format_number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def duration_style(duration_ms: float | None) -> str:
    """Return the colour of a duration: red from SLOW_MS on, yellow from NOTICEABLE of it on."""
    slow_ms = conf.load().slow_ms
    if duration_ms is None or duration_ms < NOTICEABLE * slow_ms:
        return ""
    return "red" if duration_ms >= slow_ms else "yellow"


def number_column(title: Promise, text: Text, *, rank: int = 0, style: Text = _no_style) -> TextColumn:
    return TextColumn(title=title, text=text, right=True, rank=rank, style=style)


def _duration_column(title: Promise, name: str, *, digits: int, rank: int) -> TextColumn:
    return number_column(
        title,
        lambda row: format_number(getattr(row, name), digits),
        rank=rank,
        style=lambda row: duration_style(getattr(row, name)),
    )


def _load_bar(row: StatsRow) -> str:
    return "#" * round(LOAD_BAR_WIDTH * row.load_percent / 100)


def statement_text(row: Any) -> str:
    """Return the SQL text, or operation and fingerprint if it is not stored."""
    return row.sql or f"{row.operation or _('statement')} {row.fingerprint}"


NUMBERS = (
    number_column(gettext_lazy("load %"), lambda row: format_number(row.load_percent, 1)),
    TextColumn(title="", text=_load_bar, style=lambda _: "cyan", rank=5),
    number_column(gettext_lazy("calls"), lambda row: format_number(row.calls)),
    number_column(gettext_lazy("calls/s"), lambda row: format_number(row.calls_per_s, 2), rank=6),
    number_column(gettext_lazy("total ms"), lambda row: format_number(row.total_ms, 1), rank=2),
    _duration_column(gettext_lazy("mean ms"), "mean_ms", digits=2, rank=0),
    _duration_column(gettext_lazy("p95 ms"), "p95_ms", digits=2, rank=1),
    _duration_column(gettext_lazy("max ms"), "max_ms", digits=1, rank=3),
    number_column(gettext_lazy("rows"), lambda row: format_number(row.rows), rank=7),
    number_column(
        gettext_lazy("errors"), lambda row: format_number(row.errors or None), rank=3, style=lambda _: "red"
    ),
    number_column(
        gettext_lazy("N+1"),
        lambda row: f"{row.repeats}x" if row.repeats else "",
        rank=2,
        style=lambda _: "yellow",
    ),
)
STATEMENT = (
    TextColumn(title=gettext_lazy("route"), text=lambda row: row.route or "", rank=8, max_width=28),
    TextColumn(title=gettext_lazy("fingerprint"), text=lambda row: row.fingerprint, rank=4),
    TextColumn(title=gettext_lazy("statement"), text=statement_text, cut=truncate_sql),
)


def time_of_day(time: str) -> str:
    """Return the time of day to the millisecond, in the project's time zone."""
    return f"{timezone.localtime(datetime.fromisoformat(time)):%H:%M:%S.%f}"[:-3]  # %f has microseconds


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
ROWS = number_column(gettext_lazy("rows"), lambda record: format_number(record["rows"]), rank=2)
ALIAS = TextColumn(title=gettext_lazy("alias"), text=lambda record: record["alias"], rank=6, max_width=16)
CALL_SITE = TextColumn(
    title=gettext_lazy("call site"),
    text=lambda record: record["call_site"] or "",
    style=lambda _: "dim",
    rank=3,
    max_width=44,
)


# A function, because the zone's name depends on the season.
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
