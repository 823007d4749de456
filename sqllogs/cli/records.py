"""`manage.py sqllogs tail` and `trace`: records as they arrive, and those of one request, command or task.

Both print what `sqllogs.read.records` returns, in the command's thread.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import Subcommand, parse_scope
from sqllogs.cli.rendering import Screen, TextColumn, TextTable, format_number
from sqllogs.models import SQLLog
from sqllogs.read import records
from sqllogs.read import ring as read_ring
from sqllogs.read.pagination import Page
from sqllogs.read.parameters import as_hex
from sqllogs.read.records import Poll, RingTail, Row
from sqllogs.read.ring import Ordering, Window
from sqllogs.read.traces import trace_of
from sqllogs.record import RecordJSON

TAIL_ROWS = 20
# The default FLUSH_INTERVAL_S: more often there would be nothing new.
POLL_INTERVAL_S = 0.5
TRACE_QUERIES_MAX = 5_000
TRACE_ID_DIGITS = 32
TIMELINE_WIDTH = 20
"""Characters."""


def _add_tail_arguments(parser: CommandParser) -> None:
    shared.add_limit(parser, TAIL_ROWS, _("number of records to start with"))
    parser.add_argument("--no-follow", action="store_true", help=_("print these and exit"))
    shared.add_json(parser, _("print one JSON object per line, with the field names of the API"))
    shared.add_filters(parser)


def _tail(command: BaseCommand, options: Mapping[str, Any]) -> None:
    printer = _TailPrinter(Screen(command, options))
    matching = shared.filters(options).qs
    limit = shared.check_limit(options, minimum=0)  # 0: only what arrives from now on
    ring = read_ring.ring()
    newest = records.rows(matching, ring, Window(ordering=Ordering(), limit=limit)) if limit else []
    # Newest last, because new records are printed below.
    printer.show(newest[::-1])
    if options["no_follow"]:
        return
    # Not by "id above the highest shown", because writers overtake each other.
    ring_tail = RingTail(matching, after=ring.seq)
    while True:
        time.sleep(POLL_INTERVAL_S)
        for poll in ring_tail.poll():
            _note_lost_records(command, poll)
            printer.show(poll.rows)


class _TailPrinter:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._table = TextTable(rendering.record_columns(), screen)
        self._needs_header = True

    def show(self, rows: Sequence[Row]) -> None:
        shown = records.records(rows, with_text=True)
        if self._screen.as_json:
            for record in shown:
                self._screen.json(record, indent=False)
        # The header is printed at once, even without a record, to show that the command is waiting.
        elif shown or self._needs_header:
            for line in self._table.lines(shown, header=self._needs_header):
                self._screen.line(line)
            self._needs_header = False
        self._screen.flush()


def _note_lost_records(command: BaseCommand, poll: Poll) -> None:
    notes = []
    if count := poll.overwritten:
        overwritten = ngettext(
            "%(count)s record was overwritten before it could be shown.",
            "%(count)s records were overwritten before they could be shown.",
            count,
        )
        notes.append(overwritten % {"count": f"{count:,}"})
    if count := poll.unwritten:
        unwritten = ngettext(
            "%(count)s reserved record was never written.",
            "%(count)s reserved records were never written.",
            count,
        )
        notes.append(unwritten % {"count": f"{count:,}"})
    for note in notes:
        # To stderr, because a program may read the records as JSON.
        command.stderr.write(f"-- {note}", style_func=str)


TAIL = Subcommand(
    help=gettext_lazy("Show the newest records, then further ones as they arrive."),
    add_arguments=_add_tail_arguments,
    handle=_tail,
)


def _add_trace_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "trace_id", metavar="ID", help=_("up to 32 hexadecimal digits; leading zeros are optional")
    )
    shared.add_json(parser)


def _trace(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    trace_id = _parse_trace_id(options["trace_id"])
    queries = _queries(trace_id)
    if not queries:
        raise CommandError(_("The ring has no record of trace %(id)s.") % {"id": trace_id})
    if screen.as_json:
        page = Page(
            count=len(queries), count_is_capped=len(queries) == TRACE_QUERIES_MAX,
            next=None, previous=None, next_cursor=None, results=queries,
        )  # fmt: skip
        screen.json(trace_of(trace_id, page, parse_scope(QueryDict()).span))
        return
    _show_trace(screen, trace_id, queries)


def _parse_trace_id(text: str) -> str:
    try:
        return as_hex(TRACE_ID_DIGITS)(text.strip())
    except ValidationError as exc:
        message = _("'%(text)s' is not a trace id. %(reason)s")
        raise CommandError(message % {"text": text, "reason": exc.messages[0]}) from exc


def _queries(trace_id: str) -> list[RecordJSON]:
    matching = SQLLog.objects.filter(trace_id=trace_id)
    window = Window(ordering=Ordering(descending=False), limit=TRACE_QUERIES_MAX)
    queries = records.records(records.rows(matching, read_ring.ring(), window), with_text=True)
    # By time and not by number, because the processes of a trace write their batches independently.
    return sorted(queries, key=lambda record: (record["time"], record["id"]))


def _show_trace(screen: Screen, trace_id: str, queries: Sequence[RecordJSON]) -> None:
    first, last = queries[0], queries[-1]
    # The first queries may lack the status, because they were stored before it was known.
    status = next((record["status"] for record in reversed(queries) if record["status"]), None)
    screen.line(screen.paint(rendering.origin(last) + (f" -> {status}" if status else ""), "bold"))
    begin = f"{timezone.localtime(_time(first)):%Y-%m-%d %H:%M:%S %Z}"
    screen.line(
        _("trace %(id)s, %(time)s, %(host)s pid %(pid)s")
        % {"id": trace_id, "time": begin, "host": last["host"], "pid": last["pid"]}
    )
    calls = Counter((record["fingerprint"], record["call_site"]) for record in queries)
    span_ms = max(_offset_ms(record, first) + record["duration_ms"] for record in queries)
    totals = ngettext(
        "%(count)s query, %(repeats)s of them repeated, %(total)s ms in %(span)s ms",
        "%(count)s queries, %(repeats)s of them repeated, %(total)s ms in %(span)s ms",
        len(queries),
    )
    screen.line(
        totals
        % {
            "count": f"{len(queries):,}",
            "repeats": f"{sum(count - 1 for count in calls.values()):,}",  # the first of them repeats nothing
            "total": f"{sum(record['duration_ms'] for record in queries):,.2f}",
            "span": f"{span_ms:,.2f}",
        }
    )
    screen.line()
    for line in TextTable(_trace_columns(first, span_ms, calls), screen).lines(queries):
        screen.line(line)
    if len(queries) == TRACE_QUERIES_MAX:
        screen.line(_("-- Only the first %(count)s queries are shown.") % {"count": f"{TRACE_QUERIES_MAX:,}"})


def _trace_columns(first: RecordJSON, span_ms: float, calls: Counter[Any]) -> tuple[TextColumn, ...]:
    def timeline_bar(record: RecordJSON) -> str:
        width = TIMELINE_WIDTH
        start = min(width - 1, int(width * _offset_ms(record, first) / span_ms)) if span_ms else 0
        # At least one mark: most queries are shorter than a twentieth of the trace.
        length = max(1, round(width * record["duration_ms"] / span_ms)) if span_ms else 1
        return (" " * start + "#" * length)[:width].ljust(width)

    def repeats(record: RecordJSON) -> str:
        count = calls[record["fingerprint"], record["call_site"]]
        return f"{count}x" if count > 1 else ""

    return (
        TextColumn(
            title=_("at ms"), text=lambda record: format_number(_offset_ms(record, first), 1), right=True
        ),
        rendering.DURATION,
        TextColumn(title=_("timeline"), text=timeline_bar, style=lambda _: "cyan", rank=4),
        rendering.ROWS,
        TextColumn(title=_("same"), text=repeats, right=True, style=lambda _: "yellow", rank=1),
        rendering.ALIAS,
        rendering.CALL_SITE,
        rendering.SQL,
    )


def _offset_ms(record: RecordJSON, first: RecordJSON) -> float:
    return (_time(record) - _time(first)).total_seconds() * 1000


def _time(record: RecordJSON) -> datetime:
    return datetime.fromisoformat(record["time"])


TRACE = Subcommand(
    help=gettext_lazy("Show the queries of one trace in order."),
    add_arguments=_add_trace_arguments,
    handle=_trace,
)
