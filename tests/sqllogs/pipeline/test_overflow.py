"""Queries that the buffer has no room for are missing in the ring, and in nothing that counts."""

import threading
import time
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
from django.db import connection

from sqllogs import unit_of_work
from sqllogs.capture import EXECUTE_NS, Captured, Fetch
from sqllogs.context import UnitOfWork
from sqllogs.errors import RejectedRowsError, StoreUnavailableError
from sqllogs.metrics import families
from sqllogs.metrics.sink import MetricsSink
from sqllogs.models import Process, Statistic, Unit
from sqllogs.pipeline import buffer, delivery
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.pipeline.units import Units
from sqllogs.statistics.resolution import MINUTE_S
from tests.sqllogs.fake_ring import FakeSink, balanced
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.recording import TIMEOUT_S, is_balanced, recording, send_one

QUICK = 300_000
"""Queries of one unit of work, as many as are to be exact."""
ROWCOUNT = Captured._fields.index("rowcount")
on_sqlite = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)


@contextmanager
def busy_writer(recorder):
    """Keep the writer from writing, as a store that does not answer does."""
    recorder.writer.pause()
    try:
        yield
    finally:
        recorder.writer.resume()


def statistics(ring_alias):
    """Return calls, errors, rows and maximum by statement, alias and kind."""
    rows = Statistic.objects.using(ring_alias).filter(resolution_s=MINUTE_S)
    sums = {}
    for fingerprint, alias, kind, view, calls, errors, fetched in rows.values_list(
        "key__fingerprint", "key__alias", "key__kind", "key__view", "calls", "errors", "rows"
    ):
        before = sums.get((fingerprint, alias, kind, view), (0, 0, 0))
        added = (calls, errors, fetched)
        sums[fingerprint, alias, kind, view] = tuple(map(sum, zip(before, added, strict=True)))
    return sums


@on_sqlite
def test_all_of_300_000_quick_queries_are_counted(ring_alias):
    name = f"quick_{time.time_ns()}"  # metrics go on from what earlier processes have left of their labels
    with recording(ring_alias, capacity_rows=50_000) as recorder:
        with busy_writer(recorder), unit_of_work("task", name) as unit:
            one = tuple(captured(time_ns=time.time_ns(), unit=unit, alias=name))
            for _ in range(QUICK):
                recorder._put(one)
        assert recorder.writer.flush(TIMEOUT_S)
        counts = recorder.delivery.counts()
        (sink,) = [one for one in recorder.delivery._sinks._sinks if isinstance(one, MetricsSink)]
    assert counts.captured == QUICK == counts.stored + counts.dropped["buffer_rows"]
    assert list(counts.dropped) == ["buffer_rows"]
    (calls,) = Statistic.objects.using(ring_alias).filter(resolution_s=MINUTE_S).values("calls", "total_us")
    assert calls == {"calls": QUICK, "total_us": QUICK * 1_234}
    unit = Unit.objects.using(ring_alias).get(kind="task")
    assert (unit.queries, unit.worst_repeat, unit.statements) == (QUICK, QUICK, 1)
    series = sink._values.series
    assert series(families.JOB_QUERIES)["task", name] == QUICK
    assert sum(series(families.QUERY_DURATION)[name, "SELECT"].counts) == QUICK
    process = Process.objects.using(ring_alias).get()
    assert (process.captured, process.dropped) == (QUICK, counts.dropped)


@pytest.mark.django_db
def test_statistics_do_not_depend_on_what_the_buffer_drops(ring_alias):
    """The same work with and without room for it: rows and errors of fetches too."""

    def work():
        with unit_of_work("job", "one"), connection.cursor() as cursor:
            for number in range(40):
                cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT %s", [number])
                cursor.fetchall()
                cursor.execute("SELECT 7")
                cursor.fetchone()
        with unit_of_work("job", "other"), connection.cursor() as cursor:
            for _ in range(40):
                with pytest.raises(Exception, match="nowhere"):
                    cursor.execute("SELECT 1 FROM nowhere")

    seen = []
    for rows_max in (10_000, 13):
        Statistic.objects.using(ring_alias).all().delete()
        with recording(ring_alias, buffer_rows=rows_max) as recorder:
            with busy_writer(recorder):
                work()
            assert recorder.writer.flush(TIMEOUT_S)
            counts = recorder.delivery.counts()
            assert is_balanced(counts)
            assert counts.captured == 120
            assert sum(counts.dropped.values()) == max(0, 120 - rows_max)
        seen.append(statistics(ring_alias))
    assert seen[0] == seen[1]
    assert sorted(seen[0].values()) == [(40, 0, 40), (40, 0, 120 - 2 * 1), (40, 40, 0)]


