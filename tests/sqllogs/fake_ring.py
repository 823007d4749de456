"""A ring whose faults a test can choose."""

import pytest

from sqllogs.buffer import Buffer
from sqllogs.conf import Conf
from sqllogs.delivery import Delivery
from sqllogs.errors import RejectedRowsError
from sqllogs.resolver import Resolver
from sqllogs.sinks import Sinks
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


class FakeSink:
    """A sink that notes what it was given, and raises when told to."""

    def __init__(self):
        self.records = []
        self.fault = None
        self.closed = 0

    def take(self, batch):
        self.records += batch.records
        if self.fault:
            raise self.fault

    def close(self, timeout_s):
        self.closed += 1
        if self.fault:
            raise self.fault


class Way:
    """A buffer of 1,000 rows, a delivery and a fake ring, put together."""

    def __init__(self):
        self.ring = FakeRing()
        self.buffer = Buffer(rows_max=1000, bytes_max=1 << 30)
        self.sink = FakeSink()
        sinks = Sinks(Conf(), (lambda conf: self.sink, lambda conf: None))
        self.delivery = Delivery(self.buffer, self.ring, lambda: Resolver(Conf()), sinks)
        self.tallies = self.delivery.tallies

    def put(self, count, **changes):
        for _ in range(count):
            self.buffer.put(captured(**changes))

    @property
    def stored(self):
        return sorted(self.ring.rows)


@pytest.fixture
def way():
    return Way()


def balanced(tallies):
    accounted = tallies.stored + tallies.sampled_out + sum(tallies.dropped.values()) + tallies.queued
    return tallies.captured == accounted
