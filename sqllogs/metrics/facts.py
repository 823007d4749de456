"""What is true now: migrations, databases, the ring. Asked when Prometheus asks, not at start-up.

A thread of its own asks the databases; a collector waits for it for a moment and tells what was
last known, so that a database that hangs does not make the whole target look down.
"""

import time
from collections.abc import Iterator
from threading import Lock, Thread

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sqllogs import guard
from sqllogs.context import muted
from sqllogs.health import ring_health

AGE_MAX_S = 10.0
"""Younger facts are told again."""
WAIT_S = 2.0
"""How long a scrape waits for fresh ones."""
STALE_S = 60.0
"""Older facts are not told: whom nobody could ask for so long may be any way."""

APPLIED = "django_migrations_applied_total"
UNAPPLIED = "django_migrations_unapplied_total"
MIGRATIONS = {APPLIED, UNAPPLIED}
"""django-prometheus has the same, frozen at start-up; hers are left out."""


asking = Lock()
"""Held while databases are asked; a fork waits for it, if not for long."""


class Facts(Collector):
    """Gauges of the databases, for any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asking: Thread | None = None
        self._known: list[GaugeMetricFamily] = []
        self._asked_at_s = -STALE_S

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            due = time.monotonic() - self._asked_at_s >= AGE_MAX_S
            if due and (self._asking is None or not self._asking.is_alive()):
                self._asking = Thread(target=self._ask, name="sqllogs-facts", daemon=True)
                self._asking.start()
            asking = self._asking
        if due and asking is not None:
            asking.join(WAIT_S)
        if time.monotonic() - self._asked_at_s < STALE_S:
            yield from self._known

    def _ask(self) -> None:
        try:
            with asking, muted():
                self._known = [*_databases(), *_ring()]
            self._asked_at_s = time.monotonic()
        except Exception as exc:
            guard.fault("facts", exc)
        finally:
            connections.close_all()  # this thread's own


def _databases() -> Iterator[GaugeMetricFamily]:
    applied = GaugeMetricFamily(APPLIED, "Applied migrations by database connection.", labels=["connection"])
    unapplied = GaugeMetricFamily(
        UNAPPLIED, "Unapplied migrations by database connection.", labels=["connection"]
    )
    up = GaugeMetricFamily("sqllogs_database_up", "A connection could be made.", labels=["alias"])
    for alias in connections:
        connection = connections[alias]
        if connection.vendor == "unknown":  # DATABASES = {} has a dummy
            continue
        try:
            done, due = _migrations(connection)
        except DatabaseError:  # which is what `up` tells
            up.add_metric([alias], float(connection.connection is not None))
            continue
        up.add_metric([alias], 1)
        applied.add_metric([alias], done)
        unapplied.add_metric([alias], due)
    return iter((applied, unapplied, up))


def _migrations(connection: BaseDatabaseWrapper) -> tuple[int, int]:
    """Return how many migrations are applied, and how many `migrate` would apply."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return len(executor.loader.applied_migrations), len(plan)


def _ring() -> Iterator[GaugeMetricFamily]:
    try:
        ring = ring_health()
    except DatabaseError:  # as the database's `up`, or its migrations, tell
        return
    yield GaugeMetricFamily("sqllogs_ring_rows", "Records in the ring.", ring.rows)
    yield GaugeMetricFamily("sqllogs_ring_capacity_rows", "Slots of the ring.", ring.capacity)
    if ring.oldest_age_s is not None:
        yield GaugeMetricFamily(
            "sqllogs_ring_oldest_age_seconds", "Age of the oldest record in the ring.", ring.oldest_age_s
        )
