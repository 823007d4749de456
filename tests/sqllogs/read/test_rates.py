"""Each group has the rate of its own time, and the calls per unit of work."""

from datetime import timedelta

import pytest

from tests.sqllogs.factories import BEGINNING, put, put_statement, put_statistics, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def stats(**query):
    answer = reader().get("/sql-logs/stats/", query)
    assert answer.status_code == 200, answer.content
    return {row["group"]: row for row in answer.json()["results"]}


def calls(count, begin_s, every_s, **fields):
    return [
        fields | {"time": BEGINNING + timedelta(seconds=begin_s + every_s * number)}
        for number in range(count)
    ]


RANGE = {"from": "2026-01-31T12:00:00Z", "to": "2026-01-31T16:00:00Z"}


@pytest.mark.parametrize("source", ["ring", "statistics"])
def test_release_has_the_rate_of_its_own_time(source):
    old, new = calls(121, 0, 30, release="1"), calls(61, 10_800, 20, release="2")
    put(*old, *new, capacity=1000)
    put_statistics(*old, *new)
    found = stats(group_by="release", source=source, **RANGE)
    assert found["1"]["calls_per_s"] == pytest.approx(1 / 30)
    assert found["2"]["calls_per_s"] == pytest.approx(1 / 20)
    assert found["2"]["first_seen"] == "2026-01-31T15:00:00.000000Z"
    assert found["2"]["last_seen"] == "2026-01-31T15:20:00.000000Z"


def test_few_calls_have_no_rate_of_their_own():
    put(*calls(10, 0, 1, release="1"), *calls(30, 100, 0.1, release="2"), {"release": "3"})
    found = stats(group_by="release", source="ring", **RANGE)
    assert [round(row["calls_per_s"] * 14_400) for row in found.values()] == [30, 10, 1]


def test_calls_are_counted_per_unit():
    units = [{"unit_id": f"{number:016x}", "trace_id": f"{number:032x}", "route": "a/"} for number in (1, 2)]
    put(*[units[0]] * 5, *[units[1]] * 3, {"fingerprint": "e" * 16})
    put_statement()
    found = stats(source="ring")
    assert found["f" * 16]["calls_per_unit"] == 4
    assert found["e" * 16]["calls_per_unit"] is None
    assert stats(source="ring", group_by="route")["a/"]["calls_per_unit"] == 4


def test_call_sites_are_groups():
    put({"call_site": "a.py:1 f", "duration_ms": 2}, {"call_site": "a.py:1 f"}, {"call_site": "b.py:2 g"})
    found = stats(group_by="call_site")
    assert {site: row["calls"] for site, row in found.items()} == {"a.py:1 f": 2, "b.py:2 g": 1}


@pytest.mark.parametrize(("ordering", "expected"), [("first_seen", "12"), ("-first_seen", "21")])
@pytest.mark.parametrize("source", ["ring", "statistics"])
def test_groups_are_sorted_by_their_first_call(source, ordering, expected):
    both = [*calls(1, 0, 0, release="1"), *calls(1, 3_600, 0, release="2"), *calls(1, 7_200, 0, release="1")]
    put(*both)
    put_statistics(*both)
    assert "".join(stats(group_by="release", source=source, ordering=ordering, **RANGE)) == expected
