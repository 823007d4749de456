"""A unit of work keeps its slot while the ring has a record of it; free slots are used again."""

from collections import Counter
from dataclasses import replace

import pytest
from django.db import connections

from sqllogs import conf
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.models import RingHead, RingRow, SQLLog, Unit
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.storage import ring as storage_ring
from sqllogs.storage.orm import ORMStore
from sqllogs.storage.ring import Ring
from sqllogs.storage.store import SLOT_TRIES, UnitHead, reserve_slots
from tests.sqllogs.pipeline.test_resolver import captured

HEAD = UnitHead(seq=1000, capacity=100, unit_slots=50, unit_cursor=10, idle_units=7)


def nothing_live(first, last):
    return None


def test_slots_are_taken_from_the_cursor_on():
    reserved, head = reserve_slots(HEAD, 5, 0, nothing_live)
    assert (reserved.slots, head.unit_cursor, head.unit_slots) == (range(10, 15), 15, 50)


def test_search_goes_on_at_the_begin():
    reserved, head = reserve_slots(HEAD._replace(unit_cursor=48), 5, 0, nothing_live)
    assert (reserved.slots, head.unit_cursor) == (range(5), 5)


def test_live_unit_is_passed():
    reserved, _ = reserve_slots(HEAD, 5, 0, lambda first, last: 12 if first <= 12 <= last else None)
    assert reserved.slots == range(13, 18)


def test_table_grows_if_no_range_is_free():
    asked = []
    reserved, head = reserve_slots(HEAD, 5, 0, lambda first, last: asked.append(first) or last)
    assert (reserved.slots, head.unit_slots) == (range(50, 55), 55)
    assert len(asked) == SLOT_TRIES


def test_table_grows_until_the_ring_is_full():
    reserved, head = reserve_slots(HEAD._replace(seq=90), 5, 0, nothing_live)
    assert (reserved.slots, head.unit_slots, head.unit_cursor) == (range(50, 55), 55, 10)


def test_units_without_queries_have_slots_of_their_own():
    reserved, head = reserve_slots(HEAD, 0, 3, nothing_live)
    assert (reserved.idle, head.idle_units, reserved.slots) == (range(8, 11), 10, range(50, 50))
    assert {reserved.idle_slot(number) for number in range(1000)} == set(range(-100, 0))


@pytest.fixture(params=["driver", "orm"])
def deliver(request, ring_alias, monkeypatch):
    """Return a function that delivers queries of some units."""
    if request.param == "orm":
        monkeypatch.setattr(storage_ring, "_open_store", ORMStore)
    made = []

    def process():
        """Start another process, as far as the store can tell."""
        buffer = Buffer(rows_max=10_000, bytes_max=1 << 30)
        made.append(Ring(conf.load()))
        delivery = Delivery(buffer, made[-1], lambda: Resolver(Conf()), Sinks([]))

        def deliver(*units):
            for unit in units:
                buffer.put(captured(unit=unit))
            delivery.write_all()

        return deliver

    yield process
    for ring in made:
        ring.close()


def new_unit(name):
    return UnitOfWork("task", view=name)


def assert_records_have_their_units(ring_alias, expected):
    """Compare the records' units, by the view and by the slots themselves, with what was sent."""
    found = SQLLog.objects.using(ring_alias).order_by("seq").values_list("view", flat=True)
    assert list(found) == expected
    joined = {
        unit.slot: unit.view for unit in Unit.objects.using(ring_alias).filter(slot__gte=0).exclude(kind="")
    }
    slots = RingRow.objects.using(ring_alias).order_by("seq").values_list("unit", flat=True)
    assert [joined[slot] for slot in slots] == expected


def test_table_of_units_is_as_large_as_the_ring_needs(deliver, ring_alias):
    one, other = deliver(), deliver()
    sent = []
    for number in range(60):
        units = [new_unit(f"{number}.{index}") for index in range(3)]
        (one if number % 2 else other)(*[unit for unit in units for _ in range(5)])
        sent += [unit.view for unit in units for _ in range(5)]
    assert_records_have_their_units(ring_alias, sent[-100:])
    assert RingHead.objects.using(ring_alias).get().unit_slots <= 40


