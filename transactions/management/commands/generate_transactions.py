"""`manage.py generate_transactions --count 10000 --seed 1`: fill the demo site's tables."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils.translation import gettext as _

from transactions.generator import generate
from transactions.models import Transaction

BAR = 30
"""Width of the progress bar, characters."""


class Command(BaseCommand):
    help = _("Generate random bookings, the same for the same seed, in one transaction.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--count", type=int, default=10_000, help=_("number of bookings to add (default: 10000)")
        )
        parser.add_argument(
            "--seed", type=int, default=1, help=_("seed of the random generator (default: 1)")
        )
        parser.add_argument(
            "--if-empty", action="store_true", help=_("do nothing if there are transactions already")
        )

    def handle(self, *, count: int, seed: int, if_empty: bool, **options: Any) -> None:
        if count < 1:
            raise CommandError(_("--count must be at least 1."))
        if if_empty and Transaction.objects.exists():
            existing = Transaction.objects.count()
            self.stdout.write(_("%(count)s transactions exist already.") % {"count": f"{existing:,}"})
            return
        # All or nothing: after Ctrl-C, --if-empty must not find a part of them.
        with transaction.atomic():
            for done in generate(count, seed):
                self.show_progress(done, count)
        self.stdout.write(_("%(count)s transactions generated.") % {"count": f"{count:,}"})

    def show_progress(self, done: int, count: int) -> None:
        """Redraw the bar on stderr, if it is a terminal."""
        if self.stderr.isatty():
            bar = "#" * (BAR * done // count)
            end = "\n" if done == count else ""
            self.stderr.write(f"\r[{bar:<{BAR}}] {done:,} of {count:,}", style_func=str, ending=end)