@on_sqlite
def test_unit_without_a_stored_query_has_a_row(ring_alias):
    with recording(ring_alias, buffer_rows=1) as recorder:
        with busy_writer(recorder):
            for view in ("first", "second"):
                with unit_of_work("task", view):
                    for _ in range(3):
                        send_one(recorder)
        assert recorder.writer.flush(TIMEOUT_S)
        units = Unit.objects.using(ring_alias).filter(kind="task").order_by("view")
        assert list(units.values_list("view", "queries")) == [("first", 3), ("second", 3)]
        assert recorder.delivery.counts().units_dropped == 0


def test_queries_are_counted_while_the_store_is_away_and_written_once(way):
    written = []
    write = way.ring.write

    def noting(first_seq, batch, counts):
        write(first_seq, batch, counts)
        written.append(sum(one.calls for one in batch.counted.values()))

    way.ring.write = noting
    way.ring.fault = StoreUnavailableError("away")
    for _ in range(3):
        way.put(1_500)
        with pytest.raises(StoreUnavailableError):
            way.delivery.write_all()
    assert not way.buffer.overflow.drain(1, wait=False).calls
    way.ring.fault = None
    way.ring.fault_after_writing = StoreUnavailableError("connection lost in COMMIT")
    with pytest.raises(StoreUnavailableError):
        way.delivery.write_all()
    way.delivery.write_all()
    counts = way.counts()
    assert balanced(counts)
    assert counts.captured == counts.stored + counts.dropped["buffer_rows"] == 4_500
    assert sum(written) == counts.dropped["buffer_rows"]


def test_queries_counted_with_a_refused_record_outlast_an_outage(way):
    written = []
    write = way.ring.write

    def write_then_go_away(first_seq, batch, counts):
        try:
            write(first_seq, batch, counts)
        except RejectedRowsError:
            way.ring.fault = StoreUnavailableError("away")
            raise
        written.append(sum(one.calls for one in batch.counted.values()))

    way.ring.write = write_then_go_away
    way.ring.poison = {666}
    way.put(1_000)
    way.delivery.write_all()
    way.buffer.rows_max = 1
    way.put(1, sql_length=666)
    way.put(10)
    for _ in range(3):  # refused with the texts of its unit, refused without them, and what is left
        with suppress(StoreUnavailableError):
            way.delivery.write_all()
        way.ring.fault = None
    counts = way.counts()
    assert counts.dropped == {"buffer_rows": 10, "rejected": 1}
    assert sum(written) == 10
    assert balanced(counts)


@pytest.mark.parametrize(
    ("owner", "name"), [(Resolver, "counted"), (Units, "note_groups")], ids=["resolver", "units"]
)
def test_what_could_not_be_counted_has_a_reason_of_its_own(way, monkeypatch, owner, name):
    way.put(1_200)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *args: 1 / 0)
        way.delivery.write_all()
    assert way.counts().dropped == {"uncounted": 200}
    assert (way.counts().stored, way.counts().captured) == (1_000, 1_200)


def test_keys_beyond_the_bound_are_not_counted_and_said_to_be_so(way, monkeypatch):
    monkeypatch.setattr(delivery, "COUNTED_MAX", 3)
    way.put(1_000)
    for number in range(5):
        for _ in range(2):
            way.put(1, alias=f"replica_{number}")
    way.delivery.write_all()
    assert way.counts().dropped == {"buffer_rows": 6, "uncounted": 4}
    assert balanced(way.counts())


