"""A large ring is read by the columns of its blocks, and gives the same records as when it is scanned."""

import functools
import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.http import QueryDict
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from benchmarks.samples import captured
from sqllogs import conf
from sqllogs.capture import UNIT
from sqllogs.context import UnitOfWork
from sqllogs.models import BlockColumn, RingHead, SQLLog
from sqllogs.read import block_index
from sqllogs.read import records as read_records
from sqllogs.read import ring as read_ring
from sqllogs.read.block_index import Index
from sqllogs.read.pagination import CursorPage, read_page
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.ring import Ordering, Position, Window
from sqllogs.record import RECORD_FIELDS, Batch, ProcessCounts, UnitRow
from sqllogs.sql.normalize import StatementScanner
from sqllogs.storage import blocks
from sqllogs.storage import ring as storage_ring
from sqllogs.storage.orm import ORMStore
from sqllogs.storage.resize import clear, resize
from sqllogs.storage.ring import SEARCH_INTERVAL_S, Ring
from tests.sqllogs.factories import record_of
from tests.sqllogs.recording import recording
from tests.sqllogs.rings import on_indexed_stores

pytestmark = on_indexed_stores
CAPACITY_ROWS = 9_000
WRITTEN_MAX = 20_000
WITHOUT_INDEX = 1 << 40
BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)
TALLIES = ProcessCounts(captured=0, stored=0, dropped={}, queued=0)
STATEMENTS = [
    StatementScanner().scan(f'SELECT "table_{number}"."id" FROM "table_{number}" WHERE "name" = %s', False)
    for number in range(40)
]
FILTERS = (
    "min_ms=0.041", "min_ms=0.0410001", "max_ms=0.043", "min_ms=90", "min_ms=1000", "slow=true", "slow=false",
    "from=2026-01-31T13:00:00Z", "to=2026-01-31T12:30:00.000500Z",
    "from=2026-01-31T12:40:00Z&to=2026-01-31T12:50:00Z", "error=true", "error=false", "error=DataError",
    "error=true,false", "error=DataError,false", "alias=default", "alias=other", "vendor=sqlite",
    "kind=request,task", "method=get", "route=shop/3/", "route=nowhere", "route=shop/3/,shop/4/",
    "view=shop.views.view_3", "release=2026.1", "host=web-2", "service=shop", "service=shop,blog",
    "trace_id=1f", "trace_id=ffff", "request_id=request-77", "request_id=not%22there%5C",
    "fingerprint={fingerprint}", "call_site=views_7.py", "call_site=VIEWS_7",
    "call_site=p%25r%5Fs,views_3.py", "operation=SELECT", "operation=DELETE",
    "table=table_7,table_8", "search=TABLE_1", "search=nothing",
    "view=shop.views.view_3&min_ms=0.043&error=false&search=table_3", "view=shop.views.view_3&view=nowhere",
)  # fmt: skip


def records(count, chance, first=0):
    """Make records that have much in common, little in common, NULLs, and durations at a filter's bound."""
    for number in range(first, first + count):
        unit = number // 3
        yield record_of(
            time=BEGINNING + timedelta(seconds=number, microseconds=chance.randrange(1_000)),
            duration_ms=chance.choice([0.040, 0.041, 0.042, 0.043, chance.randrange(200_000) / 1000]),
            execute_ms=0.04,
            fetch_ms=None,
            rows=chance.choice([None, 0, 1, chance.randrange(1_000)]),
            fingerprint=chance.choice(STATEMENTS).fingerprint,
            sql_length=50,
            sql_hash=None,
            service=chance.choice(["shop", "blog", None]),
            alias="default",
            vendor="sqlite",
            many=False,
            in_transaction=False,
            error=chance.choice([None] * 50 + ["DataError", "OperationalError"]),
            sqlstate=None,
            trace_id=f"{unit:032x}",
            span_id=None,
            sampled=False,
            request_id=f"request-{unit}",
            kind=chance.choice(["request", "task", "command"]),
            route=f"shop/{unit % 30}/",
            view=f"shop.views.view_{unit % 30}",
            method=chance.choice(["GET", "POST", None]),
            status=200,
            repeats_allowed=False,
            call_site=f"shop/views_{number % 400}.py:7 p%r_s",
            release="2026.1",
            host=chance.choice(["web-1", "web-2"]),
            pid=1,
            unit_id=None,
            ignored=None,
            asked_by=None,
            rendering=None,
            same_values=False,
        )


