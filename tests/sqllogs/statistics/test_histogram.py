"""Percentiles are within 5 % whatever the durations are; times are cut by seconds since the epoch alone."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqllogs.statistics import counting, histogram
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S, Oldest, floor_to, spans
from tests.sqllogs.factories import changed
from tests.sqllogs.pipeline.test_resolver import record

SHARES = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
DAY = 20_000 * DAY_S

anything_us = st.lists(st.integers(0, 30_000_000_000), min_size=1, max_size=200)
many_alike_us = st.lists(st.sampled_from([0, 1, 2, 999, 1_000, 10**6]), min_size=1, max_size=300)
on_the_edges_us = st.lists(
    st.builds(lambda n, d: max(0, int(histogram.GROWTH**n) + d), st.integers(0, 250), st.integers(-1, 1)),
    min_size=1,
    max_size=100,
)
two_heaps_us = st.builds(
    lambda low, high, few, many: [low] * few + [high] * many,
    st.integers(1, 1_000),
    st.integers(10**6, 10**9),
    st.integers(1, 100),
    st.integers(1, 100),
)


def test_short_durations_have_the_range_that_a_search_finds():
    found = list(histogram.SHORT_RANGES)
    assert found == list(map(histogram.range_of, range(len(found))))
    assert len(found) > 10_000


@given(st.one_of(anything_us, many_alike_us, on_the_edges_us, two_heaps_us), st.integers(1, 5))
def test_percentiles_are_within_five_percent_of_exact_ones(values_us, parts):
    packed = b""
    for part in range(parts):  # as processes and minutes add them
        counted = {}
        for value_us in values_us[part::parts]:
            number = histogram.range_of(value_us)
            counted[number] = counted.get(number, 0) + 1
        packed = histogram.merged(packed, histogram.packed(counted))
    found = histogram.calls_by_range(packed)
    exact = sorted(values_us)
    for share, found_us in zip(SHARES, histogram.percentiles_us(found, SHARES, exact[-1]), strict=True):
        rank = max(1, -int(-share * len(exact) // 1))
        assert found_us == pytest.approx(exact[rank - 1], rel=0.05)


def test_counts_beyond_32_bits_are_packed_too():
    found = {}
    histogram.add(found, histogram.packed({3: 2**33 + 5}))
    assert found == {3: 2**33 + 5}


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 300) | st.integers(1, 2**34))))
def test_reader_adds_up_what_the_writer_does(pairs):
    packed = b"".join(histogram.packed({number: count}) for number, count in pairs)
    found = {}
    histogram.add(found, packed)
    assert found == {number: calls for number, calls in enumerate(histogram.calls_by_range(packed)) if calls}


@pytest.mark.parametrize("torn", [b"\1", b"abcdefg", b"\0" * 11])
def test_torn_bytes_are_no_fault(torn):
    assert histogram.add({}, torn) is None
    assert len(histogram.calls_by_range(torn)) == 256


def test_no_calls_have_no_percentiles():
    assert histogram.percentiles_us(histogram.calls_by_range(b""), SHARES, 0) == [0.0] * len(SHARES)


def times_of(*moments):
    """Return the minutes, hours and days that calls at some moments count in."""
    counts = counting.count([changed(record(), time=moment) for moment in moments])
    minutes = counting.rows(counts, {key: key.id for _, key in counts})
    rows = [*minutes, *counting.hours_and_days(minutes)]
    return [(row.resolution_s, row.time, row.calls) for row in rows]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
def test_no_hour_is_twice_or_missing_when_clocks_change(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        year = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number) for number in range(24 * 365)]
        rows = times_of(*(moment.astimezone(ZoneInfo(zone)) for moment in year))
    finally:
        monkeypatch.undo()
        time.tzset()
    hours = [(time_s, calls) for length_s, time_s, calls in rows if length_s == HOUR_S]
    assert hours == [(int(moment.timestamp()), 1) for moment in year]
    days = [calls for length_s, _, calls in rows if length_s == DAY_S]
    assert days == [24] * 365


BORDERS = [
    # A moment, and its minute, hour and day.
    (datetime(2026, 1, 31, 23, 59, 59, 999_999, UTC), "2026-01-31T23:59", "2026-01-31T23", "2026-01-31"),
    (datetime(2026, 2, 1, 0, 0, 0, 0, UTC), "2026-02-01T00:00", "2026-02-01T00", "2026-02-01"),
    (datetime(2024, 2, 29, 12, 30, 59, 1, UTC), "2024-02-29T12:30", "2024-02-29T12", "2024-02-29"),
    (datetime(1970, 1, 1, 0, 0, 0, 1, UTC), "1970-01-01T00:00", "1970-01-01T00", "1970-01-01"),
]


@pytest.mark.parametrize(("moment", "minute", "hour", "day"), BORDERS, ids=str)
def test_call_counts_in_the_row_that_its_microsecond_is_in(moment, minute, hour, day):
    starts = [datetime.fromtimestamp(time_s, UTC).isoformat() for _, time_s, _ in times_of(moment)]
    assert [start[: len(text)] for start, text in zip(starts, (minute, hour, day), strict=True)] == [
        minute,
        hour,
        day,
    ]


def test_key_is_the_same_number_in_every_process():
    key = counting.Key("f" * 16, "default", "sqlite", "request", "a/", None, "GET", "1.0", None)
    assert key.id == 6029132228362261765
    ids = {key._replace(**{name: "x"}).id for name in key._fields}
    assert len(ids) == len(key._fields)
    assert all(-(2**63) <= id < 2**63 and id for id in ids)


def test_method_that_a_client_made_up_is_no_key_of_its_own():
    for sent, counted in (("GET", "GET"), ("FOO", counting.OTHER_METHOD)):
        one = changed(record(), method=sent)
        assert counting.key_of(one.form, one.origin.dimensions).method == counted


def test_methods_that_clients_made_up_count_together():
    made_up = [changed(record(), method=method) for method in ("FOO", "BAR", "FOO")]
    assert [found.calls for found in counting.count(made_up).values()] == [3]


def test_newest_call_of_a_minute_is_told_whatever_their_order():
    base = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    calls = [changed(record(), time=base + timedelta(seconds=second)) for second in (3, 60, 9, 5)]
    found = counting.count(calls)
    assert [one.calls for one in found.values()] == [3, 1]
    assert [one.last_seen - int(base.timestamp()) for one in found.values()] == [9, 60]


moments = st.integers(DAY, DAY + 5 * DAY_S)


@given(moments, moments, moments, moments, st.sampled_from([MINUTE_S, HOUR_S, DAY_S]))
def test_spans_hold_a_range_without_gap_or_overlap(since_s, until_s, rolled_up_s, minutes_s, coarsest_s):
    rolled_up_s = floor_to(rolled_up_s, MINUTE_S)
    minute_s = min(floor_to(minutes_s, HOUR_S), floor_to(rolled_up_s, HOUR_S))
    oldest = Oldest(minute_s=minute_s, hour_s=DAY, day_s=DAY, rolled_up_s=rolled_up_s)
    if minute_s > since_s and coarsest_s == MINUTE_S:
        return  # asked for with what is kept, see `series`
    found = spans(since_s, until_s, oldest, coarsest_s)
    if since_s >= until_s:
        return
    first_s, last_s = oldest.outward(since_s, until_s)
    assert (found[0].since_s, found[-1].until_s) == (first_s, last_s)
    assert all(one.until_s == next.since_s for one, next in pairwise(found))
    for span in found:
        assert span.since_s % span.resolution_s == span.until_s % span.resolution_s == 0
        assert span.resolution_s <= coarsest_s
        assert span.resolution_s == MINUTE_S or span.until_s <= rolled_up_s
        assert span.resolution_s > MINUTE_S or span.since_s >= oldest.minutes_from_s
