"""The live status of every part of the demo, asked when the landing page is.

The two databases are queried; Grafana and Prometheus are only asked whether their
port is open on this machine, at most once in ten seconds.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from time import perf_counter
from typing import Literal

from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseAPIError
from django.db import connection
from django.utils import timezone
from django.utils.timesince import timesince

from transactions.models import Transaction

ABOUT = {
    "Database": "The transactions that the site's queries are about.",
    "SQL log": "The ring in which each of those queries is recorded.",
    "Metrics": "Figures of requests and queries, for Prometheus.",
    "Grafana": "Dashboards of frequency, duration and the slowest statements.",
    "Prometheus": "The site's metrics over time.",
}
SERVICES: dict[str, tuple[int, str]] = {
    "Metrics": (settings.SQLLOGS.get("METRICS_PORT", 0), "/metrics"),
    "Prometheus": (9090, "/targets"),
    "Grafana": (3000, "/d/django-sql-logs"),
}
"""Port on this machine, and the page there to begin with."""
CONNECT_TIMEOUT_S = 0.1
PORT_CACHE_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the demo and how it is."""

    name: str
    state: Literal["up", "down", "off"]
    """off: not running, and nothing here needs it."""
    detail: str
    url: str = ""
    """Where to see it; empty while there is nothing to see."""

    @property
    def about(self) -> str:
        return ABOUT[self.name]


def parts() -> list[Part]:
    """Return every part, in the order of the data's way."""
    return [database(), ring(), *(service(name, *where) for name, where in SERVICES.items())]


def _told_when_down(name: str) -> Callable[[Callable[[], Part]], Callable[[], Part]]:
    """Decorate a check, so that a database's error is its answer."""

    def decorate(check: Callable[[], Part]) -> Callable[[], Part]:
        @wraps(check)
        def checked() -> Part:
            try:
                return check()
            except DatabaseAPIError as exc:
                # The class only: messages name hosts and users, and this page is public.
                return Part(name=name, state="down", detail=type(exc).__name__)

        return checked

    return decorate


@_told_when_down("Database")
def database() -> Part:
    began = perf_counter()
    filled = Transaction.objects.exists()
    took_ms = (perf_counter() - began) * 1000
    detail = f"{connection.display_name}, answered in {took_ms:.1f} ms"
    if not filled:
        detail += "; it is empty: run manage.py generate_transactions"
    return Part(name="Database", state="up", detail=detail, url="/transactions/api/")


@_told_when_down("SQL log")
def ring() -> Part:
    if not apps.is_installed("sqllogs"):
        return Part(name="SQL log", state="down", detail="sqllogs is not in INSTALLED_APPS")
    from sqllogs.models import RingHead, SQLLog

    head = RingHead.objects.first()
    if head is None:
        return Part(name="SQL log", state="up", detail="nothing recorded yet", url="/sql-logs/")
    detail = f"{min(head.seq, head.capacity):,} of {head.capacity:,} rows"
    last = SQLLog.objects.filter(slot=head.seq % head.capacity).first()
    if last is not None:  # None while the newest block is reserved and not yet written
        detail += f", the newest {_age(last.time)} old"
    return Part(name="SQL log", state="up", detail=detail, url="/sql-logs/")


def _age(time: datetime) -> str:
    seconds = (timezone.now() - time).total_seconds()
    return f"{max(seconds, 0):.1f} s" if seconds < 120 else timesince(time, depth=1)


def service(name: str, port: int, path: str) -> Part:
    """Tell whether something listens on a port of this machine; nothing is sent to it."""
    if port and cache.get_or_set(f"home:port:{port}", lambda: _listens(port), PORT_CACHE_S):
        return Part(
            name=name, state="up", detail=f"port {port} is open", url=f"http://localhost:{port}{path}"
        )
    return Part(name=name, state="off", detail=f"nothing listens on port {port}" if port else "switched off")


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
