"""Count what Django logs about security, and answers that refuse somebody.

A handler on Django's loggers, in the thread of the request; these are rare, so one of
prometheus_client's counters will do.
"""

import logging
from functools import cache
from logging import LogRecord

SECURITY = "django.security"
REFUSALS = {401: "unauthorized", 403: "forbidden"}
EVENTS_MAX = 50
OTHER = "other"


class SecurityEvents(logging.Handler):
    """Never writes anything, so it changes nothing of how the host logs."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        super().__init__(logging.WARNING)
        self._events = Counter("django_security_events", "Security events by kind.", ["event"])
        self._known: set[str] = set()

    def emit(self, record: LogRecord) -> None:
        if record.name.startswith(SECURITY):
            event = record.name.removeprefix(SECURITY).lstrip(".") or OTHER
        else:
            event = REFUSALS.get(getattr(record, "status_code", 0), "")
        if not event:
            return
        if event not in self._known:
            event = event if len(self._known) < EVENTS_MAX else OTHER
            self._known.add(event)
        try:
            self._events.labels(event).inc()
        except Exception:
            self.handleError(record)


@cache
def _events() -> SecurityEvents:
    return SecurityEvents()  # one for the process: a counter of a name can be made once


def install() -> None:
    """Listen, once, also after logging was configured anew; without prometheus_client nobody would hear."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        return
    for name in (SECURITY, "django.request"):
        logging.getLogger(name).addHandler(_events())  # which does nothing a second time
