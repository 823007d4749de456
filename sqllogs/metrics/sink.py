"""Count each record for Prometheus.

A sink: fed with every batch and the writer status in the writer's thread. At most once a second it writes
its figures to this process's file, which `sqllogs.metrics.collector` sums up with the others'.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork, finished
from sqllogs.metrics import families, instruments, multiprocess, values
from sqllogs.metrics.open_requests import OpenRequests
from sqllogs.metrics.values import Exemplar, Histogram, MetricValues
from sqllogs.record import YIELD_ROWS, Batch, ProcessCounts, Record, WriterStatus
from sqllogs.sql.n_plus_one import Rules
from sqllogs.sql.normalize import ScannedStatement

PUBLISH_S = 1.0
PORTION_ROWS = 3 * YIELD_ROWS
"""Counted between two yields of the interpreter's lock: no longer than to resolve `YIELD_ROWS`."""
FILE = "sqllogs-{}.json"


class MetricsSink:
    """Its figures begin with those that the slot's last process has left."""

    def __init__(self, conf: Conf, *, with_django_db: bool) -> None:
        self._with_django_db = with_django_db
        self._figures = MetricValues(families.OWN + families.DJANGO_DB * with_django_db)
        self._requests = OpenRequests(self._figures, Rules(conf))
        self._path: Path | None = None
        self._is_changed = False
        self._published_s = 0.0
        # What was counted before, by the parent of a fork, is not this sink's.
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._seen.update(self._counted_elsewhere())
        for reason in families.DROP_REASONS:  # from the beginning, or the first drop is no increase
            self._figures.add(families.DROPPED, (reason,), 0)
        for outcome in families.EXPORT_OUTCOMES if conf.otlp else ():
            self._figures.add(families.EXPORTED, (outcome,), 0)

    def add(self, batch: Batch) -> None:
        self._place()
        for start in range(0, len(batch.records), PORTION_ROWS):
            if start:
                time.sleep(0)  # as the resolver does, for the application's threads
            portion = slice(start, start + PORTION_ROWS)
            self._count(batch.records[portion], batch.units[portion], batch.statements)
        self._is_changed |= bool(batch.records)

    def set_status(self, status: WriterStatus) -> None:
        self._place()
        self._is_changed |= self._requests.close_over()
        self._take_jobs()
        self._set_status(status)
        self._publish()

    def close(self, timeout_s: float) -> None:
        self._place()
        self._requests.close_all()
        self._take_jobs()
        self._publish(now=True)

    def _place(self) -> None:
        """Find this process's file, not before there is something to count: a fork may come first."""
        if self._path is None and multiprocess.slots is not None:
            self._path = multiprocess.slots.folder / FILE.format(multiprocess.slots.slot())
            self._figures.absorb(values.read(self._path), gauges=False)

    def _count(
        self, records: list[Record], units: list[UnitOfWork | None], statements: dict[str, ScannedStatement]
    ) -> None:
        """Count what goes under the same labels together."""
        by_operation: defaultdict[tuple[str, str, str], list[Record]] = defaultdict(list)
        by_unit: defaultdict[UnitOfWork | None, list[Record]] = defaultdict(list)
        for record, unit in zip(records, units, strict=True):
            operation = statements[record.fingerprint].operation
            by_operation[record.alias, record.vendor, operation].append(record)
            by_unit[unit].append(record)
        for (alias, vendor, operation), alike in by_operation.items():
            self._count_queries((alias, operation), alike)
            if self._with_django_db:
                self._count_django_db((alias, vendor), alike)
        for unit, alike in by_unit.items():
            if unit is not None:
                self._count_unit(unit, alike, statements)

    def _count_queries(self, labels: tuple[str, str], records: list[Record]) -> None:
        _observe(self._figures.histogram(families.QUERY_DURATION, labels), records)
        if rows := sum(record.rows for record in records if record.rows):
            self._figures.add(families.QUERY_ROWS, labels, rows)
        for record in records:
            if record.error is not None:
                by_error = (record.alias, record.error, (record.sqlstate or "")[:2] or "none")
                self._figures.add(families.QUERY_ERRORS, by_error, 1)

    def _count_unit(
        self, unit: UnitOfWork, records: list[Record], statements: dict[str, ScannedStatement]
    ) -> None:
        if unit.kind == "request":
            self._requests.add(unit, records, statements)
            return
        job = (unit.kind, unit.view or "")
        self._figures.add(families.JOB_QUERIES, job, len(records))
        self._figures.add(families.JOB_SQL, job, sum(record.duration_ms for record in records) / 1000)

    def _count_django_db(self, where: tuple[str, str], records: list[Record]) -> None:
        self._figures.add(families.DB_EXECUTE, where, len(records))
        durations = self._figures.histogram(families.DB_DURATION, where)
        for record in records:
            durations.observe(record.duration_ms / 1000)
            if record.many:
                self._figures.add(families.DB_EXECUTE_MANY, where, 1)
            if record.error is not None:
                self._figures.add(families.DB_ERRORS, (*where, record.error), 1)

    def _take_jobs(self) -> None:
        while finished:
            unit = finished.popleft()
            labels = (unit.kind, unit.view or "")
            self._figures.add(families.JOBS, (*labels, "error" if unit.failed else "ok"), 1)
            self._figures.observe(families.JOB_DURATION, labels, unit.duration_ns / 1e9)
            self._is_changed = True

    def _set_status(self, status: WriterStatus) -> None:
        counts = status.counts
        now: dict[tuple[str, ...], int] = {
            (families.CAPTURED.name,): counts.captured,
            (families.STORED.name,): counts.stored,
            (families.SAMPLED_OUT.name,): counts.sampled_out,
            **{(families.DROPPED.name, reason): lost for reason, lost in counts.dropped.items()},
            **{(families.EXPORTED.name, outcome): count for outcome, count in _outcomes(counts)},
            **self._counted_elsewhere(),
        }
        for key, count in now.items():
            # A muted query is taken out of `captured` again: a counter waits until it is made up for.
            if (more := count - self._seen[key]) > 0:
                self._seen[key] = count
                self._add(key, more)
        self._set(families.QUEUE_ROWS, counts.queued)
        self._set(families.QUEUE_BYTES, status.queue_bytes)
        self._set(families.LAG, round(status.lag_s, 3))
        if status.flush_s is not None:
            self._figures.observe(families.FLUSH, (), status.flush_s)
            self._is_changed = True

    def _counted_elsewhere(self) -> dict[tuple[str, ...], int]:
        faults = {(families.FAULTS.name, place): count for place, count in guard.faults.items()}
        return faults | (instruments.counts() if self._with_django_db else {})

    def _add(self, key: tuple[str, ...], more: int) -> None:
        self._figures.add(self._figures.families[key[0]], key[1:], more)
        self._is_changed = True

    def _set(self, family: values.Family, value: float) -> None:
        if self._figures.series(family).get(()) != value:
            self._figures.set(family, (), value)
            self._is_changed = True

    def _publish(self, *, now: bool = False) -> None:
        now_s = time.monotonic()
        if not self._is_changed or not (now or now_s - self._published_s >= PUBLISH_S):
            return
        self._is_changed = False
        self._published_s = now_s
        values.latest = self._figures.snapshot()
        if self._path is not None:
            values.write(self._path, values.latest)


