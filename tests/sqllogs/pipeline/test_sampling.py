"""With a sample, the ring keeps a share of traces and all that is slow or failing; statistics count all."""

import pytest

from sqllogs.models import Process, SQLLog
from sqllogs.read import statistics
from sqllogs.read.statistics_rows import Where
from sqllogs.record import Batch, Sample
from tests.sqllogs.factories import changed
from tests.sqllogs.fake_ring import balanced
from tests.sqllogs.pipeline.test_resolver import captured, record
from tests.sqllogs.recording import TIMEOUT_S, recording

SLOW_MS = 500.0


def of_trace(number, **changes):
    return changed(record(), unit_id=f"{number:016x}", **changes)


def test_share_is_of_whole_traces_and_every_process_chooses_alike():
    traces = [number * 2**64 // 1000 for number in range(1000)]
    chosen = [number for number in traces if Sample(0.3, SLOW_MS).keeps(of_trace(number))]
    assert len(chosen) == 300
    assert chosen == [number for number in traces if Sample(0.3, SLOW_MS).keeps(of_trace(number))]


def test_slow_and_failing_records_are_always_kept():
    last = 2**64 - 1
    assert not Sample(0.5, SLOW_MS).keeps(of_trace(last))
    assert Sample(0.5, SLOW_MS).keeps(of_trace(last, duration_ms=SLOW_MS))
    assert Sample(0.0, SLOW_MS).keeps(of_trace(last, error="ValueError"))


def test_records_without_a_trace_are_kept_by_chance():
    kept = sum(Sample(0.5, SLOW_MS).keeps(record()) for _ in range(1000))
    assert 350 < kept < 650


@pytest.mark.parametrize("sizes", [(2, 0), (0, 2), (1, 1), (3, 0), (0, 3), (1, 2), (2, 1)])
def test_halves_of_a_batch_are_never_empty_and_hold_all(sizes):
    kept, left = sizes
    batch = Batch(records=[record()] * kept, sampled_out=[record()] * left, part=7)
    first, second = batch.halves()
    assert len(first) + len(second) == len(batch)
    assert len(first)
    assert len(second)
    assert first.part == second.part == 0


def test_what_is_sampled_out_is_counted_and_accounted_for(ring_alias):
    with recording(ring_alias, sample=0.0) as recorder:
        for number in range(20):
            recorder.buffer.put(captured(error=ValueError if number < 3 else None))
        assert recorder.writer.flush(TIMEOUT_S)
        counts = recorder.delivery.counts()
    assert (
        counts.captured,
        counts.stored,
        counts.sampled_out,
        counts.queued,
    ) == (20, 3, 17, 0)
    assert SQLLog.objects.using(ring_alias).count() == 3
    assert Process.objects.using(ring_alias).values_list("stored", "sampled_out").get() == (3, 17)
    (group,) = statistics.aggregate(Where()).groups
    assert (group.calls, group.errors) == (20, 3)


def test_account_of_a_refused_batch_with_a_sample_adds_up(way):
    way.delivery._sample = Sample(0.0, SLOW_MS)
    way.ring.poison = {99}
    for number in range(21):
        way.put(1, error=ValueError if number % 4 == 0 else None, sql_length=99 if number == 8 else 5)
    way.delivery.write_all()
    counts = way.counts()
    assert (counts.stored, counts.sampled_out, counts.dropped) == (
        5,
        15,
        {"rejected": 1},
    )
    assert balanced(counts)
