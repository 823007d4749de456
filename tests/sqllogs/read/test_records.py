"""The ring is read in order, without a sort, and without what slots still hold from before."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from sqllogs.models import RingRow, SQLLog, Statement
from sqllogs.read import n_plus_one, records
from sqllogs.read import ring as read_ring
from sqllogs.read.parameters import of_statements
from sqllogs.read.records import _runs, rfc3339
from sqllogs.read.ring import Ordering, Position, RingSnapshot, Window, since
from sqllogs.record import COLUMNS
from tests.sqllogs.factories import BEGINNING, fill, put, put_rows, put_statement, row
from tests.sqllogs.rings import on_indexed_stores

ring_db = pytest.mark.django_db(databases=["default", "sqllogs"])
NEWEST_FIRST = Ordering()
OLDEST_FIRST = Ordering(descending=False)


def read(ordering=NEWEST_FIRST, limit=1000, **rest):
    """Return the numbers of a window of all records."""
    window = Window(ordering=ordering, limit=limit, **rest)
    return [found[0] for found in records.rows(SQLLog.objects.all(), read_ring.ring(), window)]


@ring_db
@pytest.mark.parametrize(
    ("last", "capacity"),
    [
        (7, 10),  # not full
        (10, 10),  # full, the newest in slot 0
        (19, 10),  # the newest in the last slot
        (25, 10),  # wrapped in the middle
        (5, 1),  # one slot
    ],
)
def test_records_come_in_order_over_the_end_of_the_slots(last, capacity):
    fill(last, capacity=capacity)
    expected = list(range(last, max(0, last - capacity), -1))
    assert read() == expected
    assert read(OLDEST_FIRST) == expected[::-1]


@ring_db
def test_any_offset_and_limit_is_a_slice_of_the_whole():
    fill(25, capacity=10)
    whole = read()
    for offset in range(12):
        for limit in range(1, 12):
            assert read(offset=offset, limit=limit) == whole[offset : offset + limit]


@ring_db
def test_empty_ring_has_no_records():
    assert read() == read(Ordering(column="rows")) == []
    assert records.oldest_record(read_ring.ring()) is None


@ring_db
def test_oldest_record_is_the_lowest_number_that_is_stored():
    fill(130, capacity=100, first=40)  # 31 to 39 are in the ring and were never written
    assert records.oldest_record(read_ring.ring()) == (40, BEGINNING + timedelta(seconds=40))


@ring_db
def test_stale_rows_of_a_reserved_block_are_not_shown():
    fill(100, capacity=100)
    fill(110, capacity=100, first=111)  # 101 to 110 are reserved and were never written
    assert read() == list(range(100, 10, -1))
    assert records.count(SQLLog.objects.all(), read_ring.ring(), 1000) == 90
    assert records.one(read_ring.ring(), 5, with_text=True) is None


@ring_db
def test_rows_written_after_the_head_was_read_are_not_shown():
    fill(20, capacity=10)
    ring = read_ring.ring()
    RingRow.objects.filter(slot=1).delete()
    put_rows(row(21, capacity=10))
    window = Window(ordering=NEWEST_FIRST, limit=100)
    found = [one[0] for one in records.rows(SQLLog.objects.all(), ring, window)]
    assert found == list(range(20, 11, -1))


def test_times_are_written_with_six_digits_in_utc(ring_alias):
    moments = (
        datetime(2026, 1, 31, 12, tzinfo=UTC),
        datetime(2026, 1, 31, 12, 0, 0, 40, tzinfo=UTC),
        datetime(2026, 3, 29, 3, 30, 59, 999_999, tzinfo=timezone(timedelta(hours=2))),
    )
    put(*({"time": moment} for moment in moments))
    found = records.rows(SQLLog.objects.all(), read_ring.ring(), Window(ordering=OLDEST_FIRST, limit=9))
    times = [one["time"] for one in records.records(found, with_text=False)]
    assert times == [
        "2026-01-31T12:00:00.000000Z",
        "2026-01-31T12:00:00.000040Z",
        "2026-03-29T01:30:59.999999Z",
    ]
    assert times == [rfc3339(moment) for moment in moments]


@pytest.mark.parametrize("ordering", [NEWEST_FIRST, OLDEST_FIRST])
@on_indexed_stores
def test_order_by_number_needs_no_sort(ring_alias, ordering):
    fill(150, capacity=100)
    put_statement()
    slow = SQLLog.objects.filter(duration_ms__gte=0, time__gte=BEGINNING)
    filtered = of_statements(slow, Statement.objects.filter(operation="SELECT"))
    with connections[ring_alias].cursor() as cursor:
        if connections[ring_alias].vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")  # of 100 rows it would rather read all
    for run in _runs(filtered, read_ring.ring(), ordering, None):
        plan = run.values_list(*COLUMNS)[:1000].explain().lower()
        assert "b-tree" not in plan
        assert "sort" not in plan


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("column", ["duration_ms", "execute_ms", "rows", "sql_length"])
def test_pages_by_value_meet_each_record_once(ring_alias, column, descending):
    values = [3, 1, 2, 2, 2, 0] * 5
    put(*({column: value} for value in values))
    stored, value = (column.replace("_ms", "_us"), 2500) if column.endswith("_ms") else (column, 7)
    RingRow.objects.filter(seq__in=[4, 9]).update(**{stored: value})
    if column == "rows":
        RingRow.objects.filter(seq__gt=25).update(rows=None)
    ordering = Ordering(column=column, descending=descending)
    index = COLUMNS.index(column)
    met, after = [], None
    while page := records.rows(
        SQLLog.objects.all(), read_ring.ring(), Window(ordering=ordering, limit=7, after=after)
    ):
        met += page
        after = Position(page[-1][0], -1.0 if page[-1][index] is None else float(page[-1][index]))
    keys = [(-1 if one[index] is None else one[index], one[0]) for one in met]
    assert len(set(keys)) == 30
    assert keys == sorted(keys, reverse=descending)


@ring_db
def test_record_is_found_by_its_number_alone():
    fill(150, capacity=100, changes={120: {"pid": 77}})
    ring = read_ring.ring()
    assert records.one(ring, 120, with_text=True)["pid"] == 77
    assert [records.one(ring, seq, with_text=True) for seq in (0, 50, 151, 10**18)] == [None] * 4


@ring_db
def test_statements_are_fetched_once_for_all_records(django_assert_num_queries):
    put_statement("a" * 16, "SELECT a", tables="one,two")
    put(*[{"fingerprint": "a" * 16}, {"fingerprint": "b" * 16}] * 20)
    rows = records.rows(SQLLog.objects.all(), read_ring.ring(), Window(ordering=NEWEST_FIRST, limit=40))
    with django_assert_num_queries(1, using="sqllogs"):
        found = records.records(rows, with_text=True)
    assert [(one["sql"], one["operation"], one["tables"]) for one in found[:2]] == [
        (None, None, []),  # its text was not kept
        ("SELECT a", "SELECT", ["one", "two"]),
    ]


@ring_db
def test_page_of_a_thousand_different_statements_is_read():
    fingerprints = [put_statement(f"{number:016x}") for number in range(1000)]
    put(*({"fingerprint": fingerprint} for fingerprint in fingerprints), capacity=1000)
    rows = records.rows(SQLLog.objects.all(), read_ring.ring(), Window(ordering=NEWEST_FIRST, limit=1000))
    assert {one["sql"] for one in records.records(rows, with_text=True)} == {"SELECT 1"}


@ring_db
def test_count_ends_at_its_cap():
    fill(50)
    ring = read_ring.ring()
    assert records.count(SQLLog.objects.all(), ring, 20) == 20
    assert records.count_after(Position(40), SQLLog.objects.all(), ring, NEWEST_FIRST, 100) == 39
    assert records.count_after(Position(40), SQLLog.objects.all(), ring, OLDEST_FIRST, 5) == 5


def test_ring_before_its_first_record_is_empty():
    assert RingSnapshot(seq=0, capacity=0).oldest == 1


@ring_db
@pytest.mark.parametrize("last", [7, 10, 19, 25])
def test_records_since_a_number_are_found_over_the_end_of_the_slots(last):
    fill(last, capacity=10)
    ring = read_ring.ring()
    for first in range(last + 2):
        found = since(SQLLog.objects.all(), ring, first).values_list("seq", flat=True)
        assert sorted(found) == list(range(max(first, ring.oldest), last + 1))


@ring_db
def test_repeated_lines_are_read_of_their_ends_alone(django_assert_num_queries):
    unit = {"trace_id": "a" * 32, "unit_id": "b" * 16}
    put(*[unit | {"rows": 1}] * 20)
    put_statement(sql="SELECT x FROM t WHERE id = ?")
    with django_assert_num_queries(3, using="sqllogs"):  # the scan, the texts, the ends
        (suspect,) = n_plus_one.find_suspects(SQLLog.objects.all(), RingSnapshot(seq=20, capacity=100))
    assert (suspect.calls, suspect.requests) == (20, 1)


@ring_db
@pytest.mark.parametrize("column", ["duration_ms", "execute_ms", "rows", "sql_length"])
def test_records_are_sorted_without_their_other_columns(column):
    fill(100, capacity=100)
    with CaptureQueriesContext(connections[SQLLog.objects.db]) as captured:
        assert len(read(Ordering(column=column), limit=7)) == 7
    (sorting,) = (one["sql"] for one in captured if "ORDER BY" in one["sql"] and "ringhead" not in one["sql"])
    assert sorting.partition(" FROM ")[0].count(",") == 0
