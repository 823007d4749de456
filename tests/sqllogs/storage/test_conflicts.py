"""Transactions of several processes that lock the same rows do not make each other fail."""

import random
from threading import Thread
from time import sleep

import pytest
from django.db import connections, transaction

from sqllogs import conf, guard
from sqllogs.capture import error_code
from sqllogs.context import UnitOfWork
from sqllogs.models import Event, Process, SQLLog, Statement
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.storage import database, failures, resize
from sqllogs.storage.database import close_connection, open_connection, used_by_orm
from sqllogs.storage.ring import Ring
from tests.sqllogs import rings
from tests.sqllogs.factories import BEGINNING
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.storage.test_ring import TALLIES, batch, write

WRITERS = 4
ROUNDS = 12
UNITS, QUERIES = 10, 10
"""Of a round."""
STATEMENTS = 100


PATIENT = {
    "read_timeout": 100, "write_timeout": 100, "init_command": "SET SESSION innodb_lock_wait_timeout = 90",
}  # fmt: skip
"""Writers that a busy machine keeps from running hold their locks for longer than others wait."""


@pytest.fixture
def ring(ring_alias, settings, monkeypatch):
    monkeypatch.setitem(database._OPTIONS, "mysql", database._OPTIONS["mysql"] | PATIENT)
    settings.SQLLOGS = {**settings.SQLLOGS, "CAPACITY_ROWS": 1_000}
    ring = Ring(conf.load())
    write(ring, 1)  # the rows that all of them lock exist
    yield ring
    ring.close()


def test_writers_and_cleanups_do_not_conflict(ring, ring_alias, monkeypatch):
    monkeypatch.setattr(failures, "CONFLICTS_MAX", 0)
    raised = []
    writers = [Thread(target=write_rounds, args=(seed, raised)) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert raised == []
    stored = Process.objects.using(ring_alias).exclude(captured=TALLIES.captured)
    assert [row.stored for row in stored] == [ROUNDS * UNITS * QUERIES] * WRITERS


def write_rounds(seed, raised):
    """Write as a process of its own does, and clean up as it does now and then."""
    chosen, ring = random.Random(seed), Ring(conf.load())
    buffer = Buffer(rows_max=10_000, bytes_max=1 << 30)
    delivery = Delivery(buffer, ring, lambda: Resolver(conf.load()), Sinks([]))
    try:
        for number in range(ROUNDS):
            for unit in (UnitOfWork("request") for _ in range(UNITS)):
                for _ in range(QUERIES):
                    buffer.put(captured(unit=unit, sql=f"SELECT a{chosen.randrange(STATEMENTS)}"))
            delivery.write_all()
            if number % WRITERS == seed:
                ring._store.evict_statements(STATEMENTS // 3)
                ring._store.evict_sources()
                ring._store.limit_processes()
                ring._store.roll_up(1 << 40)
                ring._store.delete_statistics(60, 1 << 40)
                ring._store.delete_keys(1)
    except Exception as exc:
        raised.append(exc)
    finally:
        ring.close()
        connections.close_all()


@pytest.mark.parametrize("ring_database", ["postgresql", "mariadb"], indirect=True)
def test_transaction_that_a_deadlock_rolls_back_is_repeated(ring, ring_alias, monkeypatch, request):
    codes = []
    monkeypatch.setattr(failures, "error_code", lambda exc: codes.append(error_code(exc)) or codes[-1])
    part = batch(1, "SELECT other")
    (fingerprint,) = part.statements
    writer = Thread(target=write_part, args=(ring, part))
    texts = Statement.objects.using(ring_alias)
    other = open_connection(ring_alias)
    server = request.getfixturevalue(rings.server(connections.settings[ring_alias]))
    with used_by_orm(other, ring_alias), transaction.atomic(using=ring_alias):
        if other.vendor == "postgresql":  # whoever asks first is rolled back, and asks only once
            server.execute("ALTER ROLE CURRENT_USER SET deadlock_timeout = '4s'")
            other.cursor().execute("SET deadlock_timeout = '60s'")
            request.addfinalizer(lambda: server.execute("ALTER ROLE CURRENT_USER RESET deadlock_timeout"))
            ring.close()
        # On MariaDB it is who has changed less.
        texts.bulk_create(Statement(fingerprint=f"{number:016x}", **TEXT) for number in range(500))
        texts.create(fingerprint=fingerprint, **TEXT)
        writer.start()
        while not server.execute(WAITING[other.vendor])[0][0]:
            assert writer.is_alive()
            sleep(0.2)  # MariaDB's table shows the same for 0.1 s after it was read
        Process.objects.using(ring_alias).update(pid=2)
    close_connection(other)
    writer.join()
    assert codes in (["40P01"], ["40001"])
    assert SQLLog.objects.using(ring_alias).filter(fingerprint=fingerprint).count() == 1


TEXT = {"sql": "", "operation": "", "tables": "", "first_seen": BEGINNING, "last_seen": BEGINNING}
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def write_part(ring, part):
    ring.write(ring.reserve(1), part, TALLIES)
    ring.close()
    connections.close_all()


@pytest.mark.parametrize("ring_database", ["mariadb"], indirect=True)
def test_server_stops_waiting_for_a_lock_before_the_writer_does(ring_alias):
    connection = open_connection(ring_alias)
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_lock_wait_timeout")
        assert cursor.fetchone()[0] < connection.get_connection_params()["read_timeout"]
    close_connection(connection)


class Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("part", "name", "calls"),
    [
        ("_texts", "rows", 2),  # deletes texts if there are too many
        ("_store", "store_event", 2),
        ("_store", "roll_up", 1),  # due again at the next interval
        ("_store", "acquire_cleanup_lease", 1),
    ],
)
def test_deadlock_beside_the_batch_is_no_fault(ring_alias, settings, monkeypatch, part, name, calls):
    settings.SQLLOGS = {**settings.SQLLOGS, "RELEASE": "1"}
    ring, called = Ring(conf.load()), []
    ring.reserve(1)
    usual = getattr(getattr(ring, part), name)

    def first_conflicts(*arguments):
        called.append(arguments)
        if len(called) == 1:
            raise Deadlock
        return usual(*arguments)

    monkeypatch.setattr(getattr(ring, part), name, first_conflicts)
    before = dict(guard.faults)
    write(ring, 1)
    assert (len(called), dict(guard.faults)) == (calls, before)
    ring._retention._due_at_s = 0.0
    write(ring, 1)
    ring.close()
    assert len(called) >= 2
    assert dict(guard.faults) == before
    assert SQLLog.objects.using(ring_alias).count() == 2
    assert Event.objects.using(ring_alias).get().text == "1"


@pytest.mark.parametrize(
    ("change", "total", "kept"),
    [(lambda: resize.resize(2), 2, [2, 3]), (resize.clear, 3, [])],
    ids=["resize", "clear"],
)
def test_change_of_the_ring_is_repeated_after_a_deadlock(ring, ring_alias, monkeypatch, change, total, kept):
    write(ring, 2)
    called, usual = [], resize._delete_all

    def first_conflicts(*arguments):
        usual(*arguments)
        called.append(arguments)
        if len(called) == 1:
            raise Deadlock

    monkeypatch.setattr(resize, "_delete_all", first_conflicts)
    assert list(change())[-1] == (total, total)
    assert called[1] == called[0]
    assert rings.seqs(ring_alias) == kept
    monkeypatch.setattr(resize, "_delete_all", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(change())
    monkeypatch.undo()
    list(change())
    assert rings.seqs(ring_alias) == kept
