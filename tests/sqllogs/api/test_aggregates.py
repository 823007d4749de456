"""What is added up is what a plain loop over the records finds, on every database."""

import math
import random
from collections import defaultdict
from datetime import datetime, timedelta
from importlib import import_module
from itertools import pairwise
from secrets import token_hex

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from sqllogs.models import RingHead
from sqllogs.read import requests
from sqllogs.read.aggregates import GROUPS
from tests.sqllogs.factories import (
    BEGINNING,
    fill,
    put,
    put_statement,
    put_statistics,
    put_unit_statistics,
    reader,
)

both_databases = pytest.mark.django_db(databases=["default", "sqllogs"])
TEXTS = {"a" * 16: ("SELECT", ["x", "y"]), "b" * 16: ("INSERT", ["x"]), "c" * 16: (None, [])}


def get(path, **parameters):
    answer = reader(token_hex(4)).get(f"/sql-logs/{path}", parameters)
    assert answer.status_code == 200, answer.content
    return answer.json()


def some_records(count):
    """Make records with all kinds of values; the durations are whole microseconds, as the resolver's are."""
    chooser = random.Random(7)
    for seq in range(1, count + 1):
        yield {
            "time": BEGINNING + timedelta(seconds=seq * 3, microseconds=chooser.choice((0, 1, 999_999))),
            "duration_ms": int(chooser.lognormvariate(7, 2)) / 1000,
            "fingerprint": chooser.choice(list(TEXTS)),
            "route": chooser.choice((None, "a/", "b/<int:pk>/")),
            "view": chooser.choice(("v.a", "v.b")),
            "alias": chooser.choice(("default", "other")),
            "kind": chooser.choice(("request", "task")),
            "release": chooser.choice((None, "1.0")),
            "service": chooser.choice((None, "shop")),
            "host": chooser.choice(("web-1", "web-2")),
            "error": chooser.choice((None, None, "DataError")),
            "rows": chooser.choice((None, 0, 5)),
            "call_site": chooser.choice((None, "a.py:1 f", "b.py:2 g")),
        }


@pytest.fixture
def records(ring_alias):
    made = list(some_records(90))
    put(*made)
    put_statement("a" * 16, "SELECT a", tables="x,y")
    put_statement("b" * 16, "INSERT b", operation="INSERT", tables="x")
    return made


def values_of(record, group_by):
    operation, tables = TEXTS[record["fingerprint"]]
    if group_by == "operation":
        return [operation]
    return (tables or [None]) if group_by == "table" else [record[group_by]]


def percentile(durations, share):
    return sorted(durations)[math.ceil(share * len(durations)) - 1]


def expected_figures(members):
    durations = [one["duration_ms"] for one in members]
    return {
        "calls": len(members),
        "errors": sum(one["error"] is not None for one in members),
        "total_ms": pytest.approx(sum(durations)),
        "mean_ms": pytest.approx(sum(durations) / len(members)),
        "p50_ms": percentile(durations, 0.5),
        "p95_ms": percentile(durations, 0.95),
        "p99_ms": percentile(durations, 0.99),
        "max_ms": max(durations),
    }


def test_stats_are_those_of_a_loop_for_every_group(records):
    total_ms = sum(one["duration_ms"] for one in records)
    for group_by in GROUPS:
        members = defaultdict(list)
        for record in records:
            for value in values_of(record, group_by):
                members[value].append(record)
        body = get("stats/", group_by=group_by)
        assert (body["count"], body["group_by"], body["source"]) == (len(members), group_by, "ring")
        found = {row["group"]: row for row in body["results"]}
        assert set(found) == set(members)
        for value, row in found.items():
            figures = expected_figures(members[value])
            assert {name: row[name] for name in figures} == figures
            known = [one["rows"] for one in members[value] if one["rows"] is not None]
            assert row["rows"] == (sum(known) if known else None)
            assert row["load_percent"] == pytest.approx(100 * row["total_ms"] / total_ms)
            last_seen = max(one["time"] for one in members[value])
            assert row["last_seen"] == f"{last_seen:%Y-%m-%dT%H:%M:%S.%fZ}"


