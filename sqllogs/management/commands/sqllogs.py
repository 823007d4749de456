"""`manage.py sqllogs SUBCOMMAND`: each is a module of `sqllogs.cli`.

None of its queries is recorded.
"""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseAPIError

from sqllogs import conf
from sqllogs.cli import SUBCOMMANDS
from sqllogs.cli.options import complaint
from sqllogs.context import muted
from sqllogs.errors import ParameterError, SQLLogsError

INTERRUPTED = 130
"""What a shell expects of a program that a Ctrl-C has ended."""


class Command(BaseCommand):
    help = "Read and administer the SQL log."

    def add_arguments(self, parser: CommandParser) -> None:
        choices = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        for name, subcommand in SUBCOMMANDS.items():
            subcommand.add_arguments(
                choices.add_parser(name, help=subcommand.HELP, description=subcommand.HELP)
            )

    def execute(self, *args: Any, **options: Any) -> str | None:
        # What is to be set up fails the checks that every other subcommand begins with.
        if options["subcommand"] == "setup":
            options["skip_checks"] = True
        # The system checks before it query too: SQLite is asked whether it has JSON.
        with muted():
            return super().execute(*args, **options)

    def handle(self, *, subcommand: str, **options: Any) -> None:
        try:
            SUBCOMMANDS[subcommand].handle(self, options)
            self.stdout.flush()
        except BrokenPipeError:
            # `head` or `less` has seen enough. What is left in the buffer would be written at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            self.stdout.write("")
            sys.exit(INTERRUPTED)
        except ParameterError as exc:
            raise CommandError(complaint(exc)) from exc
        except SQLLogsError as exc:
            raise CommandError(str(exc)) from exc
        except DatabaseAPIError as exc:
            alias = conf.load().database
            raise CommandError(
                f"The SQL log's database {alias!r} says: {exc}. If tables are missing, "
                f"run `manage.py migrate --database {alias}`."
            ) from exc
