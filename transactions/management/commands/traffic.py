"""`manage.py traffic --rate 5 --seconds 60 --url http://127.0.0.1:8000`: send requests to the demo site."""

import signal
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from transactions.traffic import Traffic


class Command(BaseCommand):
    help = _("Send requests to the demo site and report their outcomes. Press Ctrl-C to stop.")
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rate", type=float, default=5.0, help=_("requests per second (default: 5)"))
        parser.add_argument(
            "--seconds", type=float, default=60.0, help=_("duration; 0 means until Ctrl-C (default: 60)")
        )
        parser.add_argument(
            "--url", default="http://127.0.0.1:8000", help=_("address of the site (default: %(default)s)")
        )

    def handle(self, *, rate: float, seconds: float, url: str, **options: Any) -> None:
        if not 0 < rate <= 1_000:
            raise CommandError(_("--rate must be above 0 and at most 1000."))
        if not 0 <= seconds < 10**9:
            raise CommandError(_("--seconds must be at least 0."))
        if urlsplit(url).scheme not in {"http", "https"}:
            raise CommandError(_("--url must be an address such as http://127.0.0.1:8000."))
        traffic = Traffic(url, rate)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *args: traffic.stop.set())
        self.report(traffic, traffic.run(seconds))

    def report(self, traffic: Traffic, took_s: float) -> None:
        total = traffic.tally.total()
        for line in traffic.tally.lines():
            self.stdout.write(line)
        figures = {"count": f"{total:,}", "seconds": f"{took_s:.1f}", "rate": f"{total / took_s:.1f}"}
        self.stdout.write(_("%(count)s requests in %(seconds)s s, %(rate)s per second.") % figures)
