"""Many application processes on one PostgreSQL ring: what a flush and a row cost its server.

Each simulated process has its own buffer, connection and schedule, as
in production; a few real processes drive them. The same number of records a
second comes from 1, 10 or 80 of them, and what counts is the server's CPU time,
since the clients share this machine with it.
"""

import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from benchmarks.report import table  # noqa: E402
from benchmarks.samples import captured  # noqa: E402
from benchmarks.stores import ALIAS, Database, recorder  # noqa: E402
from sqllogs.recorder import Recorder  # noqa: E402
from tests.postgresql import Cluster  # noqa: E402

CAPACITY_ROWS = 100_000
FLUSH_INTERVAL_S = 0.5
SECONDS = 10.0
DRIVERS = 2
FLEETS = ((1, 2_000), (10, 2_000), (80, 2_000), (80, 200))
"""Application processes, and records a second from all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    flushes: int
    rows: int
    late_ms: list[float]
    """How long after its time each flush was stored."""


def main() -> None:
    with Cluster() as cluster:
        rows = [_fleet(cluster, *fleet) for fleet in FLEETS]
    table(
        f"A fleet on one PostgreSQL ring of {CAPACITY_ROWS:,} rows, a flush each {FLUSH_INTERVAL_S} s",
        (
            "processes", "records/s", "flushes/s", "stored/s", "server CPU us a record",
            "server CPU us a flush", "server's share of a core %", "p95 late ms",
        ),
        rows,
    )  # fmt: skip


def _fleet(cluster: Cluster, processes: int, records_per_s: int) -> tuple[object, ...]:
    database = Database(
        vendor="postgresql", settings=cluster.create_database("ring"), capacity_rows=CAPACITY_ROWS
    )
    with database.connected():
        call_command("migrate", database=ALIAS, verbosity=0)
    assert cluster._process
    server = cluster._process.pid
    before_s = cpu_s(server)
    measured = _drive(database, processes, records_per_s / processes)
    used_s = cpu_s(server) - before_s
    flushes, rows = sum(one.flushes for one in measured), sum(one.rows for one in measured)
    late_ms = [late for one in measured for late in one.late_ms]
    return (
        processes,
        records_per_s,
        flushes / SECONDS,
        rows / SECONDS,
        used_s / rows * 1e6,
        used_s / flushes * 1e6,
        100 * used_s / SECONDS,
        quantiles(late_ms, n=20)[-1],
    )


def _drive(database: Database, processes: int, records_per_s: float) -> list[Measured]:
    context = multiprocessing.get_context("spawn")
    drivers = min(DRIVERS, processes)
    barrier = context.Barrier(drivers)
    results: Any = context.SimpleQueue()
    children = [
        context.Process(
            target=_driver, args=(database, processes // drivers, records_per_s, barrier, results)
        )
        for _ in range(drivers)
    ]
    for child in children:
        child.start()
    measured = [results.get() for _ in children]
    for child in children:
        child.join()
    return measured


def _driver(database: Database, processes: int, records_per_s: float, barrier: Any, results: Any) -> None:
    with database.connected():
        recorders = [recorder() for _ in range(processes)]
        for one in recorders:  # connected, texts known, before the clock starts
            _flush(one, 200)
        barrier.wait()
        results.put(_flush_by_schedule(recorders, records_per_s))
        for one in recorders:
            one.ring.close()


def _flush_by_schedule(recorders: list[Recorder], records_per_s: float) -> Measured:
    began_s = time.monotonic()
    # Spread over the interval, as processes that have started at their own times are.
    due = [
        began_s + number * FLUSH_INTERVAL_S / len(recorders) + turn * FLUSH_INTERVAL_S
        for turn in range(int(SECONDS / FLUSH_INTERVAL_S))
        for number in range(len(recorders))
    ]
    late_ms = []
    rows = max(1, round(records_per_s * FLUSH_INTERVAL_S))
    for number, due_s in enumerate(due):
        time.sleep(max(0.0, due_s - time.monotonic()))
        _flush(recorders[number % len(recorders)], rows)
        late_ms.append((time.monotonic() - due_s) * 1000)
    return Measured(flushes=len(due), rows=rows * len(due), late_ms=late_ms)


def _flush(one: Recorder, rows: int) -> None:
    for record in captured(rows):
        one.buffer.put(record)
    one.delivery.write_all()


def cpu_s(server: int) -> float:
    """Return the CPU seconds of a server, its processes and those of them that have ended."""
    own = _times(server)
    children = [
        int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == server
    ]
    ticks = sum(own) + sum(sum(_times(child)[:2]) for child in children)
    return ticks / os.sysconf("SC_CLK_TCK")


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _times(pid: int) -> list[int]:
    """Return user and system time, then those of children that have been waited for, in ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0, 0, 0, 0]
    return [int(field) for field in fields[11:15]]


if __name__ == "__main__":
    main()
