"""Requests are read from their own rows, sorted and filtered by what is known of them as a whole."""

from datetime import timedelta

import pytest

from sqllogs.models import RingHead, Unit
from tests.sqllogs.factories import BEGINNING, fill, put_unit, reader, row

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

REQUESTS = [
    # status, duration, queries, total, tags, kind
    (200, 100.0, 5, 50.0, ",a,", "request"),
    (404, 10.0, 1, 9.0, None, "request"),
    (500, 50.0, 2, 5.0, ",a,b,", "request"),
    (503, 200.0, 3, 20.0, None, "request"),
    (None, None, 7, 30.0, None, "command"),  # it is running
]


@pytest.fixture(autouse=True)
def units():
    fill(len(REQUESTS))
    for seq, (status, duration_ms, queries, total_ms, tags, kind) in enumerate(REQUESTS, 1):
        begin = BEGINNING + timedelta(seconds=seq)
        ended_at = None if duration_ms is None else begin + timedelta(milliseconds=duration_ms)
        put_unit(
            row(seq), slot=seq, unit_id=f"{seq:016x}", trace_id=f"{seq:032x}", status=status, time=begin,
            ended_at=ended_at, duration_ms=duration_ms, queries=queries, total_ms=total_ms, tags=tags,
            kind=kind,
        )  # fmt: skip
    idle = row(0)
    put_unit(
        idle, slot=-1, unit_id="f" * 16, status=204, time=BEGINNING, ended_at=BEGINNING, duration_ms=1.0,
        queries=0, statements=0, total_ms=0.0, first_seq=9, last_seq=9,
    )  # fmt: skip


def get(query=""):
    answer = reader().get(f"/sql-logs/requests/?{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def found(query):
    return [int(one["unit_id"], 16) if one["queries"] else 0 for one in get(query)["results"]]


def put_without_queries(*rows):
    """Write units without queries, one per dict of fields, after those above."""
    for number, fields in enumerate(rows, 10):
        plain = {"status": 200, "view": None, "route": None, "kind": "request"}
        put_unit(
            row(0), slot=-number, unit_id=f"{number:016x}", time=BEGINNING + timedelta(minutes=number),
            queries=0, statements=0, total_ms=0.0, first_seq=number, last_seq=number, **plain | fields,
        )  # fmt: skip


WITHOUT_QUERIES = [
    {},  # 10, a static file that WhiteNoise sends
    {"status": 304},  # 11, one that the browser has
    {"view": "django.views.static.serve", "route": "media/<path>"},  # 12
    {"view": "django.contrib.staticfiles.views.serve", "route": "static/<path>"},  # 13
    {"view": "app.views.home", "route": ""},  # 14, a page
    {"status": 404},  # 15, nobody knows that URL
    {"status": 500, "exception": "KeyError"},  # 16, a middleware failed
    {"status": None, "duration_ms": None, "ended_at": None},  # 17, running
    {"status": None, "kind": "command", "view": "tidy"},  # 18
    {"status": None, "kind": "task"},  # 19
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", range(19, 9, -1)),  # programs that know nothing of this filter
        ("static_files=all", range(19, 9, -1)),
        ("static_files=true", [13, 12, 11, 10]),
        ("static_files=false", [19, 18, 17, 16, 15, 14]),
        ("static_files=false&status=404", [15]),
        ("static_files=true&status=304", [11]),
    ],
)
def test_static_files_can_be_left_out(query, expected):
    Unit.objects.all().delete()
    put_without_queries(*WITHOUT_QUERIES)
    results = get(query)["results"]
    assert [int(one["unit_id"], 16) for one in results] == [*expected]


def test_what_has_sent_a_query_is_no_static_file():
    Unit.objects.filter(slot=1).update(view=None, status=200)
    assert found("static_files=false&status=200") == [1]
    assert found("static_files=true&status=200") == []


def test_series_of_requests_has_the_same_records_without_static_files():
    client = reader()

    def calls(query):
        return sum(one["calls"] for one in client.get(f"/sql-logs/series/?{query}").json()["results"])

    assert calls("static_files=false") == calls("") == len(REQUESTS)
    assert calls("static_files=true") == 0


def test_unknown_choice_of_static_files_is_refused():
    answer = reader().get("/sql-logs/requests/?static_files=maybe")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "static_files"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("status=500", [3]),
        ("status=5xx", [4, 3]),
        ("status=404,2xx", [2, 1, 0]),
        ("min_elapsed_ms=50", [4, 3, 1]),
        ("tag=a", [3, 1]),
        ("tag=b", [3]),
        ("kind=command", [5]),
        ("kind=request&status=5xx&min_elapsed_ms=100", [4]),
        ("ordering=-elapsed_ms", [4, 1, 3, 2, 0, 5]),
        ("ordering=elapsed_ms", [5, 0, 2, 3, 1, 4]),
        ("ordering=-total_ms", [1, 5, 4, 2, 3, 0]),
        ("ordering=-share_percent", [2, 1, 4, 3, 0, 5]),
        ("ordering=-queries", [5, 1, 4, 3, 2, 0]),
        ("ordering=-status", [4, 3, 2, 0, 1, 5]),
        ("from=2026-01-31T12:00:03Z", [5, 4, 3]),  # those that ran then
        ("to=2026-01-31T12:00:02Z", [1, 0]),
        ("limit=2&offset=1", [4, 3]),
    ],
)
def test_requests_are_filtered_and_sorted(query, expected):
    assert found(query) == expected


def test_share_is_that_of_the_real_duration():
    first = get("status=200")["results"][0]
    assert (first["elapsed_ms"], first["total_ms"], first["share_percent"]) == (100.0, 50.0, 50.0)
    running = get("kind=command")["results"][0]
    assert (running["elapsed_ms"], running["share_percent"]) == (None, None)


def test_unit_whose_records_are_overwritten_is_left_out():
    RingHead.objects.update(seq=104, capacity=100)
    assert found("") == [5, 0]


def test_slot_that_is_only_reserved_is_left_out():
    Unit.objects.filter(slot=5).update(kind="")
    assert found("") == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("query", ["status=700", "status=5x", "min_elapsed_ms=x"])
def test_invalid_filter_is_refused(query):
    answer = reader().get(f"/sql-logs/requests/?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == query.split("=")[0]
