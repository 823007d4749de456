"""How a record looks in a terminal: its columns, and what they are coloured by."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from sqllogs import conf
from sqllogs.brief import brief
from sqllogs.rows import Record
from sqllogs.terminal.table import Column

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
    return f"time {timezone.localtime():%Z}"


def origin(record: Any) -> str:
    """Return what sent it: a request by method and route, anything else by kind and name."""
    if record["kind"] == "request":
        return f"{record['method'] or ''} {record['route'] or record['view'] or '?'}".strip()
    return f"{record['kind']} {record['view'] or ''}".strip()


def statement(record: Record) -> str:
    """Return the text, or what is known of it."""
    failed = f"{record['error']}: " if record["error"] else ""
    return failed + (record["sql"] or f"{record['operation'] or 'statement'} {record['fingerprint']}")


SQL = Column(
    title="statement",
    text=statement,
    style=lambda record: "red" if record["error"] else "",
    cut=brief,
)
DURATION = Column(
    title="ms",
    text=lambda record: number(record["duration_ms"], 2),
    right=True,
    style=lambda record: by_duration(record["duration_ms"]),
)
ROWS = Column(title="rows", text=lambda record: number(record["rows"]), right=True, rank=2)
CALL_SITE = Column(
    title="call site", text=lambda record: record["call_site"] or "", style=lambda _: "dim", rank=3, most=44
)


def columns() -> tuple[Column, ...]:
    """Return the columns of a list of records."""
    return (
        Column(title=clock_title(), text=lambda record: clock(record["time"]), style=lambda _: "dim"),
        Column(title="id", text=lambda record: str(record["id"]), right=True, style=lambda _: "dim", rank=5),
        DURATION,
        ROWS,
        Column(title="alias", text=lambda record: record["alias"], rank=6, most=16),
        Column(title="sent by", text=origin, style=lambda _: "cyan", rank=1, most=32),
        CALL_SITE,
        SQL,
    )
