"""`manage.py sqllogs health`, `resize` and `clear`: the state of the log, and the ring's size and content.

They use `sqllogs.read.health` and `sqllogs.storage.resize` in the command's thread.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.cli import options as shared
from sqllogs.cli.options import Subcommand
from sqllogs.cli.rendering import Screen, TextColumn, TextTable, format_number, repeat_every, show_progress
from sqllogs.read.health import Health, ProcessHealth, health
from sqllogs.storage import resize

FILL_BAR_WIDTH = 30
CAPACITY_MAX = 2**31 - 1


def _add_health_arguments(parser: CommandParser) -> None:
    shared.add_json(parser)
    shared.add_watch(parser)


def _show_health(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    status = ""

    def show() -> None:
        nonlocal status
        state = health()
        status = state.status
        screen.show(state, _print_health)

    repeat_every(screen, options["watch"], show)
    if status != "ok":
        sys.exit(1)


def _print_health(screen: Screen, state: Health) -> None:
    screen.line(screen.paint(state.status, "green" if state.status == "ok" else "red"))
    for reason in state.reasons:
        screen.prose(reason, first="  ", rest="    ")
    totals = _totals(state)
    width = max(len(label) for label, _value in totals) + 2
    for label, value in totals:
        screen.line(f"{label:<{width}}{value}")
    if state.processes:
        screen.line()
        for line in TextTable(_process_columns(), screen).lines(state.processes):
            screen.line(line)


def _totals(state: Health) -> list[tuple[str, str]]:
    ring = state.ring
    bar = "#" * round(FILL_BAR_WIDTH * ring.fill_percent / 100)
    numbers = {
        "rows": f"{ring.rows:,}",
        "capacity": f"{ring.capacity:,}",
        "percent": f"{ring.fill_percent:g}",
        "age": _format_age(ring.oldest_age_s or 0),
    }
    rows = _("%(rows)s of %(capacity)s rows (%(percent)s %%)")
    if ring.oldest_age_s is not None:
        rows = _("%(rows)s of %(capacity)s rows (%(percent)s %%), the oldest %(age)s old")
    by_reason = "".join(f", {count:,} {reason}" for reason, count in state.dropped.items())
    lag = _("%(count)s, %(lag)s ms behind") % {"count": f"{state.queued:,}", "lag": f"{state.lag_ms:,.0f}"}
    return [
        (_("ring"), f"[{bar:<{FILL_BAR_WIDTH}}] {rows % numbers}"),
        (_("captured"), f"{state.captured:,}"),
        (_("stored"), f"{state.stored:,}"),
        *([(_("sampled out"), f"{state.sampled_out:,}")] if state.sampled_out else []),
        (_("dropped"), f"{state.dropped_total:,}{by_reason}"),
        *([(_("units dropped"), f"{state.units_dropped:,}")] if state.units_dropped else []),
        (_("queued"), lag),
    ]


def _process_columns() -> tuple[TextColumn, ...]:
    now = datetime.now(UTC)

    def dim(process: ProcessHealth) -> str:
        return "" if process.alive else "dim"

    def age(process: ProcessHealth) -> str:
        return _("%(age)s ago") % {"age": _format_age((now - process.updated_at).total_seconds())}

    def dropped(process: ProcessHealth) -> str:
        return format_number(sum(process.dropped.values()))

    def red_if_dropped(process: ProcessHealth) -> str:
        return "red" if process.dropped else dim(process)

    return (
        TextColumn(title=_("host"), text=lambda process: process.host, style=dim),
        TextColumn(title=_("pid"), text=lambda process: str(process.pid), right=True, style=dim),
        TextColumn(
            title=_("captured"), text=lambda process: format_number(process.captured), right=True, style=dim
        ),
        TextColumn(
            title=_("stored"), text=lambda process: format_number(process.stored), right=True, style=dim
        ),
        TextColumn(title=_("dropped"), text=dropped, right=True, style=red_if_dropped),
        TextColumn(
            title=_("queued"), text=lambda process: format_number(process.queued), right=True, style=dim
        ),
        TextColumn(
            title=_("lag ms"), text=lambda process: format_number(process.lag_ms), right=True, style=dim
        ),
        TextColumn(title=_("last write"), text=age, style=dim),
    )


def _format_age(seconds: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


HEALTH = Subcommand(
    help=gettext_lazy(
        "Show the log's fill level, processes, lag and dropped records; exit with 1 if degraded."
    ),
    add_arguments=_add_health_arguments,
    handle=_show_health,
)


def _add_resize_arguments(parser: CommandParser) -> None:
    parser.add_argument("rows", type=int, metavar="ROWS", help=_("new capacity in records"))


def _resize(command: BaseCommand, options: Mapping[str, Any]) -> None:
    rows = options["rows"]
    if not 1 <= rows <= CAPACITY_MAX:
        message = _("Invalid capacity %(rows)s: must be a number from 1 to %(maximum)s.")
        raise CommandError(message % {"rows": f"{rows:,}", "maximum": f"{CAPACITY_MAX:,}"})
    kept = show_progress(resize.resize(rows), command.stderr)
    message = ngettext(
        "The capacity of the ring is now %(rows)s; %(count)s record was kept.",
        "The capacity of the ring is now %(rows)s; %(count)s records were kept.",
        kept,
    )
    command.stdout.write(message % {"rows": f"{rows:,}", "count": f"{kept:,}"})


RESIZE = Subcommand(
    help=gettext_lazy("Change the capacity of the ring; the newest records are kept."),
    add_arguments=_add_resize_arguments,
    handle=_resize,
)


def _add_clear_arguments(parser: CommandParser) -> None:
    parser.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))


def _clear(command: BaseCommand, options: Mapping[str, Any]) -> None:
    if not options["yes"]:
        _confirm()
    deleted = show_progress(resize.clear(), command.stderr)
    message = ngettext("%(count)s record was deleted.", "%(count)s records were deleted.", deleted)
    command.stdout.write(message % {"count": f"{deleted:,}"})


def _confirm() -> None:
    """Ask before deleting; raise CommandError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError(
            _("Cannot ask for confirmation without a terminal. Use --yes to delete all records.")
        )
    if input(_("Delete all records of the SQL log? [y/N] ")).strip().lower() not in ("y", "yes"):
        raise CommandError(_("Nothing was deleted."))


CLEAR = Subcommand(
    help=gettext_lazy(
        "Delete all records, statement texts and statistics; tokens, events and reviews are kept."
    ),
    add_arguments=_add_clear_arguments,
    handle=_clear,
)
