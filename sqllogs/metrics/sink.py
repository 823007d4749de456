"""Count each record for Prometheus.

A sink: it gets each batch and the writer's status, in the writer's thread. At most once a second, it writes
its values to the file of this process. `sqllogs.metrics.collector` adds up the files of all processes.
"""

import sys
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork, finished
from sqllogs.metrics import families, instruments, multiprocess, values
from sqllogs.metrics.requests import (
    OpenRequests,
    count_connects,
    count_idle_transaction,
    count_request,
    pools,
    set_pools,
)
from sqllogs.metrics.values import Exemplar, Histogram, MetricValues, ObservationContext
from sqllogs.otel import SYSTEMS, database_attributes
from sqllogs.record import YIELD_ROWS, Batch, CountedQueries, ProcessCounts, QueryForm, Record, WriterStatus
from sqllogs.sql.n_plus_one import Rules

COARSE_BUCKET = [bisect_left(families.DB_BUCKETS_S, edge) for edge in (*families.SQL_BUCKETS_S, float("inf"))]
"""By index of a bucket of SQL_BUCKETS_S, the index of the bucket of DB_BUCKETS_S that contains it."""
PUBLISH_S = 1.0
"""The file is written at most this often: at 40 routes that takes 0.3 ms."""
PORTION_ROWS = 3 * YIELD_ROWS
"""Records counted between two yields of the GIL, which takes no longer than resolving `YIELD_ROWS`."""
ZEROED_DATABASES = 10
"""How many databases get series of errors that have not happened, see `_begin_errors`."""
VIEWS = ("sqllogs.metrics.views", "django_prometheus.exports")
"""Modules that serve the metrics of a process without a port."""


