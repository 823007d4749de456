"""`manage.py demo`: run the whole site, from empty databases to traffic; the last step of `make demo`.

Reads PORT, DEMO_SECONDS, DJANGO_SUPERUSER_USERNAME, DJANGO_SUPERUSER_PASSWORD and SQLLOGS_TOKEN from
the environment.
"""

import os
import secrets
import signal
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import suppress
from datetime import datetime
from io import StringIO
from pathlib import Path
from subprocess import Popen
from time import monotonic
from typing import IO, Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from core.demo import check_port, port, seconds
from core.log_file import open_private
from core.processes import running

START_TIMEOUT_S = 30.0
TRAFFIC_RATE = 5
"""Requests per second: enough to look at, at little load."""
TRANSACTIONS = 10_000
LOG: Path = settings.DATA_DIR / "demo.log"


class Command(BaseCommand):
    help = "Prepare databases, admin, token and data, then run gunicorn and traffic until Ctrl-C."
    requires_system_checks = ()  # migrate runs them

    def handle(self, **options: Any) -> None:
        check_port(port())
        self.url = f"http://127.0.0.1:{port()}"
        self.seconds = seconds() or float("inf")
        self.stopped = threading.Event()
        # A flag instead of an exception, which could leave behind a child that has just started.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stopped.set())
        began = timezone.now()
        addresses = self.prepare()
        with open(LOG, "wb", opener=open_private) as log:
            self.run(addresses | {"Log": str(LOG)}, log)
        self.summarize(began)

    def prepare(self) -> dict[str, str]:
        """Create what the demo needs; return the addresses to print, by name."""
        self.stdout.write("Preparing databases, admin user, API token and data ...")
        LOG.parent.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0)
        call_command("migrate", database=settings.SQLLOGS.get("DATABASE", "sqllogs"), verbosity=0)
        call_command("generate_transactions", count=TRANSACTIONS, if_empty=True, stdout=StringIO())
        token = self.token()
        metrics_port = settings.SQLLOGS["METRICS_PORT"]
        return {
            "Home": f"{self.url}/",
            "Page": f"{self.url}/sql-logs/   (asks you to log in)",
            "JSON": f"curl -H \"Authorization: Bearer {token}\" '{self.url}/sql-logs/?limit=5'",
            "Admin": f"{self.url}/admin/   {self.admin()}",
            "Metrics": f"http://127.0.0.1:{metrics_port}/metrics"
            if metrics_port
            else "disabled (METRICS_PORT=0)",
        }

    def admin(self) -> str:
        """Create the admin user, or set its password from the environment; return the login to print."""
        name = os.environ.get("DJANGO_SUPERUSER_USERNAME") or "admin"
        given = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        user, is_new = User.objects.get_or_create(
            username=name, defaults={"is_staff": True, "is_superuser": True}
        )
        if not is_new and not given:
            return f"user {name}, password unchanged (set DJANGO_SUPERUSER_PASSWORD to change it)"
        password = given or secrets.token_urlsafe(9)
        user.set_password(password)
        user.save()
        shown = "from DJANGO_SUPERUSER_PASSWORD" if given else f"{password} (shown only now)"
        return f"user {name}, password {shown}"

    def token(self) -> str:
        """Replace the demo's API token, whose hash alone is stored; return it or its variable."""
        given = os.environ.get("SQLLOGS_TOKEN")
        printed = StringIO()
        value = ["--token-variable", "SQLLOGS_TOKEN"] if given else []
        # Its note on stderr would repeat what the demo prints.
        call_command(
            "sqllogs", "token", "create", "demo", "--replace", *value, stdout=printed, stderr=StringIO()
        )
        return "$SQLLOGS_TOKEN" if given else printed.getvalue().strip()

    def run(self, addresses: dict[str, str], log: IO[bytes]) -> None:
        """Run server and traffic until a signal, DEMO_SECONDS, or the server's end."""
        gunicorn = ["-m", "gunicorn", "core.wsgi", "--workers=2", "--threads=4", "--no-control-socket"]
        address = self.url.removeprefix("http://")
        with running(
            sys.executable, *gunicorn, f"--bind={address}", "--graceful-timeout=10", log=log
        ) as server:
            if not self.answers(server, monotonic() + START_TIMEOUT_S):
                return
            traffic = ["manage.py", "traffic", f"--rate={TRAFFIC_RATE}", "--seconds=0", f"--url={self.url}"]
            with running(sys.executable, *traffic, log=log):
                self.print_addresses(addresses)
                self.watch(server, monotonic() + self.seconds)

    def answers(self, server: Popen[bytes], deadline: float) -> bool:
        """Wait until the site answers; return False if a signal comes first."""
        while not self.stopped.wait(0.1):
            if server.poll() is not None or monotonic() > deadline:
                raise CommandError(f"gunicorn did not start. See {LOG}.")
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=2):  # noqa: S310
                return True
        return False

    def watch(self, server: Popen[bytes], deadline: float) -> None:
        while monotonic() < deadline and not self.stopped.wait(0.2):
            if server.poll() is not None:
                raise CommandError(f"gunicorn has stopped. See {LOG}.")

    def print_addresses(self, addresses: dict[str, str]) -> None:
        self.stdout.write("\nThe demo is running. Press Ctrl-C to stop it.\n\n")
        for name, address in addresses.items():
            self.stdout.write(f"  {name:<9}{address}")
        self.stdout.write(
            "\nThe traffic includes slow and failing queries, so the log has warnings, and errors of "
            "/transactions/crashing/."
        )
        self.stdout.flush()

    def summarize(self, began: datetime) -> None:
        """Print how many queries the demo's processes captured, stored and dropped; all others have ended."""
        from sqllogs import recorder
        from sqllogs.models import Process, RingHead

        recorder.flush()
        processes = Process.objects.filter(updated_at__gte=began)
        dropped = sum((Counter(one.dropped) for one in processes), Counter[str]())
        self.stdout.write(f"\nStopped. Queries of all {len(processes)} processes:\n\n")
        for name in ("captured", "stored"):
            self.stdout.write(f"  {name:<9}{sum(getattr(one, name) for one in processes):>9,}")
        reasons = "".join(f", {count:,} {reason}" for reason, count in dropped.items() if count)
        self.stdout.write(f"  dropped  {dropped.total():>9,}{reasons}")
        head = RingHead.objects.first()
        if head is not None:
            rows = min(head.seq, head.capacity)
            self.stdout.write(f"  in ring  {rows:>9,} of at most {head.capacity:,}")