def test_what_only_djangos_own_commands_have_sent_comes_last_by_default(ring_alias):
    migrated = {
        "kind": "command",
        "view": "migrate",
        "route": None,
        "fingerprint": "a" * 16,
        "duration_ms": 900.0,
    }
    imported = {"kind": "command", "view": "import_orders", "fingerprint": "b" * 16, "duration_ms": 90.0}
    requested = {"kind": "request", "view": "v.a", "fingerprint": "c" * 16, "duration_ms": 9.0}
    shared = [{**one, "fingerprint": "d" * 16, "duration_ms": 1.0} for one in (migrated, requested)]
    task = {**requested, "kind": "task", "route": None, "fingerprint": "e" * 16, "duration_ms": 5.0}
    calls = [migrated, imported, requested, *shared, task]
    put(*calls)
    put_statistics(*({**call, "time": BEGINNING} for call in calls))

    def order(**parameters):
        return "".join(row["group"][0] for row in get("stats/", **parameters)["results"])

    for source in ("ring", "statistics"):
        assert order(source=source) == "bceda"
        assert order(source=source, ordering="-total_ms") == "abced"
        assert order(source=source, kind="command") == "abd"
    assert order(group_by="view") == "ivm"
    # A task has no route either.
    assert get("stats/", group_by="route")["results"][0]["group"] is None


def test_stats_of_statements_name_text_route_and_call_sites(records):
    rows = {row["fingerprint"]: row for row in get("stats/")["results"]}
    row = rows["a" * 16]
    assert (row["sql"], row["operation"], row["tables"]) == ("SELECT a", "SELECT", ["x", "y"])
    unknown = rows["c" * 16]
    assert (unknown["sql"], unknown["operation"], unknown["tables"]) == (None, None, [])
    members = [one for one in records if one["fingerprint"] == "a" * 16]
    calls = {route: sum(one["route"] == route for one in members) for route in ("a/", "b/<int:pk>/")}
    assert calls[row["route"]] == max(calls.values())
    assert set(row["call_sites"]) == {"a.py:1 f", "b.py:2 g"}


def test_figures_are_the_same_where_the_reader_joins_durations(records, monkeypatch):
    asked = [(path, {"group_by": group_by}) for path in ("stats/", "series/") for group_by in GROUPS]
    end = (BEGINNING + timedelta(minutes=6)).isoformat()

    def read():
        answers = [get(path, to=end, **more)["results"] for path, more in [*asked, ("series/", {})]]
        return [{name: rounded(value) for name, value in row.items()} for rows in answers for row in rows]

    def rounded(value):
        # A database may add floats up in any order.
        return float(f"{value:.12g}") if isinstance(value, float) else value

    joined = read()
    monkeypatch.setattr(import_module("sqllogs.read.aggregates"), "JOINING_VENDORS", frozenset())
    assert read() == joined


def test_series_are_those_of_a_loop_without_a_gap(records):
    body = get("series/", step="1m", to=(BEGINNING + timedelta(minutes=6)).isoformat())
    members = defaultdict(list)
    for record in records:
        members[record["time"].replace(second=0, microsecond=0)].append(record)
    times = [datetime.fromisoformat(row["time"]) for row in body["results"]]
    assert times == [BEGINNING + timedelta(minutes=number) for number in range(6)]
    for time, row in zip(times, body["results"], strict=True):
        none = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
        figures = (
            expected_figures(members[time])
            if members[time]
            else {"calls": 0, "errors": 0, "total_ms": 0, **none}
        )
        rates = {"calls_per_s": row["calls"] / 60, "total_ms_per_s": pytest.approx(row["total_ms"] / 60)}
        assert row == {"time": row["time"], **figures, **rates}


def test_series_of_groups_have_a_row_for_each_step_and_group(records):
    end = (BEGINNING + timedelta(minutes=5)).isoformat()
    for group_by in GROUPS:
        body = get("series/", step="1m", group_by=group_by, top=1, to=end)
        totals = defaultdict(float)
        for record in records:
            for value in values_of(record, group_by):
                totals[value] += record["duration_ms"]
        top = max(totals, key=totals.get)
        rest = next(name for name in ("other", "all others") if name != top)
        assert {row["group"] for row in body["results"]} == ({top, rest} if len(totals) > 1 else {top})
        pairs = [(row["time"], row["group"]) for row in body["results"]]
        assert len(set(pairs)) == len(pairs)
        for name in {top, rest}:
            total_ms = sum(row["total_ms"] for row in body["results"] if row["group"] == name)
            wanted = totals[top] if name == top else sum(totals.values()) - totals[top]
            assert total_ms == pytest.approx(wanted)


ENDS_US = (100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, math.inf)


