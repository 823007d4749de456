"""`manage.py sqllogs setup`: print the lines that a project lacks, add them, and create the log's tables.

The system checks of `sqllogs.checks.host` find missing lines, `sqllogs.routers` missing permissions. Lines
become one block at the end of a file, which works however the file builds its lists and leaves every other
byte unchanged. Runs in the command's thread; `--write` continues in a new process, which has the new
settings.
"""

import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.commands.migrate import Command as Migrate
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs import conf, routers
from sqllogs.cli.options import Subcommand
from sqllogs.storage import database

BEGIN = "# sqllogs: added by `manage.py sqllogs setup --write`, removed by `manage.py sqllogs setup --revert`"
END = "# sqllogs: end"
BLOCK = re.compile(rf"(\r?\n{re.escape(BEGIN)}\r?\n.*?)({END}\r?\n?)".encode(), re.DOTALL)

NO_NEWLINE = "\\ No newline at end of file\n"
"""How a patch marks a last line without a newline, as diff and git do."""
LATE_IMPORT = "  # noqa: E402"
"""For the project's linter: at the end of a file, an import is not at its top."""

MODULE_SETTINGS = ("SETTINGS_MODULE", "ROOT_URLCONF", "ASGI_APPLICATION")
"""The settings that name the modules whose files may have a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """The content of a file before and after a change, which is not written yet."""

    path: Path
    encoding: str
    before: bytes
    after: bytes

    def diff(self) -> str:
        """Return the change as a patch for `git apply -p1`."""
        name = self.path.relative_to(Path.cwd()) if self.path.is_relative_to(Path.cwd()) else self.path
        before, after = (
            content.decode(self.encoding).splitlines(keepends=True) for content in (self.before, self.after)
        )
        lines = unified_diff(before, after, fromfile=f"a/{name}", tofile=f"b/{name}")
        return "".join(line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}" for line in lines)

    def write(self) -> None:
        self._put(self.after)

    def undo(self) -> None:
        self._put(self.before)

    def _put(self, content: bytes) -> None:
        try:
            self.path.write_bytes(content)  # in place: links, owner and mode stay
        except OSError as exc:
            message = _("%(path)s cannot be written: %(error)s.")
            raise CommandError(message % {"path": self.path, "error": exc.strerror}) from exc


def path_of(setting: str) -> Path | None:
    """Return the project's source file of the module that a setting names, or None."""
    path = _source_of(_module_of(setting))
    # The next installation of a package would overwrite lines in its files.
    return None if path is None or database.is_installed(path) else path


def _module_of(setting: str) -> str:
    name = getattr(settings, setting, None)
    if not isinstance(name, str):
        return ""
    # ASGI_APPLICATION names an object in the module; the other settings name the module.
    return name.rpartition(".")[0] if setting == "ASGI_APPLICATION" else name


def _source_of(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    return Path(str(spec.origin)).resolve()


def add(path: Path, lines: Iterable[str]) -> Edit:
    """Add lines at the end of the block of a file, and create the block if it does not exist."""
    before, encoding = _read(path)
    newline = "\r\n" if b"\r\n" in before else "\n"

    def encode(lines: Iterable[str]) -> bytes:
        marked = (line + LATE_IMPORT * line.startswith("from ") + newline for line in lines)
        # "utf-8-sig" would add a second byte order mark, which Python accepts only at the start of a file.
        return "".join(marked).encode(encoding.removesuffix("-sig"))

    if block := BLOCK.search(before):
        end = block.start(2)
        after = before[:end] + encode(lines) + before[end:]
    else:
        # Begins with an empty line; in a file without a newline at its end, with that newline.
        after = before + encode(["", BEGIN, *lines, END])
    return Edit(path=path, encoding=encoding, before=before, after=after)


def remove(path: Path) -> Edit:
    """Remove the block of a file, if it has one."""
    before, encoding = _read(path)
    after = before
    if block := BLOCK.search(before):
        first, rest = before[: block.start()], before[block.end() :]
        # If the file had no newline at its end, lines added later must not join its last line.
        after = first + (b"\n" if rest and first and not first.endswith(b"\n") else b"") + rest
    return Edit(path=path, encoding=encoding, before=before, after=after)


def _read(path: Path) -> tuple[bytes, str]:
    with path.open("rb") as file:
        encoding, _ = tokenize.detect_encoding(file.readline)
    return path.read_bytes(), encoding


DATABASE_INCOMPLETE, NEEDS_MANUAL_FIX = 4, 5
"""Exit codes if no line is missing: tables or permissions are, or a check fails that no line can fix."""
STAR_IMPORT = re.compile(rb"^from (\S+) import \*", re.MULTILINE)


def _add_arguments(parser: CommandParser) -> None:
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--write", action="store_true", help=_("add the lines, show them as a diff, and create the tables")
    )
    action.add_argument(
        "--migrate",
        action="store_true",
        help=_("create the tables and permissions, even if another package replaces `migrate`"),
    )
    action.add_argument("--revert", action="store_true", help=_("remove the lines that --write added"))


