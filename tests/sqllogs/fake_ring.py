"""A ring whose faults a test can choose."""

import pytest

from sqllogs.conf import Conf
from sqllogs.errors import RejectedRowsError
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.record import Reserved
from tests.sqllogs.pipeline.test_resolver import captured


class FakeRing:
    """A store whose faults a test can choose."""

    def __init__(self):
        self.rows = {}
        self.fault = None
        self.fault_after_writing = None
        self.poison = ()
        self.poisoned_views = ()
        self.seq = 0
        self.units = self.idle = 0
        self.unit_rows = {}
        self.counts = None
        self.closed = 0
        self.hurried = False
        self.wait_until_s = float("inf")
        self.is_file = True

    generation = 1
    capacity = 1_000
    batch_rows = 2_000

    def reserve_all(self, count, *, units=0, idle=0):
        first_seq = self.reserve(count)
        slots = range(self.units, self.units + units)
        idle_numbers = range(self.idle, self.idle + idle)
        self.units, self.idle = slots.stop, idle_numbers.stop
        return Reserved(first_seq, slots, idle_numbers, 100, self.generation)

    def reserve(self, count):
        if self.fault:
            raise self.fault
        self.seq += count
        return self.seq - count + 1

    def write(self, first_seq, batch, counts):
        if self.fault:
            raise self.fault
        if any(record.sql_length in self.poison for record in batch.records):
            raise RejectedRowsError("poison")
        if any(row.view in self.poisoned_views for row in batch.unit_rows):
            raise RejectedRowsError("poison")
        self.rows.update(enumerate(batch.records, first_seq))
        self.unit_rows.update({row.slot: row for row in batch.unit_rows})
        if self.fault_after_writing:
            fault, self.fault_after_writing = self.fault_after_writing, None
            raise fault
        self.counts = counts

    def close(self):
        self.closed += 1


class FakeSink:
    """A sink that notes what it was given, and raises when told to."""

    def __init__(self):
        self.records = []
        self.fault = None
        self.closed = 0

    def add(self, batch):
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
        sinks = Sinks([self.sink])
        self.delivery = Delivery(self.buffer, self.ring, lambda: Resolver(Conf()), sinks)
        self.counts = self.delivery.counts

    def put(self, count, **changes):
        for _ in range(count):
            self.buffer.put(captured(**changes))

    @property
    def stored(self):
        return sorted(self.ring.rows)


@pytest.fixture
def way():
    return Way()


def balanced(counts):
    accounted = counts.stored + counts.sampled_out + sum(counts.dropped.values()) + counts.queued
    return counts.captured == accounted
