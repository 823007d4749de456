"""Charts of a series, as numbers."""

import pytest

from sqllogs.page import charts
from sqllogs.read.series import SeriesPoint


def point(minute, calls, errors=0, **ms):
    plain = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
    time = f"2026-01-31T12:{minute:02}:00.000000Z"
    rates = {"calls_per_s": calls / 60, "total_ms_per_s": 0.0}
    return SeriesPoint(time=time, calls=calls, errors=errors, total_ms=0.0, **rates, **plain | ms)


@pytest.mark.parametrize(
    ("value", "top"),
    [(1, 1), (1.1, 2), (2.0, 2), (3, 4), (4.1, 10), (0.034, 0.04), (99, 100), (12_345, 20_000), (1000, 1000)],
)
def test_axis_ends_at_a_short_number(value, top):
    assert charts.round_up(value) == pytest.approx(top)


def test_bars_stand_side_by_side_with_the_failed_at_their_foot():
    found = charts.time_charts([point(0, 4), point(1, 2, errors=1, mean_ms=1.5, p95_ms=3.0)])
    one, other = found.bars
    assert (one.x, one.width, one.y, one.height, one.failed_height) == ("0.00", "40.00", "0.00", "100.00", "")
    assert (other.x, other.y, other.height) == ("50.00", "50.00", "50.00")
    assert (other.failed_y, other.failed_height) == ("75.00", "25.00")
    assert other.tooltip == "2026-01-31 12:01: 2 calls, 1 failed, mean 1.50 ms, p95 3.00 ms"
    assert (found.calls.top, found.calls.middle, found.durations.top) == ("4", "2", "4 ms")
    assert (found.begin, found.end) == ("2026-01-31 12:00", "2026-01-31 12:02")


def test_step_without_a_call_interrupts_a_line_and_one_alone_is_a_dot():
    values = [1.0, 2.0, None, 4.0]
    points = [point(n, 1, mean_ms=ms, p95_ms=ms) for n, ms in enumerate(values)]
    assert charts.time_charts(points).mean == "M12.50 75.00h0L37.50 50.00M87.50 0.00h0"


def test_mean_above_the_percentile_is_within_the_graph():
    points = [point(0, 1, mean_ms=9.0, p95_ms=1.0)] * 2
    assert charts.time_charts(points).durations.top == "10 ms"


@pytest.mark.parametrize("points", [[], [point(0, 3, mean_ms=1.0)], [point(0, 0), point(1, 0)]])
def test_nothing_is_drawn_without_two_steps_and_a_call(points):
    assert charts.time_charts(points) is None


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0]])
def test_sparkline_is_empty_without_values(values):
    assert charts.sparkline(values) == ""


def test_sparkline_reaches_from_top_to_bottom():
    assert charts.sparkline([0.0, 5.0]) == "M25.00 20.00h0L75.00 0.00"