def unit_row(slot, seq, record):
    """Make a unit of work for each record, as what they share is chosen for each."""
    shared = {name: getattr(record, name) for name in RECORD_FIELDS if name in UnitRow._fields}
    totals = dict.fromkeys(("queries", "errors", "statements", "worst_repeat"), 1)
    numbers = {"slot": slot, "first_seq": seq, "last_seq": seq, "rows": 0, "total_ms": 0.0}
    return UnitRow(**dict.fromkeys(UnitRow._fields) | shared | totals | numbers)


class Writing:
    """One process that writes into the ring."""

    def __init__(self):
        self.ring = Ring(conf.load())
        self._parts = itertools.count(1)

    def write(self, made, units=None, reserved=None):
        own = self.ring.reserve_all(0 if reserved else len(made), units=len(made))
        first_seq = reserved or own.first_seq
        units = units or (unit_row(0, 0, one) for one in made)
        batch = Batch(
            records=list(made),
            statements={one.fingerprint: one for one in STATEMENTS},
            part=next(self._parts),
            slots=list(own.slots),
            unit_rows=[
                unit._replace(slot=slot, first_seq=seq, last_seq=seq)
                for unit, slot, seq in zip(units, own.slots, itertools.count(first_seq), strict=False)
            ],
        )
        self.ring.write(first_seq, batch, TALLIES)
        return first_seq


@pytest.fixture
def large(ring_alias, settings, monkeypatch):
    """The alias of an empty ring that counts as large."""
    settings.SQLLOGS = {"DATABASE": ring_alias, "CAPACITY_ROWS": CAPACITY_ROWS, "STATISTICS_ROWS_MAX": 0}
    monkeypatch.setattr(blocks, "INDEXED_FROM_ROWS", CAPACITY_ROWS)
    # Of the few blocks here, portions of one and two, so that there are several.
    monkeypatch.setattr(block_index, "CHUNK_BLOCKS", 1)
    monkeypatch.setattr(block_index, "CHUNK_BLOCKS_MAX", 2)
    return ring_alias


@pytest.fixture
def writing_process(large):
    process = Writing()
    yield process
    process.ring.close()


@functools.cache
def usual():
    """Make what most tests write, once: that takes longer than to write it."""
    return [(record, unit_row(0, 0, record)) for record in records(WRITTEN_MAX, random.Random(1))]


@pytest.fixture(scope="module", autouse=True)
def _usual_records_are_given_up():
    yield
    usual.cache_clear()


def write_all(process, count, size=700):
    made = iter(usual()[:count])
    while batch := list(itertools.islice(made, size)):
        process.write(*zip(*batch, strict=True))


def write_others(process, count, seed):
    made = list(records(count, random.Random(seed)))
    for first in range(0, count, 700):
        process.write(made[first : first + 700])


def indexed(alias):
    """Return the blocks that are indexed, each with all of its columns."""
    rows = BlockColumn.objects.using(alias).order_by("block").values_list("block", "name")
    by_block = itertools.groupby(rows, lambda row: row[0])
    found = {block: {name for _, name in names} for block, names in by_block}
    assert all(names == set(blocks.COLUMNS) for names in found.values())
    return set(found)


def read(query, window):
    """Return the numbers of a window, the count behind it and the count of all."""
    filtered, ring = SQLLogFilter.from_query(QueryDict(query)).qs, read_ring.ring()
    found = [row[0] for row in read_records.rows(filtered, ring, window)]
    behind = Position(found[-1]) if found else Position(ring.seq)
    return (
        found,
        read_records.count(filtered, ring, 10_001),
        read_records.count_after(behind, filtered, ring, Ordering(), 10_001),
    )


