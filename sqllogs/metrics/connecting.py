"""Count attempts to connect, and those that fail: no execute wrapper sees them.

`BaseDatabaseWrapper.connect` is wrapped, once, whatever the ENGINE; in the caller's thread, at
each connect and never at a query. Read by `sqllogs.metrics.sink`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs.buffer import Tally
from sqllogs.metrics.families import DB_CONNECTION_ERRORS, DB_CONNECTIONS

_tallies: dict[tuple[str, str, str], Tally] = {}


def install(wake: Callable[[], None]) -> None:
    """Wrap; `wake` is called after a failure, so that it is told though no query can follow."""
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
    """Return how many there were since the process began, by metric, alias and vendor."""
    return {key: tally.value for key, tally in list(_tallies.items())}


def is_ours() -> bool:
    """Tell whether the names django_db_* are wanted, and not used by one of django-prometheus' engines."""
    engines = (str(database.get("ENGINE", "")) for database in settings.DATABASES.values())
    wanted = apps.is_installed("django_prometheus")
    return wanted and not any(engine.startswith("django_prometheus.") for engine in engines)


def _add(name: str, connection: BaseDatabaseWrapper) -> None:
    key = (name, connection.alias, connection.vendor)
    tally = _tallies.get(key) or _tallies.setdefault(key, Tally())
    tally.add()
