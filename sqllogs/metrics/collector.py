"""Collect all metrics of a site in one registry.

Reads the files of all processes that share a folder, or only this process's values if there is no shared
folder. The state of databases and ring is queried in a separate thread. Feeds the exporter and the view, in
the thread that answers a scrape.
"""

import os
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.utils import floatToGoString

from sqllogs import conf, guard
from sqllogs.context import muted
from sqllogs.metrics import multiprocess, values
from sqllogs.metrics.families import DJANGO_DB, OWN
from sqllogs.metrics.multiprocess import Slots
from sqllogs.metrics.values import Family, Histogram, Labels, MetricValues
from sqllogs.read.findings import count_by_kind_and_state
from sqllogs.read.health import ring_health
from sqllogs.storage.database import close_connection
from sqllogs.storage.events import current_service
from sqllogs.threads import RLock, SerialCalls

collecting = SerialCalls()
"""Scrapes; a fork waits for one that is under way."""


class SiteRegistry(CollectorRegistry):
    """Answer one scrape at a time, so that a fork has to wait for one only."""

    def collect(self) -> Iterator[Metric]:
        collect = super().collect
        # A list, because a generator that is not exhausted would never end the call.
        yield from collecting.call(lambda: list(collect()))


@cache
def registry() -> CollectorRegistry:
    """Return the site's registry: of all processes if they share a folder, otherwise of this one."""
    # True would collect in order to learn the names, which queries every database.
    made = SiteRegistry(auto_describe=False)
    made.set_target_info(target_info())
    shared = multiprocess.slots
    if shared is None:
        made.register(_RegistryCollector())
    else:
        made.register(ClientFilesCollector(shared))
        made.register(ValueFilesCollector(shared))
    made.register(DatabaseState())
    return made


def target_info() -> dict[str, str] | None:
    """Return the labels of `target_info`: the application's, else the name of the service, if it has one.

    By Prometheus' conventions, labels that are constant for a target belong there and not on every series. A
    query joins them: `rate(x[5m]) * on (job, instance) group_left (service_name) target_info`.
    """
    service = current_service(conf.load())
    return REGISTRY.get_target_info() or ({"service_name": service} if service else None)


class _RegistryCollector(Collector):
    """The metrics of this process's prometheus_client, which include the writer's."""

    def collect(self) -> Iterable[Metric]:
        return (metric for metric in REGISTRY.collect() if metric.name not in LEFT_OUT)


class ClientFilesCollector(Collector):
    """Sums of the files that prometheus_client writes in each process."""

    def __init__(self, shared: Slots) -> None:
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        live = self._shared.live()
        files = [
            str(path) for path in self._shared.folder.glob("*.db") if not _belongs_to_dead_process(path, live)
        ]
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return (metric for metric in merged if metric.name not in MIGRATIONS)


def _belongs_to_dead_process(path: Path, live: set[int]) -> bool:
    """Return whether a file is a live gauge of a process that has ended; all other files still count."""
    # The slot is the last part of a name such as gauge_livesum_3.db.
    return path.name.startswith("gauge_live") and int(path.stem.rpartition("_")[2]) not in live


class ValueFilesCollector(Collector):
    """Sums of the metrics of all writers, with the newest exemplars."""

    def __init__(self, shared: Slots) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        live = self._shared.live()
        total = MetricValues((*OWN, *DJANGO_DB))
        for path in sorted(self._shared.folder.glob(values.FILE.format("*"))):
            is_live = int(path.stem.rpartition("-")[2]) in live
            # An ended process keeps its counts, or sums would decrease, but not its gauges.
            total.absorb(values.read(path), gauges=is_live)
        yield from metrics(total)
        processes = Metric("sqllogs_processes", "Live processes that share the folder of metrics.", "gauge")
        processes.add_sample("sqllogs_processes", {}, len(live))
        yield processes


class ProcessCollector(Collector):
    """The metrics of this process's writer."""

    def describe(self) -> Iterable[Metric]:
        """Return nothing: without this method, registering would collect, before anybody has scraped."""
        return ()

    def collect(self) -> Iterator[Metric]:
        values.asked = True
        total = MetricValues((*OWN, *DJANGO_DB))
        total.absorb(values.latest)
        yield from metrics(total)


def metrics(total: MetricValues) -> Iterator[Metric]:
    """Convert values for prometheus_client's exposition; skip families without series."""
    for family in total.families.values():
        series = total.series(family)
        if not series:
            continue
        kind = "gauge" if family.kind in ("sum", "max") else family.kind
        metric = Metric(family.name, family.help, kind)
        for labels, value in series.items():
            _add(metric, family, labels, value)
        yield metric


