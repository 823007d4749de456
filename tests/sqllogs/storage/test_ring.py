"""The ring holds exactly the newest N, in their slots, on every kind of database."""

import itertools
import time as clock
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import FieldError
from django.db import connections
from django.db.models import Min

from sqllogs import conf, guard
from sqllogs.context import UnitOfWork
from sqllogs.errors import RejectedRowsError, StoreUnavailableError, StoreUnreadyError
from sqllogs.models import Event, Process, RingHead, SQLLog, Statement, Statistic, Unit
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.record import COLUMNS, RECORD_FIELDS, Batch, EndedUnit, ProcessCounts
from sqllogs.storage import ring as storage_ring
from sqllogs.storage.orm import ORMStore
from sqllogs.storage.postgresql import BatchTable
from sqllogs.storage.resize import clear, resize
from sqllogs.storage.ring import Ring
from sqllogs.storage.statement_texts import StatementTexts
from sqllogs.storage.store import PROCESSES_KEPT, PROCESSES_MAX
from tests.sqllogs.factories import changed
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.rings import seqs

PARTS = itertools.count(1)
TALLIES = ProcessCounts(
    captured=9, stored=8, dropped={"buffer_rows": 1}, queued=0, oldest_ns=1, exported={"sent": 8}
)


def batch(count: int, sql: str = "SELECT 1") -> Batch:
    resolved = Resolver(conf.load()).batch([captured(sql=sql)] * count)
    return replace(resolved, part=next(PARTS))


def write(ring: Ring, count: int, sql: str = "SELECT 1") -> int:
    first_seq = ring.reserve(count)
    ring.write(first_seq, batch(count, sql), TALLIES)
    return first_seq


@pytest.fixture
def ring(ring_alias):
    made = Ring(conf.load())
    yield made
    made.close()


@pytest.fixture
def orm_ring(ring_alias, monkeypatch):
    """A ring over the ORM, as on MySQL."""
    monkeypatch.setattr(storage_ring, "_open_store", ORMStore)
    made = Ring(conf.load())
    yield made
    made.close()


@pytest.fixture(params=["driver", "orm"])
def any_ring(request):
    return request.getfixturevalue("ring" if request.param == "driver" else "orm_ring")


def test_wrapped_ring_holds_the_newest_rows_in_their_slots(any_ring, ring_alias):
    for count in (30, 30, 30, 30, 30):
        write(any_ring, count)
    assert seqs(ring_alias) == list(range(51, 151))
    assert all(row.slot == row.seq % 100 for row in SQLLog.objects.using(ring_alias))


@pytest.mark.parametrize("count", [9, 10, 11, 25])  # SQLite writes ten in one statement
def test_each_row_of_a_batch_is_written(count, ring, ring_alias):
    write(ring, count)
    assert seqs(ring_alias) == list(range(1, count + 1))


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_times_of_a_unit_are_kept_as_django_keeps_them(microsecond, ring, ring_alias):
    began = datetime(2026, 1, 31, 23, 59, 59, microsecond, UTC)
    unit = UnitOfWork("request")
    unit.time_ns, unit.duration_ns = int(began.timestamp()) * 10**9 + microsecond * 1_000, 2_000_000_000
    buffer = Buffer(rows_max=1, bytes_max=1 << 20)
    buffer.put(captured(unit=unit))
    Delivery(buffer, ring, lambda: Resolver(conf.load()), Sinks([])).write_all()
    ended = began + timedelta(seconds=2)
    assert Unit.objects.using(ring_alias).get(time=began, ended_at=ended).time == began


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_time_is_kept_as_django_keeps_it(any_ring, ring_alias, microsecond):
    time = datetime(2026, 1, 31, 23, 59, 59, microsecond, UTC)
    record = changed(batch(1).records[0], time=time)
    any_ring.write(any_ring.reserve(1), Batch(records=[record], part=next(PARTS)), TALLIES)
    assert SQLLog.objects.using(ring_alias).get(time=time).time == time


