"""Processes that wrap one ring together leave exactly its newest rows, each with its unit of work."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager
from threading import Timer

import pytest
from django.db import connections
from django.db.models import Sum

from sqllogs.models import Process, RingHead, SQLLog, Statement, Statistic, Unit
from sqllogs.statistics.resolution import MINUTE_S
from sqllogs.storage.resize import clear, resize
from sqllogs.storage.sqlite import SQLiteStore
from tests.servers import ROOT
from tests.sqllogs.pipeline.test_writer import wait_until

PROCESSES = 4
QUERIES = 150
ROUNDS, ROUNDS_WITH_A_KILL, ROUNDS_WHILE_RESIZED = 12, 6, 24
"""Enough to wrap the ring seven times; thrice; and to write until it has been resized and emptied thrice."""
CAPACITY_ROWS = 1_000
TIMEOUT_S = 300

WRITE = """
import json, sys
import django
from django.conf import settings

ring, capacity, rounds, queries, name = json.loads(sys.argv[1])
if "mysql" in ring["ENGINE"]:
    import tests.mysqldb  # noqa: F401
settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        "sqllogs": ring,
    },
    SQLLOGS={"CAPACITY_ROWS": capacity, "BUFFER_ROWS": 1_000_000},
    USE_TZ=True,
)
django.setup()

from django.db import connection
from sqllogs import guard, recorder, unit_of_work

print("ready", flush=True)
sys.stdin.readline()
with connection.cursor() as cursor:
    for round in range(rounds):
        with unit_of_work("task", name):
            for number in range(queries):
                cursor.execute(f"SELECT 1 AS {name}_{number % 50}")
        recorder.flush(100)