def both_ways(monkeypatch, query, window):
    by_index = read(query, window)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "INDEXED_FROM_ROWS", WITHOUT_INDEX)
        return by_index, read(query, window)


def windows(seqs):
    yield Window(ordering=Ordering(), limit=101)
    yield Window(ordering=Ordering(descending=False), limit=7, offset=90)
    yield Window(ordering=Ordering(), limit=50, after=Position(seqs.randrange(20_000)))
    yield Window(ordering=Ordering(descending=False), limit=50, after=Position(seqs.randrange(20_000)))
    for column in ("duration_ms", "rows"):
        for descending in (True, False):
            ordering = Ordering(column=column, descending=descending)
            yield Window(ordering=ordering, limit=20, offset=seqs.randrange(30))
            yield Window(ordering=ordering, limit=20, after=Position(seqs.randrange(20_000), 0.041))


def test_index_gives_what_a_scan_gives(large, writing_process, monkeypatch):
    write_all(writing_process, 20_000)
    assert indexed(large) == set(range(4, 9))  # of 11,001 to 20,000
    chance = random.Random(2)
    for query in FILTERS:
        for window in chance.sample(list(windows(chance)), 4):
            asked = query.format(fingerprint=STATEMENTS[3].fingerprint)
            by_index, by_scan = both_ways(monkeypatch, asked, window)
            assert by_index == by_scan, (query, window)


def test_whole_ring_in_any_order_is_that_of_a_scan(large, writing_process, monkeypatch):
    write_all(writing_process, 12_000)
    for window in windows(random.Random(3)):
        by_index, by_scan = both_ways(monkeypatch, "", window)
        assert by_index == by_scan, window


def test_admin_search_over_several_columns_is_that_of_a_scan(large, writing_process, monkeypatch):
    from sqllogs.admin.records import search

    write_all(writing_process, 12_000)
    ring = read_ring.ring()
    for term in ("view_7", "SHOP/3/", "request-3500", "table_3", "nothing of it"):
        found = search(SQLLog.objects.all(), term, with_text=True)
        by_index = read_records.count(found, ring, 10_001)
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "INDEXED_FROM_ROWS", WITHOUT_INDEX)
            assert by_index == read_records.count(found, ring, 10_001), term


def test_records_that_do_not_match_are_not_read(large, writing_process):
    write_all(writing_process, blocks.ROWS * 4)
    for query in ("view=shop.views.view_3", "min_ms=1000", "trace_id=1f"):
        with CaptureQueriesContext(connections[large]) as captured:
            read(query, Window(ordering=Ordering(), limit=10))
        of_records = [one["sql"] for one in captured if '"sqllogs_record"' in one["sql"]]
        assert bool(of_records) == (query != "min_ms=1000")  # which is more than any block has
        # By slots that are named, or of the one block at each end of the ring.
        assert all('"slot" IN' in sql or '"slot" BETWEEN' in sql for sql in of_records), of_records
        assert sum('"slot" BETWEEN' in sql for sql in of_records) <= 6


def test_page_and_its_count_read_the_extremes_once(large, writing_process):
    write_all(writing_process, blocks.ROWS * 4)
    request, filtered = RequestFactory().get("/"), SQLLogFilter.from_query(QueryDict("error=true")).qs
    with CaptureQueriesContext(connections[large]) as captured:
        read_page(request, filtered, CursorPage.from_query(QueryDict("limit=5")), with_text=False)
    assert sum('"low"' in one["sql"] for one in captured) == 1


def put(recorder, unit, count):
    for query in captured(count):
        query = list(query)
        query[UNIT] = unit
        recorder.buffer.put(tuple(query))


def request(route=None, view=None):
    unit = UnitOfWork("request", method="GET", view=view)
    unit.route = route
    return unit