def _handle(command: BaseCommand, options: Mapping[str, Any]) -> None:
    if options["revert"]:
        _revert(command)
        return
    messages = [
        message
        # Deployment checks too, because they report an ASGI application without its flush.
        for message in run_checks(tags=["sqllogs"], include_deployment_checks=True)
        if not message.is_silenced()
    ]
    gaps = [message for message in messages if hasattr(message, "lines")]
    if outside := [message for message in gaps if _path(message) is None]:
        _print(command, gaps)
        raise CommandError(_why_by_hand(outside))
    if gaps and options["write"]:
        _write(command, gaps)
        return
    if gaps:
        _print(command, gaps)
        raise CommandError(_("Run `manage.py sqllogs setup --write` to add these lines."))
    if options["write"] or options["migrate"]:
        _migrate(command)
    if problem := _database_problem():
        advice = _("Run `manage.py sqllogs setup --migrate`.")
        raise CommandError(f"{problem} {advice}", returncode=DATABASE_INCOMPLETE)
    if messages:
        for message in messages:
            command.stderr.write(str(message))
        raise CommandError(_("setup cannot fix this; see the hints."), returncode=NEEDS_MANUAL_FIX)
    done = [_("The set-up is complete.")]
    with suppress(NoReverseMatch):  # if the check of the URLs is silenced
        done.append(_("Open %(url)s as a superuser.") % {"url": reverse("sqllogs:list")})
    command.stdout.write(" ".join(done))


def _why_by_hand(outside: list[CheckMessage]) -> str:
    for message in outside:
        file: str = getattr(message, "file")  # noqa: B009  (as in `_lines`)
        if path := _source_of(_module_of(file)):
            reason = _(
                "Add these lines by hand: %(path)s belongs to an installed package. Write a module that "
                "starts with `from %(module)s import *` and ends with the lines, and name it in %(setting)s."
            )
            setting = "DJANGO_SETTINGS_MODULE" if file == "SETTINGS_MODULE" else file
            return reason % {"path": path, "module": _module_of(file), "setting": setting}
    return _("Add these lines by hand: the project has no file for them, as with `settings.configure()`.")


SETUP = Subcommand(
    help=gettext_lazy(
        "Print the lines missing from the project; --write adds them and creates the tables of the SQL log."
    ),
    add_arguments=_add_arguments,
    handle=_handle,
)


def _print(command: BaseCommand, gaps: list[CheckMessage]) -> None:
    for message in gaps:
        command.stdout.write(f"{message.id}: {message.msg}")
        command.stdout.write(f"  {_path(message) or getattr(message, 'file_description')}")  # noqa: B009
        for line in _lines(message):
            command.stdout.write(f"    {line}")


def _lines(message: CheckMessage) -> list[str]:
    lines: str = getattr(message, "lines")  # noqa: B009  (of MissingLines, which cannot be imported here)
    return lines.splitlines()


def _path(message: CheckMessage) -> Path | None:
    return path_of(getattr(message, "file"))  # noqa: B009  (as above)


def _write(command: BaseCommand, gaps: list[CheckMessage]) -> None:
    # One block per file, at its end: that suits every way in which projects assemble their settings.
    edits = _edits(gaps)
    for edit in edits:
        command.stdout.write(edit.diff())
    _replace(edits)
    # This process still has the old settings.
    done = _run_in_new_process("--migrate")
    if done.returncode not in (0, DATABASE_INCOMPLETE, NEEDS_MANUAL_FIX):
        for edit in edits:
            edit.undo()
        message = _(
            "The project does not start with these lines, so they were removed again. Add them by hand, for "
            "example to the class that has the settings; `manage.py sqllogs setup` prints them."
        )
        raise CommandError(f"{message}\n{done.stdout}{done.stderr}")
    command.stdout.write(_("The lines were added; `manage.py sqllogs setup --revert` removes them."))
    _name_settings_module(command, edits)
    command.stdout.write(done.stdout)
    if done.returncode:
        command.stderr.write(done.stderr, style_func=str)
        sys.exit(done.returncode)


