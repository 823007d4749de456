"""The one place that reads `settings.SQLLOGS`.

Everything that needs a setting calls `load()` once, at installation; the
hot path reads none. `sqllogs.checks` validates the same table.
"""

from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """The settings with their defaults. A key of `SQLLOGS` is a field in capitals."""

    enabled: bool | None = None
    """Capture or not; None captures except under a test runner."""

    database: str = "sqllogs"
    """Alias in DATABASES of the database that holds the ring."""

    capacity_rows: int = 100_000
    """Rows of a new ring; an existing one changes by `manage.py sqllogs resize`."""

    statements_max: int = 10_000
    """Statement texts kept; beyond it a new statement's records have no text."""

    flush_interval_s: float = 0.5
    """Seconds between two flushes of the buffer; what a kill -9 can lose."""

    buffer_rows: int = 30_000
    """Records held in memory, per process, while the store is slow or away."""

    buffer_bytes: int = 32 * 1024 * 1024
    """Bytes held in memory, per process, while the store is slow or away."""

    call_site: bool = True
    """Record the application's file, line and function that sent the query."""

    release: str = ""
    """The version of the application that is running."""

    anonymous_loopback: bool = False
    """Let loopback addresses read without a token; heeded with DEBUG only."""

    trace_url: str = ""
    """Link to a trace in its viewer, `{trace_id}` in it is filled in."""


NAMES = {field.name.upper(): field for field in fields(Conf)}


def load() -> Conf:
    """Return the settings; unknown keys are left to the system checks to report."""
    given: dict[str, Any] = getattr(settings, "SQLLOGS", {})
    return Conf(**{key.lower(): value for key, value in given.items() if key in NAMES})
