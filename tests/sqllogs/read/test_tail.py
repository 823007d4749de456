"""Following the ring: each record once, late ones too, and what is lost is told."""

from sqllogs.models import RingHead, RingRow, SQLLog
from sqllogs.read import records
from sqllogs.read.records import RingTail
from tests.sqllogs.factories import fill, put_rows, row


def take(follower):
    """Return the numbers found, and the sums of what was not."""
    news = list(follower.poll())
    seqs = [row[0] for portion in news for row in portion.rows]
    return seqs, sum(portion.overwritten for portion in news), sum(portion.unwritten for portion in news)


def reserve(last):
    """Let a writer have the numbers up to `last`, and write none of them yet."""
    RingHead.objects.update(seq=last)


def write(*seqs, **fields):
    put_rows(*(row(seq, **fields) for seq in seqs))


def test_new_records_come_once_and_in_order(ring_alias):
    fill(5)
    follower = RingTail(SQLLog.objects.all(), after=5)
    assert take(follower) == ([], 0, 0)
    fill(8, first=6)
    assert take(follower) == ([6, 7, 8], 0, 0)
    assert take(follower) == ([], 0, 0)


def test_only_matching_records_come_and_the_others_are_no_gap(ring_alias):
    fill(1)
    follower = RingTail(SQLLog.objects.filter(alias="b"), after=1)
    fill(4, first=2, changes={3: {"alias": "b"}})
    assert take(follower) == ([3], 0, 0)
    assert follower._gaps == []


def test_record_of_a_writer_that_was_overtaken_comes_late(ring_alias):
    fill(1)
    follower = RingTail(SQLLog.objects.all(), after=1)
    reserve(7)
    write(4, 5)
    assert take(follower) == ([4, 5], 0, 0)
    write(2, 3, 7)
    assert take(follower) == ([2, 3, 7], 0, 0)
    write(6)
    assert take(follower) == ([6], 0, 0)
    assert follower._gaps == []


def test_number_that_is_never_written_is_told_after_a_while(ring_alias, monkeypatch):
    fill(1)
    follower = RingTail(SQLLog.objects.all(), after=1)
    monkeypatch.setattr(records, "GAP_TIMEOUT_S", 0.0)
    reserve(4)
    write(3)
    assert take(follower) == ([3], 0, 0)
    assert take(follower) == ([], 0, 2)
    assert take(follower) == ([], 0, 0)


def test_overwritten_records_are_counted(ring_alias):
    fill(5)
    follower = RingTail(SQLLog.objects.all(), after=5)
    RingRow.objects.all().delete()
    fill(250)
    assert take(follower) == (list(range(151, 251)), 145, 0)


def test_gap_that_is_overwritten_is_counted_as_such(ring_alias):
    fill(1)
    follower = RingTail(SQLLog.objects.all(), after=1)
    reserve(3)
    assert take(follower) == ([], 0, 0)
    RingRow.objects.all().delete()
    fill(102)
    assert take(follower) == ([3, *range(4, 103)], 1, 0)


def test_many_records_come_in_portions(ring_alias, monkeypatch):
    monkeypatch.setattr(records, "WINDOW_ROWS", 10)
    fill(1)
    follower = RingTail(SQLLog.objects.all(), after=1)
    fill(35, first=2)
    assert [len(portion.rows) for portion in follower.poll()] == [0, 10, 10, 10, 4]
