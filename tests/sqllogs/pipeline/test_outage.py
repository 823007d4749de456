"""The application goes on while the ring's database is away, full or hostile; nothing is lost uncounted."""

import subprocess
import sys
import time
from threading import current_thread

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

from sqllogs import conf
from sqllogs.errors import StoreUnavailableError
from sqllogs.models import RingHead, SQLLog
from sqllogs.pipeline.resolver import Resolver
from sqllogs.statistics.resolution import MINUTE_S
from sqllogs.storage import ring as storage_ring
from sqllogs.storage.ring import Ring
from tests.servers import ROOT
from tests.sqllogs.factories import changed
from tests.sqllogs.pipeline.test_writer import wait_until
from tests.sqllogs.recording import TIMEOUT_S, is_balanced, recording
from tests.sqllogs.rings import ALIAS, database, seqs
from tests.sqllogs.statistics_of import counted, expected

HANG_S = 60
"""Only a process that hangs takes this long to end."""


@pytest.fixture
def application(tmp_path, django_db_blocker):
    """An application on SQLite: called with a number, it sends that many queries."""

    def ask(count, statement="SELECT 1"):
        with connections["application"].cursor() as cursor:
            for _ in range(count):
                cursor.execute(statement)

    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with django_db_blocker.unblock(), database("application", settings_dict):
        yield ask


@pytest.fixture
def unmigrated(empty_ring_database, settings, application):
    """The alias of a ring without tables."""
    settings.SQLLOGS = {"DATABASE": ALIAS}
    with database(ALIAS, empty_ring_database):
        yield ALIAS


on_postgresql = pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
on_every_database = pytest.mark.parametrize(
    "ring_database", ["sqlite", "postgresql", "mariadb"], indirect=True
)


@on_postgresql
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_lost_while_the_store_is_away(
    end, application, ring_alias, fragile_postgresql, monkeypatch
):
    with recording(ring_alias, flush_interval_s=0.02, capacity_rows=100_000) as recorder:
        tried_in = set()
        connect = storage_ring._open_store
        monkeypatch.setattr(
            storage_ring, "_open_store", lambda alias: tried_in.add(current_thread().name) or connect(alias)
        )
        for _ in range(3):
            application(500)
            time.sleep(0.05)
        getattr(fragile_postgresql, end)()
        away_until_s = time.monotonic() + 2
        while time.monotonic() < away_until_s:
            application(100)
            time.sleep(0.05)
        assert tried_in == {"sqllogs-writer"}  # the application's thread neither tries nor waits
        assert recorder.delivery.counts().queued
        fragile_postgresql.start()
        wait_until(lambda: recorder.delivery.counts().stored == recorder.buffer.captured)
        counts = recorder.delivery.counts()
    connections[ring_alias].close()  # the server has cut it
    assert counts.captured > 1500
    assert is_balanced(counts)
    assert len(seqs(ring_alias)) == counts.stored


@on_postgresql
def test_reserved_block_is_not_given_out_again_after_a_crash(ring_alias, fragile_postgresql):
    """A batch that holds it is tried again, and must not meet another's."""
    ring = Ring(conf.load())
    first = ring.reserve(10)
    fragile_postgresql.kill()
    fragile_postgresql.start()
    with pytest.raises(StoreUnavailableError):  # on the connection that the crash has cut
        ring.reserve(10)
    assert ring.reserve(10) == first + 10
    ring.close()


@on_sqlite
def test_long_outage_is_bounded_and_counted(application, unmigrated):
    with recording(unmigrated, buffer_rows=1_000) as recorder:
        application(2_500)
        assert not recorder.writer.flush(TIMEOUT_S)
        counts = recorder.delivery.counts()
        assert counts.dropped["buffer_rows"] >= 500
        assert is_balanced(counts)
        call_command("migrate", database=unmigrated, verbosity=0)
        assert recorder.writer.flush(TIMEOUT_S)
        assert is_balanced(recorder.delivery.counts())
        assert len(seqs(unmigrated)) == recorder.delivery.counts().stored >= 1_000


@on_every_database
def test_records_wait_for_the_tables_to_be_migrated(application, unmigrated):
    with recording(unmigrated) as recorder:
        application(10)
        assert not recorder.writer.flush(TIMEOUT_S)
        application(10)
        call_command("migrate", database=unmigrated, verbosity=0)
        assert recorder.writer.flush(TIMEOUT_S)
    assert seqs(unmigrated) == list(range(1, 21))


EXITING = """
import sys, time
import django
django.setup()
from django.db import connection, connections
from sqllogs import recorder

def ask(count):
    with connection.cursor() as cursor:
        for _ in range(count):
            cursor.execute("SELECT 1")

def wait_for_the_store(seconds):
    connections.settings["sqllogs"]["OPTIONS"]["connect_timeout"] = seconds

wait_for_the_store({patience_s})
if {connected}:
    ask(10)
    assert recorder.flush()
print("ready", flush=True)
sys.stdin.readline()
ask(5_000)
{then}
"""


