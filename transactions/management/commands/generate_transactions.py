"""`manage.py generate_transactions --count 10000 --seed 1`: fill the demo site's tables."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from transactions.generator import generate
from transactions.models import Transaction

BAR = 30
"""Width of the progress bar, characters."""


class Command(BaseCommand):
    help = "Invent bookings, the same ones for the same seed. All of them are written or none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--count", type=int, default=10_000, help="bookings to add (10000)")
        parser.add_argument("--seed", type=int, default=1, help="other seeds give other bookings (1)")
        parser.add_argument("--if-empty", action="store_true", help="do nothing when there are any")

    def handle(self, *, count: int, seed: int, if_empty: bool, **options: Any) -> None:
        if count < 1:
            raise CommandError(f"--count {count}: give a number from 1 up.")
        if if_empty and Transaction.objects.exists():
            self.stdout.write(f"{Transaction.objects.count():,} transactions are there already.")
            return
        # Whole or not at all: after a Ctrl-C half way, --if-empty must not keep the half.
        with transaction.atomic():
            for done in generate(count, seed):
                self.show_progress(done, count)
        self.stdout.write(f"{count:,} transactions generated.")

    def show_progress(self, done: int, count: int) -> None:
        """Draw the bar over itself on stderr, and only for a person to see."""
        if self.stderr.isatty():
            bar = "#" * (BAR * done // count)
            end = "\n" if done == count else ""
            self.stderr.write(f"\r[{bar:<{BAR}}] {done:,} of {count:,}", style_func=str, ending=end)
