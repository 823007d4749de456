"""Count what an execute wrapper cannot see: connections, calls of other services, security events.

`BaseDatabaseWrapper.connect` is wrapped once, whatever the ENGINE, and runs in the caller's thread; so are
the methods in which HTTP clients and SMTP wait, for calls of other services in a transaction. A handler of
Django's security loggers runs in the request's thread. Read by `sqllogs.metrics.sink` in the writer's
thread; needs neither django-prometheus nor DRF.
"""

import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, cached_property, wraps
from importlib.util import find_spec
from logging import LogRecord
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs import guard
from sqllogs.capture.call_site import FrameFinder
from sqllogs.capture.wrapper import has_transaction
from sqllogs.context import UnitOfWork, current
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
        # Before the attempt, because django-prometheus counts failed ones too.
        _guarded("connections", _add, "DB_CONNECTIONS", self)
        started_ns = perf_counter_ns()
        try:
            made = original(self)
            _guarded("connections", _note_connect, self, perf_counter_ns() - started_ns)
            return made
        except Exception:
            _guarded("connections", _add, "DB_CONNECTION_ERRORS", self)
            _guarded("connections", wake)
            raise
        finally:
            unit = current.get()
            if unit is not None:
                unit.connections += 1
                unit.connect_ns += perf_counter_ns() - started_ns

    connect.sqllogs = True  # type: ignore[attr-defined]
    BaseDatabaseWrapper.connect = connect  # type: ignore[method-assign]


def _note_connect(connection: BaseDatabaseWrapper, took_ns: int) -> None:
    # With a pool connect() only takes a connection out of it, so the time is that of waiting.
    pooled = bool(connection.settings_dict.get("OPTIONS", {}).get("pool"))
    connects.append((connection.alias, pooled, took_ns))


def _guarded(place: str, call: Callable[..., None], *args: Any) -> None:
    """Call a function of ours in the application's thread; its errors are counted, not raised."""
    try:
        call(*args)
    except Exception as exc:
        if guard.must_propagate(exc):
            raise
        guard.fault(place, exc)


WAITS = (
    ("http.client", "HTTPConnection", "getresponse"),  # urllib, requests, urllib3, boto3
    ("httpcore", "ConnectionPool", "handle_request"),  # httpx
    ("smtplib", "SMTP", "getreply"),
)
"""Module, class and method in which a thread waits for the answer of another service."""


def install_outside_calls(application: Sequence[str] = ()) -> None:
    """Note in units of work how long they wait for other services while a transaction is open.

    Only what has been imported is wrapped; may be called again. An audit hook would see any connection, but
    it can never be removed, makes each `sys._getframe()` of the process several times slower, and sees no
    call on a connection that is open already.
    """
    import smtplib  # noqa: F401  (takes 1 ms; Django imports it with the first mail)

    for module, name, method in WAITS:
        owner = getattr(sys.modules.get(module), name, None)
        original = getattr(owner, method, None)
        if original is not None and not getattr(original, "sqllogs", False):
            setattr(owner, method, _noting(original, application))


def _noting(original: Callable[..., Any], application: Sequence[str]) -> Callable[..., Any]:
    find = FrameFinder(application).find

    @wraps(original)
    def wait(*args: Any, **kwargs: Any) -> Any:
        unit = current.get()
        if unit is None or unit.muted:
            return original(*args, **kwargs)
        started_ns = perf_counter_ns()
        try:
            return original(*args, **kwargs)
        finally:
            _guarded("outside calls", _note_wait, unit, perf_counter_ns() - started_ns, find)

    wait.sqllogs = True  # type: ignore[attr-defined]
    return wait


class OutsideCalls:
    """A sink that ignores records: in each round of the writer, it wraps clients imported since the last."""

    def __init__(self, application: Sequence[str]) -> None:
        self._application = application

    def add(self, batch: object) -> None:
        pass

    def close(self, timeout_s: float) -> None:
        pass

    def set_status(self, status: object) -> None:
        install_outside_calls(self._application)


def _note_wait(unit: UnitOfWork, waited_ns: int, find: Callable[..., Any]) -> None:
    used = connections.all(initialized_only=True)
    if waited_ns > unit.outside_ns and any(has_transaction(one) for one in used):
        frame = find(1)[0]  # one frame more, because _guarded() is between wait() and this
        unit.outside_ns = waited_ns
        unit.outside_site = None if frame is None else (frame.f_code, frame.f_lasti)


def counts() -> dict[tuple[str, ...], int]:
    """Return the counts since the process started, by metric, alias and vendor."""
    from sqllogs.metrics import families  # not by a connection: many commands connect to nothing else

    found = list(_tallies.items())
    return {(getattr(families, name).name, *labels): tally.value for (name, *labels), tally in found}


def exports_django_db() -> bool:
    """Return whether django-prometheus is installed, but no ENGINE is one of its own, which count already."""
    engines = (str(database.get("ENGINE", "")) for database in settings.DATABASES.values())
    wanted = apps.is_installed("django_prometheus")
    return wanted and not any(engine.startswith("django_prometheus.") for engine in engines)


def _add(family: str, connection: BaseDatabaseWrapper) -> None:
    key = (family, connection.alias, connection.vendor)
    # setdefault(), because two threads may be the first at the same moment.
    tally = _tallies.get(key) or _tallies.setdefault(key, Tally())
    tally.add()


SECURITY = "django.security"
"""Django logs to a child of this logger for each kind of event, such as `django.security.DisallowedHost`."""
REFUSALS = {401: "unauthorized", 403: "forbidden"}
"""Events by the status of a response, from the logger `django.request`."""
EVENTS_MAX = 50
"""Kinds of events; beyond it new ones are counted as OTHER_EVENT, because any code may name a logger."""
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
        try:
            self._count(record)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            self.handleError(record)  # as any handler of logging: the request goes on

    def _count(self, record: LogRecord) -> None:
        if record.name.startswith(SECURITY):
            event = record.name.removeprefix(SECURITY).lstrip(".") or OTHER_EVENT
        else:
            event = REFUSALS.get(getattr(record, "status_code", 0), "")
        if not event:
            return
        if event not in self._known:
            event = event if len(self._known) < EVENTS_MAX else OTHER_EVENT
            self._known.add(event)
        self._events.labels(event).inc()


@cache
def _events() -> SecurityEvents:
    return SecurityEvents()  # cached: prometheus_client allows one counter per name


def install_security_events() -> None:
    """Add the handler if prometheus_client is installed; call it again after logging was reconfigured."""
    if "prometheus_client" not in sys.modules and find_spec("prometheus_client") is None:
        return
    for name in (SECURITY, "django.request"):
        logging.getLogger(name).addHandler(_events())  # does nothing the second time