class MetricsSink:
    """Continues the values of the last process that had this slot."""

    def __init__(self, conf: Conf, *, with_django_db: bool) -> None:
        self._with_django_db = with_django_db
        self._is_read = conf.metrics_port > 0 or multiprocess.slots is not None
        """Counting takes an eighth of the writer's time, so it begins when something reads the metrics."""
        self._values = MetricValues(families.OWN + families.DJANGO_DB * with_django_db)
        self._requests = OpenRequests(self._values, Rules(conf))
        self._systems: dict[tuple[str, str], tuple[str, str]] = {}
        """By alias and vendor."""
        self._path: Path | None = None
        self._is_changed = False
        self._published_s = 0.0
        # After a fork, the parent has already reported the counts so far.
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._seen.update(self._external_counts())
        # Zero first, because Prometheus' increase() ignores the first value of a series.
        for reason in families.DROP_REASONS:
            self._values.add(families.DROPPED, (reason,), 0)
        self._values.add(families.UNITS_DROPPED, (), 0)
        for outcome in families.EXPORT_OUTCOMES if conf.otlp else ():
            self._values.add(families.EXPORTED, (outcome,), 0)

    def add(self, batch: Batch) -> None:
        if not self._has_reader():
            return
        self._open_file()
        for start in range(0, len(batch.records), PORTION_ROWS):
            if start:
                time.sleep(0)  # lets the application's threads run, as in the resolver
            portion = slice(start, start + PORTION_ROWS)
            self._count(batch.records[portion], batch.units[portion])
        for group in batch.groups:
            self._count_group(group)
        for ended in batch.ended:
            if ended.kind == "request":
                count_request(self._values, ended)
            count_idle_transaction(self._values, ended)
        self._is_changed |= bool(batch.records or batch.groups or batch.ended)

    def count(self, batch: Batch) -> None:
        # Queries that the buffer had no room for count like all others.
        self.add(batch)

    def set_status(self, status: WriterStatus) -> None:
        if not self._has_reader():
            return
        self._open_file()
        self._is_changed |= self._requests.close_complete()
        self._take_jobs()
        self._set_status(status)
        self._publish()

    def close(self, timeout_s: float) -> None:
        if not self._has_reader():
            return
        self._open_file()
        self._requests.close_all()
        self._take_jobs()
        self._publish(now=True)

    def _has_reader(self) -> bool:
        """Return False while no port is set, no view can serve metrics, and nothing has read them."""
        # Checked each time, because URLs and views are imported with the first request.
        self._is_read = self._is_read or values.asked or not sys.modules.keys().isdisjoint(VIEWS)
        return self._is_read

    def _open_file(self) -> None:
        """Take a slot at the first count and not earlier: the process may fork before."""
        if self._path is None and multiprocess.slots is not None:
            self._path = multiprocess.slots.folder / values.FILE.format(multiprocess.slots.slot())
            self._values.absorb(values.read(self._path), gauges=False)

    def _count(self, records: list[Record], units: list[UnitOfWork | None]) -> None:
        """Group records by labels, then count each group."""
        # A series is looked up once per group of a few dozen records, which takes 1.6 us per record instead
        # of 3.1.
        by_operation: defaultdict[tuple[str, str, str], list[Record]] = defaultdict(list)
        by_form: dict[QueryForm, list[Record]] = {}
        by_unit: defaultdict[UnitOfWork | None, list[Record]] = defaultdict(list)
        for record, unit in zip(records, units, strict=True):
            form = record.form
            group = by_form.get(form)
            if group is None:
                group = by_operation[form.alias, form.vendor, form.statement.operation]
                by_form[form] = group
            group.append(record)
            by_unit[unit].append(record)
        for (alias, vendor, operation), group in by_operation.items():
            self._count_queries((alias, operation), self._system(alias, vendor), group)
            if self._with_django_db:
                self._count_django_db((alias, vendor), group)
        for unit, group in by_unit.items():
            if unit is not None:
                self._count_unit(unit, group)

    def _system(self, alias: str, vendor: str) -> tuple[str, str]:
        """Return the labels of a database by OpenTelemetry's conventions."""
        found = self._systems.get((alias, vendor))
        if found is None:
            namespace = str(database_attributes(alias).get("db.namespace", ""))
            found = self._systems[alias, vendor] = SYSTEMS.get(vendor, vendor), namespace
            self._begin_errors(alias, vendor)
        return found

    def _begin_errors(self, alias: str, vendor: str) -> None:
        """Count no error yet: increase() would ignore the first one of each type."""
        # Not for many databases, whose zeros would leave no room for real errors.
        if self._with_django_db and len(self._systems) <= ZEROED_DATABASES:
            for error in families.DB_ERROR_TYPES:
                self._values.add(families.DB_ERRORS, (alias, vendor, error), 0)

    def _count_queries(self, labels: tuple[str, str], system: tuple[str, str], records: list[Record]) -> None:
        durations = self._values.histogram(families.QUERY_DURATION, labels)
        # The difference feeds the metric of the conventions, so that each duration is put into a bucket once.
        before, sum_before = durations.counts.copy(), durations.sum
        newest = _observe(durations, records)
        added = [now - then for now, then in zip(durations.counts, before, strict=True)]
        self._count_operations(system, records, added, durations.sum - sum_before, newest)
        if rows := sum(record.rows for record in records if record.rows):
            self._values.add(families.QUERY_ROWS, labels, rows)
        for record in records:
            if record.form.error is not None:
                self._values.add(families.QUERY_ERRORS, _error_labels(record, record.form.error), 1)

    def _count_operations(
        self,
        system: tuple[str, str],
        records: list[Record],
        added: list[int],
        added_s: float,
        newest: dict[int, Exemplar],
    ) -> None:
        """Add what `QUERY_DURATION` has got to the metric of the conventions, whose buckets are wider."""
        # Failed ones have different labels, so they are subtracted and observed one by one.
        for record in records:
            if record.form.error is not None:
                seconds = record.duration_us / 1_000_000
                added[bisect_left(families.SQL_BUCKETS_S, seconds)] -= 1
                added_s -= seconds
                failed = (*system, record.sqlstate or "", record.form.error)
                origin = record.trace_id and ObservationContext(record.trace_id, record.time.timestamp())
                self._values.observe(families.DB_OPERATION_DURATION, failed, seconds, origin or None)
        if any(added):
            durations = self._values.histogram(families.DB_OPERATION_DURATION, (*system, "", ""))
            durations.sum += added_s
            for bucket, count in enumerate(added):
                durations.counts[COARSE_BUCKET[bucket]] += count
                if count and bucket in newest:
                    durations.exemplars[COARSE_BUCKET[bucket]] = newest[bucket]

    def _count_unit(self, unit: UnitOfWork, records: list[Record]) -> None:
        if unit.kind == "request":
            self._requests.add(unit, records)
        else:
            self._count_job(unit, [record.duration_us for record in records])

    def _count_job(self, unit: UnitOfWork, durations_us: Sequence[int]) -> None:
        labels = (unit.kind, unit.view or "")
        self._values.add(families.JOB_QUERIES, labels, len(durations_us))
        self._values.add(families.JOB_SQL, labels, sum(durations_us) / 1_000_000)

    def _count_group(self, group: CountedQueries) -> None:
        """Count queries that have no record; the slowest is their exemplar."""
        record, unit, times = group.record, group.unit, len(group.durations_us)
        labels = (record.alias, record.form.statement.operation)
        failure = ("", "") if record.error is None else (record.sqlstate or "", record.error)
        operation = (*self._system(record.alias, record.vendor), *failure)
        _observe_group(self._values.histogram(families.QUERY_DURATION, labels), group)
        _observe_group(self._values.histogram(families.DB_OPERATION_DURATION, operation), group)
        if group.rows:
            self._values.add(families.QUERY_ROWS, labels, group.rows)
        if record.error is not None:
            self._values.add(families.QUERY_ERRORS, _error_labels(record, record.error), times)
        if self._with_django_db:
            database = (record.alias, record.vendor)
            self._values.add(families.DB_EXECUTE, database, times)
            _observe_group(self._values.histogram(families.DB_DURATION, database), group)
            if record.many:
                self._values.add(families.DB_EXECUTE_MANY, database, times)
            if record.error is not None:
                self._values.add(families.DB_ERRORS, (*database, record.error), times)
        if unit is not None and unit.kind == "request":
            self._requests.add_group(unit, group)
        elif unit is not None:
            self._count_job(unit, group.durations_us)

    def _count_django_db(self, labels: tuple[str, str], records: list[Record]) -> None:
        self._values.add(families.DB_EXECUTE, labels, len(records))
        _observe(self._values.histogram(families.DB_DURATION, labels), records)
        for record in records:
            form = record.form
            if form.many:
                self._values.add(families.DB_EXECUTE_MANY, labels, 1)
            if form.error is not None:
                self._values.add(families.DB_ERRORS, (*labels, form.error), 1)

    def _take_jobs(self) -> None:
        while finished:
            unit = finished.popleft()
            labels = (unit.kind, unit.view or "")
            # Both, because increase() would ignore the first failure of a job that has worked before.
            self._values.add(families.JOBS, (*labels, "ok"), int(not unit.failed))
            self._values.add(families.JOBS, (*labels, "error"), int(unit.failed))
            origin = ObservationContext(f"{unit.trace_id:032x}", time.time())
            self._values.observe(families.JOB_DURATION, labels, unit.duration_ns / 1e9, origin)
            self._is_changed = True

    def _set_status(self, status: WriterStatus) -> None:
        counts = status.counts
        totals: dict[tuple[str, ...], int] = {
            (families.CAPTURED.name,): counts.captured,
            (families.STORED.name,): counts.stored,
            (families.SAMPLED_OUT.name,): counts.sampled_out,
            (families.UNITS_DROPPED.name,): counts.units_dropped,
            **{(families.DROPPED.name, reason): lost for reason, lost in counts.dropped.items()},
            **{(families.EXPORTED.name, outcome): count for outcome, count in _outcomes(counts)},
            **self._external_counts(),
        }
        for key, count in totals.items():
            # Muting a query reduces `captured`. A counter must not decrease, so it waits for new queries.
            if (more := count - self._seen[key]) > 0:
                self._seen[key] = count
                self._add(key, more)
        self._is_changed |= count_connects(self._values)
        self._is_changed |= set_pools(self._values)
        self._set(families.QUEUE_ROWS, counts.queued)
        self._set(families.QUEUE_BYTES, status.queue_bytes)
        self._set(families.LAG, round(status.lag_s, 3))  # rounded: a change writes the file
        if status.flush_s is not None:
            self._values.observe(families.FLUSH, (), status.flush_s)
            self._is_changed = True

    def _external_counts(self) -> dict[tuple[str, ...], int]:
        faults = {(families.FAULTS.name, component): count for component, count in guard.faults.items()}
        timeouts = {(families.CONNECTION_TIMEOUTS.name, pool.alias): pool.timeouts for pool in pools()}
        return faults | timeouts | (instruments.counts() if self._with_django_db else {})

    def _add(self, key: tuple[str, ...], more: int) -> None:
        self._values.add(self._values.families[key[0]], key[1:], more)
        self._is_changed = True

    def _set(self, family: values.Family, value: float) -> None:
        if self._values.series(family).get(()) != value:
            self._values.set(family, (), value)
            self._is_changed = True

    def _publish(self, *, now: bool = False) -> None:
        now_s = time.monotonic()
        if not self._is_changed or not (now or now_s - self._published_s >= PUBLISH_S):
            return
        self._is_changed = False
        self._published_s = now_s
        values.latest = self._values.snapshot()
        if self._path is not None:
            values.write(self._path, values.latest)


