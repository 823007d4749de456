"""The time chart of an answer, as numbers."""

from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict

from sqllogs.page import charts
from sqllogs.page.links import Links
from sqllogs.read.records import rfc3339
from sqllogs.read.series import SeriesAnswer, SeriesPoint

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)


def point(minute, calls, errors=0, total_ms=0.0, **ms):
    plain = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
    time = rfc3339(BEGINNING + timedelta(minutes=minute))
    rates = {"calls_per_s": calls / 60, "total_ms_per_s": total_ms / 60}
    return SeriesPoint(time=time, calls=calls, errors=errors, total_ms=total_ms, **rates, **plain | ms)


def drawn(*points, query="", end=10):
    ends = [rfc3339(BEGINNING), rfc3339(BEGINNING + timedelta(minutes=end))]
    answer = SeriesAnswer(
        source="ring", complete_since=ends[0], begin=ends[0], end=ends[1], group_by=None, step_s=60,
        results=[*points],
    )  # fmt: skip
    return charts.time_bars(answer, Links("/sql-logs/stats/", QueryDict(query)))


def test_milliseconds_stand_above_calls_with_the_failed_at_their_foot():
    found = drawn(point(0, 4, total_ms=1.0), point(1, 2, errors=1, total_ms=2.0, mean_ms=1.0, p95_ms=1.5))
    one, other = found.steps
    assert (one.x, one.width, one.total.y, one.total.height) == ("0.00", "40.00", "22.00", "22.00")
    assert (one.calls.y, one.calls.height, one.failed) == ("56.00", "44.00", None)
    assert (other.total.y, other.total.height) == ("0.00", "44.00")
    assert (other.failed.y, other.failed.height) == ("89.00", "11.00")
    assert other.tooltip == "2026-01-31 12:01: 2 calls, 1 failed, mean 1.00 ms, p95 1.50 ms, 2.00 ms in total"
    assert (found.total, found.calls) == ("2 ms", "4")
    assert (found.begin, found.end) == ("2026-01-31 12:00:00", "2026-01-31 12:02:00")


def test_one_call_among_thousands_is_seen_and_none_is_not():
    found = drawn(point(0, 90_000, total_ms=90_000.0), point(1, 0), point(2, 1, errors=1, total_ms=0.1))
    assert [step.x for step in found.steps] == ["0.00", "66.67"]
    assert [found.steps[1].failed.height, found.steps[1].total.height] == ["1.50", "1.50"]
    assert (found.total, found.calls) == ("100 s", "100,000")


@pytest.mark.parametrize("points", [[], [point(0, 3, total_ms=1.0)], [point(0, 0), point(1, 0)]])
def test_nothing_is_drawn_without_two_steps_and_a_call(points):
    assert drawn(*points) is None


def test_calls_that_took_no_time_and_came_after_the_end_are_drawn():
    late = drawn(point(0, 1), point(12, 1), query="to=now").steps[1]
    assert late.url.endswith("to=2026-01-31T12%3A13%3A00Z&from=2026-01-31T12%3A12%3A00Z")


def test_bar_of_before_the_oldest_record_leads_to_its_own_time():
    early = drawn(point(-3, 1), point(0, 1), query="from=now-1h").steps[0]
    assert early.url.endswith("from=2026-01-31T11%3A57%3A00Z&to=2026-01-31T11%3A58%3A00Z")


def test_totals_are_of_all_steps():
    found = charts.series_totals(
        [point(0, 3, 1, 6.0, max_ms=4.0), point(1, 0), point(2, 1, 0, 10.0, max_ms=10.0)]
    )
    assert found == charts.SeriesTotals(calls=4, total="16.0", unit="ms", mean="4.00", max="10.0", failed=1)
    assert charts.series_totals([]) == charts.SeriesTotals(
        calls=0, total="0.000", unit="ms", mean="-", max="-", failed=0
    )


def test_long_total_is_in_seconds():
    found = charts.series_totals([point(0, 3, total_ms=171_483_494.0, max_ms=9_000.0)])
    assert (found.total, found.unit, found.max) == ("171,483", "s", "9,000")