def _observe(durations: Histogram, records: list[Record]) -> None:
    """Count durations; the last record of each bucket that has a trace is its exemplar."""
    newest: dict[int, tuple[str, Record]] = {}
    for record in records:
        bucket = durations.observe(record.duration_ms / 1000)
        if record.trace_id:
            newest[bucket] = record.trace_id, record
    for bucket, (trace_id, record) in newest.items():
        exemplar = Exemplar(trace_id, record.duration_ms / 1000, record.time.timestamp())
        durations.exemplars[bucket] = exemplar


def _outcomes(counts: ProcessCounts) -> Iterator[tuple[str, int]]:
    """Yield how many records ended how on their way to OTLP; those that wait have not yet."""
    return ((name, count) for name, count in counts.exported.items() if name in families.EXPORT_OUTCOMES)


def make(conf: Conf) -> MetricsSink | None:
    """Return the sink where prometheus_client is installed."""
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return None
    if multiprocess.slots is None:
        _register(REGISTRY)
    return MetricsSink(conf, with_django_db=instruments.is_ours())


def _register(registry: object) -> None:
    """Show the figures wherever this process shows prometheus_client's own; once."""
    global _registered
    if not _registered:
        from sqllogs.metrics.collector import ProcessCollector

        _registered = True
        registry.register(ProcessCollector())  # type: ignore[attr-defined]


_registered = False
