"""Statistics are read by group and by time, from the coarsest rows that hold the range exactly."""

import itertools
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from sqllogs.models import Statistic
from sqllogs.read import scope, statistics
from sqllogs.read.statistics import GROUPS
from sqllogs.read.statistics_rows import Where
from tests.sqllogs.api.clock import set_clock
from tests.sqllogs.factories import put_statement, put_statistics

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(**delta):
    return NOON + timedelta(**delta)


pytestmark = pytest.mark.usefixtures("ring_alias")


def test_figures_of_a_group_are_exact_but_for_percentiles():
    put_statistics(
        *({"time": at(seconds=number), "duration_ms": float(number), "rows": 2} for number in range(1, 101)),
        {"time": at(hours=2), "duration_ms": 1000.0, "error": "ValueError", "route": "a/"},
    )
    (group,) = statistics.aggregate(Where()).groups
    assert (group.group, group.calls, group.errors, group.rows) == ("f" * 16, 101, 1, 200)
    assert (group.total_ms, group.mean_ms, group.max_ms) == (6050.0, 6050 / 101, 1000.0)
    assert group.p50_ms == pytest.approx(51, rel=0.05)
    assert group.p95_ms == pytest.approx(96, rel=0.05)
    assert group.p99_ms == pytest.approx(100, rel=0.05)
    assert (group.last_seen, group.top_route) == (at(hours=2), "a/")


@pytest.mark.parametrize("group_by", [None, *GROUPS])
def test_each_way_to_group_counts_every_call(group_by):
    put_statement(tables="t")
    put_statistics({"time": NOON}, {"time": NOON, "fingerprint": "e" * 16})
    assert sum(group.calls for group in statistics.aggregate(Where(), group_by).groups) == 2
    points = statistics.series(Where(), 3600, group_by).points
    assert sum(point.figures.calls for point in points) == 2


@pytest.mark.parametrize(("whole_steps", "calls"), [(True, 4), (False, 2)])
def test_first_step_has_what_was_before_the_range_or_not(whole_steps, calls):
    put_statistics(*({"time": at(minutes=minute)} for minute in (1, 29, 30, 70)))
    answer = statistics.series(Where(since=at(minutes=30, seconds=5)), 3600, whole_steps=whole_steps)
    assert sum(point.figures.calls for point in answer.points) == calls
    assert answer.points[0].time == NOON
    assert answer.since == (NOON if whole_steps else at(minutes=30))


def test_open_range_ends_at_the_time_of_the_answer(monkeypatch):
    put_statistics({"time": NOON})
    set_clock(monkeypatch, at(minutes=10, microseconds=5))
    for since in (None, NOON):
        assert statistics.series(Where(since=since), 60).until == at(minutes=11)
        (points,) = statistics.read_sparklines(Where(since=since), 60).values()
        assert list(points.values()) == [1000, *[0] * 10]


def test_statement_on_two_tables_counts_in_both():
    put_statement(tables="a,b")
    put_statistics({"time": NOON})
    assert {group.group for group in statistics.aggregate(Where(), "table").groups} == {"a", "b"}


FILTERS = [
    ({"alias": ("default",)}, 1),
    ({"alias": ("default", "replica")}, 2),
    ({"route": ("a/",)}, 1),
    ({"method": ("GET",)}, 1),
    ({"release": ("1.0",)}, 1),
    ({"fingerprint": ("e" * 16,)}, 1),
    ({"operation": ("SELECT",)}, 1),
    ({"table": ("T2",)}, 1),
    ({"search": "From"}, 1),
    ({"search": "nowhere"}, 0),
    ({"until": at(minutes=10)}, 1),
    ({"since": at(minutes=10)}, 1),
    ({"since": at(minutes=10), "until": at(minutes=12)}, 0),
]


@pytest.mark.parametrize(("where", "calls"), FILTERS, ids=repr)
def test_filter_chooses_calls(where, calls):
    put_statement(sql="SELECT a FROM t2", tables="t1,t2")
    put_statistics(
        {"time": NOON, "route": "a/", "method": "GET", "release": "1.0"},
        {"time": at(minutes=30), "alias": "replica", "fingerprint": "e" * 16},
    )
    assert sum(group.calls for group in statistics.aggregate(Where(**where)).groups) == calls


def test_filters_that_need_the_ring_are_named():
    cleaned = {"alias": ["a"], "min_ms": 0.0, "host": [], "trace_id": ["1"], "search": "", "slow": None}
    assert scope.unsupported(cleaned) == ["min_ms", "trace_id"]
    where = Where.from_filters({"alias": ["a"], "from": NOON, "to": None, "search": "x"})
    assert where == Where(alias=("a",), since=NOON, search="x")


