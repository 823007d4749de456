"""Groups of two time ranges are compared by rates, on every database and from each source."""

import csv
import io
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest

from sqllogs.read import ring
from tests.sqllogs.factories import BEGINNING, put, put_statement, put_statistics, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

HOUR = timedelta(hours=1)
SAME, SLOWER, NEW, GONE = "a" * 16, "b" * 16, "c" * 16, "d" * 16
NOW = BEGINNING + timedelta(days=10)
SOURCES = pytest.mark.parametrize("source", ["ring", "statistics"])


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(ring, "utc_now", lambda: NOW)


def get(**query):
    return reader(token_hex(4)).get("/sql-logs/stats/", query)


def compared(**query):
    answer = get(**query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def calls(begin, count, duration_ms, fingerprint, **fields):
    plain = {"duration_ms": duration_ms, "fingerprint": fingerprint} | fields
    return [plain | {"time": begin + timedelta(minutes=1 + number)} for number in range(count)]


def two_ranges(first, second, **fields):
    """Write the same load in both but for what is slower, new and gone."""
    start = [{"time": first - HOUR, "fingerprint": SAME, "release": "0"}]
    before = [*calls(first, 10, 20.0, SAME, rows=4, **fields), *calls(first, 10, 10.0, SLOWER, **fields)]
    before += calls(first, 5, 4.0, GONE, route="gone/", **fields)
    after = [*calls(second, 10, 20.0, SAME, rows=2, **fields), *calls(second, 10, 40.0, SLOWER, **fields)]
    after += calls(second, 2, 1.0, NEW, **fields)
    put(*start, *before, *after)
    put_statistics(*start, *before, *after)
    put_statement(GONE, "SELECT gone")


SHIFTS = {"previous": HOUR, "day": timedelta(days=1), "week": timedelta(days=7)}


@pytest.mark.parametrize(
    ("compare", "source"),
    [("previous", "ring"), ("previous", "statistics"), ("day", "statistics"), ("week", "ring")],
)
def test_groups_have_what_they_were_before(ring_alias, compare, source):
    second = NOW - 2 * HOUR
    two_ranges(second - SHIFTS[compare], second)
    span = {"from": second.isoformat(), "to": (second + HOUR).isoformat()}
    body = compared(compare=compare, source=source, **span)
    assert (body["source"], body["count"], body["compare"]) == (source, 4, compare)
    assert datetime.fromisoformat(body["compare_begin"]) == second - SHIFTS[compare]
    assert datetime.fromisoformat(body["compare_end"]) == second - SHIFTS[compare] + HOUR
    assert [row["group"] for row in body["results"]] == [SLOWER, GONE, NEW, SAME]
    slower, gone, new, same = body["results"]
    assert slower["total_ms_per_s_change"] == pytest.approx(300 / 3600)
    assert slower["total_ms_per_s_change_percent"] == pytest.approx(300)
    assert slower["p95_ms_change_percent"] == pytest.approx(300, rel=0.1)
    assert same["total_ms_per_s_change_percent"] == same["calls_per_s_change_percent"] == 0
    assert (same["calls_per_s"], same["calls_per_s_before"]) == pytest.approx((10 / 3600, 10 / 3600))
    assert (same["rows_per_call_before"], same["rows_per_call"]) == (4, 2)
    assert same["rows_per_call_change_percent"] == -50
    assert (new["is_new"], new["is_vanished"], new["total_ms_per_s_change_percent"]) == (True, False, None)
    assert (gone["is_new"], gone["is_vanished"], gone["calls"], gone["sql"]) == (
        False,
        True,
        0,
        "SELECT gone",
    )
    assert (gone["total_ms_per_s"], gone["total_ms_per_s_change_percent"]) == (0, -100)


@SOURCES
def test_release_is_compared_with_the_one_before_over_its_own_time(ring_alias, source):
    first, second = NOW - 10 * HOUR, NOW - 2 * HOUR
    old = calls(first, 121, 10.0, SAME, release="1")  # two hours
    new = calls(second, 31, 20.0, SAME, release="2")  # half an hour
    put(*old, *new, capacity=500)
    put_statistics(*old, *new)
    body = compared(compare="release", source=source)
    assert (body["release"], body["release_before"]) == ("2", "1")
    (row,) = body["results"]
    assert (row["calls"], row["is_new"]) == (31, False)
    assert row["calls_per_s_change_percent"] == pytest.approx(0, abs=5)
    assert row["total_ms_per_s_change_percent"] == pytest.approx(100, abs=8)
    body = compared(compare="release", source=source, release="1")
    assert (body["release"], body["release_before"], body["compare_begin"]) == ("1", None, None)
    assert [(row["is_new"], row["calls_per_s_before"]) for row in body["results"]] == [(None, None)]


def test_chart_of_a_compared_release_has_the_calls_of_its_list():
    old = calls(NOW - 10 * HOUR, 121, 10.0, SAME, release="1")
    put(*old, *calls(NOW - HOUR, 31, 20.0, SAME, release="2"))
    query, headers = {"compare": "release"}, {"Accept": "text/html"}
    charted = reader(token_hex(4)).get("/sql-logs/stats/", query, headers=headers).data
    assert sum(point.calls for point in charted[1].results) == charted[0].results[0].calls == 31


@SOURCES
def test_nothing_is_new_where_nothing_is_known_of_before(ring_alias, source):
    one = calls(NOW - HOUR, 3, 1.0, SAME)
    put(*one)
    put_statistics(*one)
    body = compared(compare="week", source=source, **{"from": "now-1h"})
    (row,) = body["results"]
    assert (body["compare_begin"], row["is_new"], row["total_ms_per_s_before"]) == (None, None, None)


def test_log_without_a_release_or_a_record_is_no_error():
    for compare in (*SHIFTS, "release"):
        assert compared(compare=compare)["results"] == []
    assert compared(compare="previous", **{"from": "0001-01-01", "to": "now"})["results"] == []
    put(*calls(NOW - HOUR, 3, 1.0, SAME))
    assert compared(compare="release")["results"][0]["is_new"] is None


def test_both_ranges_are_read_from_the_statistics_if_the_ring_has_only_one():
    second = NOW - HOUR
    old, new = calls(second - HOUR, 10, 10.0, SAME), calls(second, 10, 10.0, SAME)
    put(*old, *new, capacity=10)
    put_statistics(*calls(second - 3 * HOUR, 1, 1.0, GONE), *old, *new)
    body = compared(compare="previous", **{"from": second.isoformat()})
    assert body["source"] == "statistics"
    assert body["results"][0]["calls_per_s_change_percent"] == pytest.approx(0, abs=5)


@pytest.mark.parametrize(
    ("ordering", "expected"),
    [
        ("load_change", [SAME, NEW, GONE, SLOWER]),
        ("-calls", [SAME, SLOWER, NEW, GONE]),
        ("-p95_ms", [SLOWER, SAME, NEW, GONE]),
        ("group", [SAME, SLOWER, NEW, GONE]),
    ],
)
def test_groups_are_ordered(ordering, expected):
    second = NOW - HOUR
    two_ranges(second - HOUR, second)
    body = compared(compare="previous", ordering=ordering, **{"from": second.isoformat()})
    assert [row["group"] for row in body["results"]] == expected


def test_table_has_the_columns_even_without_rows():
    second = NOW - HOUR
    two_ranges(second - HOUR, second)
    query = {"compare": "previous", "from": second.isoformat(), "group_by": "route", "format": "csv"}
    full = list(csv.DictReader(io.StringIO(get(**query).content.decode())))
    assert [(row["group"], row["is_vanished"]) for row in full] == [("", "false"), ("gone/", "true")]
    empty = get(**query | {"route": "nowhere/"}).content.decode()
    assert "total_ms_per_s_before" in empty
    assert len(empty.splitlines()) == 1
    chosen = get(**query | {"fields": "group,calls_per_s_before", "limit": 1}).content.decode()
    assert chosen.splitlines()[0] == "group,calls_per_s_before"


def test_wrong_values_are_named():
    error = get(compare="month").json()["error"]
    assert (error["field"], error["message"]) == (
        "compare",
        "compare: Must be one of: previous, day, week, release.",
    )
    answer = get(ordering="load_change")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "ordering")


def test_answer_changes_when_the_other_range_has_moved(monkeypatch):
    second = NOW - HOUR
    two_ranges(second - HOUR, second)
    query = {"compare": "previous", "from": "now-1h", "source": "ring"}
    client = reader()
    etag = client.get("/sql-logs/stats/", query)["ETag"]
    assert client.get("/sql-logs/stats/", query, headers={"If-None-Match": etag}).status_code == 304
    later = NOW + timedelta(minutes=5)
    monkeypatch.setattr(ring, "utc_now", lambda: later.astimezone(UTC))
    assert client.get("/sql-logs/stats/", query, headers={"If-None-Match": etag}).status_code == 200
