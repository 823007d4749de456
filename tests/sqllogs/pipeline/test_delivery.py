"""Everything is stored once or counted as dropped, whatever the ring answers."""

import pytest

from sqllogs.context import UnitOfWork
from sqllogs.errors import StoreUnavailableError
from tests.sqllogs.fake_ring import balanced


def test_what_is_in_the_buffer_is_stored_and_told(way):
    way.put(5)
    way.delivery.write_all()
    assert way.stored == [1, 2, 3, 4, 5]
    assert way.ring.counts == way.counts()
    assert (way.counts().captured, way.counts().stored) == (5, 5)


def test_records_wait_while_the_store_is_away_and_none_is_lost(way):
    way.ring.fault = StoreUnavailableError("away")
    way.put(10)
    with pytest.raises(StoreUnavailableError):
        way.delivery.write_all()
    assert way.counts().queued == 10
    assert balanced(way.counts())
    way.put(10)
    way.ring.fault = None
    way.delivery.write_all()
    assert way.stored == list(range(1, 21))
    assert balanced(way.counts())


def test_batch_whose_commit_is_unknown_is_not_stored_twice(way):
    way.ring.fault_after_writing = StoreUnavailableError("connection lost in COMMIT")
    way.put(10)
    with pytest.raises(StoreUnavailableError):
        way.delivery.write_all()
    way.delivery.write_all()
    assert way.stored == list(range(1, 11))
    assert way.counts().stored == 10


def test_long_outage_drops_at_the_bound_and_counts(way):
    way.ring.fault = StoreUnavailableError("away")
    way.put(1500)
    assert way.counts().dropped == {"buffer_rows": 500}
    assert balanced(way.counts())


@pytest.mark.parametrize("place", [0, 5, 11])
def test_only_the_poisoned_record_is_dropped_and_the_store_told(way, place):
    way.ring.poison = {666}
    way.put(place)
    way.put(1, sql_length=666)
    way.put(11 - place)
    way.delivery.write_all()
    assert len(way.stored) == 11
    assert way.counts().dropped == {"rejected": 1}
    assert way.ring.counts == way.counts()
    assert balanced(way.counts())


def test_units_of_a_refused_batch_keep_their_texts(way):
    way.ring.poison = {666}
    way.put(4, unit=UnitOfWork("task", view="one"))
    way.put(1, sql_length=666, unit=(unit := UnitOfWork("task", view="other")))
    way.put(1, unit=unit)
    way.delivery.write_all()
    assert {row.view for row in way.ring.unit_rows.values()} == {"one", "other"}
    assert way.counts().units_dropped == 0


def test_unit_that_the_database_refuses_loses_its_texts_and_no_record(way):
    way.ring.poisoned_views = {"bad"}
    way.put(4, unit=UnitOfWork("task", view="good"))
    way.put(2, unit=UnitOfWork("task", view="bad"))
    way.delivery.write_all()
    assert len(way.stored) == 6
    assert sorted(str(row.view) for row in way.ring.unit_rows.values()) == ["None", "good"]
    assert (way.counts().units_dropped, way.counts().dropped) == (1, {})


def test_part_of_a_refused_batch_that_is_stored_is_not_counted_again(way):
    way.ring.poison = {666}
    way.put(4)
    way.put(1, sql_length=666)
    way.put(4)
    way.ring.fault_after_writing = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        way.delivery.write_all()
    way.delivery.write_all()
    assert (len(way.stored), way.counts().stored) == (8, 8)
    assert balanced(way.ring.counts)


def test_muted_queries_are_neither_stored_nor_counted(way):
    unit = UnitOfWork("request")
    way.put(3, unit=unit)
    unit.muted = True
    way.put(2)
    way.delivery.write_all()
    assert len(way.stored) == 2
    assert (way.counts().captured, way.counts().stored) == (2, 2)


def test_more_than_a_batch_is_stored_in_one_call(way):
    way.buffer.rows_max = 10_000
    way.put(7000)
    way.delivery.write_all()
    assert len(way.stored) == 7000


def test_batches_are_as_large_as_the_store_takes_them(way, monkeypatch):
    sizes = []
    write = way.ring.write
    monkeypatch.setattr(way.ring, "batch_rows", 3, raising=False)
    monkeypatch.setattr(way.ring, "write", lambda *args: (sizes.append(len(args[1])), write(*args)))
    way.put(7)
    way.delivery.write_all()
    assert sizes == [3, 3, 1]