def test_buckets_are_the_calls_of_each_step_by_duration(records):
    body = get("series/", step="1m", buckets="true", to=(BEGINNING + timedelta(minutes=6)).isoformat())
    members = defaultdict(list)
    for record in records:
        members[record["time"].replace(second=0, microsecond=0)].append(record["duration_ms"] * 1000)
    for row in body["results"]:
        minute = members[datetime.fromisoformat(row["time"])]
        upto = [sum(duration_us <= end for duration_us in minute) for end in ENDS_US]
        assert list(row["buckets"].values()) == [
            upto[0],
            *(after - before for before, after in pairwise(upto)),
        ]
        assert sum(row["buckets"].values()) == row["calls"]


def test_buckets_of_statistics_add_up_to_the_calls(records):
    put_statistics(*({"time": BEGINNING + timedelta(seconds=20 * number)} for number in range(5)))
    body = get("series/", step="1m", buckets="true", source="statistics")
    rows = body["results"]
    assert [sum(row["buckets"].values()) for row in rows] == [row["calls"] for row in rows]
    assert sum(row["calls"] for row in rows) == 5


@pytest.mark.parametrize("source", ["ring", "statistics"])
@pytest.mark.parametrize("group_by", ["view", "table"])
def test_buckets_with_groups_are_those_of_all_calls_before_the_groups(records, source, group_by):
    times = [BEGINNING + timedelta(seconds=20 * number) for number in range(5)]
    put_statistics(*({"time": time, "view": f"view {time.second}"} for time in times))
    asked = {"step": "1m", "source": source, "to": (BEGINNING + timedelta(minutes=6)).isoformat()}
    of_all = get("series/", **asked, buckets="true")["results"]
    groups = get("series/", **asked, group_by=group_by, top="1")["results"]
    both = get("series/", **asked, group_by=group_by, top="1", buckets="true")["results"]

    def rounded(row):  # the sums are made in another order
        return {name: round(one, 6) if isinstance(one, float) else one for name, one in row.items()}

    assert [rounded(row) for row in both if row["buckets"]] == [
        rounded(row | {"group": None}) for row in of_all
    ]
    assert [rounded(row) for row in both if not row["buckets"]] == [
        rounded(row | {"buckets": None}) for row in groups
    ]
    firsts = {row["time"]: row for row in reversed(both)}
    assert all(row["buckets"] for row in firsts.values())


@both_databases
def test_step_follows_the_range_and_never_makes_too_many_points():
    fill(90)
    assert get("series/", to="2026-01-31T12:01:30Z")["step_s"] == 1
    long = get("series/", **{"from": "2026-01-31T12:00:00Z"})
    assert len(long["results"]) <= 201
    wide = get("series/", step="1s")
    assert wide["step_s"] > 1
    assert len(wide["results"]) <= 1001


@both_databases
@pytest.mark.parametrize("path", ["stats/", "series/", "requests/", "repeats/", f"traces/{'a' * 32}/"])
def test_empty_ring_is_an_empty_answer(path):
    body = get(path)
    assert (body["results"], body["source"], body["complete_since"]) == ([], "ring", None)


@both_databases
def test_answer_says_since_when_it_is_complete():
    fill(150, capacity=100)
    body = get("stats/", **{"from": "2026-01-31T10:00:00Z", "to": "2026-01-31T12:02:30Z"})
    assert body["complete_since"] == body["begin"] == "2026-01-31T12:00:51.000000Z"
    assert body["end"] == "2026-01-31T12:02:30.000000Z"
    (row,) = body["results"]
    assert row["calls_per_s"] == pytest.approx(99 / 99)  # the end does not belong to it


@both_databases
@pytest.mark.parametrize("path", ["stats/", "series/", "requests/", "repeats/"])
def test_filters_choose_what_is_added_up(path):
    trace = {"trace_id": "a" * 32, "unit_id": "b" * 16}
    put(*[{"alias": "other", **trace}] * 6, {"alias": "default", **trace})
    put_statement(sql="SELECT x FROM t WHERE id = ?")
    counted = {"stats/": "calls", "series/": "calls", "requests/": "queries", "repeats/": "calls"}[path]
    body = get(path, alias="other", to="2026-01-31T13:00:00Z")
    assert sum(row[counted] for row in body["results"]) == 6


@both_databases
def test_page_past_the_end_is_empty_and_links_meet_each_group_once():
    put(*({"fingerprint": f"{number:016x}", "duration_ms": number} for number in range(25)))
    client = reader()
    url, met = "/sql-logs/stats/?limit=10&ordering=-max_ms", []
    while url:
        body = client.get(url).json()
        met += [row["max_ms"] for row in body["results"]]
        url = body["next"]
    assert met == list(range(24, -1, -1))
    assert body["previous"]
    past = get("stats/", offset=100)
    assert (past["count"], past["results"], past["next"]) == (25, [], None)


