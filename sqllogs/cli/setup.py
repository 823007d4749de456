"""`manage.py sqllogs setup`: print what is missing in a project, add it, make the store's tables.

What is missing is found by the system checks of `sqllogs.checks.host`, and in a database by
`sqllogs.storage.permissions`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from sqllogs import conf
from sqllogs.cli import setup_edits
from sqllogs.cli.setup_edits import Edit
from sqllogs.storage import permissions

HELP = "Print the lines that the project lacks; add them, and make the tables of the SQL log."
LACKING, BY_HAND = 4, 5
"""Status where every line is in place, and tables or permissions are not, or something else is wrong."""
STAR_IMPORT = re.compile(rb"^from \S+ import \*", re.MULTILINE)


def add_arguments(parser: CommandParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--write", action="store_true", help="add the lines, show them as a diff, and make the tables"
    )
    how.add_argument(
        "--migrate",
        action="store_true",
        help="make the tables and permissions, also where another package replaces `migrate`",
    )
    how.add_argument("--revert", action="store_true", help="remove the lines that --write added")


def handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    if options["revert"]:
        _revert(command)
        return
    found = [
        message
        for message in run_checks(tags=["sqllogs"], include_deployment_checks=True)
        if not message.is_silenced()
    ]
    gaps = [message for message in found if hasattr(message, "lines")]
    if gaps and options["write"]:
        _write(command, gaps)
        return
    if gaps:
        _print(command, gaps)
        raise CommandError("Run `manage.py sqllogs setup --write` to add these lines.")
    if options["write"] or options["migrate"]:
        _migrate(command)
    if lacking := _lacking():
        raise CommandError(f"{lacking} Run `manage.py sqllogs setup --migrate`.", returncode=LACKING)
    if found:
        for message in found:
            command.stderr.write(str(message))
        raise CommandError("No line can be added for this; see the hints.", returncode=BY_HAND)
    command.stdout.write("The set-up is complete.")


def _print(command: BaseCommand, gaps: list[CheckMessage]) -> None:
    for message in gaps:
        command.stdout.write(f"{message.id}: {message.msg}")
        command.stdout.write(f"  {_path(message)}")
        for line in _lines(message):
            command.stdout.write(f"    {line}")


def _lines(message: CheckMessage) -> list[str]:
    lines: str = getattr(message, "lines")  # noqa: B009  (an attribute of Gap, which is not known here)
    return lines.splitlines()


def _path(message: CheckMessage) -> Path | None:
    return setup_edits.path_of(getattr(message, "file"))  # noqa: B009  (likewise)


def _write(command: BaseCommand, gaps: list[CheckMessage]) -> None:
    edits = _edits(gaps)
    for edit in edits:
        command.stdout.write(edit.diff())
    _replace(edits)
    # The settings of this process are the old ones.
    done = _in_a_new_process("--migrate")
    if done.returncode not in (0, LACKING, BY_HAND):
        for edit in edits:
            edit.undo()
        raise CommandError(
            "With these lines the project does not work, so the files are as they were before:\n"
            f"{done.stdout}{done.stderr}"
        )
    command.stdout.write("Written; `manage.py sqllogs setup --revert` removes the lines.")
    _name_settings(command, edits)
    command.stdout.write(done.stdout)
    if done.returncode:
        command.stderr.write(done.stderr, style_func=str)
        sys.exit(done.returncode)


def _edits(gaps: list[CheckMessage]) -> list[Edit]:
    lines: dict[Path, list[str]] = {}
    for message in gaps:
        path = _path(message)
        if path is None:
            raise CommandError(f"There is no file of the project to write to. {message.hint}")
        lines.setdefault(path, []).extend(_lines(message))
    return [setup_edits.add(path, added) for path, added in lines.items()]


def _replace(edits: list[Edit]) -> None:
    """Write all, or none."""
    written: list[Edit] = []
    try:
        for edit in edits:
            written.append(edit)
            edit.write()
    except CommandError:
        for edit in written[:-1]:
            edit.undo()
        raise


def _name_settings(command: BaseCommand, edits: list[Edit]) -> None:
    """Say which module of settings has the lines, where it is one of several."""
    path = setup_edits.path_of("SETTINGS_MODULE")
    if any(edit.path == path and STAR_IMPORT.search(edit.before) for edit in edits):
        command.stdout.write(
            f"Only {settings.SETTINGS_MODULE} has them, as DJANGO_SETTINGS_MODULE says. For a module that "
            "others import, run --revert and then --write with --settings MODULE."
        )


def _revert(command: BaseCommand) -> None:
    paths = {path for file in setup_edits.FILES if (path := setup_edits.path_of(file))}
    edits = [edit for path in sorted(paths) if (edit := setup_edits.remove(path)).before != edit.after]
    if not edits:
        raise CommandError("There is nothing to remove: `--write` has added no lines to these files.")
    for edit in edits:
        command.stdout.write(edit.diff())
    _replace(edits)
    command.stdout.write("The lines are removed; the database of the SQL log is kept.")


def _in_a_new_process(option: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": str(settings.SETTINGS_MODULE),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    arguments = [sys.executable, "-P", "-m", "django", "sqllogs", "setup", option]
    return subprocess.run(  # noqa: S603  (our own command)
        arguments, env=environment, capture_output=True, text=True, check=False
    )


def _migrate(command: BaseCommand) -> None:
    """Make the tables by Django's own `migrate`, which packages for tenants replace."""
    alias = conf.load().database
    try:
        call_command(Migrate(), "sqllogs", database=alias, interactive=False, verbosity=0)
    except Exception as exc:  # whatever it is: the lines are right, and stay
        raise CommandError(
            f"The tables of the SQL log could not be made in {alias!r}: {exc}. Run "
            "`manage.py sqllogs setup --migrate` when that is fixed.",
            returncode=LACKING,
        ) from exc
    command.stdout.write(f"The tables of the SQL log are in {alias!r}.")


def _lacking() -> str:
    """Say what the databases lack, or nothing."""
    alias = conf.load().database
    executor = MigrationExecutor(connections[alias])
    if executor.migration_plan([one for one in executor.loader.graph.leaf_nodes() if one[0] == "sqllogs"]):
        return f"The tables of the SQL log in {alias!r} are missing or old."
    users = permissions.users_database()
    missing = permissions.missing(users) if users else []
    return f"Permissions are missing: {', '.join(missing)}." if missing else ""
