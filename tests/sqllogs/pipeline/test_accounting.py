"""captured == stored + sampled_out + dropped + queued, whatever raises wherever, and for others' records."""

import sys
import threading
from collections import deque

import pytest

from sqllogs import context, guard
from sqllogs.context import UnitOfWork, unit_of_work
from sqllogs.errors import RejectedRowsError, StoreUnavailableError
from sqllogs.pipeline.buffer import Buffer, OpenFetches
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.writer import Writer
from sqllogs.record import Sample
from sqllogs.statistics import counting
from tests.sqllogs.fake_ring import balanced
from tests.sqllogs.recording import TIMEOUT_S, is_balanced, recording


@pytest.fixture
def writer(way):
    return Writer(way.buffer, way.ring, way.delivery, flush_interval_s=60)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Buffer, "drain"),
        (OpenFetches, "split_ready"),
        (Resolver, "batch"),
        (Resolver, "_record"),
        (Sample, "split"),
    ],
)
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_account_balances_when_a_stage_raises(owner, name, error, writer, way, monkeypatch):
    def fail(*args, **kwargs):
        raise error("ours")

    way.put(10)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        try:
            writer.flush(TIMEOUT_S)
        except KeyboardInterrupt:
            assert error is KeyboardInterrupt
        assert balanced(way.counts())
        assert way.counts().captured == 10
    writer.flush(TIMEOUT_S)
    assert balanced(way.counts())
    assert way.counts().queued == 0
    if error is KeyboardInterrupt:
        assert way.counts().stored == 10


@pytest.mark.parametrize("error", [ZeroDivisionError, StoreUnavailableError, RejectedRowsError])
def test_account_balances_when_the_ring_raises(error, writer, way):
    way.ring.fault = error("away")
    way.put(10)
    writer.flush(TIMEOUT_S)
    assert balanced(way.counts())
    way.ring.fault = None
    writer.flush(TIMEOUT_S)
    assert balanced(way.counts())
    assert way.counts().queued == 0


def test_account_balances_when_a_sink_raises(writer, way):
    way.sink.fault = ZeroDivisionError("ours")
    way.put(10)
    assert writer.flush(TIMEOUT_S)
    assert (way.counts().stored, way.counts().queued) == (10, 0)


class Strange:
    """A value of the application's that raises when it is looked at."""

    def __bool__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "poison",
    [{"kind": Strange()}, {"trace_id": "no number"}, {"request_id": Strange()}, {"view": Strange()}],
    ids=lambda poison: next(iter(poison)),
)
def test_unit_that_cannot_be_resolved_costs_nobody_else_a_record(poison, writer, way):
    good, bad = UnitOfWork("request"), UnitOfWork(poison.get("kind", "job"))
    for name, value in poison.items():
        setattr(bad, name, value)
    for unit in (good, bad, good, bad, bad, good):
        way.put(2, unit=unit)
    assert writer.flush(TIMEOUT_S)
    assert (way.counts().stored, way.counts().dropped) == (6, {"rejected": 6})
    assert guard.faults["resolver"]
    assert balanced(way.counts())
    assert {record.trace_id for record in way.ring.rows.values()} == {f"{good.trace_id:032x}"}


@pytest.mark.parametrize(
    "poison",
    [{"trace_id": "no number"}, {"request_id": Strange()}, {"view": Strange()}, {"status": "404"}],
    ids=lambda poison: next(iter(poison)),
)
def test_unit_that_ends_and_cannot_be_described_costs_nobody_else_a_record(poison, writer, way, monkeypatch):
    monkeypatch.setattr(context, "closed", deque())
    for _ in range(3):
        good, bad = UnitOfWork("request"), UnitOfWork("request")
        for name, value in poison.items():
            setattr(bad, name, value)
        way.put(1, unit=good)
        way.put(1, unit=bad)
        bad.close()
        good.close()
        writer.flush(TIMEOUT_S)
    way.put(1)
    assert writer.flush(TIMEOUT_S)
    assert {f"{good.trace_id:032x}"} < {record.trace_id for record in way.ring.rows.values()}
    assert way.counts().stored >= 4
    assert way.counts().units_dropped == 3
    assert balanced(way.counts())


def test_records_of_a_unit_that_cannot_be_described_are_stored(writer, way):
    good, bad = UnitOfWork("task", view="good"), UnitOfWork("task")
    bad.tags = Strange()
    way.put(1, unit=good)
    way.put(2, unit=bad)
    assert writer.flush(TIMEOUT_S)
    way.put(1, unit=bad)
    assert writer.flush(TIMEOUT_S)
    assert (way.counts().stored, way.counts().units_dropped) == (4, 1)
    assert [row.view for row in way.ring.unit_rows.values()] == ["good"]


def test_kind_that_is_no_text_is_a_thread(writer, way):
    with unit_of_work(None, "job") as unit:
        way.put(1, unit=unit)
    assert writer.flush(TIMEOUT_S)
    [record] = way.ring.rows.values()
    assert record.kind == "thread"


def test_statistics_that_raise_cost_no_record(ring_alias, monkeypatch, django_db_blocker):
    from tests.sqllogs.pipeline.test_resolver import captured

    monkeypatch.setattr(counting, "count", lambda records: 1 / 0)
    with recording(ring_alias) as recorder:
        for _ in range(10):
            recorder.buffer.put(captured())
        assert recorder.writer.flush(TIMEOUT_S)
        assert recorder.delivery.counts().stored == 10
        assert is_balanced(recorder.delivery.counts())


def test_account_balances_at_any_moment_for_any_thread(writer, way):
    """The interpreter switches threads as often as it can while one puts, one writes and this one counts."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    over = threading.Event()

    def put():
        while not over.is_set():
            way.put(5)

    def write():
        while not over.is_set():
            writer.flush(TIMEOUT_S)

    threads = [threading.Thread(target=target) for target in (put, put, write)]
    for thread in threads:
        thread.start()
    try:
        counts = [way.counts() for _ in range(3_000)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval_s)
    assert [one for one in counts if not balanced(one)] == []