@both_databases
def test_requests_tell_what_each_trace_has_queried():
    one, two = {"trace_id": "1" * 32, "unit_id": "a" * 16}, {"trace_id": "2" * 32, "unit_id": "b" * 16}
    put(
        {**one, "duration_ms": 100, "call_site": "a.py:1 f"},
        {**two, "duration_ms": 5, "error": "DataError"},
        {**one, "duration_ms": 50, "call_site": "a.py:1 f"},
        {**one, "duration_ms": 250, "fingerprint": "e" * 16, "route": "a/", "method": "GET", "status": 200},
        {"duration_ms": 1},  # of a plain thread, which is no unit of work
    )
    put_statement(sql="SELECT x")
    body = get("requests/")
    assert (body["count"], [row["trace_id"][0] for row in body["results"]]) == (2, ["2", "1"])
    row = body["results"][1]
    assert row["time"] == "2026-01-31T12:00:01.000000Z"
    assert (row["route"], row["method"], row["status"]) == ("a/", "GET", 200)
    assert (row["queries"], row["errors"], row["total_ms"]) == (3, 0, 400)
    assert row["elapsed_ms"] == pytest.approx(3250)
    assert row["share_percent"] == pytest.approx(100 * 400 / 3250)
    assert (row["duplicates"], row["worst_repeat"]) == (1, 2)
    assert (row["worst_call_site"], row["worst_sql"]) == ("a.py:1 f", "SELECT x")
    other = body["results"][0]
    assert (other["errors"], other["worst_repeat"], other["worst_fingerprint"]) == (1, 1, None)


@both_databases
@pytest.mark.parametrize("ordering", requests.ORDERINGS)
def test_requests_with_matching_queries_are_sorted_and_paged(ordering):
    made = [
        one | {"unit_id": f"{number % 7 + 1:016x}", "trace_id": f"{number % 7 + 1:032x}"}
        for number, one in enumerate(some_records(90))
    ]
    put(*made)
    matching = defaultdict(list)
    for one in made:
        if one["alias"] == "other":
            matching[one["unit_id"]].append(one)
    for sign in ("-", ""):
        pages = [
            get("requests/", alias="other", ordering=f"{sign}{ordering}", limit=3, offset=offset)
            for offset in (0, 3, 6)
        ]
        found = [row for page in pages for row in page["results"]]
        assert {page["count"] for page in pages} == {len(matching)} == {len(found)}
        for row in found:
            own = matching.pop(row["unit_id"]) if sign == "" else matching[row["unit_id"]]
            assert (row["queries"], row["errors"]) == (len(own), sum(one["error"] is not None for one in own))
            assert row["total_ms"] == pytest.approx(sum(one["duration_ms"] for one in own))
            assert row["duplicates"] == len(own) - len({one["fingerprint"] for one in own})
        values = [(row[ordering] is not None, row[ordering]) for row in found]
        assert values == sorted(values, reverse=sign == "-")


@both_databases
def test_only_the_queries_of_the_page_are_added_up():
    put(*({"unit_id": f"{number:016x}", "trace_id": f"{number:032x}"} for number in range(1, 20)))
    with CaptureQueriesContext(connections[RingHead.objects.db]) as captured:
        assert len(get("requests/", alias="default", limit=2)["results"]) == 2
    (added,) = (one["sql"] for one in captured if "SUM(" in one["sql"] and "sqllogs_record" in one["sql"])
    assert '"unit" IN (18, 17)' in added


@both_databases
def test_trace_has_its_queries_in_order_and_as_spans():
    trace = {"trace_id": "1".zfill(32), "unit_id": "a" * 16, "route": "a/", "method": "GET"}
    put({**trace, "time": BEGINNING + timedelta(seconds=9)}, {**trace, "error": "DataError"}, {})
    put_statement(tables="t")
    body = get("traces/1/")
    assert (body["trace_id"], body["count"], body["errors"]) == ("1".zfill(32), 2, 1)
    assert [row["id"] for row in body["results"]] == [2, 1]  # by time, whatever was stored first
    root, *queries = body["spans"]
    assert (root["spanID"], root["parentSpanID"], root["operationName"]) == ("a" * 16, None, "GET a/")
    assert root["startTime"] == (BEGINNING + timedelta(seconds=2)).timestamp() * 1000
    assert root["duration"] == pytest.approx(7001)
    assert [span["parentSpanID"] for span in queries] == ["a" * 16] * 2
    assert [span["statusCode"] for span in queries] == [2, 0]
    assert len({span["spanID"] for span in body["spans"]}) == 3
    assert queries[0]["operationName"] == "SELECT t"


