"""Count what an execute wrapper cannot see: attempts to connect, and the events Django logs about security.

`BaseDatabaseWrapper.connect` is wrapped once, whatever the ENGINE, and runs in the caller's thread. A
handler of Django's security loggers runs in the request's thread. Read by `sqllogs.metrics.sink` in the
writer's thread; needs neither django-prometheus nor DRF.
"""

import logging
import sys
from collections import deque
from collections.abc import Callable
from functools import cache, cached_property, wraps
from importlib.util import find_spec
from logging import LogRecord
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs.context import current
from sqllogs.threads import Tally

if TYPE_CHECKING:
    from prometheus_client import Counter

_tallies: dict[tuple[str, str, str], Tally] = {}

CONNECTS_MAX = 1_000
connects: deque[tuple[str, bool, int]] = deque(maxlen=CONNECTS_MAX)
"""Alias, whether from a pool, and nanoseconds of connections since the writer looked; the newest ones."""


def install_connection_counts(wake: Callable[[], None]) -> None:
    """Wrap connect(); call `wake` after a failure, because no query follows that would wake the writer."""
    original = BaseDatabaseWrapper.connect
    if getattr(original, "sqllogs", False):
        return

    @wraps(original)
    def connect(self: BaseDatabaseWrapper) -> Any:
        _add("DB_CONNECTIONS", self)
        started_ns = perf_counter_ns()
        try:
            made = original(self)
            pooled = bool(self.settings_dict.get("OPTIONS", {}).get("pool"))
            connects.append((self.alias, pooled, perf_counter_ns() - started_ns))
            return made
        except Exception:
            _add("DB_CONNECTION_ERRORS", self)
            wake()
            raise
        finally:
            unit = current.get()
            if unit is not None:
                unit.connections += 1
                unit.connect_ns += perf_counter_ns() - started_ns

    connect.sqllogs = True  # type: ignore[attr-defined]
    BaseDatabaseWrapper.connect = connect  # type: ignore[method-assign]


def counts() -> dict[tuple[str, ...], int]:
    """Return the counts since the process started, by metric, alias and vendor."""
    return {key: tally.value for key, tally in list(_tallies.items())}


def exports_django_db() -> bool:
    """Return whether django_db_* metrics are wanted and no engine of django-prometheus makes them."""
    engines = (str(database.get("ENGINE", "")) for database in settings.DATABASES.values())
    wanted = apps.is_installed("django_prometheus")
    return wanted and not any(engine.startswith("django_prometheus.") for engine in engines)


def _add(family: str, connection: BaseDatabaseWrapper) -> None:
    from sqllogs.metrics import families  # late: many commands connect to nothing

    key = (getattr(families, family).name, connection.alias, connection.vendor)
    tally = _tallies.get(key) or _tallies.setdefault(key, Tally())
    tally.add()


SECURITY = "django.security"
REFUSALS = {401: "unauthorized", 403: "forbidden"}
EVENTS_MAX = 50
OTHER_EVENT = "other"


class SecurityEvents(logging.Handler):
    """Counts events and writes nothing, so the host's logging does not change."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._known: set[str] = set()

    @cached_property
    def _events(self) -> "Counter":
        from prometheus_client import Counter  # with the first event: importing it takes 30 ms

        return Counter("django_security_events", "Security events by kind.", ["event"])

    def emit(self, record: LogRecord) -> None:
        if record.name.startswith(SECURITY):
            event = record.name.removeprefix(SECURITY).lstrip(".") or OTHER_EVENT
        else:
            event = REFUSALS.get(getattr(record, "status_code", 0), "")
        if not event:
            return
        if event not in self._known:
            event = event if len(self._known) < EVENTS_MAX else OTHER_EVENT
            self._known.add(event)
        try:
            self._events.labels(event).inc()
        except Exception:
            self.handleError(record)


@cache
def _events() -> SecurityEvents:
    return SecurityEvents()  # cached: prometheus_client allows one counter per name


def install_security_events() -> None:
    """Add the handler; may be called again after logging was reconfigured. Needs prometheus_client."""
    if "prometheus_client" not in sys.modules and find_spec("prometheus_client") is None:
        return
    for name in (SECURITY, "django.request"):
        logging.getLogger(name).addHandler(_events())  # does nothing the second time