def test_series_gives_others_as_one():
    put_statistics(
        {"time": NOON, "route": "slow/", "duration_ms": 9.0},
        {"time": NOON, "route": "a/"},
        {"time": at(minutes=1), "route": "b/", "duration_ms": 2.0},
    )
    found = statistics.series(Where(), 60, "route", top=1)
    assert [
        (point.time, point.figures.group, point.key.is_other, point.figures.total_ms)
        for point in found.points
    ] == [
        (NOON, "slow/", False, 9.0),
        (NOON, "other", True, 1.0),
        (at(minutes=1), "other", True, 2.0),
    ]


def put_of_many_groups():
    put_statement("1" * 16, tables="a")
    put_statement("2" * 16, tables="b,c")
    put_statement("3" * 16, tables="c", operation="UPDATE")
    put_statistics(
        *(
            {
                "time": at(minutes=17 * number),
                "duration_ms": float(number),
                "fingerprint": str(number % 4) * 16,  # that of 0 has no text
                "route": [None, "a/", "b/", "c/"][number % 4],
                "view": None if number % 3 else "views.a",
            }
            for number in range(1, 60)
        )
    )


def folded(points, top):
    """Add all groups but the top up, one by one: calls and sum by time and group."""
    totals = Counter()
    for point in points:
        totals[point.figures.group] += point.figures.total_ms
    kept = {group for group, _ in totals.most_common(top)}
    sums = defaultdict(Counter)
    for point in points:
        of = (point.figures.group, False) if point.figures.group in kept else ("other", True)
        sums[point.time, of].update(calls=point.figures.calls, total_ms=point.figures.total_ms)
    return dict(sums)


@pytest.mark.parametrize("variables_max", [900, 0])  # so many are told apart from the others
def test_top_and_others_are_what_all_groups_add_up_to(variables_max, monkeypatch):
    monkeypatch.setattr(import_module("sqllogs.read.statistics"), "VARIABLES_MAX", variables_max)
    put_of_many_groups()
    for group_by, top in itertools.product(GROUPS, (1, 2)):
        found = {
            (point.time, (point.figures.group, point.key.is_other)): Counter(
                calls=point.figures.calls, total_ms=point.figures.total_ms
            )
            for point in statistics.series(Where(), 3600, group_by, top).points
        }
        assert found == folded(statistics.series(Where(), 3600, group_by, 100).points, top)


def test_figures_are_the_same_where_the_reader_joins_durations(monkeypatch):
    put_of_many_groups()

    def read():
        of_groups = [statistics.aggregate(Where(), group_by).groups for group_by in (None, *GROUPS)]
        return of_groups, [
            statistics.series(Where(), 3600, group_by, 1).points for group_by in (None, *GROUPS)
        ]

    joined = read()
    monkeypatch.setattr(import_module("sqllogs.read.aggregates"), "JOINING_VENDORS", frozenset())
    assert read() == joined


def test_others_have_percentiles_of_their_own():
    put_statistics(
        {"time": NOON, "route": "slow/", "duration_ms": 900.0},
        *({"time": NOON, "route": f"{number}/", "duration_ms": float(number)} for number in range(1, 101)),
    )
    _, others = statistics.series(Where(), 60, "route", top=1).points
    assert others.figures.p50_ms == pytest.approx(50, rel=0.05)
    assert others.figures.max_ms == 100.0


def test_total_has_each_call_once_though_tables_overlap():
    put_of_many_groups()
    answer = statistics.aggregate(Where(), "table")
    assert answer.total_ms == sum(range(1, 60)) < sum(group.total_ms for group in answer.groups)


@pytest.mark.parametrize("step_s", [60, 300, 3600, 7200, 86400, 7 * 86400])
def test_series_of_any_step_adds_up(step_s):
    put_statistics(*({"time": at(minutes=37 * number)} for number in range(200)))
    found = statistics.series(Where(), step_s)
    assert sum(point.figures.calls for point in found.points) == 200
    assert all(point.time.timestamp() % step_s == 0 for point in found.points)


def test_range_ends_on_hours_where_minutes_are_no_longer_kept():
    put_statistics(*({"time": at(minutes=10 * number)} for number in range(60)))
    cutoff_s = int(at(hours=5).timestamp())
    Statistic.objects.filter(resolution_s=60, time__lt=cutoff_s).delete()
    found = statistics.aggregate(Where(since=at(minutes=65), until=at(hours=6, minutes=5)))
    assert (found.since, found.until) == (at(hours=1), at(hours=6, minutes=5))
    assert found.groups[0].calls == 5 * 6 + 1
    assert found.complete_since == NOON
    series = statistics.series(Where(since=at(minutes=65)), 60)
    assert series.step_s == 3600
    assert sum(point.figures.calls for point in series.points) == 54


def test_nothing_counted_is_an_empty_answer():
    assert statistics.aggregate(Where()).groups == []
    assert statistics.series(Where(), 60).points == []
    assert statistics.complete_since() is None
