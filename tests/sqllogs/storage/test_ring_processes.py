"""Processes that wrap one ring together leave exactly its newest rows, on SQLite and on PostgreSQL."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from threading import Timer

import pytest
from django.db import connections

from sqllogs.models import Process, RingHead, SQLLog
from sqllogs.storage.resize import clear, resize
from sqllogs.storage.sqlite import SQLiteStore
from tests.servers import ROOT

PROCESSES = 4
QUERIES = 150
ROUNDS, ROUNDS_WHILE_RESIZED = 12, 24
"""Enough to wrap the ring seven times; and to write until the ring has been resized and emptied thrice."""
CAPACITY_ROWS = 1_000
TIMEOUT_S = 300

WRITE = """
import json, sys
import django
from django.conf import settings

ring, capacity, rounds, queries = json.loads(sys.argv[1])
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
from sqllogs import guard, recorder

print("ready", flush=True)
sys.stdin.readline()
with connection.cursor() as cursor:
    for round in range(rounds):
        for number in range(queries):
            cursor.execute(f"SELECT 1 AS c{number % 50}")
        recorder.flush(100)
recorder.close()
print(json.dumps([dict(guard.faults), recorder.recorder.delivery.counts().queued]))
"""


@pytest.fixture
def ring_alias(ring_alias, settings):
    """A ring of 1,000 rows."""
    settings.SQLLOGS = {**settings.SQLLOGS, "CAPACITY_ROWS": CAPACITY_ROWS}
    return ring_alias


@contextmanager
def writing(ring_database, rounds):
    """Let the processes write for the time of a block and to their end; fail with what went wrong in them."""
    argument = json.dumps([ring_database, CAPACITY_ROWS, rounds, QUERIES], default=str)
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITE, argument],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * PROCESSES
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        yield
        output = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert output == [("[{}, 0]\n", "")] * PROCESSES


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
