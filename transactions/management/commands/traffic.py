"""`manage.py traffic --rate 5 --seconds 60 --url http://127.0.0.1:8000`: queries to look at."""

import signal
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from transactions.traffic import Traffic


class Command(BaseCommand):
    help = "Send requests to the demo site and report what came of them. Ctrl-C ends it with the report."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rate", type=float, default=5.0, help="requests a second (5)")
        parser.add_argument("--seconds", type=float, default=60.0, help="how long; 0 is until Ctrl-C (60)")
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="the site (%(default)s)")

    def handle(self, *, rate: float, seconds: float, url: str, **options: Any) -> None:
        if not 0 < rate <= 1_000:
            raise CommandError(f"--rate {rate}: give a number above 0, up to 1000.")
        if not 0 <= seconds < 10**9:
            raise CommandError(f"--seconds {seconds}: give a number from 0 up; 0 is until Ctrl-C.")
        if urlsplit(url).scheme not in {"http", "https"}:
            raise CommandError(f"--url {url}: give an address like http://127.0.0.1:8000.")
        traffic = Traffic(url, rate)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: traffic.stop.set())
        self.report(traffic, traffic.run(seconds))

    def report(self, traffic: Traffic, took_s: float) -> None:
        total = traffic.tally.total()
        for line in traffic.tally.lines():
            self.stdout.write(line)
        self.stdout.write(f"{total:,} requests in {took_s:.1f} s, {total / took_s:.1f} a second.")