def test_long_unit_keeps_its_slot_while_others_come_and_go(deliver, ring_alias):
    one = deliver()
    long = new_unit("long")
    sent = []
    for number in range(60):
        unit = new_unit(f"short {number}")
        one(long, *[unit] * 4)
        sent += ["long", *[unit.view] * 4]
    assert_records_have_their_units(ring_alias, sent[-100:])
    row = Unit.objects.using(ring_alias).get(view="long")
    assert row.queries == 60


def test_unit_that_slept_gets_another_slot(deliver, ring_alias):
    one, other = deliver(), deliver()
    sleeper = new_unit("sleeper")
    one(sleeper)
    for number in range(60):
        other(*[new_unit(f"{number}")] * 5)
    one(sleeper)
    sleeper.duration_ns = 1
    (last,) = SQLLog.objects.using(ring_alias).order_by("-seq").values_list("view", flat=True)[:1]
    assert last == "sleeper"
    found = Counter(Unit.objects.using(ring_alias).exclude(kind="").values_list("view", flat=True))
    assert found["sleeper"] == 1


def test_first_batch_of_a_process_reserves_each_slot_once(deliver, ring_alias):
    """A slot that stays reserved keeps readers from reusing their sums, for a round of the ring."""
    sent = []
    for number in range(60):
        units = [new_unit(f"{number}.{index}") for index in range(5)]
        deliver()(*units)
        sent += [unit.view for unit in units]
    assert_records_have_their_units(ring_alias, sent[-100:])
    assert not Unit.objects.using(ring_alias).filter(kind="").exists()
    assert RingHead.objects.using(ring_alias).get().unit_slots <= 105


def test_reserved_slot_whose_row_is_never_written_describes_nothing(deliver, ring_alias):
    one = deliver()
    one(new_unit("first"))
    ring = Ring(conf.load())
    reserved = ring.reserve_all(1, units=1)
    ring.close()
    unit = Unit.objects.using(ring_alias).filter(slot=reserved.slots.start)
    assert not unit.exclude(kind="").exists()


@pytest.mark.parametrize("ring_database", ["sqlite", "postgresql"], indirect=True)
def test_record_without_its_units_row_keeps_its_ids(ring_alias):
    """The row of a unit can be lost."""
    ring = Ring(conf.load())
    unit = new_unit("task")
    batch = Resolver(conf.load()).batch([captured(unit=unit)])
    ring.write(ring.reserve(1), replace(batch, part=1), _counts())
    ring.close()
    row = SQLLog.objects.using(ring_alias).get()
    record = batch.records[0]
    assert (row.unit, row.trace_id, row.span_id) == (None, record.trace_id, record.span_id)
    assert (row.unit_id, row.kind, row.call_site) == (record.unit_id, "thread", record.call_site)


def _counts():
    from tests.sqllogs.storage.test_ring import TALLIES

    return TALLIES


@pytest.mark.parametrize("ring_database", ["sqlite", "postgresql"], indirect=True)
def test_join_with_units_is_left_out_where_it_is_not_needed(ring_alias):
    slow = SQLLog.objects.using(ring_alias).filter(duration_ms__gte=1).values("seq")
    late = SQLLog.objects.using(ring_alias).filter(route="a/").values("seq")
    assert "sqllogs_unit" not in plan(slow)
    assert "sqllogs_unit" in plan(late) or "SEARCH u" in plan(late)


def plan(queryset):
    prefix = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[connections[queryset.db].vendor]
    with connections[queryset.db].cursor() as cursor:
        sql, parameters = queryset.query.sql_with_params()
        cursor.execute(prefix + sql, parameters)
        return "\n".join(str(row[-1]) for row in cursor.fetchall()).replace(
            "SEARCH u ", "SEARCH sqllogs_unit "
        )
