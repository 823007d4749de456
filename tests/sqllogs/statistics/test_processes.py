"""Statistics and units of many processes, restarted and killed, agree with a log that each keeps beside."""

import json
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

from sqllogs import conf
from sqllogs.models import Process, SQLLog, Statistic, Unit
from sqllogs.statistics.resolution import MINUTE_S, RESOLUTIONS_S
from sqllogs.storage.ring import Ring
from tests.servers import ROOT
from tests.sqllogs.statistics_of import counted, expected

PROCESSES = 3
RESTARTS = 2
FLUSHES, QUERIES = 8, 60
KILLED = 1
"""The run in which one process is killed, half-way."""
TIMEOUT_S = 300

WRITE = """
import json, sys, time
from itertools import count
from types import SimpleNamespace
import django
from django.conf import settings

ring, path, seed, flushes, queries = json.loads(sys.argv[1])
if "mysql" in ring["ENGINE"]:
    import tests.mysqldb  # noqa: F401
settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, "sqllogs": ring},
    SQLLOGS={
        "CAPACITY_ROWS": 100_000, "FLUSH_INTERVAL_S": 0.05, "RELEASE": "1",
        "STATISTICS_MINUTE_DAYS": 4000, "STATISTICS_HOUR_DAYS": 4000,
    },
    USE_TZ=True,
)
django.setup()

from django.db import connection
from sqllogs import guard, recorder, unit_of_work
from sqllogs.capture import wrapper
from sqllogs.pipeline.sinks import Sinks
from sqllogs.statistics import resolution

class FullLog:
    def __init__(self):
        self.file = open(path, "a", buffering=1)

    def add(self, batch):
        for record in batch.records:
            time_and_rest = record.time.isoformat(), record.fingerprint, record.duration_ms
            self.file.write(json.dumps([*time_and_rest, record.error, record.rows]) + "\\n")

    def close(self, timeout_s):
        self.file.close()

recorder.recorder.delivery._sinks = Sinks([FullLog()])
resolution.INTERVAL_S = 0.0

# A query every 7 s, over hours, from a time of this process's own. Minutes are rolled up by that
# time too, so what is behind comes to minutes that are rolled up, or just being so.
ticks = count(1_769_860_800_000_000_000 + seed * 1_800_000_000_000, 7_000_000_000)
now_ns = next(ticks)

def tick():
    global now_ns
    now_ns = next(ticks)
    return now_ns

wrapper.time_ns = tick
resolution.time = SimpleNamespace(monotonic=time.monotonic, time=lambda: now_ns / 1e9)

print("ready", flush=True)
sys.stdin.readline()
answered = open(path + ".units", "a", buffering=1)
with connection.cursor() as cursor:
    for number in range(flushes * queries):
        with unit_of_work("task", "one") as unit:
            try:
                cursor.execute(f"SELECT {'nothing' * (number % 11 == 0)} 1 AS c{number % 5}")
            except Exception:
                pass
        answered.write(f"{unit.span_id:016x}\\n")
        if number % queries == queries - 1:
            recorder.flush(100)
        if number == flushes * queries // 2:
            print("half", flush=True)
            if seed < 0:
                sys.stdin.readline()
recorder.close()
print(json.dumps([dict(guard.faults), recorder.recorder.delivery.counts().queued]))
"""


def start(ring_database, path, seed):
    argument = json.dumps([ring_database, str(path), seed, FLUSHES, QUERIES], default=str)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITE, argument],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(ring_database, paths, first_seed, *, kill):
    """Let one process for each path write to its end, but kill the first if asked to; return its pid."""
    processes = [
        start(ring_database, path, -1 if kill and path is paths[0] else first_seed + number)
        for number, path in enumerate(paths)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * len(paths)
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert processes[0].stdout.readline() == "half\n"
        if kill:
            processes[0].kill()
        output = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert output[1:] == [("half\n[{}, 0]\n", "")] * (len(paths) - 1)
    return processes[0].pid


def logged(path):
    for line in path.read_text().splitlines():
        time, fingerprint, duration_ms, error, rows = json.loads(line)
        yield SimpleNamespace(
            time=datetime.fromisoformat(time),
            fingerprint=fingerprint,
            duration_ms=duration_ms,
            error=error,
            rows=rows,
        )


def units_of(path):
    """Return the ids of the units that have ended in a process, in order."""
    return Path(f"{path}.units").read_text().split()


def check_units(ring_alias, answered, killed):
    """Each unit that has ended has one row; of a killed process those of its last flush may lack one."""
    rows = Unit.objects.using(ring_alias).filter(kind="task")
    found = Counter(rows.values_list("unit_id", flat=True))
    assert set(found.values()) == {1}
    assert set(answered) <= set(found)
    assert set(found) <= {*answered, *killed}
    completed = rows.filter(ended_at__isnull=False, queries=1, unit_id__in=answered)
    assert completed.count() == len(answered)
    first_lost = next((place for place, unit in enumerate(killed) if unit not in found), len(killed))
    assert len(killed) - first_lost <= 2 * QUERIES
    # Counted in the transaction that has written the last of them, or a later one.
    counts = Statistic.objects.using(ring_alias).filter(resolution_s=-MINUTE_S)
    assert len(answered) <= sum(counts.values_list("calls", flat=True)) <= len(found)
    assert sum(Process.objects.using(ring_alias).values_list("units_dropped", flat=True)) == 0


def test_statistics_agree_with_full_logs_over_processes_restarts_and_a_kill(
    ring_alias, ring_database, tmp_path, settings
):
    settings.SQLLOGS = {**settings.SQLLOGS, "CAPACITY_ROWS": 100_000}
    log, answered, killed = [], [], []
    for number in range(RESTARTS + 1):
        paths = [tmp_path / f"{number}-{process}" for process in range(PROCESSES)]
        pid = run(ring_database, paths, number * PROCESSES, kill=number == KILLED)
        if number == KILLED:
            stored = list(SQLLog.objects.using(ring_alias).filter(pid=pid))
            killed = units_of(paths[0])
            lost = Counter(map(str, logged(paths.pop(0))))
            assert 0 < len(stored) <= lost.total()
            # Its log has the batch under way, which is less than one flush here.
            assert lost.total() - len(stored) <= 2 * QUERIES
            log += stored
        log += [record for path in paths for record in logged(path)]
        answered += [unit for path in paths for unit in units_of(path)]
    check_units(ring_alias, answered, killed)
    ring = Ring(conf.load())
    ring.reserve(1)
    while ring._store.roll_up(1 << 40):
        pass
    ring.close()
    assert len(log) > ((RESTARTS + 1) * PROCESSES - 1) * FLUSHES * QUERIES
    for resolution_s in RESOLUTIONS_S:
        assert counted(ring_alias, resolution_s) == expected(log, resolution_s)
    assert sum(Process.objects.using(ring_alias).values_list("stored", flat=True)) == len(log)