@pytest.mark.parametrize(
    "changes",
    [{}, {"sql": "long"}, {"unit": "each its own"}, {"alias": "each its own"}],
    ids=["entries", "texts", "units", "forms"],
)
def test_memory_is_bounded_whatever_the_queries_have_in_common(changes, monkeypatch):
    monkeypatch.setattr(buffer, "EVICT_AFTER_S", 0.0)
    full = Buffer(rows_max=100, bytes_max=1 << 20)
    overflow = full.overflow
    for number in range(20_000):
        one = {"unit": UnitOfWork("task")} if "unit" in changes else {}
        one |= {"alias": f"alias-{number}"} if "alias" in changes else {}
        one |= {"sql": f"SELECT {number} {'x' * 20_000}"} if "sql" in changes else {}
        full.put(captured(**one))
    assert full.captured == 20_000
    assert sum(full.drops().values()) == 20_000 - len(full)
    assert full.uncounted.value
    assert len(overflow._entries) <= 10 * 100 * 32
    assert len(overflow._forms._kib) <= (1 << 20 >> 10) // 8 + 21
    assert len(overflow._units._values) <= (1 << 20 >> 10) // 4
    for number in range(3):  # what nobody uses any more is forgotten
        while overflow.drain(20_000, wait=False).calls:
            pass
        full.put(captured(alias=f"new-{number}"))
    assert len(overflow._forms._values) == len(overflow._forms._kib) <= 2


def test_no_query_of_many_threads_is_lost_or_counted_twice():
    full = Buffer(rows_max=1, bytes_max=1 << 30)
    full.overflow._bytes_max = 1 << 30
    over = threading.Event()
    taken = []

    def put(number):
        for query in range(5_000):
            fetch = Fetch()
            full.put(captured(alias=f"alias-{query % 7}", unit=None, fetch=fetch))
            fetch.add(1_000, number)
            fetch.done = True

    def take():
        while not over.is_set():
            taken.append(full.overflow.drain(1_000, wait=True))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    taker = threading.Thread(target=take)
    for thread in (*threads, taker):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    taker.join()
    while (more := full.overflow.drain(1_000, wait=False)).calls:
        taken.append(more)
    assert full.overflow.lost == 0
    assert sum(one.calls for one in taken) == 4 * 5_000 - 1
    rows = [one.rows for drained in taken for one in drained.grouped]
    rows += [one[ROWCOUNT] for drained in taken for one in drained.single]
    assert sum(rows) in (5_000 * 6 - number for number in range(4))
    assert full.captured == 20_000


def test_queries_of_an_ended_minute_stay_in_it(monkeypatch):
    monkeypatch.setattr(buffer, "GROUPED_FROM", 2)
    full = Buffer(rows_max=1, bytes_max=1 << 20)
    full.put(captured())
    minute_ns = 60 * 10**9
    for second in (120, 0, 59, 60, 61, 119):
        full.put(captured(time_ns=minute_ns * 1_000 + second * 10**9, execute_ns=second * 1_000))
    single, grouped = full.overflow.drain(10, wait=True)
    assert [(one.last_s - 60_000, one.durations_us) for one in grouped] == [
        (59, [0, 59]),
        (119, [60, 61, 119]),
    ]
    assert [one.slowest[EXECUTE_NS] for one in grouped] == [59_000, 119_000]
    assert [one[EXECUTE_NS] for one in single] == [120_000]


def test_few_queries_of_a_kind_are_counted_like_any_other(way):
    """Without those that are stored: the metrics get them, exports of records do not."""
    counted = []
    way.delivery._sinks = Sinks([way.sink, sink := FakeSink()])
    way.delivery._sinks._counting_sinks = [SimpleNamespace(count=counted.append)]
    way.put(1_000)
    unit = UnitOfWork("task")
    for number in range(5):
        way.put(1, unit=unit, sql=f"SELECT a FROM b{number}", rowcount=2)
    unit.close()
    way.delivery.write_all()
    assert [len(batch.records) for batch in counted] == [5]
    assert len(sink.records) == len(way.ring.rows) == 1_000
    (row,) = [row for row in way.ring.unit_rows.values() if row.queries == 5]
    assert (row.rows, row.statements, row.slot < 0) == (10, 5, True)


def test_muted_unit_is_not_counted(way):
    silent = UnitOfWork("request")
    way.put(1_000)
    way.put(5, unit=silent)
    silent.muted = True
    written = []
    way.delivery._sinks._counting_sinks = [SimpleNamespace(count=lambda batch: written.extend(batch.records))]
    way.delivery.write_all()
    assert written == []