def _edits(gaps: list[CheckMessage]) -> list[Edit]:
    lines: dict[Path, list[str]] = {}
    for message in gaps:
        if path := _path(message):
            lines.setdefault(path, []).extend(_lines(message))
    return [add(path, added) for path, added in lines.items()]


def _replace(edits: list[Edit]) -> None:
    """Write all files; if one cannot be written, restore all of them and raise CommandError."""
    try:
        for edit in edits:
            edit.write()
    except CommandError:
        # Also the one that failed: writing begins by emptying it, and a full disk leaves it so.
        for edit in edits:
            with suppress(CommandError):
                edit.undo()
        raise


def _name_settings_module(command: BaseCommand, edits: list[Edit]) -> None:
    """Print which settings module has the lines, if it imports another one of the project."""
    path = path_of("SETTINGS_MODULE")
    imported = [
        name.decode() for edit in edits if edit.path == path for name in STAR_IMPORT.findall(edit.before)
    ]
    if any(name.startswith(".") or _is_of_project(name) for name in imported):
        message = _(
            "Only %(module)s, the module in DJANGO_SETTINGS_MODULE, has these lines. To add them to a module "
            "that it imports, run --revert, then --write with --settings MODULE."
        )
        command.stdout.write(message % {"module": settings.SETTINGS_MODULE})


def _is_of_project(module: str) -> bool:
    path = _source_of(module)
    return path is not None and not database.is_installed(path)


def _revert(command: BaseCommand) -> None:
    paths = {path for setting in MODULE_SETTINGS if (path := path_of(setting))}
    edits = [edit for path in sorted(paths) if (edit := remove(path)).before != edit.after]
    if not edits:
        raise CommandError(_("Nothing to remove: --write has added no lines to the project's files."))
    for edit in edits:
        command.stdout.write(edit.diff())
    _replace(edits)
    command.stdout.write(_("The lines were removed; the database of the SQL log was kept."))


def _run_in_new_process(option: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": str(settings.SETTINGS_MODULE),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    # -P: no module in this folder hides another.
    program = ["-P", "-m", "django", "sqllogs", "setup", option]
    if "--write" in sys.orig_argv and Path(sys.argv[0]).exists():
        # As this process was started: django-configurations loads its settings only by its own manage.py.
        program = [option if word == "--write" else word for word in sys.orig_argv[1:]]
    arguments = [sys.executable, *program]
    return subprocess.run(  # noqa: S603  (our own command)
        arguments, env=environment, capture_output=True, text=True, check=False
    )


def _migrate(command: BaseCommand) -> None:
    """Create the tables with Django's own `migrate`: packages for multi-tenancy replace the command."""
    alias = conf.load().database
    try:
        call_command(Migrate(), "sqllogs", database=alias, interactive=False, verbosity=0)
    except Exception as exc:  # whatever fails in the database, the added lines are right and stay
        message = _(
            "The tables of the SQL log could not be created in '%(alias)s': %(error)s Fix this, then run "
            "`manage.py sqllogs setup --migrate`."
        )
        names = {"alias": alias, "error": _reason(alias, exc)}
        raise CommandError(message % names, returncode=DATABASE_INCOMPLETE) from exc
    command.stdout.write(_("The tables of the SQL log are in '%(alias)s'.") % {"alias": alias})


def _reason(alias: str, exc: Exception) -> str:
    """Return why the database failed, and what to do if that is known, as sentences.

    SQLite's own message is "unable to open database file", whatever the reason is.
    """
    path = database.path_of(alias)
    found = None if path is None else database.find_problem(path)
    return f"{exc}." if found is None else f"{found.problem} {found.advice}"


def _database_problem() -> str:
    """Return which tables or permissions are missing; empty if none are."""
    alias = conf.load().database
    # By the migrations, because a table of an older release exists, but lacks columns.
    try:
        executor = MigrationExecutor(connections[alias])
    except DatabaseError as exc:
        message = _("The database '%(alias)s' of the SQL log cannot be read: %(error)s")
        return message % {"alias": alias, "error": _reason(alias, exc)}
    if executor.migration_plan([node for node in executor.loader.graph.leaf_nodes() if node[0] == "sqllogs"]):
        return _("The tables of the SQL log in '%(alias)s' are missing or outdated.") % {"alias": alias}
    users_alias = routers.users_database()
    missing = routers.missing_permissions(users_alias) if users_alias else []
    return _("Permissions are missing: %(names)s.") % {"names": ", ".join(missing)} if missing else ""
