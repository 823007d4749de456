"""`manage.py sqllogs findings`: list problems, search for them now, or decide about one.

Prints what `sqllogs.read.findings` returns, in the command's thread. `--detect` is for cron, on sites whose
processes do not search themselves.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs import conf
from sqllogs.cli import options as shared
from sqllogs.cli.options import QueryRequest, Subcommand
from sqllogs.cli.rendering import Screen, TextColumn, TextTable, printable
from sqllogs.findings import schedule
from sqllogs.findings.causes import assign, decide
from sqllogs.findings.notifications import send_test
from sqllogs.models import Finding
from sqllogs.read.findings import (
    DEFAULT_ORDERING,
    FindingRow,
    FindingsAnswer,
    read_findings,
    with_search,
)

IGNORED_DAYS = 30
STYLES = {"open": "red", "reopened": "red", "acknowledged": "yellow", "closed": "dim", "ignored": "dim"}
PARAMETERS = ("finding", "state", "fingerprint", "route", "release", "assignee")


def _add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--detect", action="store_true", help=_("search for problems first"))
    parser.add_argument(
        "--test-notifications", action="store_true", help=_("send a test message to webhook and e-mail")
    )
    parser.add_argument("--finding", default="", metavar="KIND", help=_("kinds, separated by commas"))
    parser.add_argument("--state", default="", help=_("states, or all [open, acknowledged, reopened]"))
    parser.add_argument("--fingerprint", default="", help=_("statements' fingerprints"))
    parser.add_argument("--route", default="", help=_("URL patterns"))
    parser.add_argument("--release", default="", help=_("releases with which they began"))
    parser.add_argument("--assignee", default="", help=_("usernames"))
    decisions = parser.add_mutually_exclusive_group()
    for name, help in (
        ("acknowledge", _("mark a finding as known")),
        ("ignore", _("ignore a finding for --days")),
        ("fixed", _("mark a finding as fixed in --in-release; it is reopened if it returns after that")),
        ("reopen", _("open a finding again")),
        ("assign", _("assign a finding to --to, or to nobody")),
    ):
        decisions.add_argument(f"--{name}", type=int, metavar="ID", help=help)
    parser.add_argument(
        "--days", type=int, default=IGNORED_DAYS, help=_("days for which it is ignored [%(default)s]")
    )
    parser.add_argument("--to", default="", metavar="USERNAME", help=_("to whom it is assigned"))
    parser.add_argument("--in-release", default="", help=_("release that fixes it"))
    parser.add_argument("--note", default="", help=_("reason, stored with the decision"))
    shared.add_limit(parser, shared.TABLE_ROWS, _("maximum number of rows"))
    shared.add_json(parser)


def _handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    screen = Screen(command, options)
    if options["test_notifications"]:
        names = send_test(conf.load())
        screen.line(
            _("Sent: %(names)s.") % {"names": ", ".join(names)} if names else _("No receiver is set.")
        )
        return
    if _decide(options):
        return
    if options["detect"]:
        schedule.search(at_once=True)  # and send the messages that are due
    query = QueryDict(mutable=True)
    query.update({name: options[name] for name in PARAMETERS if options[name]})
    query["limit"], query["ordering"] = str(options["limit"]), DEFAULT_ORDERING
    # With texts and without a permission, because anyone who can run manage.py can read the database.
    screen.show(read_findings(QueryRequest(query), query, with_text=True), _print)


def _decide(options: Mapping[str, Any]) -> bool:
    """Store the decision given by the options; return False without one."""
    states = {
        "acknowledge": Finding.State.ACKNOWLEDGED,
        "ignore": Finding.State.IGNORED,
        "fixed": Finding.State.FIXED,
        "reopen": Finding.State.REOPENED,
    }
    name = next((name for name in (*states, "assign") if options[name] is not None), None)
    if name is None:
        return False
    # Required for rules in code and settings too.
    if name == "ignore" and not options["note"]:
        raise CommandError(_("--note is required: say why the finding is ignored."))
    finding = Finding.objects.filter(pk=options[name]).first()
    if finding is None:
        raise CommandError(_("Finding %(id)s does not exist.") % {"id": options[name]})
    if (state := states.get(name)) is None:
        assign(finding, options["to"])
        return True
    until = datetime.now(UTC) + timedelta(days=options["days"])
    decide(finding, state, until=until, release=options["in_release"], note=options["note"])
    return True


def _print(screen: Screen, answer: FindingsAnswer) -> None:
    if not answer.results:
        searched_at = with_search(answer).searched_at
        screen.line(
            # To the minute, which is what the times of the page have.
            _("No findings. Last searched at %(time)s UTC.") % {"time": searched_at[:16].replace("T", " ")}
            if searched_at
            else _("No findings. Not searched yet: --detect searches now.")
        )
        return
    header, *lines = TextTable(COLUMNS, screen).lines(answer.results)
    screen.line(header)
    for row, line in zip(answer.results, lines, strict=True):
        screen.line(line)
        details = [
            row.call_site,
            row.event and _("since %(event)s") % {"event": row.event},
            row.assignee and _("assigned to %(name)s") % {"name": row.assignee},
            row.ignored_by and _("ignored by %(rule)s") % {"rule": row.ignored_by},
            row.note,
        ]
        if shown := ", ".join(printable(text) for text in details if text):
            screen.prose(shown, style="dim", first="     ", rest="     ")


def _text_style(row: FindingRow) -> str:
    return STYLES.get(row.state, "")


COLUMNS = (
    TextColumn(title=gettext_lazy("id"), text=lambda row: str(row.id), right=True),
    TextColumn(title=gettext_lazy("state"), text=lambda row: row.state, style=_text_style),
    TextColumn(title=gettext_lazy("kind"), text=lambda row: row.kind),
    TextColumn(title=gettext_lazy("seen"), text=lambda row: f"{row.occurrences:,}", right=True, rank=3),
    # To the second: the rest of an RFC 3339 time is microseconds and the zone, which is UTC.
    TextColumn(title=gettext_lazy("last seen"), text=lambda row: row.last_seen[:19], rank=4),
    TextColumn(title=gettext_lazy("route"), text=lambda row: row.route or "", rank=2),
    TextColumn(title=gettext_lazy("statement"), text=lambda row: row.fingerprint or "", rank=1),
    TextColumn(title=gettext_lazy("summary"), text=lambda row: row.summary),
)

FINDINGS = Subcommand(
    help=gettext_lazy("Show problems that the log has found, search for them now, or decide about one."),
    add_arguments=_add_arguments,
    handle=_handle,
)
