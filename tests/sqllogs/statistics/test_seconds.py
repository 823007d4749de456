"""Records are cut by seconds, and none is lost or moved."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sqllogs.statistics.resolution import by_second
from tests.sqllogs.pipeline.test_resolver import record

EDGE = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
ONE = record()


@given(st.lists(st.integers(-3_000_000, 3_000_000)))
def test_runs_are_of_one_second_and_together_all_records_in_their_order(microseconds):
    records = [ONE._replace(time=EDGE + timedelta(microseconds=after)) for after in microseconds]
    runs = list(by_second(records))
    assert [found for _, run in runs for found in run] == records
    assert all(found.time.replace(microsecond=0) == second for second, run in runs for found in run)


def test_records_in_order_have_each_second_once():
    records = [ONE._replace(time=EDGE + timedelta(milliseconds=100 * number)) for number in range(25)]
    assert [(second - EDGE, len(run)) for second, run in by_second(records)] == [
        (timedelta(0), 10),
        (timedelta(seconds=1), 10),
        (timedelta(seconds=2), 5),
    ]
