"""`manage.py sqllogs token create|list|revoke`: bearer tokens for reading the API without a login."""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sqllogs.api import tokens
from sqllogs.models import Token

HELP = "Create, list and revoke bearer tokens for the API."
# Arguments are in the list of processes, which all users of a machine can read, and in the shell's history.
USE_INSTEAD = (
    "--token is no longer supported: other users see the value in the list of processes. "
    "Use --token-stdin and pipe the value in, or --token-variable with the name of an environment variable."
)
DIGEST_SHOWN = 8
COLUMNS = ("name", "created_at", "last_used_at", "revoked_at", "digest")


def add_arguments(parser: CommandParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help="create a token and print it; it cannot be shown again")
    create.add_argument("name", metavar="NAME", help="name of its user; two may be active per name")
    value = create.add_mutually_exclusive_group()
    value.add_argument(
        "--token-stdin",
        action="store_true",
        help="read the value from standard input, instead of a random one",
    )
    value.add_argument(
        "--token-variable", metavar="VARIABLE", help="take the value of this environment variable instead"
    )
    value.add_argument("--token", metavar="VALUE", help=SUPPRESS)
    create.add_argument("--replace", action="store_true", help="revoke the other tokens of that name")
    listing = actions.add_parser("list", help="list all tokens, without their values")
    listing.add_argument("--json", action="store_true", help="as JSON")
    revoke = actions.add_parser("revoke", help="revoke tokens")
    revoke.add_argument("name", metavar="NAME", help="name of the tokens")
    revoke.add_argument(
        "--digest",
        metavar="PREFIX",
        default="",
        help="revoke only the token with this digest, as shown by `list`",
    )


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    {"create": _create, "list": _list, "revoke": _revoke}[options["action"]](command, options)


def _create(command: BaseCommand, options: Mapping[str, Any]) -> None:
    given = _given_value(options)
    token = tokens.create(options["name"], given, replace=options["replace"])
    command.stdout.write(token)
    if given is None and command.stderr.isatty():
        command.stderr.write("Keep it: it is not stored and cannot be shown again.", style_func=str)


def _given_value(options: Mapping[str, Any]) -> str | None:
    """Return the value that the user has chosen, None for a random one; raise CommandError."""
    if options["token"] is not None:
        raise CommandError(USE_INSTEAD)
    if options["token_stdin"]:
        return sys.stdin.readline().strip()
    if (variable := options["token_variable"]) is None:
        return None
    if variable not in os.environ:
        raise CommandError(f"The environment variable {variable!r} is not set.")
    return os.environ[variable]


def _list(command: BaseCommand, options: Mapping[str, Any]) -> None:
    found = Token.objects.order_by("name", "created_at")
    if options["json"]:
        rows = [dict(zip(COLUMNS, _values(token), strict=True)) for token in found]
        command.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())
        return
    header = [column.removesuffix("_at").replace("_", " ") for column in COLUMNS]
    lines = [header, *([_cell(value) for value in _values(token)] for token in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        command.stdout.write("  ".join(map(str.ljust, line, widths)).rstrip())


def _values(token: Token) -> tuple[str | datetime | None, ...]:
    digest = token.digest[:DIGEST_SHOWN]
    return token.name, token.created_at, token.last_used_at, token.revoked_at, digest


def _cell(value: str | datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value or "-"


def _revoke(command: BaseCommand, options: Mapping[str, Any]) -> None:
    revoked = tokens.revoke(options["name"], options["digest"])
    command.stdout.write(f"{revoked} token{'s' if revoked > 1 else ''} revoked.")