@on_postgresql
@pytest.mark.parametrize(
    ("patience_s", "connected", "then"),
    [
        (3600, True, ""),  # the writer waits for an answer
        (3600, False, ""),  # it waits for a connection
        (2, False, "time.sleep(3); wait_for_the_store(3600)"),  # it has waited for one in vain, and backs off
        (3600, True, "assert not recorder.flush()"),  # the program asks for a flush first
    ],
)
def test_exit_does_not_wait_for_a_store_that_never_answers(
    patience_s, connected, then, site, ring_alias, fragile_postgresql
):
    """The store is frozen until the test ends, and no time-out of a connection's comes before that."""
    cluster = fragile_postgresql
    address = {"PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.user}
    process = subprocess.Popen(
        [sys.executable, "-c", EXITING.format(patience_s=patience_s, connected=connected, then=then)],
        cwd=ROOT,
        env=site | address | {"SQLLOGS_DATABASE_NAME": "ring"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        cluster.pause()
        _, complaint = process.communicate("go\n", timeout=HANG_S)
        assert process.returncode == 0
        assert "5000 SQL log records" in complaint
    finally:
        process.kill()
        process.communicate()


@on_sqlite
def test_full_disk_is_survived(application, ring_alias):
    """A bound of pages is how SQLite is told that a disk is small; the error is that of a full one."""
    options = connections.settings[ring_alias]["OPTIONS"]
    with recording(ring_alias, capacity_rows=10_000, buffer_rows=3_000) as recorder:
        options["init_command"] = "PRAGMA max_page_count = 60"
        for _ in range(4):
            application(1_000)
            recorder.writer.flush(TIMEOUT_S)
        full = recorder.delivery.counts()
        assert full.queued
        assert is_balanced(full)
        application(3_000)
        assert recorder.delivery.counts().dropped["buffer_rows"]
        del options["init_command"]
        recorder.ring.close()
        assert recorder.writer.flush(TIMEOUT_S)
        counts = recorder.delivery.counts()
    assert is_balanced(counts)
    assert seqs(ring_alias) == list(range(1, counts.stored + 1))
    with connections[ring_alias].cursor() as cursor:
        assert cursor.execute("PRAGMA integrity_check").fetchone() == ("ok",)


POISON = "SELECT 1 AS poison"
POISONS = [
    # What is wrong with the record, and the databases that refuse it.
    ({"rows": 2**70}, {"sqlite", "postgresql", "mysql"}),  # no 64-bit integer
    ({"view": "\ud800"}, {"sqlite", "postgresql", "mysql"}),  # no UTF-8
    ({"view": "\0"}, {"postgresql"}),
    ({"sqlstate": "too long"}, {"postgresql", "mysql"}),  # found by the server, not by the driver
    ({"sqlstate": object()}, {"sqlite", "postgresql", "mysql"}),  # no type of the database's
    ({"sql_length": None}, {"sqlite", "postgresql", "mysql"}),  # NOT NULL
]
POISON_IDS = [
    "rows-too-large",
    "view-no-utf8",
    "view-nul",
    "sqlstate-too-long",
    "sqlstate-no-type",
    "length-null",
]


@on_every_database
@pytest.mark.parametrize(("poison", "refusing"), POISONS, ids=POISON_IDS)
def test_only_the_record_that_the_store_refuses_is_dropped(
    poison, refusing, application, ring_alias, monkeypatch
):
    resolve = Resolver._record

    def resolve_and_poison(self, captured, *args):
        record = resolve(self, captured, *args)
        return changed(record, **poison) if captured[2] == POISON else record

    monkeypatch.setattr(Resolver, "_record", resolve_and_poison)
    with recording(ring_alias, flush_interval_s=60) as recorder:
        for count, statement in ((20, "SELECT 1"), (1, POISON), (20, "SELECT 1")):
            application(count, statement)
        assert recorder.writer.flush(TIMEOUT_S)
        counts = recorder.delivery.counts()
    refused = {"rejected": 1} if connections[ring_alias].vendor in refusing else {}
    assert counts.dropped == refused
    assert SQLLog.objects.using(ring_alias).count() == counts.stored == 41 - len(refused)
    assert counted(ring_alias, MINUTE_S) == expected(SQLLog.objects.using(ring_alias), MINUTE_S)
    assert is_balanced(counts)


@on_postgresql
def test_batch_is_stored_once_when_its_commit_is_not_confirmed(application, ring_alias, postgresql):
    with recording(ring_alias, flush_interval_s=60) as recorder:
        application(10)
        assert recorder.writer.flush(TIMEOUT_S)
        cut_after_the_second_commit(recorder, postgresql)
        application(10)
        assert not recorder.writer.flush(TIMEOUT_S)
        assert SQLLog.objects.using(ring_alias).count() == 20
        application(10)
        assert recorder.writer.flush(TIMEOUT_S)
        counts = recorder.delivery.counts()
    assert (counts.captured, counts.stored, counts.queued) == (30, 30, 0)
    assert seqs(ring_alias) == list(range(1, 31))
    assert RingHead.objects.using(ring_alias).get().seq == 30
    assert counted(ring_alias, MINUTE_S) == expected(SQLLog.objects.using(ring_alias), MINUTE_S)


def cut_after_the_second_commit(recorder, postgresql):
    """End the writer's server process after it has committed a batch; the first commit is of its numbers."""
    raw = recorder.ring._store._raw
    execute = raw.execute
    commits = []

    def execute_and_cut(statement, *parameters):
        result = execute(statement, *parameters)
        if statement == "COMMIT":
            commits.append(statement)
        if len(commits) == 2:
            postgresql.execute("SELECT pg_terminate_backend(%s)", raw.info.backend_pid)
            with pytest.raises(psycopg.OperationalError) as lost:
                execute("SELECT 1")
            raise lost.value
        return result

    raw.execute = execute_and_cut
