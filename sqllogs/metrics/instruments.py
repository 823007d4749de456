"""Count what an execute wrapper cannot see: attempts to connect, and the events Django logs about security.

`BaseDatabaseWrapper.connect` is wrapped once, whatever the ENGINE, and runs in the caller's thread. A
handler of Django's security loggers runs in the request's thread. Read by `sqllogs.metrics.sink` in the
writer's thread; needs neither django-prometheus nor DRF.
"""

import logging
from collections.abc import Callable
from functools import cache, wraps
from logging import LogRecord
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs.metrics.families import DB_CONNECTION_ERRORS, DB_CONNECTIONS
from sqllogs.pipeline.buffer import Tally

_tallies: dict[tuple[str, str, str], Tally] = {}


def install_connection_counts(wake: Callable[[], None]) -> None:
    """Wrap connect(); call `wake` after a failure, because no query follows that would wake the writer."""
    original = BaseDatabaseWrapper.connect
    if getattr(original, "sqllogs", False):
        return

    @wraps(original)
    def connect(self: BaseDatabaseWrapper) -> Any:
        _add(DB_CONNECTIONS.name, self)
        try:
            return original(self)
        except Exception:
            _add(DB_CONNECTION_ERRORS.name, self)
            wake()
            raise

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


def _add(name: str, connection: BaseDatabaseWrapper) -> None:
    key = (name, connection.alias, connection.vendor)
    tally = _tallies.get(key) or _tallies.setdefault(key, Tally())
    tally.add()


SECURITY = "django.security"
REFUSALS = {401: "unauthorized", 403: "forbidden"}
EVENTS_MAX = 50
OTHER_EVENT = "other"


class SecurityEvents(logging.Handler):
    """Counts events and writes nothing, so the host's logging does not change."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        super().__init__(logging.WARNING)
        self._events = Counter("django_security_events", "Security events by kind.", ["event"])
        self._known: set[str] = set()

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
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        return
    for name in (SECURITY, "django.request"):
        logging.getLogger(name).addHandler(_events())  # does nothing the second time