@pytest.mark.parametrize(
    "unit", [None, UnitOfWork("request", method="GET", request_id="r", view="items.list")]
)
def test_record_comes_back_as_it_was(any_ring, ring_alias, unit):
    full = captured(
        rowcount=3, error=ValueError, sqlstate="23505", many=True, in_transaction=True, sql_hash="0" * 16,
        unit=unit,
    )  # fmt: skip
    buffer = Buffer(rows_max=1, bytes_max=1 << 20)
    buffer.put(full)
    Delivery(buffer, any_ring, lambda: Resolver(conf.load()), Sinks([])).write_all()
    record = Resolver(conf.load()).batch([full]).records[0]
    row = SQLLog.objects.using(ring_alias).get()
    assert [getattr(row, name) for name in RECORD_FIELDS] == [getattr(record, name) for name in RECORD_FIELDS]


def test_records_with_and_without_an_error_keep_their_slots(any_ring, ring_alias):
    fine, failed = (batch(1).records[0] for _ in range(2))
    failed = changed(failed, error="OperationalError", sqlstate="HYT00")
    records = [fine, failed, fine, failed, fine]
    any_ring.write(any_ring.reserve(5), Batch(records=records, part=next(PARTS)), TALLIES)
    stored = SQLLog.objects.using(ring_alias).order_by("seq").values_list("slot", "error", "sqlstate")
    wanted = [(one.error, one.sqlstate) for one in records]
    assert list(stored) == [(slot, *texts) for slot, texts in enumerate(wanted, 1)]


def test_batch_larger_than_the_ring_leaves_its_newest(any_ring, ring_alias):
    write(any_ring, 250)
    assert seqs(ring_alias) == list(range(151, 251))


def test_batch_written_again_is_not_stored_twice(any_ring, ring_alias):
    first_seq, written = any_ring.reserve(10), batch(10)
    for _ in range(2):
        any_ring.write(first_seq, written, TALLIES)
    assert seqs(ring_alias) == list(range(1, 11))
    assert RingHead.objects.using(ring_alias).get().seq == 10


def test_late_batch_does_not_overwrite_newer_rows(ring, ring_alias):
    late = ring.reserve(10)
    write(ring, 100)
    ring.write(late, batch(10), TALLIES)
    assert seqs(ring_alias) == list(range(11, 111))


def test_statement_text_is_stored_once(any_ring, ring_alias):
    for _ in range(3):
        write(any_ring, 10, "SELECT a FROM t WHERE b = 5")
    statement = Statement.objects.using(ring_alias).get()
    assert statement.operation == "SELECT"
    assert "5" not in statement.sql
    assert statement.first_seen <= datetime.now(UTC)


def test_process_row_has_the_counts_of_the_process(any_ring, ring_alias):
    write(any_ring, 1)
    write(any_ring, 1)
    process = Process.objects.using(ring_alias).get()
    assert (process.captured, process.stored, process.dropped) == (9, 8, {"buffer_rows": 1})
    assert process.exported == {"sent": 8}
    assert process.lag_ms > 0


def test_missing_tables_are_distinguished_from_a_missing_database(ring, ring_alias, ring_database):
    with connections[ring_alias].cursor() as cursor:
        cursor.execute("DROP TABLE sqllogs_ringhead")
    with pytest.raises(StoreUnreadyError, match="migrate --database ring"):
        ring.reserve(1)


def test_ring_goes_on_after_its_connection_has_broken(any_ring, ring_alias):
    write(any_ring, 10)
    any_ring._store._connection.connection.close()
    with pytest.raises(StoreUnavailableError):
        any_ring.reserve(1)
    write(any_ring, 10)
    assert len(seqs(ring_alias)) == 20


def test_value_that_cannot_be_stored_is_a_rejection_and_nothing_is_written(ring, ring_alias):
    poison = changed(batch(1).records[0], rows=2**70)
    good = batch(5)
    first_seq = ring.reserve(6)
    with pytest.raises(RejectedRowsError):
        ring.write(first_seq, Batch(records=[*good.records, poison], part=1), TALLIES)
    assert seqs(ring_alias) == []


def kept(alias):
    return set(Statement.objects.using(alias).values_list("sql", flat=True))


