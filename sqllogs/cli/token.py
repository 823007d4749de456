"""`manage.py sqllogs token create|list|revoke`: bearer tokens for reading the API without a login."""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sqllogs.api import tokens
from sqllogs.cli.options import Subcommand
from sqllogs.models import Token

# Arguments are in the list of processes, which all users of a machine can read, and in the shell's history.
TOKEN_OPTION_REMOVED = gettext_lazy(
    "--token is no longer supported: other users see the value in the list of processes. "
    "Use --token-stdin and pipe the value in, or --token-variable with the name of an environment variable."
)
DIGEST_DIGITS_SHOWN = 8
COLUMNS = ("name", "created_at", "last_used_at", "revoked_at", "digest")


def _add_arguments(parser: CommandParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help=_("create a token and print it; it cannot be shown again"))
    create.add_argument("name", metavar="NAME", help=_("name of its user; two may be active per name"))
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


def _handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    {"create": _create, "list": _list, "revoke": _revoke}[options["action"]](command, options)


def _create(command: BaseCommand, options: Mapping[str, Any]) -> None:
    value = _read_value(options)
    token = tokens.create(options["name"], value, replace=options["replace"])
    command.stdout.write(token)
    if value is None and command.stderr.isatty():
        command.stderr.write(_("Keep it: it is not stored and cannot be shown again."), style_func=str)


def _read_value(options: Mapping[str, Any]) -> str | None:
    """Return the value that the user has chosen, None for a random one; raise CommandError."""
    if options["token"] is not None:
        raise CommandError(TOKEN_OPTION_REMOVED)
    if options["token_stdin"]:
        return sys.stdin.readline().strip()
    if (variable := options["token_variable"]) is None:
        return None
    if variable not in os.environ:
        raise CommandError(_("The environment variable '%(name)s' is not set.") % {"name": variable})
    return os.environ[variable]


def _list(command: BaseCommand, options: Mapping[str, Any]) -> None:
    listed = Token.objects.order_by("name", "created_at")
    if options["json"]:
        rows = [dict(zip(COLUMNS, _values(token), strict=True)) for token in listed]
        command.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())
        return
    header = [column.removesuffix("_at").replace("_", " ") for column in COLUMNS]
    lines = [header, *([_cell(value) for value in _values(token)] for token in listed)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        command.stdout.write("  ".join(map(str.ljust, line, widths)).rstrip())


def _values(token: Token) -> tuple[str | datetime | None, ...]:
    digest = token.digest[:DIGEST_DIGITS_SHOWN]
    return token.name, token.created_at, token.last_used_at, token.revoked_at, digest


def _cell(value: str | datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value or "-"


def _revoke(command: BaseCommand, options: Mapping[str, Any]) -> None:
    count = tokens.revoke(options["name"], options["digest"])
    command.stdout.write(
        ngettext("%(count)s token revoked.", "%(count)s tokens revoked.", count) % {"count": count}
    )


TOKEN = Subcommand(
    help=gettext_lazy("Create, list and revoke bearer tokens for the API."),
    add_arguments=_add_arguments,
    handle=_handle,
)