@both_databases
def test_trace_that_is_not_there_is_empty_and_one_that_cannot_be_is_not_found():
    fill(3)
    assert get(f"traces/{'c' * 32}/")["results"] == []
    assert reader().get("/sql-logs/traces/xyz/").status_code == 404


@both_databases
def test_origins_are_told_by_the_newest_records_and_by_all_for_a_group_without(monkeypatch):
    monkeypatch.setattr(import_module("sqllogs.read.aggregates"), "NEWEST_ROWS", 3)
    routes = [{"route": "a/"}] * 4 + [{"route": "b/"}] * 3
    put({"fingerprint": "e" * 16, "route": "old/", "call_site": "old.py:1 f"}, *routes)
    rows = {row["group"][0]: row for row in get("stats/")["results"]}
    assert (rows["f"]["route"], rows["f"]["calls"]) == ("b/", 7)
    assert (rows["e"]["route"], rows["e"]["call_sites"]) == ("old/", ["old.py:1 f"])


@both_databases
@pytest.mark.parametrize(
    ("before_s", "duration_ms", "is_searched"),
    [(3600, 1.0, False), (3600, 3_600_000.0, True), (30, 1.0, True)],
    ids=["overwritten", "long", "recent"],
)
def test_origins_are_not_searched_for_what_the_ring_cannot_have(
    monkeypatch, before_s, duration_ms, is_searched
):
    monkeypatch.setattr(import_module("sqllogs.read.aggregates"), "NEWEST_ROWS", 2)
    # A record has the time of its begin: that of a long query is older than those before it.
    of_e = {"fingerprint": "e" * 16, "call_site": "old.py:1 f", "duration_ms": duration_ms}
    of_e["time"] = BEGINNING - timedelta(seconds=before_s)
    others = [{"time": BEGINNING + timedelta(seconds=number)} for number in range(3)]
    put(others[0], of_e, *others[1:])
    put_statistics(of_e, *others)
    rows = get("stats/", source="statistics", **{"from": "2026-01-31T00:00:00Z"})["results"]
    (row,) = [row for row in rows if row["group"] == "e" * 16]
    assert row["call_sites"] == (["old.py:1 f"] if is_searched else [])


def refused(path, **parameters):
    answer = reader(token_hex(4)).get(f"/sql-logs/{path}", parameters)
    assert answer.status_code == 400
    return answer.json()["error"]["field"]


@both_databases
def test_statistics_of_units_are_read_beyond_the_ring():
    put_statistics({"time": BEGINNING})  # a statement, which is none of them
    hour_s = int(BEGINNING.timestamp())
    put_unit_statistics(
        *({"ended_s": hour_s + 60 * number, "duration_ms": 10.0, "queries": 4} for number in range(3)),
        {"ended_s": hour_s + 3600, "duration_ms": 70.0, "failed": True, "release": "2"},
        {"ended_s": hour_s, "duration_ms": 5.0, "kind": "task", "route": None, "view": "nightly"},
    )
    body = get("stats/", source="units")
    assert (body["source"], body["group_by"], body["count"]) == ("units", "route", 2)
    first, second = body["results"]
    assert (first["group"], first["calls"], first["errors"], first["total_ms"]) == ("a/", 4, 1, 100.0)
    assert (first["calls_per_unit"], first["max_ms"], first["rows"]) == (3.0, 70.0, None)
    assert (second["group"], second["calls"], second["calls_per_unit"]) == (None, 1, 0.0)
    releases = get("stats/", source="units", group_by="release", kind="request")["results"]
    assert {row["group"]: row["calls"] for row in releases} == {None: 3, "2": 1}
    day = {"from": BEGINNING.isoformat(), "to": (BEGINNING + timedelta(hours=9)).isoformat()}
    points = get("series/", source="units", step="1h", **day)["results"]
    assert [point["calls"] for point in points if point["calls"]] == [4, 1]
    assert get("stats/", source="statistics")["results"][0]["calls"] == 1
    assert refused("stats/", source="units", group_by="fingerprint") == "group_by"
    assert refused("series/", source="units", min_ms="5") == "min_ms"
