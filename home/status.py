"""Check the status of every part of the demo, for the home page and /healthz, in the request's thread.

Queries both databases. For Grafana and Prometheus it only checks whether their port is open on this machine,
at most once in ten seconds.
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
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from transactions.models import Transaction

ABOUT = {
    "Database": _("The transactions that the site queries."),
    "SQL log": _("The ring that stores every query of the site."),
    "Metrics": _("Metrics of requests and queries, for Prometheus."),
    "Grafana": _("Dashboards of frequency, duration and slow statements."),
    "Prometheus": _("The site's metrics over time."),
}
SERVICES: dict[str, tuple[int, str]] = {
    "Metrics": (settings.SQLLOGS.get("METRICS_PORT", 0), "/metrics"),
    "Prometheus": (9090, "/targets"),
    "Grafana": (3000, "/d/django-sql-logs"),
}
"""Port on this machine, and path of the first page."""
CONNECT_TIMEOUT_S = 0.1
PORT_CACHE_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the demo and its status."""

    name: str
    state: Literal["up", "down", "off"]
    """off: not running, but optional."""
    detail: str
    url: str = ""
    """Link to the part; empty if it is not running."""

    @property
    def about(self) -> str:
        return str(ABOUT[self.name])


def parts() -> list[Part]:
    """Return all parts, in the order in which data flows through them."""
    return [database(), ring(), *(service(name, *where) for name, where in SERVICES.items())]


def _catch_database_error(name: str) -> Callable[[Callable[[], Part]], Callable[[], Part]]:
    """Decorate a check to return `down` when the database raises an error."""

    def decorate(check: Callable[[], Part]) -> Callable[[], Part]:
        @wraps(check)
        def checked() -> Part:
            try:
                return check()
            except DatabaseAPIError as exc:
                # Only its class, because messages contain hosts and users and the page is public.
                return Part(name=name, state="down", detail=type(exc).__name__)

        return checked

    return decorate


@_catch_database_error("Database")
def database() -> Part:
    began = perf_counter()
    has_transactions = Transaction.objects.exists()
    took_ms = (perf_counter() - began) * 1000
    detail = gettext("%(name)s, answered in %(ms).1f ms") % {
        "name": connection.display_name,
        "ms": took_ms,
    }
    if not has_transactions:
        detail += gettext("; it is empty: run manage.py generate_transactions")
    return Part(name="Database", state="up", detail=detail, url="/transactions/api/")


@_catch_database_error("SQL log")
def ring() -> Part:
    if not apps.is_installed("sqllogs"):
        return Part(name="SQL log", state="down", detail=gettext("sqllogs is not in INSTALLED_APPS"))
    from sqllogs.models import RingHead, SQLLog

    head = RingHead.objects.first()
    if head is None:
        return Part(name="SQL log", state="up", detail=gettext("nothing recorded yet"), url="/sql-logs/")
    detail = gettext("%(rows)s of %(capacity)s rows") % {
        "rows": f"{min(head.seq, head.capacity):,}",
        "capacity": f"{head.capacity:,}",
    }
    last = SQLLog.objects.filter(slot=head.seq % head.capacity).first()
    if last is not None:  # None while a writer has reserved the block but not written it
        detail += gettext(", the newest %(age)s old") % {"age": _age(last.time)}
    return Part(name="SQL log", state="up", detail=detail, url="/sql-logs/")


def _age(time: datetime) -> str:
    seconds = (timezone.now() - time).total_seconds()
    return f"{max(seconds, 0):.1f} s" if seconds < 120 else timesince(time, depth=1)


def service(name: str, port: int, path: str) -> Part:
    """Return whether a program listens on a port of this machine, without sending anything."""
    if port and cache.get_or_set(f"home:port:{port}", lambda: _listens(port), PORT_CACHE_S):
        return Part(
            name=name,
            state="up",
            detail=gettext("port %(port)s is open") % {"port": port},
            url=f"http://localhost:{port}{path}",
        )
    detail = gettext("port %(port)s is closed") % {"port": port} if port else gettext("disabled")
    return Part(name=name, state="off", detail=detail)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
