"""Regressions of synthetic hours: what is found, and what is not. `benchmarks.findings` has the figures."""

import random
from math import log

import pytest

from sqllogs.findings import regressions
from sqllogs.findings.regressions import HISTORY, HOURS, Ratio, level_of, slowdown
from sqllogs.statistics.histogram import range_of


def level(random, calls=60, shift=0.0, ms=10.0):
    """Return the level of an hour of calls of about so many milliseconds."""
    durations = {}
    for _ in range(calls):
        number = range_of(int(ms * 1000 * random.lognormvariate(shift, 0.4)))
        durations[number] = durations.get(number, 0) + 1
    return level_of(durations)


def series(*last, calls=60, pattern=lambda hour: 0.0, seed=1):
    """Return four weeks of hours without a change, then hours with these shifts."""
    rng = random.Random(seed)
    usual = [level(rng, calls, pattern(hour)) for hour in range(HISTORY)]
    return usual + [level(rng, calls, pattern(HISTORY + at) + shift) for at, shift in enumerate(last)]


def by_day(hour):
    return 0.3 if hour % 24 in range(8, 18) else 0.0


def weekly(hour):
    return 1.0 if hour % 168 in range(4) else 0.0


def test_change_to_one_and_a_half_is_found_within_two_hours():
    found = slowdown(series(*[0.0] * 4, log(1.5), log(1.5)))
    assert found.hours == 2
    assert found.times == pytest.approx(1.5, rel=0.2)


def test_change_to_twice_is_found_with_few_calls():
    found = slowdown(series(*[log(2)] * HOURS, calls=8))
    assert found.times == pytest.approx(2, rel=0.4)


@pytest.mark.parametrize(
    ("last", "pattern"),
    [
        ([0.0] * 6, lambda hour: 0.0),
        ([0.0] * 6, by_day),  # slower by day
        ([0.0] * 6, weekly),  # slower in these very hours of each week
        ([0.0, 0.0, 0.0, 0.0, 0.0, 1.5], lambda hour: 0.0),  # a burst of an hour
        ([0.0, 0.0, 0.0, 1.5, 1.5, 0.0], lambda hour: 0.0),  # which is over
        ([log(1.15)] * 6, lambda hour: 0.0),  # too small a change
    ],
)
def test_patterns_and_bursts_are_no_change(last, pattern):
    assert slowdown(series(*last, pattern=pattern)) is None


def test_part_of_the_calls_that_waits_is_no_change():
    rng = random.Random(2)
    usual = series(*[0.0] * 4)
    durations = {}
    for _ in range(60):
        number = range_of(int(10_000 * rng.lognormvariate(3.0 if rng.random() < 0.2 else 0.0, 0.4)))
        durations[number] = durations.get(number, 0) + 1
    assert slowdown([*usual, level_of(durations), level_of(durations)]) is None


def test_too_little_traffic_is_not_judged():
    assert slowdown(series(*[log(5)] * HOURS, calls=3)) is None


def test_short_history_is_not_judged():
    assert slowdown(series(*[log(3)] * HOURS)[-HOURS - 30 :]) is None


def test_what_all_statements_have_in_common_is_taken_off():
    slower = series(*[0.0] * 3, *[log(2)] * 3)
    assert slowdown(slower) is not None
    assert slowdown(slower, shared=log(2)) is None


def test_shift_of_all_statements_is_shared_and_that_of_some_is_not():
    assert regressions.shared_shift([0.7] * 9 + [0.0]) == pytest.approx(0.7)
    assert regressions.shared_shift([0.7] * 5 + [0.0] * 5) == 0.0
    assert regressions.shared_shift([0.7] * 4) == 0.0


def test_rows_per_call_that_grow_are_found_once_they_are_clear():
    days = [Ratio(total=500 + 50 * day, calls=50) for day in range(7)]
    assert regressions.times_more(Ratio(3250, 50), days) == pytest.approx(4.7, rel=0.1)
    assert regressions.times_more(Ratio(1000, 50), days) is None
    assert regressions.times_more(Ratio(1300, 10), days) is None  # too few calls
    assert regressions.times_more(Ratio(3250, 50), days[:4]) is None  # too few days


@pytest.mark.parametrize(
    ("calls", "errors", "usual_calls", "usual_errors", "found"),
    [
        (400, 40, 3000, 3, True),
        (400, 4, 3000, 0, False),  # few
        (4000, 30, 30_000, 3, False),  # below one per cent
        (400, 40, 3000, 200, False),  # not three times as many
        (12, 12, 3000, 0, False),  # too few calls
    ],
)
def test_more_errors_are_found_by_count_share_and_growth(calls, errors, usual_calls, usual_errors, found):
    assert regressions.more_errors(calls, errors, usual_calls, usual_errors) is found


def test_new_statement_is_expensive_by_time_and_share():
    assert regressions.is_expensive(30_000, 90_000)
    assert not regressions.is_expensive(30_000, 900_000)
    assert not regressions.is_expensive(300, 900)


def test_level_ignores_the_slowest_calls_and_floor_is_the_tenth_percentile():
    plain, with_slow = level_of({50: 60, 60: 40}), level_of({50: 60, 60: 30, 120: 10})
    assert with_slow.value == pytest.approx(plain.value)
    assert with_slow.floor == plain.floor < plain.value
    assert level_of({}) is None
