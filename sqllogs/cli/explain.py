"""`manage.py sqllogs explain FINGERPRINT|ID`: the plan of a statement, without its values."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sqllogs.cli import options as shared
from sqllogs.cli.table import Screen, printable
from sqllogs.read import explain
from sqllogs.sql.format import break_lines

HELP = "Show the plan of a statement, without running it."
DIGITS = 16


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "statement",
        metavar="FINGERPRINT|ID",
        help="a statement's 16 hexadecimal digits, or a record's number",
    )
    parser.add_argument("--alias", default="", help="database to ask instead of the one on which it ran")
    parser.add_argument("--may-change", action="store_true", help="explain INSERT, UPDATE and DELETE too")
    shared.add_json(parser)


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    statement = _statement(options["statement"].strip())
    plan = explain.explain(statement, alias=options["alias"], may_change=options["may_change"])
    if screen.as_json:
        screen.json(plan)
        return
    for line in break_lines(plan.sql).split("\n"):
        screen.line(printable(line))
    screen.line()
    screen.line(screen.paint(f"{plan.vendor} on {plan.alias!r}, {plan.fingerprint}", "bold"))
    for line in plan.lines:
        screen.line(printable(line))
    screen.line()
    for note in plan.notes:
        screen.prose(note, style="dim")


def _statement(text: str) -> int | str:
    if text.isdecimal() and text.isascii() and len(text) < DIGITS:
        return int(text)
    if len(text) <= DIGITS and all(character in "0123456789abcdefABCDEF" for character in text) and text:
        return text
    raise CommandError(f"{text[:50]!r} is neither a fingerprint nor the number of a record.")
