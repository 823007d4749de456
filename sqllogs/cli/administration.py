"""`manage.py sqllogs health`, `resize`, `clear` and `token`: administer the log and the access to it.

They use `sqllogs.read.health`, `sqllogs.storage.resize` and `sqllogs.api.tokens` in the command's thread.
"""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.api import tokens
from sqllogs.cli import options as shared
from sqllogs.cli.options import Subcommand
from sqllogs.cli.rendering import Screen, TextColumn, TextTable, format_number, repeat_every, show_progress
from sqllogs.models import Token
from sqllogs.read.health import Health, ProcessHealth, health
from sqllogs.storage import resize

FILL_BAR_WIDTH = 30
# The slot of a record is a 32-bit column.
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
    # For cron and probes, which read only the exit code.
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
        # Only from two of a unit on, because a rounded "1 h" could mean 90 minutes.
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
    # Progress goes to stderr, so that a script reads only the result.
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
        "Delete all records, statement texts, plans and statistics; tokens, events and reviews are kept."
    ),
    add_arguments=_add_clear_arguments,
    handle=_clear,
)


# Arguments appear in the list of processes, which all users of a machine can read, and in the shell's
# history.
TOKEN_OPTION_REMOVED = gettext_lazy(
    "--token is no longer supported, because other users see the value in the list of processes. "
    "Use --token-stdin and pipe the value in, or --token-variable with the name of an environment variable."
)
DIGEST_DIGITS_SHOWN = 8
TOKEN_COLUMNS = ("name", "created_at", "last_used_at", "revoked_at", "digest")


def _add_token_arguments(parser: CommandParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help=_("create a token and print it; it cannot be shown again"))
    create.add_argument(
        "name", metavar="NAME", help=_("who or what uses it; each name may have two active tokens")
    )
    value = create.add_mutually_exclusive_group()
    value.add_argument(
        "--token-stdin",
        action="store_true",
        help=_("read the value from standard input, instead of generating a random one"),
    )
    value.add_argument(
        "--token-variable",
        metavar="VARIABLE",
        help=_("read the value from this environment variable instead"),
    )
    value.add_argument("--token", metavar="VALUE", help=SUPPRESS)
    create.add_argument("--replace", action="store_true", help=_("revoke the other tokens of that name"))
    listing = actions.add_parser("list", help=_("list all tokens, without their values"))
    listing.add_argument("--json", action="store_true", help=_("print JSON"))
    revoke = actions.add_parser("revoke", help=_("revoke tokens"))
    revoke.add_argument("name", metavar="NAME", help=_("name of the tokens"))
    revoke.add_argument(
        "--digest",
        metavar="PREFIX",
        default="",
        help=_("revoke only the token with this digest, as shown by `list`"),
    )


def _change_tokens(command: BaseCommand, options: Mapping[str, Any]) -> None:
    {"create": _create_token, "list": _list_tokens, "revoke": _revoke_tokens}[options["action"]](
        command, options
    )


def _create_token(command: BaseCommand, options: Mapping[str, Any]) -> None:
    value = _read_token(options)
    token = tokens.create(options["name"], value, replace=options["replace"])
    command.stdout.write(token)
    # Not printed for a script, which stores the token itself.
    if value is None and command.stderr.isatty():
        # style_func, because Django would print it in red, like an error.
        command.stderr.write(_("Keep it: it is not stored and cannot be shown again."), style_func=str)


def _read_token(options: Mapping[str, Any]) -> str | None:
    """Return the user's value for the token, None to generate a random one; raise CommandError."""
    if options["token"] is not None:
        raise CommandError(TOKEN_OPTION_REMOVED)
    if options["token_stdin"]:
        # `echo` ends the value with a newline.
        return sys.stdin.readline().strip()
    if (variable := options["token_variable"]) is None:
        return None
    if variable not in os.environ:
        raise CommandError(_("The environment variable '%(name)s' is not set.") % {"name": variable})
    return os.environ[variable]


def _list_tokens(command: BaseCommand, options: Mapping[str, Any]) -> None:
    listed = Token.objects.order_by("name", "created_at")
    if options["json"]:
        rows = [dict(zip(TOKEN_COLUMNS, _token_values(token), strict=True)) for token in listed]
        command.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())
        return
    header = [column.removesuffix("_at").replace("_", " ") for column in TOKEN_COLUMNS]
    lines = [header, *([_cell(value) for value in _token_values(token)] for token in listed)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        command.stdout.write("  ".join(map(str.ljust, line, widths)).rstrip())


def _token_values(token: Token) -> tuple[str | datetime | None, ...]:
    digest = token.digest[:DIGEST_DIGITS_SHOWN]
    return token.name, token.created_at, token.last_used_at, token.revoked_at, digest


def _cell(value: str | datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value or "-"


def _revoke_tokens(command: BaseCommand, options: Mapping[str, Any]) -> None:
    count = tokens.revoke(options["name"], options["digest"])
    command.stdout.write(
        ngettext("%(count)s token revoked.", "%(count)s tokens revoked.", count) % {"count": count}
    )


TOKEN = Subcommand(
    help=gettext_lazy("Create, list and revoke bearer tokens for the API."),
    add_arguments=_add_token_arguments,
    handle=_change_tokens,
)
