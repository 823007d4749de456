"""One statement with all that is known of it, and the events of the application."""

from datetime import timedelta

import pytest

from sqllogs.models import Event
from sqllogs.read.pagination import OffsetPage
from tests.sqllogs.factories import BEGINNING, put, put_statement, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
URL = "/sql-logs/fingerprints/"


def test_statement_has_figures_origins_and_samples():
    unit = {"trace_id": "a" * 32, "unit_id": "b" * 16, "call_site": "a.py:1 f", "route": "a/", "release": "1"}
    put(
        *[unit | {"duration_ms": 3.0}] * 6,
        {"call_site": "b.py:2 g", "duration_ms": 50.0, "error": "DataError"},
        {"fingerprint": "e" * 16, "duration_ms": 1000.0},
    )
    put_statement(sql="SELECT x FROM t WHERE id = ?", tables="t")
    body = reader().get(f"{URL}{'f' * 16}/", {"kind": "request"}).json()
    assert (body["sql"], body["tables"], body["operation"]) == (
        "SELECT x FROM t WHERE id = ?",
        ["t"],
        "SELECT",
    )
    assert (body["calls"], body["errors"], body["total_ms"], body["max_ms"]) == (7, 1, 68.0, 50.0)
    assert (body["p50_ms"], body["source"]) == (3.0, "ring")
    assert [(one["value"], one["calls"]) for one in body["call_sites"]] == [("b.py:2 g", 1), ("a.py:1 f", 6)]
    assert {one["value"]: one["total_ms"] for one in body["routes"]} == {None: 50.0, "a/": 18.0}
    assert [one["value"] for one in body["releases"]] == [None, "1"]
    assert body["samples"]["slowest"][0]["id"] == 7
    assert [one["id"] for one in body["samples"]["newest"]] == [7, 6, 5, 4, 3]
    assert [one["id"] for one in body["samples"]["failing"]] == [7]
    assert [one["times_max"] for one in body["repeats"]] == [6]
    client = reader("links")
    assert sum(row["calls"] for row in client.get(body["series"]).json()["results"]) == 7
    assert client.get(body["records"]).json()["count"] == 7


def test_statement_that_the_ring_no_longer_has_is_told_by_its_text():
    put_statement("e" * 16)
    body = reader().get(f"{URL}{'e' * 16}/").json()
    assert (body["sql"], body["calls"], body["p95_ms"], body["last_seen"]) == ("SELECT 1", 0, None, None)


@pytest.mark.parametrize("fingerprint", ["e" * 16, "xyz", "e" * 17])
def test_statement_that_is_not_known_is_not_found(fingerprint):
    assert reader().get(f"{URL}{fingerprint}/").status_code == 404


def put_events():
    for number, kind in enumerate(["deploy", "migration", "deploy"]):
        time = BEGINNING + timedelta(hours=number)
        service = "shop" if number else None
        Event.objects.create(
            time=time, kind=kind, title=f"{kind} {number}", text="what", tags=["1.0", kind], service=service
        )


def test_events_have_the_form_of_annotations():
    put_events()
    body = reader().get("/sql-logs/events/", {"limit": 1}).json()
    assert (body["count"], body["previous"]) == (3, None)
    (event,) = body["results"]
    event.pop("id")
    assert event == {
        "time": "2026-01-31T14:00:00.000000Z",
        "timeEnd": None,
        "title": "deploy 2",
        "text": "what",
        "tags": "deploy,1.0",
        "kind": "deploy",
        "service": "shop",
        "author": None,
    }


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("kind=deploy", ["deploy 2", "deploy 0"]),
        ("kind=deploy,migration&offset=2", ["deploy 0"]),
        ("from=2026-01-31T13:00:00Z&to=2026-01-31T14:00:00Z", ["migration 1"]),
        ("from=&to=All&kind=$__all&ordering=", ["deploy 2", "migration 1", "deploy 0"]),
        ("service=shop,blog&kind=deploy", ["deploy 2"]),
        ("offset=9", []),
    ],
)
def test_events_are_chosen_by_time_kind_and_service(query, titles):
    put_events()
    body = reader().get(f"/sql-logs/events/?{query}").json()
    assert [event["title"] for event in body["results"]] == titles


@pytest.mark.parametrize(
    ("limit", "offset", "shown", "queries"),
    [(100, 0, 3, 1), (4, 0, 3, 1), (3, 0, 3, 2), (1, 1, 1, 2), (2, 2, 1, 1), (2, 3, 0, 2)],
)
def test_page_counts_only_what_it_does_not_show(limit, offset, shown, queries, django_assert_num_queries):
    put_events()
    page = OffsetPage(ordering="-time", limit=limit, offset=offset)
    with django_assert_num_queries(queries, using="sqllogs"):
        rows, count = page.read(Event.objects.order_by("-time"))
    assert (len(rows), count) == (shown, 3)


@pytest.mark.parametrize("query", ["view=a", "limit=0", "from=x", "ordering=title"])
def test_events_refuse_what_they_do_not_know(query):
    assert reader().get(f"/sql-logs/events/?{query}").json()["error"]["field"] == query.partition("=")[0]
