"""`manage.py sqllogs health`: the state of the log itself."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sqllogs.cli import options as shared
from sqllogs.cli.rendering import number
from sqllogs.cli.table import Screen, TextColumn, TextTable, repeat_every
from sqllogs.read.health import Health, ProcessHealth, health

HELP = "Show the state of the log: fill, processes, lag and losses. Exit with 1 if degraded."
BAR = 30


def add_arguments(parser: CommandParser) -> None:
    shared.add_json(parser)
    shared.add_watch(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    state: list[str] = []

    def show() -> None:
        found = health()
        state[:] = [found.status]
        if screen.as_json:
            screen.json(found)
        else:
            _show(screen, found)

    repeat_every(screen, options, show)
    if state != ["ok"]:
        sys.exit(1)


def _show(screen: Screen, found: Health) -> None:
    ring = found.ring
    screen.line(screen.paint(found.status, "green" if found.status == "ok" else "red"))
    for reason in found.reasons:
        screen.prose(reason, first="  ", rest="    ")
    filled = round(BAR * ring.fill_percent / 100)
    age = "" if ring.oldest_age_s is None else f", the oldest {_span(ring.oldest_age_s)} old"
    rows = f"{ring.rows:,} of {ring.capacity:,} rows ({ring.fill_percent:g} %)"
    screen.line(f"ring      [{'#' * filled:<{BAR}}] {rows}{age}")
    dropped = "".join(f", {count:,} {reason}" for reason, count in found.dropped.items())
    screen.line(f"captured  {found.captured:,}")
    screen.line(f"stored    {found.stored:,}")
    if found.sampled_out:
        screen.line(f"sampled out {found.sampled_out:,}")
    screen.line(f"dropped   {found.dropped_total:,}{dropped}")
    screen.line(f"queued    {found.queued:,}, {found.lag_ms:,.0f} ms behind")
    if found.processes:
        screen.line()
        for line in TextTable(_columns(), screen).lines(found.processes):
            screen.line(line)


def _columns() -> tuple[TextColumn, ...]:
    def dim(process: ProcessHealth) -> str:
        return "" if process.alive else "dim"

    def lost(process: ProcessHealth) -> str:
        return number(sum(process.dropped.values())) if process.dropped else "0"

    now = datetime.now(UTC)
    return (
        TextColumn(title="host", text=lambda process: process.host, style=dim),
        TextColumn(title="pid", text=lambda process: str(process.pid), right=True, style=dim),
        TextColumn(title="captured", text=lambda process: number(process.captured), right=True, style=dim),
        TextColumn(title="stored", text=lambda process: number(process.stored), right=True, style=dim),
        TextColumn(
            title="dropped",
            text=lost,
            right=True,
            style=lambda process: "red" if process.dropped else dim(process),
        ),
        TextColumn(title="queued", text=lambda process: number(process.queued), right=True, style=dim),
        TextColumn(title="lag ms", text=lambda process: number(process.lag_ms), right=True, style=dim),
        TextColumn(
            title="last wrote",
            text=lambda process: f"{_span((now - process.updated_at).total_seconds())} ago",
            style=dim,
        ),
    )


def _span(seconds: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
