"""Sinks see each record once, and none of their faults reaches the ring."""

import pytest

from sqllogs import guard
from sqllogs.errors import StoreUnavailableError


def test_sink_takes_each_record_once_though_the_ring_is_tried_again(way):
    way.put(3)
    way.ring.fault = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        way.delivery.write_all()
    way.ring.fault = None
    way.delivery.write_all()
    assert len(way.sink.records) == 3
    assert way.stored == [1, 2, 3]


def test_fault_of_a_sink_is_counted_and_the_ring_written(way):
    way.sink.fault = RuntimeError("a sink")
    before = guard.faults["FakeSink"]
    way.put(2)
    way.delivery.write_all()
    way.delivery.close_sinks(1.0)
    assert way.stored == [1, 2]
    assert guard.faults["FakeSink"] == before + 2
    assert way.sink.closed == 1