def test_new_statement_replaces_the_least_used_at_once(any_ring, ring_alias):
    any_ring._texts = StatementTexts(3)
    for number in range(6):
        write(any_ring, 1, f"SELECT c{number} FROM t")
        assert f"SELECT c{number} FROM t" in kept(ring_alias)
    assert len(kept(ring_alias)) == 3
    assert len(seqs(ring_alias)) == 6


def test_batch_of_more_statements_than_are_kept_is_written(any_ring, ring_alias):
    any_ring._texts = StatementTexts(3)
    sent = [captured(sql=f"SELECT c{number} FROM t") for number in range(10)]
    written = replace(Resolver(conf.load()).batch(sent), part=next(PARTS))
    any_ring.write(any_ring.reserve(10), written, TALLIES)
    assert len(kept(ring_alias)) == 3
    assert len(seqs(ring_alias)) == 10


def test_statement_not_seen_for_longest_goes_first(any_ring, ring_alias):
    any_ring._texts = StatementTexts(3)
    for hours, name in ((5, "old"), (1, "recent"), (0, "new")):
        time = datetime.now(UTC) - timedelta(hours=hours)
        Statement.objects.using(ring_alias).create(
            fingerprint=name, sql=name, operation="", tables="", first_seen=time, last_seen=time
        )
    write(any_ring, 1, "SELECT a FROM t")
    assert kept(ring_alias) == {"recent", "new", "SELECT a FROM t"}


def test_full_table_is_reported_with_the_call_site(any_ring, ring_alias, monkeypatch):
    logged = []
    monkeypatch.setattr(guard, "fault", lambda place, exc: logged.append(str(exc)))
    any_ring._texts = StatementTexts(3)
    for number in range(6):
        written = batch(1, f"SELECT c{number} FROM t")
        records = [changed(record, call_site="shop/views.py:7 search") for record in written.records]
        any_ring.write(any_ring.reserve(1), replace(written, records=records), TALLIES)
    assert len(logged) == 1
    assert "come from shop/views.py:7 search" in logged[0]
    (event,) = Event.objects.using(ring_alias).filter(kind="statements")
    assert "shop/views.py:7 search" in event.title


def test_statement_in_use_is_written_again_after_a_clear(any_ring, ring_alias):
    write(any_ring, 1)
    list(clear())
    assert (seqs(ring_alias), Statement.objects.using(ring_alias).count()) == ([], 0)
    write(any_ring, 1)
    assert seqs(ring_alias) == [2]
    assert Statement.objects.using(ring_alias).count() == 1


def test_statement_is_seen_again_in_a_later_hour(ring, ring_alias):
    write(ring, 1)
    earlier = Statement.objects.using(ring_alias).get().last_seen - timedelta(hours=3)
    Statement.objects.using(ring_alias).update(last_seen=earlier, first_seen=earlier)
    ring._texts._known = dict.fromkeys(ring._texts._known, earlier)
    write(ring, 1)
    statement = Statement.objects.using(ring_alias).get()
    assert (statement.last_seen - statement.first_seen) == timedelta(hours=3)


@pytest.mark.parametrize("capacity", [40, 100, 250])
def test_resized_ring_keeps_the_newest_and_goes_on(ring, ring_alias, capacity):
    write(ring, 130)
    progress = list(resize(capacity))
    assert progress[-1][0] == progress[-1][1] == min(100, capacity)
    assert seqs(ring_alias) == list(range(131 - min(100, capacity), 131))
    write(ring, 10)
    assert all(row.slot == row.seq % capacity for row in SQLLog.objects.using(ring_alias))
    write(ring, 300)
    assert len(seqs(ring_alias)) == capacity


def test_block_reserved_before_a_resize_is_written_into_the_new_slots(ring, ring_alias):
    write(ring, 50)
    first_seq = ring.reserve(10)
    list(resize(33))
    ring.write(first_seq, batch(10), TALLIES)
    assert all(row.slot == row.seq % 33 for row in SQLLog.objects.using(ring_alias))
    assert seqs(ring_alias)[-10:] == list(range(51, 61))


