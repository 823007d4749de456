"""A repeated report scans only what is new, and is what a report that scans everything finds."""

import gc
import random
import sys
from datetime import timedelta
from secrets import token_hex

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from sqllogs.api import access
from sqllogs.models import RingRow, SQLLog, Unit
from sqllogs.read import aggregates, ring
from sqllogs.read.ring import Division, FinalBlock, PartsCache
from tests.sqllogs.factories import BEGINNING, fill, put_rows, reader, row

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

REPORTS = (
    ("series/", {"step": "10s"}),
    ("series/", {"step": "30s", "group_by": "route", "top": "2"}),
    ("series/", {"step": "20s", "buckets": "true"}),
    ("stats/", {"group_by": "fingerprint"}),
    ("stats/", {"group_by": "view", "min_ms": "3"}),
    ("stats/", {"group_by": "call_site", "error": "false"}),
    ("stats/", {"group_by": "view", "compare": "previous"}),
    ("stats/", {"group_by": "route", "compare": "release"}),
)


def at(seconds):
    return (BEGINNING + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def fields(seq):
    chooser = random.Random(seq)
    return {
        # Not in the order of the numbers: a record is numbered when it is stored.
        "time": BEGINNING + timedelta(seconds=seq + chooser.uniform(-4, 4)),
        "duration_ms": chooser.choice((0.05, 1.0, 4.5, 40.0)) + seq / 1000,
        "fingerprint": chooser.choice(("a", "b")) * 16,
        "route": chooser.choice(("a/", "b/", None)),
        "view": chooser.choice(("v.a", "v.b")),
        "error": chooser.choice((None, None, "DataError")),
        "call_site": chooser.choice(("a.py:1 f", None)),
    }


@pytest.fixture
def cache(monkeypatch):
    monkeypatch.setattr(ring, "BLOCK_ROWS", 8)
    monkeypatch.setattr(ring, "PIECES", 2)
    found = PartsCache()
    monkeypatch.setattr(aggregates, "parts_cache", found)
    return found


def answers(**span):
    client, found = reader(token_hex(4)), []
    for path, parameters in REPORTS:
        access.recent.clear()
        answer = client.get(f"/sql-logs/{path}", parameters | {"source": "ring"} | span)
        assert answer.status_code == 200, answer.content
        found.append(answer.json()["results"])
    return found


def scanned(monkeypatch, **span):
    """Return what is found without the cache."""
    with monkeypatch.context() as patches:
        patches.setattr(aggregates, "parts_cache", PartsCache())
        return answers(**span)


def rounded(value):
    """Sums of floats depend on the order."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def test_repeated_report_is_what_a_scan_finds(ring_alias, cache, monkeypatch):
    changes = {seq: fields(seq) for seq in range(1, 400)}
    fill(90, changes=changes)
    answers(**{"from": at(0), "to": at(95)})  # to have been asked for once
    for last, begin in ((90, 0), (90, 31), (93, 34), (130, 20), (131, 60), (230, 150)):
        put_rows_upto(last, changes)
        span = {"from": at(begin), "to": at(last + 6)}
        assert rounded(answers(**span)) == rounded(scanned(monkeypatch, **span)), (last, begin)
    assert cache.size_bytes > 0


def put_rows_upto(last, changes):
    """Write further records over the oldest ones, as the writer does."""
    seq = max(SQLLog.objects.values_list("seq", flat=True))
    RingRow.objects.filter(slot__in=[number % 100 for number in range(seq + 1, last + 1)]).delete()
    if last > seq:
        fill(last, first=seq + 1, changes=changes)


def test_slot_that_is_only_reserved_costs_no_more_in_an_old_log(ring_alias, cache):
    """Its numbers are all that there have ever been, not those that are in the ring."""
    last = 10**10
    fill(last)
    Unit.objects.update(kind="", first_seq=0, last_seq=last)
    assert cache.count(ring_alias, ring.ring()) == 100
    assert ring._newly_final(Division(ring_alias, ring.ring(), 8), [last // 8 - 2]) == {}


def test_ring_is_counted_again_where_something_may_have_changed(ring_alias, cache):
    def counted():
        return cache.count(ring_alias, ring.ring())

    assert counted() == 0
    fill(90)
    assert (counted(), counted()) == (90, 90)
    RingRow.objects.filter(seq__in=(17, 90)).delete()  # one of them in a block that was final
    put_rows_upto(130, {})
    put_rows_upto(230, {})
    RingRow.objects.filter(seq=200).delete()
    assert (counted(), counted()) == (99, 99)
    put_rows(row(200))
    with CaptureQueriesContext(connections[ring_alias]) as queries:
        assert counted() == 100
    (rest,) = [query["sql"] for query in queries if "COUNT(*)" in query["sql"]][-1:]
    assert rest.count("BETWEEN") == 4  # the oldest block and the newest, by slot and number


def test_late_record_request_that_goes_on_and_cleared_ring(ring_alias, cache, monkeypatch):
    changes = {seq: fields(seq) for seq in range(1, 81)}
    fill(80, changes=changes)
    RingRow.objects.filter(seq=20).delete()  # its writer is late
    open_unit = Unit.objects.filter(route="a/").order_by("last_seq").first()
    Unit.objects.filter(slot=open_unit.slot).update(ended_at=None, route=None)
    span = {"from": at(-10), "to": at(200)}
    for _ in range(3):
        assert rounded(answers(**span)) == rounded(scanned(monkeypatch, **span))
    put_rows(row(20, **fields(20)))
    Unit.objects.filter(slot=open_unit.slot).update(ended_at=BEGINNING, route="c/")
    assert rounded(answers(**span)) == rounded(scanned(monkeypatch, **span))
    # Cleared: the same numbers once more, of other records.
    RingRow.objects.all().delete()
    Unit.objects.all().delete()
    fill(80, changes={seq: fields(seq + 500) | {"time": fields(seq)["time"]} for seq in range(1, 79)})
    assert rounded(answers(**span)) == rounded(scanned(monkeypatch, **span))


def test_block_that_is_completed_while_it_is_read_waits_for_its_request(ring_alias, cache, monkeypatch):
    changes = {seq: fields(seq) for seq in range(1, 81)}
    fill(80, changes=changes)
    RingRow.objects.filter(seq=20).delete()  # its writer is late
    read, late = ring.in_ranges, [row(20, **fields(20) | {"unit_id": "1" * 16})]

    def in_ranges(*args):
        # After it was read which requests go on, before the records are counted.
        if late:
            put_rows(late.pop())
            Unit.objects.filter(unit_id="1" * 16).update(ended_at=None, route=None)
        return read(*args)

    span = {"from": at(-10), "to": at(200)}
    answers(**span)
    monkeypatch.setattr(ring, "in_ranges", in_ranges)
    answers(**span)
    assert not late
    Unit.objects.filter(unit_id="1" * 16).update(ended_at=BEGINNING, route="c/")
    assert rounded(answers(**span)) == rounded(scanned(monkeypatch, **span))


def test_log_that_is_cleared_while_it_is_read_is_empty(ring_alias, cache, monkeypatch):
    fill(80)
    read = ring._read_ends

    def read_ends(division, blocks):
        if blocks:
            RingRow.objects.all().delete()
        return read(division, blocks)

    monkeypatch.setattr(ring, "_read_ends", read_ends)
    cache.count(ring_alias, ring.ring())
    assert cache.count(ring_alias, ring.ring()) == 0


def test_repeated_report_reads_the_newest_records_only(ring_alias, cache, monkeypatch):
    fill(96, changes={seq: fields(seq) | {"unit_id": "1" * 16} for seq in range(1, 97)})
    answers()
    answers()
    reads, scan = [], aggregates.parts

    def counted(records, *keys, **options):
        reads.append(records.count())
        return scan(records, *keys, **options)

    monkeypatch.setattr(aggregates, "parts", counted)
    answers()
    assert 0 < max(reads) <= 4, reads  # a piece, not a block


def test_blocks_are_added_up_once_until_others_are_in_the_range(ring_alias, cache, monkeypatch):
    joined, join = [], aggregates.joined_parts

    def counted(parts):
        joined.append(len(parts := list(parts)))
        return join(parts)

    monkeypatch.setattr(aggregates, "joined_parts", counted)
    changes = {seq: fields(seq) for seq in range(1, 200)}
    fill(60, changes=changes)
    for _ in range(4):
        answers()
    first = len(joined)
    put_rows_upto(61, changes)
    answers()
    assert len(joined) == first > 0  # the new record is in no block that is final
    put_rows_upto(90, changes)
    answers()
    answers()
    assert len(joined) > first


def test_cached_parts_are_bounded_and_the_oldest_go_first(ring_alias, cache, monkeypatch):
    fill(96, changes={seq: fields(seq) for seq in range(1, 97)})
    monkeypatch.setattr(ring, "CACHE_MAX_BYTES", 20_000)
    for _ in range(3):
        answers()
    assert 0 < cache.size_bytes <= 20_000
    monkeypatch.setattr(ring, "CACHE_MAX_BYTES", 0)
    assert rounded(answers()) == rounded(scanned(monkeypatch))
    assert cache.size_bytes == 0


def reachable(value):
    """Return the parts that an object keeps in memory."""
    seen, parts, waiting = set(), set(), list(vars(value).values())
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        if hasattr(one, "size_bytes") and hasattr(one, "keys"):
            parts.add(id(one))
        waiting.extend(gc.get_referents(one))
    return parts


def test_parts_that_were_removed_do_not_stay_in_memory(ring_alias, cache, monkeypatch):
    fill(96, changes={seq: fields(seq) for seq in range(1, 97)})
    for _ in range(3):
        answers()
    monkeypatch.setattr(ring, "CACHE_MAX_BYTES", 20_000)
    cache._put(("", "", 0, 0), None, [])
    assert reachable(cache) == {id(part) for cached in cache._cached.values() for part in cached.parts}


@pytest.mark.parametrize("group_by", ["call_site", "fingerprint"])
def test_texts_of_cached_parts_count(ring_alias, cache, group_by):
    """Those of the driver are not shared: each part has its own."""
    fill(96, changes={seq: fields(seq) | {"call_site": "é" * 300} for seq in range(1, 97)})
    client, query = reader(), {"group_by": group_by, "source": "ring"}
    for _ in range(2):
        access.recent.clear()
        assert client.get("/sql-logs/stats/", query).status_code == 200
    parts = [
        part
        for block in cache._cached.values()
        if isinstance(block.source, FinalBlock)
        for part in block.parts
    ]
    texts = {id(key): sys.getsizeof(key) for part in parts for key in part.keys if isinstance(key, str)}
    assert len(texts) > len(parts) / 4
    assert cache.size_bytes > 200 * len(parts) + sum(texts.values())


def test_chart_of_requests_is_cached_too(ring_alias, cache):
    changes = {seq: fields(seq) | {"duration_ms": seq / 4} for seq in range(1, 91)}  # sums are exact
    for seq in range(1, 86):  # the newest have no unit
        changes[seq] |= {"unit_id": f"{seq // 4 + 1:016x}", "trace_id": f"{seq // 4 + 1:032x}"}
    fill(90, changes=changes)
    client = reader()

    def page():
        access.recent.clear()
        span = {"from": at(0), "to": at(100)}
        answer = client.get("/sql-logs/requests/", span, headers={"Accept": "text/html"})
        assert answer.status_code == 200
        return answer.content

    first = page()
    assert not len(cache)
    assert page() == first  # scanned by blocks, which are cached
    assert len(cache)
    assert page() == first