def _observe(durations: Histogram, records: list[Record]) -> dict[int, Exemplar]:
    """Count durations; return the new exemplars by bucket: the last record of each that has a trace."""
    newest: dict[int, tuple[str, Record]] = {}
    exemplars: dict[int, Exemplar] = {}
    for record in records:
        bucket = durations.observe(record.duration_us / 1_000_000)
        if trace_id := record.origin.trace_id:
            newest[bucket] = trace_id, record
    for bucket, (trace_id, record) in newest.items():
        exemplars[bucket] = Exemplar(trace_id, record.duration_ms / 1000, record.time.timestamp())
        durations.exemplars[bucket] = exemplars[bucket]
    return exemplars


def _error_labels(record: Record, error: str) -> tuple[str, str, str]:
    """Return alias, error and the class of its SQLSTATE, which is the first two characters."""
    return record.alias, error, (record.sqlstate or "")[:2] or "none"


def _observe_group(durations: Histogram, group: CountedQueries) -> None:
    for duration_us in group.durations_us:
        durations.observe(duration_us / 1e6)
    if group.record.trace_id:
        seconds = group.record.duration_ms / 1000
        exemplar = Exemplar(group.record.trace_id, seconds, group.record.time.timestamp())
        durations.exemplars[bisect_left(durations.buckets, seconds)] = exemplar


def _outcomes(counts: ProcessCounts) -> Iterator[tuple[str, int]]:
    """Yield the number of records by outcome of the export to OTLP, without those that still wait."""
    return ((name, count) for name, count in counts.exported.items() if name in families.EXPORT_OUTCOMES)


def make(conf: Conf) -> MetricsSink | None:
    """Return the sink if prometheus_client is installed."""
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return None
    # With a shared folder the collector reads the files, which have these values of all processes.
    if multiprocess.slots is None:
        _register(REGISTRY)
    return MetricsSink(conf, with_django_db=instruments.exports_django_db())


def _register(registry: object) -> None:
    """Add the writer's metrics to prometheus_client's registry of this process, once."""
    global _registered
    # A process may create a second sink, as after a fork, but the registry refuses a name twice.
    if not _registered:
        from sqllogs.metrics.collector import ProcessCollector

        _registered = True
        registry.register(ProcessCollector())  # type: ignore[attr-defined]


_registered = False