def test_ring_of_no_rows_is_refused(ring_alias):
    with pytest.raises(ValueError, match="at least 1"):
        list(resize(0))


def test_empty_ring_can_be_resized(ring_alias):
    list(resize(10))
    assert RingHead.objects.using(ring_alias).get().capacity == 10


def test_units_are_rolled_up_and_no_reader_of_statements_counts_them(any_ring, ring_alias):
    minute = int(clock.time()) // 60 * 60 - 7200
    unit = UnitOfWork("request")
    unit.duration_ns = 20_000_000
    ended = [
        EndedUnit(unit, minute + 60 * number, number == 1, 5, "request", "a/", "v", "GET", "1", None)
        for number in range(3)
    ]
    rows = Statistic.objects.using(ring_alias)
    first_seq = any_ring.reserve(1)
    for part in (1, 2, 2):  # on time; late, after the rollup; written before
        any_ring.write(first_seq, Batch(records=[], ended=ended, part=part), TALLIES)
        with any_ring._guarded() as store:
            while store.roll_up(int(clock.time()) // 60 * 60 - 120):
                pass
    for resolution_s in (-60, -3600, -86400):
        found = rows.filter(resolution_s=resolution_s).values_list("calls", "errors", "rows", "total_us")
        sums = [sum(column) for column in zip(*found, strict=True)]
        assert sums == [6, 2, 30, 120_000], resolution_s
    assert not rows.filter(resolution_s__gt=0).exists()


def test_filters_and_orders_by_every_name_of_the_contract(ring_alias):
    """`SQLLog` is a view, and the application's own code may read it."""
    unit = UnitOfWork("request", trace_id=7, span_id=8, method="GET", request_id="r", view="items.list")
    unit.route, unit.status = "items/", 200
    query = captured(
        rowcount=3,
        error=ValueError,
        sqlstate="23505",
        many=True,
        sql_hash="0" * 16,
        unit=unit,
        time_ns=10**18,
    )
    buffer = Buffer(rows_max=2, bytes_max=1 << 20)
    buffer.put(query)
    buffer.put(captured(time_ns=2 * 10**18))
    ring = Ring(conf.load())
    Delivery(buffer, ring, lambda: Resolver(conf.load()), Sinks([])).write_all()
    ring.close()
    records = SQLLog.objects.using(ring_alias)
    first = records.get(unit_id=f"{8:016x}")
    for name in COLUMNS:
        value = getattr(first, name)
        same = {f"{name}__isnull": True} if value is None else {name: value}
        assert first in records.filter(**same), name
        assert len(records.order_by(name, "-slot")) == 2, name
    assert records.filter(time__lt=datetime(2002, 1, 1, tzinfo=UTC)).get() == first
    assert records.aggregate(found=Min("time"))["found"] == first.time
    with pytest.raises(FieldError, match="Unsupported lookup 'date'"):
        records.filter(time__date="2001-09-09")


@pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)
def test_nothing_is_copied_for_a_process_without_new_records(ring, ring_alias, monkeypatch):
    write(ring, 5)
    monkeypatch.delattr(BatchTable, "fill")
    ring.write(6, Batch(records=[], part=next(PARTS)), replace(TALLIES, captured=7))
    assert Process.objects.using(ring_alias).get().captured == 7


def test_process_makes_room_for_its_row(any_ring, ring_alias):
    """A task queue may start a process for each task."""
    processes, now = Process.objects.using(ring_alias), datetime.now(UTC)
    processes.bulk_create(
        Process(
            uuid=f"{number:032x}",
            host="a",
            pid=number,
            started_at=now,
            updated_at=now - timedelta(seconds=PROCESSES_MAX - number),
            captured=1,
            stored=1,
            queued=0,
            lag_ms=0,
        )
        for number in range(PROCESSES_MAX)
    )
    for _ in range(2):
        write(any_ring, 1)
        assert processes.count() == PROCESSES_KEPT
    assert processes.filter(captured=TALLIES.captured).count() == 1
    others = processes.exclude(captured=TALLIES.captured)
    assert others.aggregate(first=Min("pid"))["first"] == PROCESSES_MAX + 1 - PROCESSES_KEPT
