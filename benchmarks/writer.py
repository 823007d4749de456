"""How fast the writer stores: drain, scan with a warm cache, resolve and write; beside the ORM's ways."""

import multiprocessing
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import django

django.setup()

from django.db import connections, transaction  # noqa: E402

from benchmarks.report import at_least, at_most, table  # noqa: E402
from benchmarks.samples import captured  # noqa: E402
from benchmarks.stores import ALIAS, VENDORS, Database, fill, recorder, ring  # noqa: E402
from sqllogs import conf  # noqa: E402
from sqllogs.models import RingRow  # noqa: E402
from sqllogs.pipeline.resolver import Resolver  # noqa: E402
from sqllogs.pipeline.sinks import Sinks  # noqa: E402
from sqllogs.record import Batch  # noqa: E402
from sqllogs.recorder import Recorder  # noqa: E402
from sqllogs.storage.ring import BATCH_ROWS  # noqa: E402
from sqllogs.storage.store import COLUMNS, NO_IDS, query_row  # noqa: E402

CAPACITY_ROWS = 50_000
ROUNDS = 3
PROCESSES = 4
ROWS = {"sqllogs": 100_000, "processes": 40_000, "bulk_create": 10_000, "create": 2_000}
ALL_ROWS_PER_S_MIN = 90_000
"""With everything, by one process."""
ROWS_PER_S_MIN = 50_000
CPU_US_MAX = 15
STATISTICS_US_MAX = 3
WITHOUT = "sqllogs, without statistics"
ALONE = "sqllogs, the ring alone"
"""Without statistics, metrics and slow log."""


class Speed(NamedTuple):
    rows_per_s: float
    cpu_us: float
    """Of this process, for each row; PostgreSQL's own is the server's."""


def main() -> None:
    rows = [row for vendor in VENDORS for row in _measured(vendor)]
    table(
        f"Writer, into a full ring of {CAPACITY_ROWS:,} rows in batches of {BATCH_ROWS:,}",
        ("store", "way", "rows/s", "CPU us a row", "of sqllogs' CPU", "goal"),
        rows,
    )


def _measured(vendor: str) -> list[tuple[object, ...]]:
    with ring(vendor, CAPACITY_ROWS) as database:
        recording = recorder()
        plain, alone = recorder(statistics_rows_max=0), recorder(statistics_rows_max=0)
        alone.delivery._sinks = Sinks([])
        for one in (recording, plain, alone):
            _write(one, CAPACITY_ROWS)
        ways: dict[str, Callable[[], Speed]] = {
            "sqllogs": lambda: _write(recording, ROWS["sqllogs"]),
            WITHOUT: lambda: _write(plain, ROWS["sqllogs"]),
            ALONE: lambda: _write(alone, ROWS["sqllogs"]),
            f"sqllogs, {PROCESSES} processes": lambda: _processes(database),
            "bulk_create(update_conflicts)": lambda: _orm(_bulk_create, ROWS["bulk_create"]),
            "create(), a transaction a batch": lambda: _orm(_create, ROWS["create"]),
        }
        rounds = [{name: measure() for name, measure in ways.items()} for _ in range(ROUNDS)]
        for one in (recording, plain, alone):
            one.ring.close()
    speeds = {name: _median([speeds[name] for speeds in rounds]) for name in ways}
    ours = speeds["sqllogs"]
    return [
        (vendor, name, speed.rows_per_s, speed.cpu_us, speed.cpu_us / ours.cpu_us, _goal(name, speeds))
        for name, speed in speeds.items()
    ]


def _goal(name: str, speeds: dict[str, Speed]) -> str:
    speed = speeds[name]
    if name == "sqllogs":
        return at_least(speed.rows_per_s, ALL_ROWS_PER_S_MIN)
    if name == WITHOUT:
        return f"{at_most(speeds['sqllogs'].cpu_us - speed.cpu_us, STATISTICS_US_MAX, 'us for statistics')}"
    if name != ALONE:
        return ""
    return f"{at_least(speed.rows_per_s, ROWS_PER_S_MIN)}; {at_most(speed.cpu_us, CPU_US_MAX, 'us')}"


def _median(speeds: list[Speed]) -> Speed:
    return Speed(median(speed.rows_per_s for speed in speeds), median(speed.cpu_us for speed in speeds))


def _timed(run: Callable[[], object], rows: int) -> Speed:
    started_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - started_s
    return Speed(rows / took_s, cpu_s / rows * 1e6)


def _write(recording: Recorder, rows: int) -> Speed:
    fill(recording, rows)
    return _timed(recording.delivery.write_all, rows)


def _processes(database: Database) -> Speed:
    """Let several processes write at once; their rows over the time from the first to the last."""
    # Spawned: a connection that is inherited is one that two processes use.
    processes = multiprocessing.get_context("spawn")
    barrier = processes.Barrier(PROCESSES)
    results: Any = processes.SimpleQueue()
    children = [processes.Process(target=_child, args=(database, barrier, results)) for _ in range(PROCESSES)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    starts, ends, cpu_us = zip(*(results.get() for _ in children), strict=True)
    return Speed(PROCESSES * ROWS["processes"] / (max(ends) - min(starts)), median(cpu_us))


def _child(database: Database, barrier: Any, results: Any) -> None:
    with database.connected():
        recording = recorder()
        _write(recording, BATCH_ROWS)
        fill(recording, ROWS["processes"])
        barrier.wait()
        started_s = time.perf_counter()  # the machine's monotonic clock: the same in all processes
        speed = _timed(recording.delivery.write_all, ROWS["processes"])
        results.put((started_s, time.perf_counter(), speed.cpu_us))


def _orm(write: Callable[[int, Batch], None], rows: int) -> Speed:
    """Resolve and write as an application of the ORM would."""
    resolver = Resolver(conf.load())
    batches: list[Any] = [list(captured(BATCH_ROWS)) for _ in range(rows // BATCH_ROWS)]
    resolver.batch(batches[0])

    def run() -> None:
        for number, batch in enumerate(batches):
            with transaction.atomic(using=ALIAS):
                write(number * BATCH_ROWS, resolver.batch(batch))

    # What is in the slots of create() must be gone: it is no upsert.
    RingRow.objects.using(ALIAS).filter(slot__lt=rows).delete()
    return _timed(run, rows)


def _models(first_seq: int, batch: Batch) -> list[RingRow]:
    return [
        RingRow(**dict(zip(COLUMNS, query_row(seq, seq, record, None, NO_IDS), strict=True)))
        for seq, record in enumerate(batch.records, first_seq)
    ]


def _bulk_create(first_seq: int, batch: Batch) -> None:
    RingRow.objects.using(ALIAS).bulk_create(
        _models(first_seq, batch),
        batch_size=BATCH_ROWS,
        update_conflicts=True,
        unique_fields=["slot"],
        update_fields=COLUMNS[1:],
    )


def _create(first_seq: int, batch: Batch) -> None:
    for row in _models(first_seq, batch):
        row.save(using=ALIAS, force_insert=True)


if __name__ == "__main__":
    main()
    connections.close_all()