def _add(metric: Metric, family: Family, labels: Labels, value: Any) -> None:
    named = dict(zip(family.labels, labels, strict=True))
    if isinstance(value, Histogram):
        _add_histogram(metric, family, named, value)
    else:
        metric.add_sample(family.name + "_total" * (family.kind == "counter"), named, value)


def _add_histogram(metric: Metric, family: Family, named: dict[str, str], value: Histogram) -> None:
    count = 0
    for edge, inside, found in zip(
        (*family.buckets, float("inf")), value.counts, value.exemplars, strict=True
    ):
        # Our counts are per bucket; Prometheus' buckets are cumulative.
        count += inside
        exemplar = found and ClientExemplar({"trace_id": found.trace_id}, found.value, found.time_s)
        le = floatToGoString(edge)  # type: ignore[no-untyped-call]
        metric.add_sample(f"{family.name}_bucket", {**named, "le": le}, count, exemplar=exemplar)
    metric.add_sample(f"{family.name}_count", named, count)
    metric.add_sample(f"{family.name}_sum", named, value.sum)


AGE_MAX_S = 10.0
"""A scrape queries the databases again if the last answer is older than this."""
WAIT_S = 2.0
"""How long a scrape waits for the databases: one that hangs must not make the whole target look down."""
STALE_S = 60.0
"""An older state is not reported: the databases may have changed since."""

APPLIED = "django_migrations_applied_total"
UNAPPLIED = "django_migrations_unapplied_total"
MIGRATIONS = {APPLIED, UNAPPLIED}
"""django-prometheus has metrics of the same names, measured once at start-up; they are left out."""
LEFT_OUT = MIGRATIONS | {"target"}
"""The registry has its own `target_info`."""

querying = SerialCalls()
"""Queries of the databases; a fork waits for them, at most FORK_TIMEOUT_S."""
for one in (collecting, querying):
    os.register_at_fork(after_in_child=one.reset_after_fork)


class DatabaseState(Collector):
    """Gauges of migrations, databases, ring and findings as they are now; for any thread."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._query_thread: Thread | None = None
        self._gauges: list[GaugeMetricFamily] = []
        self._queried_at_s = -STALE_S

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            due = time.monotonic() - self._queried_at_s >= AGE_MAX_S
            # One thread at a time: otherwise each scrape would leave one behind while a database hangs.
            if due and (self._query_thread is None or not self._query_thread.is_alive()):
                self._query_thread = Thread(target=self._query, name="sqllogs-database-state", daemon=True)
                self._query_thread.start()
            query_thread = self._query_thread
        if due and query_thread is not None:
            query_thread.join(WAIT_S)
        if time.monotonic() - self._queried_at_s < STALE_S:
            yield from self._gauges

    def _query(self) -> None:
        try:
            self._gauges = querying.call(_gauges)
            self._queried_at_s = time.monotonic()
        except Exception as exc:
            guard.fault("database_state", exc)
        finally:
            for connection in connections.all(initialized_only=True):  # those of this thread
                close_connection(connection)


def _gauges() -> list[GaugeMetricFamily]:
    with muted():
        return [*_databases(), *_ring(), *_findings()]


def _databases() -> Iterator[GaugeMetricFamily]:
    applied = GaugeMetricFamily(APPLIED, "Applied migrations by database connection.", labels=["connection"])
    unapplied = GaugeMetricFamily(
        UNAPPLIED, "Unapplied migrations by database connection.", labels=["connection"]
    )
    up = GaugeMetricFamily("sqllogs_database_up", "1 if the database accepts connections.", labels=["alias"])
    for alias in connections:
        connection = connections[alias]
        if connection.vendor == "unknown":  # the dummy of DATABASES = {}
            continue
        try:
            done, due = _migrations(connection)
        except DatabaseError:  # `up` reports it
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
    except DatabaseError:  # sqllogs_database_up or the migrations report it
        return
    yield GaugeMetricFamily("sqllogs_ring_rows", "Records in the ring.", ring.rows)
    yield GaugeMetricFamily("sqllogs_ring_capacity_rows", "Slots of the ring.", ring.capacity)
    if ring.oldest_age_s is not None:
        yield GaugeMetricFamily(
            "sqllogs_ring_oldest_age_seconds", "Age of the oldest record in the ring.", ring.oldest_age_s
        )


def _findings() -> Iterator[GaugeMetricFamily]:
    gauge = GaugeMetricFamily("sqllogs_findings", "Findings by kind and state.", labels=["kind", "state"])
    try:
        counts = count_by_kind_and_state()
    except DatabaseError:  # as above
        return
    for (kind, state), count in counts.items():
        gauge.add_metric([kind, state], count)
    yield gauge
