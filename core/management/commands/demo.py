"""`manage.py demo`: the whole site at work, from empty databases to traffic; `make demo` ends here.

PORT, DEMO_SECONDS, DJANGO_SUPERUSER_USERNAME, DJANGO_SUPERUSER_PASSWORD and
SQLLOGS_TOKEN are read from the environment.
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
from core.processes import running

START_TIMEOUT_S = 30.0
TRAFFIC_RATE = 5
"""Requests a second: a lively log, and a machine that stays cool."""
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
        # A flag and no exception: that could come between a child's start and our knowing of it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stopped.set())
        began = timezone.now()
        places = self.prepare()
        with LOG.open("wb") as log:
            self.run(places | {"Log": str(LOG)}, log)
        self.summarize(began)

    def prepare(self) -> dict[str, str]:
        """Return what to tell about each place to look at."""
        self.stdout.write("Preparing databases, admin, token and data")
        LOG.parent.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0)
        call_command("migrate", database=settings.SQLLOGS.get("DATABASE", "sqllogs"), verbosity=0)
        call_command("generate_transactions", count=TRANSACTIONS, if_empty=True, stdout=StringIO())
        token = self.token()
        metrics_port = settings.SQLLOGS["METRICS_PORT"]
        return {
            "Home": f"{self.url}/",
            "Page": f"{self.url}/sql-logs/   after the admin's login",
            "JSON": f"curl -H \"Authorization: Bearer {token}\" '{self.url}/sql-logs/?limit=5'",
            "Admin": f"{self.url}/admin/   {self.admin()}",
            "Metrics": f"http://127.0.0.1:{metrics_port}/metrics" if metrics_port else "METRICS_PORT is 0",
        }

    def admin(self) -> str:
        """Make the admin's account, or give it the password of the environment; tell both."""
        name = os.environ.get("DJANGO_SUPERUSER_USERNAME") or "admin"
        given = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        user, is_new = User.objects.get_or_create(
            username=name, defaults={"is_staff": True, "is_superuser": True}
        )
        if not is_new and not given:
            return f"user {name}, password as before (DJANGO_SUPERUSER_PASSWORD sets another)"
        password = given or secrets.token_urlsafe(9)
        user.set_password(password)
        user.save()
        told = "of DJANGO_SUPERUSER_PASSWORD" if given else f"{password} (shown only now)"
        return f"user {name}, password {told}"

    def token(self) -> str:
        """Make the demo's API token anew, since a stored one cannot be read; return it, or its variable."""
        given = os.environ.get("SQLLOGS_TOKEN")
        printed = StringIO()
        value = ["--token", given] if given else []
        # What it tells a person on stderr is told by the places below.
        call_command(
            "sqllogs", "token", "create", "demo", "--replace", *value, stdout=printed, stderr=StringIO()
        )
        return "$SQLLOGS_TOKEN" if given else printed.getvalue().strip()

    def run(self, places: dict[str, str], log: IO[bytes]) -> None:
        """Serve and send traffic until a signal, DEMO_SECONDS, or the server's end."""
        gunicorn = ["-m", "gunicorn", "core.wsgi", "--workers=2", "--threads=4", "--no-control-socket"]
        address = self.url.removeprefix("http://")
        with running(
            sys.executable, *gunicorn, f"--bind={address}", "--graceful-timeout=10", log=log
        ) as server:
            if not self.answers(server, monotonic() + START_TIMEOUT_S):
                return
            traffic = ["manage.py", "traffic", f"--rate={TRAFFIC_RATE}", "--seconds=0", f"--url={self.url}"]
            with running(sys.executable, *traffic, log=log):
                self.tell(places)
                self.watch(server, monotonic() + self.seconds)

    def answers(self, server: Popen[bytes], deadline: float) -> bool:
        """Wait until the site answers; return False when a signal came first."""
        while not self.stopped.wait(0.1):
            if server.poll() is not None or monotonic() > deadline:
                raise CommandError(f"gunicorn did not start: see {LOG}.")
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=2):  # noqa: S310
                return True
        return False

    def watch(self, server: Popen[bytes], deadline: float) -> None:
        while monotonic() < deadline and not self.stopped.wait(0.2):
            if server.poll() is not None:
                raise CommandError(f"gunicorn has ended: see {LOG}.")

    def tell(self, places: dict[str, str]) -> None:
        self.stdout.write("\nThe demo is running; Ctrl-C stops it.\n\n")
        for name, place in places.items():
            self.stdout.write(f"  {name:<8}{place}")
        self.stdout.flush()

    def summarize(self, began: datetime) -> None:
        """Tell what became of the queries of all processes of the demo; this one is the last that runs."""
        from sqllogs import recorder
        from sqllogs.models import Process, RingHead

        recorder.flush()
        processes = Process.objects.filter(updated_at__gte=began)
        dropped = sum((Counter(one.dropped) for one in processes), Counter[str]())
        self.stdout.write(f"\nStopped. {len(processes)} processes have\n\n")
        for name in ("captured", "stored"):
            self.stdout.write(f"  {name:<9}{sum(getattr(one, name) for one in processes):>9,} queries")
        reasons = "".join(f", {count:,} {reason}" for reason, count in dropped.items())
        self.stdout.write(f"  dropped  {dropped.total():>9,}{reasons}")
        head = RingHead.objects.first()
        if head is not None:
            rows = min(head.seq, head.capacity)
            self.stdout.write(f"  in ring  {rows:>9,} of {head.capacity:,} rows")
