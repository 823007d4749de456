"""The time chart of an answer, as numbers."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.http import QueryDict

from sqllogs.models import Event
from sqllogs.page import aggregates, charts
from sqllogs.page.charts import Axis
from sqllogs.page.links import Links
from sqllogs.read.records import rfc3339
from sqllogs.read.series import SeriesAnswer, SeriesPoint

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)


def point(minute, calls, errors=0, total_ms=0.0, **ms):
    plain = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
    time = rfc3339(BEGINNING + timedelta(minutes=minute))
    rates = {"calls_per_s": calls / 60, "total_ms_per_s": total_ms / 60}
    return SeriesPoint(time=time, calls=calls, errors=errors, total_ms=total_ms, **rates, **plain | ms)


def drawn(*points, query="", end=10, events=()):
    ends = [rfc3339(BEGINNING), rfc3339(BEGINNING + timedelta(minutes=end))]
    answer = SeriesAnswer(
        source="ring", complete_since=ends[0], begin=ends[0], end=ends[1], group_by=None, step_s=60,
        results=[*points],
    )  # fmt: skip
    return charts.time_bars(answer, Links("/sql-logs/stats/", QueryDict(query)), events)


def test_milliseconds_stand_above_calls_with_the_failed_at_their_foot():
    found = drawn(point(0, 4, total_ms=1.0), point(1, 2, errors=1, total_ms=2.0, mean_ms=1.0, p95_ms=1.5))
    one, other = found.steps
    assert (one.x, one.width, one.total.y, one.total.height) == ("0.00", "40.00", "22.00", "22.00")
    assert (one.calls.y, one.calls.height, one.failed) == ("56.00", "44.00", None)
    assert (other.total.y, other.total.height) == ("0.00", "44.00")
    assert (other.failed.y, other.failed.height) == ("89.00", "11.00")
    assert other.tooltip == "2026-01-31 12:01: 2 calls, 1 failed, mean 1.00 ms, p95 1.50 ms, 2.00 ms in total"
    assert (found.total, found.calls) == (Axis(top="2 ms", middle="1"), Axis(top="4", middle="2"))
    assert (found.axis.begin_shown, found.axis.end_shown) == ("2026-01-31 12:00:00", "12:02:00")


def test_one_call_among_thousands_is_seen_and_none_is_not():
    found = drawn(point(0, 90_000, total_ms=90_000.0), point(1, 0), point(2, 1, errors=1, total_ms=0.1))
    assert [step.x for step in found.steps] == ["0.00", "66.67"]
    assert [found.steps[1].failed.height, found.steps[1].total.height] == ["1.50", "1.50"]
    assert (found.total.top, found.calls.top) == ("100 s", "100,000")


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
    found = aggregates.series_totals(
        [point(0, 3, 1, 6.0, max_ms=4.0), point(1, 0), point(2, 1, 0, 10.0, max_ms=10.0)]
    )
    assert found == aggregates.SeriesTotals(
        calls=4, total="16.0", unit="ms", mean="4.00", max="10.0", failed=1
    )
    assert aggregates.series_totals([]) == aggregates.SeriesTotals(
        calls=0, total="0", unit="ms", mean="-", max="-", failed=0
    )


def test_long_total_is_in_seconds():
    found = aggregates.series_totals([point(0, 3, total_ms=171_483_494.0, max_ms=9_000.0)])
    assert (found.total, found.unit, found.max) == ("171,483", "s", "9,000")


def event(minute, **changes):
    time = BEGINNING + timedelta(minutes=minute)
    return Event(**{"time": time, "kind": "deploy", "title": "Deploy 1.4.2", "text": "1.4.2"} | changes)


def test_deploys_are_marked_and_lead_to_the_time_since_and_before():
    events = [
        event(1),
        event(1.5, kind="migration", title="shop.0002_price and 3 more on default"),
        event(9, text="a-release-with-a-very-long-name"),
        event(30),
    ]
    marks = drawn(point(0, 1), *(point(n, 1) for n in range(1, 20)), events=events).axis.marks
    assert [(mark.x, mark.label) for mark in marks] == [
        ("5.00", ""), ("7.50", "shop.0002_price"), ("45.00", "a-release-with-…"),
    ]  # fmt: skip
    assert marks[0].url == "/sql-logs/stats/?from=2026-01-31T12%3A01%3A00.000000Z&compare=previous"


def test_links_zoom_and_move_without_the_position_in_the_list():
    query = "from=2026-01-31T12:00:00Z&to=2026-01-31T12:04:00Z&min_ms=1&offset=100"
    zoom = drawn(*(point(n, 1) for n in range(4)), query=query).axis.zoom
    parts = {step.name: parse_qs(urlsplit(step.url).query) for step in zoom}
    assert {name: [query["from"][0][11:19], query["to"][0][11:19]] for name, query in parts.items()} == {
        "earlier": ["11:58:00", "12:02:00"], "in": ["12:01:00", "12:03:00"],
        "out": ["11:58:00", "12:06:00"], "later": ["12:02:00", "12:06:00"],
    }  # fmt: skip
    assert all(query["min_ms"] == ["1"] and "offset" not in query for query in parts.values())
    open_end = drawn(*(point(n, 1) for n in range(4)), query="from=now-4m").axis.zoom
    assert "later" not in [step.name for step in open_end]


TICKS = [
    # From the begin, for how long, and the labels.
    ({"seconds": 0.4}, ["12:00:00.000", "12:00:00.100", "12:00:00.200", "12:00:00.300", "12:00:00.400"]),
    ({"seconds": 25}, ["12:00:00", "12:00:05", "12:00:10", "12:00:15", "12:00:20", "12:00:25"]),
    ({"minutes": 50}, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50"]),
    ({"hours": 30}, ["12:00", "18:00", "02-01", "06:00", "12:00", "18:00"]),
    ({"days": 7}, ["02-02", "02-04", "02-06"]),
    ({"days": 300}, ["2026-03-08", "2026-06-06", "2026-09-04"]),
    ({"days": 365 * 1_900}, ["2286-10-16", "2603-08-01"]),
    ({}, []),
]


@pytest.mark.parametrize(("length", "labels"), TICKS)
def test_ticks_are_few_and_at_round_times(length, labels):
    found = charts.time_ticks(BEGINNING, BEGINNING + timedelta(**length))
    assert [tick.label for tick in found][: len(labels)] == labels
    assert len(found) <= charts.TICKS_MAX
    assert all(0 <= float(tick.x) <= 100 for tick in found)


ENDS_OF_TIME = [
    # Begin, length in hours, and the links that stay within the years 1 to 9999.
    ("0001-01-01T00:00:00.000000Z", 20, ["in", "later"]),
    ("0002-01-01T00:00:00.000000Z", 9_000_000, ["in", "later"]),
    ("0987-01-01T00:00:00.000000Z", 20_000, ["earlier", "in", "out", "later"]),
    ("9999-12-30T00:00:00.000000Z", 40, ["earlier", "in"]),
]


@pytest.mark.parametrize(("begin", "hours", "names"), ENDS_OF_TIME)
def test_axis_of_early_and_late_years_has_four_digits_and_only_links_that_work(begin, hours, names):
    end = rfc3339(datetime.fromisoformat(begin) + timedelta(hours=hours))
    axis = charts.time_axis(begin, end, [event(1)], Links("/sql-logs/stats/", QueryDict("to=now")))
    assert axis.ticks
    assert all(tick.label[4] == "-" for tick in axis.ticks if len(tick.label) == 10)
    assert axis.marks == []
    assert [step.name for step in axis.zoom] == names
    for step in axis.zoom:
        query = parse_qs(urlsplit(step.url).query)
        assert datetime.fromisoformat(query["from"][0]) < datetime.fromisoformat(query["to"][0])