@pytest.mark.parametrize("in_memory", [True, False])
def test_route_that_becomes_known_after_the_first_queries_is_found_by_the_index(
    large, monkeypatch, in_memory
):
    if not in_memory:  # as the records of several processes
        monkeypatch.setattr(storage_ring.Indexing, "_columns_from_memory", lambda *_: None)
    early, other = request(), request("other/", "shop.views.other")
    with recording(large, statistics_rows_max=0, capacity_rows=CAPACITY_ROWS) as recorder:
        recorder.writer.started = True  # no thread beside: the test writes
        put(recorder, early, 3)
        recorder.delivery.write_all()
        put(recorder, other, blocks.ROWS + 10)
        recorder.delivery.write_all()
        assert indexed(large) == set()
        early.route, early.view = "late/", "shop.views.late"
        early.ended = True
        early.close()
        recorder.delivery.write_all()
        put(recorder, other, 1)
        recorder.delivery.write_all()
        assert indexed(large) == {0}
    for query, count in (("route=late/", 3), ("view=shop.views.late", 3), ("route=other/", blocks.ROWS + 11)):
        by_index, by_scan = both_ways(monkeypatch, query, Window(ordering=Ordering(), limit=5))
        assert by_index == by_scan
        assert by_index[1] == count


def test_block_with_a_request_that_never_gets_a_route_is_indexed_in_the_end(large, monkeypatch):
    with recording(large, statistics_rows_max=0, capacity_rows=CAPACITY_ROWS) as recorder:
        recorder.writer.started = True
        put(recorder, request(), blocks.ROWS + 10)
        recorder.delivery.write_all()
        assert indexed(large) == set()
        recorder.ring._indexing._due.clear()
        recorder.ring._indexing._search_at_s -= SEARCH_INTERVAL_S
        put(recorder, request("other/", "shop.views.other"), 1)
        recorder.delivery.write_all()
        assert indexed(large) == {0}


def test_request_without_a_route_that_has_ended_keeps_no_block_waiting(large):
    unknown = request()
    unknown.ended = True  # 404
    unknown.close()
    with recording(large, statistics_rows_max=0, capacity_rows=CAPACITY_ROWS) as recorder:
        recorder.writer.started = True
        put(recorder, unknown, blocks.ROWS + 10)
        recorder.delivery.write_all()
        assert indexed(large) == {0}


def test_page_is_full_though_records_are_overwritten_while_it_is_read(large, writing_process, monkeypatch):
    write_all(writing_process, 9_000)
    whole = Index.window

    def overtaken(self, window):
        found = whole(self, window)
        monkeypatch.setattr(Index, "window", whole)
        write_others(writing_process, 5_000, seed=11)
        return found

    monkeypatch.setattr(Index, "window", overtaken)
    window = Window(ordering=Ordering(column="duration_ms"), limit=500)
    found = [row[0] for row in read_records.rows(SQLLog.objects.all(), read_ring.ring(), window)]
    assert len(found) == len(set(found)) == 500
    assert min(found) > 5_000


def test_blocks_of_a_release_without_the_newest_column_are_scanned_and_indexed_again(
    large, writing_process, monkeypatch
):
    write_all(writing_process, 9_000)
    lacking = BlockColumn.objects.using(large).filter(name=blocks.NEWEST_NAME, block=2)
    assert lacking.delete()[0] == 1
    for query in ("service=shop", "min_ms=150", ""):
        by_index, by_scan = both_ways(monkeypatch, query, Window(ordering=Ordering(), limit=5_000))
        assert by_index == by_scan
        assert by_index[0]
    writing_process.ring._indexing._search_at_s -= SEARCH_INTERVAL_S
    for _ in range(2):
        writing_process.write(list(records(1, random.Random(9))))
    assert lacking.count() == 1


def test_blocks_that_go_while_they_are_read_are_no_fault(large, writing_process):
    write_all(writing_process, 9_000)
    ring = read_ring.ring()
    for query in ("view=shop.views.view_3", "min_ms=0.041", "min_ms=0.041&error=false"):
        read_before = Index.for_filters(SQLLogFilter.from_query(QueryDict(query)).qs, ring)
        gone = BlockColumn.objects.using(large).filter(block__lt=2)
        kept = list(gone)
        gone.delete()
        for ordering in (Ordering(), Ordering(column="duration_ms")):
            found = read_before.window(Window(ordering=ordering, limit=CAPACITY_ROWS))
            assert found
            assert min(found) > 2 * blocks.ROWS
        BlockColumn.objects.using(large).bulk_create(kept)


