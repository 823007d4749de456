"""The writer stores everything once, holds it while the store is away, and counts what is lost."""

import threading
import time
from dataclasses import replace

import pytest

from sqllogs import writer as writer_module
from sqllogs.buffer import Buffer
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.errors import RejectedRowsError, StoreUnavailableError, StoreUnreadyError
from sqllogs.resolver import Resolver
from sqllogs.writer import Writer
from tests.sqllogs.test_resolver import captured


class FakeRing:
    """A store whose faults a test can choose."""

    def __init__(self):
        self.rows = {}
        self.fault = None
        self.fault_after_writing = None
        self.poison = ()
        self.seq = 0
        self.tallies = None
        self.closed = 0

    def reserve(self, count):
        if self.fault:
            raise self.fault
        self.seq += count
        return self.seq - count + 1

    def write(self, first_seq, batch, tallies):
        if self.fault:
            raise self.fault
        if any(record.sql_length in self.poison for record in batch.records):
            raise RejectedRowsError("poison")
        self.rows.update(enumerate(batch.records, first_seq))
        if self.fault_after_writing:
            fault, self.fault_after_writing = self.fault_after_writing, None
            raise fault
        self.tallies = tallies

    def close(self):
        self.closed += 1


@pytest.fixture
def ring():
    return FakeRing()


@pytest.fixture
def buffer():
    return Buffer(rows_max=1000, bytes_max=1 << 30)


@pytest.fixture
def writer(buffer, ring):
    made = Writer(buffer, ring, lambda: Resolver(Conf()), flush_interval_s=0.01)
    yield made
    made._stopping = True


def put(buffer, count, **changes):
    for _ in range(count):
        buffer.put(captured(**changes))


def balanced(tallies):
    return tallies.captured == tallies.stored + sum(tallies.dropped.values()) + tallies.queued


def wait_until(condition, timeout_s=5.0):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_flush_stores_what_is_in_the_buffer(writer, buffer, ring):
    put(buffer, 5)
    assert writer.flush(1)
    assert sorted(ring.rows) == [1, 2, 3, 4, 5]
    assert writer.tallies().stored == 5
    assert ring.tallies.stored == 5
    assert balanced(ring.tallies)


def test_thread_stores_within_the_interval(writer, buffer, ring):
    writer.start()
    put(buffer, 5)
    wait_until(lambda: len(ring.rows) == 5)
    assert writer.stop(1)


def test_only_one_thread_starts_however_many_ask(writer):
    before = threading.active_count()
    callers = [threading.Thread(target=writer.start) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert threading.active_count() == before + 1
    assert writer.stop(1)


def test_stop_stores_the_rest(writer, buffer, ring):
    writer.start()
    put(buffer, 900)
    assert writer.stop(3)
    assert len(ring.rows) == 900
    assert ring.closed


def test_stop_without_a_thread_stores_the_rest(writer, buffer, ring):
    put(buffer, 3)
    assert writer.stop(3)
    assert len(ring.rows) == 3


def test_records_wait_while_the_store_is_away_and_none_is_lost(writer, buffer, ring):
    ring.fault = StoreUnavailableError("away")
    put(buffer, 10)
    assert not writer.flush(1)
    assert balanced(writer.tallies())
    assert writer.tallies().queued == 10
    put(buffer, 10)
    ring.fault = None
    assert writer.flush(1)
    assert sorted(ring.rows) == list(range(1, 21))
    assert balanced(writer.tallies())


def test_batch_whose_commit_is_unknown_is_not_stored_twice(writer, buffer, ring):
    ring.fault_after_writing = StoreUnavailableError("connection lost in COMMIT")
    put(buffer, 10)
    assert not writer.flush(1)
    assert writer.flush(1)
    assert sorted(ring.rows) == list(range(1, 11))
    assert writer.tallies().stored == 10


def test_long_outage_drops_at_the_bound_and_counts(writer, buffer, ring):
    ring.fault = StoreUnavailableError("away")
    writer.flush(1)
    put(buffer, 1500)
    tallies = writer.tallies()
    assert tallies.dropped == {"buffer_rows": 500}
    assert balanced(tallies)


def test_only_the_poisoned_record_is_dropped(writer, buffer, ring):
    ring.poison = {666}
    put(buffer, 7)
    put(buffer, 1, sql_length=666)
    put(buffer, 5)
    assert writer.flush(1)
    assert len(ring.rows) == 12
    assert writer.tallies().dropped == {"rejected": 1}
    assert balanced(writer.tallies())


def test_muted_queries_are_neither_stored_nor_counted(writer, buffer, ring):
    unit = UnitOfWork("request")
    put(buffer, 3, unit=unit)
    unit.muted = True
    put(buffer, 2)
    assert writer.flush(1)
    assert len(ring.rows) == 2
    assert writer.tallies() == replace(writer.tallies(), captured=2, stored=2, queued=0)


def test_thread_backs_off_and_recovers(writer, buffer, ring, monkeypatch):
    monkeypatch.setattr(writer_module, "BACKOFF_MIN_S", 0.02)
    ring.fault = StoreUnavailableError("away")
    put(buffer, 5)
    writer.start()
    wait_until(lambda: writer._away_since_s)
    ring.fault = None
    wait_until(lambda: len(ring.rows) == 5)
    assert writer.stop(1)


def test_fault_of_ours_costs_a_batch_and_is_counted(writer, buffer, ring):
    ring.fault = ZeroDivisionError("ours")
    put(buffer, 5)
    writer.start()
    wait_until(lambda: writer.tallies().dropped == {"rejected": 5})
    ring.fault = None
    put(buffer, 5)
    wait_until(lambda: len(ring.rows) == 5)
    assert balanced(writer.tallies())


def test_stop_gives_up_on_a_store_that_never_answers(writer, buffer, ring):
    answer = threading.Event()
    ring.reserve = lambda count: answer.wait(10)
    put(buffer, 5)
    writer.start()
    wait_until(lambda: writer._held is not None)
    assert not writer.stop(0.1)
    answer.set()


def test_missing_tables_are_not_worth_a_word_at_first(writer, buffer, ring, caplog):
    ring.fault = StoreUnreadyError("migrate")
    put(buffer, 1)
    writer.flush(1)
    assert caplog.records == []
    writer._away_since_s -= writer_module.UNREADY_GRACE_S
    writer.flush(1)
    assert "migrate" in caplog.text


def test_connection_is_closed_after_idling(writer, buffer, ring, monkeypatch):
    monkeypatch.setattr(writer_module, "IDLE_S", 0.05)
    put(buffer, 1)
    writer.start()
    wait_until(lambda: ring.closed)
    assert writer.stop(1)
