"""`manage.py sqllogs trace ID`: the queries of one request, command or task, in order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import QueryDict
from django.utils import timezone

from sqllogs.cli import options as shared
from sqllogs.cli import rendering
from sqllogs.cli.options import scope
from sqllogs.cli.rendering import number
from sqllogs.cli.table import Screen, TextColumn, TextTable
from sqllogs.models import SQLLog
from sqllogs.read import records, ring
from sqllogs.read.pagination import Page
from sqllogs.read.parameters import as_hex
from sqllogs.read.ring import Ordering, Window
from sqllogs.read.traces import trace_of
from sqllogs.record import RecordJSON

HELP = "Show the queries of one trace in order."
QUERIES_MAX = 5_000
BAR = 20
"""Characters of the time line."""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("trace_id", metavar="ID", help="32 hexadecimal digits; leading zeros may be missing")
    shared.add_json(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    try:
        trace_id = as_hex(32)(options["trace_id"].strip())
    except ValidationError as exc:
        raise CommandError(f"{options['trace_id']!r} is no trace id. {exc.messages[0]}") from exc
    found = _queries(trace_id)
    if not found:
        raise CommandError(f"No record of trace {trace_id} is in the ring.")
    if screen.as_json:
        page = Page(
            count=len(found), count_is_capped=len(found) == QUERIES_MAX,
            next=None, previous=None, next_cursor=None, results=found,
        )  # fmt: skip
        screen.json(trace_of(trace_id, page, scope(QueryDict()).span))
        return
    _show(screen, trace_id, found)


def _queries(trace_id: str) -> list[RecordJSON]:
    chosen = SQLLog.objects.filter(trace_id=trace_id)
    window = Window(ordering=Ordering(descending=False), limit=QUERIES_MAX)
    found = records.records(records.rows(chosen, ring.ring(), window), with_text=True)
    return sorted(found, key=lambda record: (record["time"], record["id"]))


def _show(screen: Screen, trace_id: str, found: Sequence[RecordJSON]) -> None:
    last = found[-1]
    # It became known while the queries were on their way: the first ones can be without it.
    known = next((record["status"] for record in reversed(found) if record["status"]), None)
    status = f" -> {known}" if known else ""
    screen.line(screen.paint(f"{rendering.origin(last)}{status}", "bold"))
    began = timezone.localtime(_time(found[0]))
    total_ms = sum(record["duration_ms"] for record in found)
    span_ms = max(_offset_ms(record, found[0]) + record["duration_ms"] for record in found)
    screen.line(f"trace {trace_id}, {began:%Y-%m-%d %H:%M:%S %Z}, {last['host']} pid {last['pid']}")
    times = Counter((record["fingerprint"], record["call_site"]) for record in found)
    repeated = sum(count - 1 for count in times.values())
    screen.line(
        f"{len(found):,} queries, {repeated:,} of them repeats, {total_ms:,.2f} ms in {span_ms:,.2f} ms"
    )
    screen.line()
    for line in TextTable(_columns(found, span_ms, times), screen).lines(found):
        screen.line(line)
    if len(found) == QUERIES_MAX:
        screen.line(f"-- The first {QUERIES_MAX:,} only.")


def _columns(found: Sequence[RecordJSON], span_ms: float, times: Counter[Any]) -> tuple[TextColumn, ...]:
    first = found[0]

    def bar(record: RecordJSON) -> str:
        start = min(BAR - 1, int(BAR * _offset_ms(record, first) / span_ms)) if span_ms else 0
        length = max(1, round(BAR * record["duration_ms"] / span_ms)) if span_ms else 1
        return (" " * start + "#" * length)[:BAR].ljust(BAR)

    def repeats(record: RecordJSON) -> str:
        count = times[record["fingerprint"], record["call_site"]]
        return f"{count}x" if count > 1 else ""

    return (
        TextColumn(title="at ms", text=lambda record: number(_offset_ms(record, first), 1), right=True),
        rendering.DURATION,
        TextColumn(title="time line", text=bar, style=lambda _: "cyan", rank=4),
        rendering.ROWS,
        TextColumn(title="same", text=repeats, right=True, style=lambda _: "yellow", rank=1),
        TextColumn(title="alias", text=lambda record: record["alias"], rank=5, most=16),
        rendering.CALL_SITE,
        rendering.SQL,
    )


def _offset_ms(record: RecordJSON, first: RecordJSON) -> float:
    return (_time(record) - _time(first)).total_seconds() * 1000


def _time(record: RecordJSON) -> datetime:
    return datetime.fromisoformat(record["time"])