def test_what_only_sql_understands_is_scanned(large, writing_process):
    write_all(writing_process, 10_000)
    filtered = SQLLog.objects.exclude(view="shop.views.view_3").filter(pid=1)
    ring = read_ring.ring()
    expected = [seq for seq, view in SQLLog.objects.values_list("seq", "view") if not view.endswith("_3")]
    assert read_records.count(filtered, ring, 10_001) == len(expected)


def test_index_is_bounded_by_the_ring(large, writing_process):
    for _ in range(4):
        write_all(writing_process, 10_000)
        assert len(indexed(large)) <= CAPACITY_ROWS // blocks.ROWS + 1


def test_block_with_a_gap_is_scanned_until_it_is_filled(large, writing_process, monkeypatch):
    write_all(writing_process, 1_000)
    late = list(records(100, random.Random(5), first=1_000))
    reserved = writing_process.ring.reserve(len(late))
    other = Writing()
    try:
        write_others(other, 7_200, seed=6)
        assert indexed(large) == {1, 2, 3}
        by_index, by_scan = both_ways(monkeypatch, "error=true", Window(ordering=Ordering(), limit=200))
        assert by_index == by_scan
        other.write(late, reserved=reserved)
        write_others(other, 500, seed=7)
        assert 0 in indexed(large)
    finally:
        other.ring.close()


def test_blocks_of_several_processes_are_indexed(large, writing_process):
    other = Writing()
    try:
        made = records(9_000, random.Random(8))
        for process in itertools.cycle((writing_process, other)):
            if not (batch := list(itertools.islice(made, 300))):
                break
            process.write(batch)
    finally:
        other.ring.close()
    assert indexed(large) == {0, 1, 2, 3}


def test_ring_that_was_small_is_indexed_by_and_by(large, writing_process, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "INDEXED_FROM_ROWS", WITHOUT_INDEX)
        write_all(writing_process, 8_990)
    assert indexed(large) == set()
    indexing = writing_process.ring._indexing
    indexing._search_at_s -= SEARCH_INTERVAL_S
    for _ in range(4):
        writing_process.write(list(records(1, random.Random(9))))
    assert indexed(large) == {0, 1, 2, 3}


def test_cleared_ring_has_no_index(large, writing_process):
    write_all(writing_process, 9_000)
    assert indexed(large)
    assert list(clear())
    assert indexed(large) == set()
    assert read("error=true", Window(ordering=Ordering(), limit=10))[0] == []


def test_block_is_not_kept_when_the_ring_has_been_emptied_meanwhile(large, writing_process):
    write_all(writing_process, 4_200)
    with writing_process.ring._guarded() as store:
        head = store.head()
        columns = store.block_columns(1, head, wait=False)
        BlockColumn.objects.using(large).all().delete()
        RingHead.objects.using(large).update(epoch=head.epoch + 1)
        assert not store.store_block(1, columns, head)
    assert indexed(large) == set()


def test_resized_ring_keeps_its_index(large, writing_process, monkeypatch):
    write_all(writing_process, 20_000)
    list(resize(10_000))
    write_others(writing_process, 500, seed=10)
    for query in ("error=true", "view=shop.views.view_3", "min_ms=150"):
        by_index, by_scan = both_ways(monkeypatch, query, Window(ordering=Ordering(), limit=1_000))
        assert by_index == by_scan
        assert by_index[0]


def test_ring_over_the_orm_is_scanned(large, monkeypatch):
    monkeypatch.setattr(storage_ring, "_open_store", ORMStore)
    process = Writing()
    write_all(process, 4_500)
    process.ring.close()
    assert indexed(large) == set()
    assert read("error=true", Window(ordering=Ordering(), limit=1))[0]


def test_fault_of_the_index_keeps_no_record_back(large, writing_process, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("sqllogs.storage.sql_store.RawStore.store_block", fail)
    write_all(writing_process, 4_200)
    assert SQLLog.objects.count() == 4_200
    assert indexed(large) == set()