recorder.close()
print(json.dumps([dict(guard.faults), recorder.recorder.delivery.counts().queued]))
"""


@pytest.fixture
def ring_alias(ring_alias, settings):
    """A ring of 1,000 rows."""
    settings.SQLLOGS = {**settings.SQLLOGS, "CAPACITY_ROWS": CAPACITY_ROWS}
    return ring_alias


def start(ring_database, rounds, name):
    argument = json.dumps([ring_database, CAPACITY_ROWS, rounds, QUERIES, name], default=str)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITE, argument],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def writing(ring_database, rounds, *, endless=0):
    """Let the processes write for the time of a block and to their end; fail with what went wrong in them.

    Give them; the first `endless` of them have to be killed in the block.
    """
    processes = [
        start(ring_database, 1_000_000 if number < endless else rounds, f"p{number}")
        for number in range(PROCESSES)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * PROCESSES
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        yield processes
        output = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes[:endless]] == [-signal.SIGKILL] * endless
    assert output[endless:] == [("[{}, 0]\n", "")] * (PROCESSES - endless)


def assert_exact(ring_alias, capacity, rounds):
    """The ring holds its newest rows, each in its slot, and every process has stored what it captured."""
    rows = list(SQLLog.objects.using(ring_alias).order_by("seq").values_list("seq", "slot"))
    last = RingHead.objects.using(ring_alias).get().seq
    assert [seq for seq, _ in rows] == list(range(last - capacity + 1, last + 1))
    assert all(slot == seq % capacity for seq, slot in rows)
    written = PROCESSES * rounds * QUERIES
    accounts = Process.objects.using(ring_alias).values_list("captured", "stored", "dropped", "queued")
    assert list(accounts) == [(rounds * QUERIES, rounds * QUERIES, {}, 0)] * PROCESSES
    assert last == written


def test_ring_wrapped_by_four_processes_holds_exactly_the_newest(ring_alias, ring_database):
    with writing(ring_database, ROUNDS):
        pass
    assert_exact(ring_alias, CAPACITY_ROWS, ROUNDS)


def test_ring_is_resized_and_emptied_while_four_processes_write(ring_alias, ring_database):
    with writing(ring_database, ROUNDS_WHILE_RESIZED):
        for capacity in (300, 1_700, 600):
            list(resize(capacity))
            list(clear())
    assert_exact(ring_alias, 600, ROUNDS_WHILE_RESIZED)


def kill_while_it_writes(process, ring_alias):
    """Kill a process that has stored some of its rounds."""
    stored = Process.objects.using(ring_alias).filter(pid=process.pid, stored__gt=2 * QUERIES)
    wait_until(stored.exists)
    process.kill()
    process.wait()


def assert_units_balance(ring_alias, rounds, killed):
    """Each record has the unit that sent it, each unit its records, and the statistics have both."""
    texts = dict(Statement.objects.using(ring_alias).values_list("fingerprint", "sql"))
    rows = list(SQLLog.objects.using(ring_alias).values_list("fingerprint", "view", "unit"))
    assert all(texts[fingerprint].split()[-1].startswith(f"{view}_") for fingerprint, view, _ in rows)
    of_unit = Counter(unit for _, _, unit in rows)
    units = Unit.objects.using(ring_alias).filter(kind="task")
    ids = [unit_id for (unit_id,) in units.values_list("unit_id")]
    assert len(ids) == len(set(ids))
    found = {unit.slot: unit for unit in units}
    assert of_unit.keys() <= found.keys()
    assert all(count <= found[slot].queries <= QUERIES for slot, count in of_unit.items())
    unfinished = [unit for unit in found.values() if unit.ended_at is None or unit.queries != QUERIES]
    assert {unit.pid for unit in unfinished} <= {killed.pid}
    assert len(unfinished) <= 1  # the one that was running
    stored = dict(Process.objects.using(ring_alias).values_list("pid", "stored"))
    left = [count for pid, count in stored.items() if pid != killed.pid]
    assert left == [rounds * QUERIES] * (PROCESSES - 1)
    calls, of_units = (
        Statistic.objects.using(ring_alias).filter(resolution_s=seconds).aggregate(Sum("calls"))["calls__sum"]
        for seconds in (MINUTE_S, -MINUTE_S)
    )
    assert calls == sum(stored.values())
    finished = stored[killed.pid] // QUERIES
    assert rounds * (PROCESSES - 1) + finished - 1 <= of_units <= rounds * (PROCESSES - 1) + finished


def test_units_of_four_processes_balance_though_one_is_killed(ring_alias, ring_database):
    with writing(ring_database, ROUNDS_WITH_A_KILL, endless=1) as processes:
        kill_while_it_writes(processes[0], ring_alias)
    assert_units_balance(ring_alias, ROUNDS_WITH_A_KILL, processes[0])


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("lock", ["SHARED", "RESERVED"])
def test_first_connection_waits_until_it_can_switch_to_write_ahead(ring_alias, ring_database, lock):
    """While another reads or writes a file that is not in WAL mode, SQLite refuses to switch at once."""
    busy = sqlite3.connect(ring_database["NAME"], isolation_level=None, check_same_thread=False)
    with closing(busy):
        busy.execute("BEGIN IMMEDIATE" if lock == "RESERVED" else "BEGIN")
        busy.execute(f"SELECT * FROM {RingHead._meta.db_table}").fetchall()
        free = Timer(0.2, busy.execute, ["COMMIT"])
        free.start()
        try:
            SQLiteStore(ring_alias).close()
        finally:
            free.join()
    with closing(sqlite3.connect(ring_database["NAME"])) as later:
        assert later.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("change", [lambda: resize(5), clear], ids=["resize", "clear"])
def test_change_of_the_ring_waits_longer_than_its_alias_would(ring_alias, ring_database, change):
    connections[ring_alias].settings_dict["OPTIONS"]["timeout"] = 0
    busy = sqlite3.connect(ring_database["NAME"], isolation_level=None, check_same_thread=False)
    with closing(busy):
        busy.execute("BEGIN IMMEDIATE")
        free = Timer(0.2, busy.execute, ["COMMIT"])
        free.start()
        try:
            list(change())
        finally:
            free.join()
