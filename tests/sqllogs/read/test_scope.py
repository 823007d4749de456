"""What is older than the ring is answered from statistics, and every answer says what it is made from."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from sqllogs.models import SQLLog
from sqllogs.read.ring import RingSnapshot
from sqllogs.read.scope import Scope
from tests.sqllogs.factories import BEGINNING, fill, put_statement, put_statistics, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
DAY_BEFORE = (BEGINNING - timedelta(days=1)).isoformat()
END = (BEGINNING + timedelta(hours=1)).isoformat()


def get(path, status=200, **parameters):
    parameters = {"from": DAY_BEFORE, "to": END} | parameters
    answer = reader("test").get(f"/sql-logs/{path}", parameters)
    assert answer.status_code == status, answer.content
    return answer.json()


@pytest.fixture
def overwritten():
    """A ring of the newest 100 records, and statistics of all that there have been."""
    fill(150, capacity=100)
    put_statistics(
        {"time": BEGINNING - timedelta(hours=5), "duration_ms": 10.0, "route": "a/"},
        {"time": BEGINNING, "duration_ms": 5.0, "fingerprint": "e" * 16},
    )
    put_statement()


@pytest.mark.usefixtures("overwritten")
@pytest.mark.parametrize("path", ["stats/", "series/"])
def test_which_statistics_exist_is_read_once(path):
    with CaptureQueriesContext(connections[SQLLog.objects.db]) as queries:
        assert get(path)["source"] == "statistics"
    assert sum("MIN(time)" in query["sql"] for query in queries) == 1


@pytest.mark.usefixtures("overwritten")
@pytest.mark.parametrize("group_by", ["view", "table"])
def test_line_of_all_calls_is_the_sum_of_its_groups(group_by):
    alone = get("series/", step="1h", buckets="true", source="statistics")["results"]
    beside = get("series/", step="1h", buckets="true", source="statistics", group_by=group_by, top="1")
    of_all = [point for point in beside["results"] if point["buckets"] is not None]
    assert [point["calls"] for point in alone if point["calls"]] == [1, 1]
    names = ("time", "calls", "errors", "total_ms", "p50_ms", "p95_ms", "max_ms")
    assert [[point[name] for name in names] for point in of_all] == [
        [point[name] for name in names] for point in alone
    ]
    assert [point["buckets"] for point in of_all] == [point["buckets"] for point in alone]


@pytest.mark.usefixtures("overwritten")
def test_range_older_than_the_ring_is_answered_from_statistics():
    body = get("stats/")
    assert (body["source"], body["complete_since"]) == ("statistics", "2026-01-31T07:00:00.000000Z")
    assert (body["begin"], body["end"]) == ("2026-01-31T07:00:00.000000Z", "2026-01-31T13:00:00.000000Z")
    first, second = body["results"]
    assert (first["group"], first["calls"], first["max_ms"], first["route"]) == ("f" * 16, 1, 10.0, "a/")
    assert (first["sql"], first["call_sites"]) == ("SELECT 1", [])
    assert first["p95_ms"] == pytest.approx(10, rel=0.05)
    assert first["load_percent"] == pytest.approx(200 / 3)
    assert first["calls_per_s"] == pytest.approx(1 / (6 * 3600))
    assert (second["group"], second["last_seen"]) == ("e" * 16, "2026-01-31T12:00:00.000000Z")


@pytest.mark.usefixtures("overwritten")
@pytest.mark.parametrize(
    ("parameters", "source"),
    [
        ({}, "statistics"),
        ({"group_by": "host"}, "ring"),  # not kept
        ({"min_ms": 1}, "ring"),
        ({"error": "true"}, "ring"),
        ({"min_ms": ""}, "statistics"),
        ({"from": BEGINNING.isoformat()}, "statistics"),
        ({"from": (BEGINNING + timedelta(seconds=51)).isoformat()}, "ring"),  # where the ring begins
        ({"from": ""}, "ring"),
        ({"from": "", "source": "statistics"}, "statistics"),
        ({"source": "ring"}, "ring"),
        ({"source": "auto"}, "statistics"),
    ],
)
def test_source_follows_range_and_filters(parameters, source):
    assert get("stats/", **parameters)["source"] == source
    if parameters.get("group_by") is None:
        assert get("series/", **parameters)["source"] == source


@pytest.mark.usefixtures("overwritten")
@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"min_ms": 1}, "min_ms"), ({"group_by": "host"}, "group_by"), ({"source": "memory"}, "source")],
)
def test_statistics_that_cannot_answer_are_a_400(parameters, field):
    body = get("stats/", 400, **{"source": "statistics"} | parameters)
    assert body["error"]["field"] == field


@pytest.mark.parametrize(
    ("parameters", "source"),
    [({}, "statistics"), ({"min_ms": 1}, "ring"), ({"source": "ring"}, "ring"), ({"from": ""}, "statistics")],
)
def test_ring_of_a_sample_leaves_the_counting_to_statistics(parameters, source, settings):
    fill(50)
    put_statistics({"time": BEGINNING})
    settings.SQLLOGS = {"SAMPLE": 0.5}
    assert get("stats/", **parameters)["source"] == source


def test_ring_that_has_all_there_was_answers_for_any_time():
    fill(50)
    put_statistics({"time": BEGINNING - timedelta(hours=5)})
    assert get("stats/")["source"] == "ring"


def test_empty_ring_leaves_the_answer_to_statistics():
    put_statistics({"time": BEGINNING})
    assert get("stats/")["source"] == "statistics"


@pytest.mark.usefixtures("overwritten")
@pytest.mark.parametrize("group_by", ["", "fingerprint"])
def test_series_of_statistics_have_no_gap(group_by):
    body = get("series/", step="1h", group_by=group_by)
    assert (body["source"], body["step_s"]) == ("statistics", 3600)
    calls = {(row["time"][11:13], row.get("group")): row["calls"] for row in body["results"]}
    groups = ["f" * 16, "e" * 16] if group_by else [None]
    assert set(calls) == {(f"{hour:02}", group) for hour in range(7, 13) for group in groups}
    assert (calls["07", groups[0]], calls["12", groups[-1]], sum(calls.values())) == (1, 1, 2)


@pytest.mark.usefixtures("overwritten")
def test_share_of_load_is_of_the_whole_though_tables_overlap():
    put_statement("e" * 16, tables="x,y")
    rows = {row["group"]: row["load_percent"] for row in get("stats/", group_by="table")["results"]}
    assert rows == {"x": pytest.approx(100 / 3), "y": pytest.approx(100 / 3), None: pytest.approx(200 / 3)}


@pytest.mark.parametrize("end", [END, "0001-01-01T00:00:01", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize(("path", "step"), [("series/", {"step": "7d"}), ("series/", {}), ("stats/", {})])
def test_beginning_of_the_calendar_is_a_time_too(path, step, end):
    put_statistics({})
    found = get(path, source="statistics", to=end, **{"from": "0001-01-01"}, **step)
    assert found["source"] == "statistics"


def test_percentiles_that_are_not_wanted_are_not_computed():
    class OnlyP95:
        p95_ms = 3.0

    now = datetime.now(UTC)
    ring = RingSnapshot(seq=0, capacity=0)
    scope = Scope(
        records=SQLLog.objects.none(), filters={}, ring=ring, oldest_seq=None, oldest=None, version="",
        with_text=False, now=now, fields=frozenset({"p95_ms"}),
    )  # fmt: skip
    assert scope.percentiles(OnlyP95()) == {"p50_ms": None, "p95_ms": 3.0, "p99_ms": None}
