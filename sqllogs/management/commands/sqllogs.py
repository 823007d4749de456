"""`manage.py sqllogs SUBCOMMAND`: run one of `sqllogs.cli.SUBCOMMANDS` and report its errors.

Runs in the process's main thread. None of its queries are recorded.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseAPIError
from django.utils.translation import gettext as _

from sqllogs import conf
from sqllogs.cli import SUBCOMMANDS
from sqllogs.cli.options import option_error
from sqllogs.context import muted
from sqllogs.errors import ParameterError, SQLLogsError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""


@contextmanager
def _lenient(stream: Any) -> Iterator[None]:
    """Write `?` for characters that the output's encoding lacks, such as bars in a log file on Windows."""
    errors = getattr(stream, "errors", None)
    if errors != "strict" or not hasattr(stream, "reconfigure"):
        yield
        return
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)


class Command(BaseCommand):
    help = _("Read and administer the SQL log.")
    missing_args_message = _("Choose a subcommand: %(names)s. --help describes them.") % {
        "names": ", ".join(SUBCOMMANDS)
    }

    def add_arguments(self, parser: CommandParser) -> None:
        choices = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        for name, subcommand in SUBCOMMANDS.items():
            about = str(subcommand.help)
            subcommand.add_arguments(choices.add_parser(name, help=about, description=about))

    def execute(self, *args: Any, **options: Any) -> str | None:
        # A project that is not set up yet fails the checks that every other subcommand runs first.
        if options["subcommand"] == "setup":
            options["skip_checks"] = True
        # Muted here and not in handle(), because system checks query too, for example for JSON support in
        # SQLite.
        with muted():
            return super().execute(*args, **options)

    def handle(self, *, subcommand: str, **options: Any) -> None:
        try:
            with _lenient(self.stdout):
                SUBCOMMANDS[subcommand].handle(self, options)
                self.stdout.flush()
        except BrokenPipeError:
            # `head` or `less` has closed the pipe. Redirected, because Python flushes the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            self.stdout.write("")
            sys.exit(INTERRUPTED)
        except ParameterError as exc:
            raise CommandError(option_error(exc)) from exc
        except SQLLogsError as exc:
            raise CommandError(str(exc)) from exc
        except DatabaseAPIError as exc:
            message = _(
                "The SQL log's database '%(alias)s' failed: %(error)s. If tables are missing, "
                "run `manage.py migrate --database %(alias)s`."
            )
            raise CommandError(message % {"alias": conf.load().database, "error": exc}) from exc
