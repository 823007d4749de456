"""The list, one record: the contract of the API as its readers see it."""

from itertools import chain

import pytest
from django.db import connections

from sqllogs.capture import wrapper
from sqllogs.read.pagination import COUNT_MAX
from sqllogs.record import RecordJSON
from tests.sqllogs.factories import fill, put, put_statement, reader
from tests.sqllogs.recording import recording, stored

URL = "/sql-logs/"
both_databases = pytest.mark.django_db(databases=["default", "sqllogs"])


@pytest.fixture
def api(db):
    return reader()


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [record["id"] for record in answer.json()["results"]]


def walk(client, url, key="next"):
    """Follow the links of an answer; return the ids of each page."""
    pages = []
    while url:
        answer = client.get(url)
        pages.append(ids(answer))
        url = answer.json()[key]
    return pages


def test_list_has_the_envelope_and_the_fields_of_the_contract(ring_alias):
    put({"duration_ms": 2.5, "trace_id": "a" * 32, "sampled": True, "status": 200})
    put_statement(sql="SELECT ?", tables="one,two")
    body = reader().get(URL).json()
    assert {name: body[name] for name in body if name != "results"} == {
        "count": 1,
        "count_is_capped": False,
        "next": None,
        "previous": None,
        "next_cursor": None,
    }
    (record,) = body["results"]
    assert list(record) == list(RecordJSON.__annotations__)
    assert record["time"] == "2026-01-31T12:00:01.000000Z"
    assert (record["sql"], record["tables"], record["operation"]) == ("SELECT ?", ["one", "two"], "SELECT")
    assert (record["duration_ms"], record["many"], record["sampled"]) == (2.5, False, True)
    assert (record["rows"], record["error"], record["status"]) == (None, None, 200)


@pytest.mark.parametrize("ordering", ["-id", "time", "-duration_ms", "rows"])
def test_pages_by_next_and_back_by_previous_meet_each_record_once(ring_alias, ordering):
    fill(130, changes={seq: {"duration_ms": seq % 7, "rows": seq % 5 or None} for seq in range(31, 131)})
    client = reader()
    pages = walk(client, f"{URL}?limit=40&min_ms=0&ordering={ordering}")
    assert [len(page) for page in pages] == [40, 40, 20]
    assert sorted(chain.from_iterable(pages)) == list(range(31, 131))
    last = client.get(f"{URL}?limit=40&min_ms=0&ordering={ordering}").json()
    while last["next"]:
        url, last = last["next"], client.get(last["next"]).json()
    assert walk(client, url, "previous") == [pages[2], pages[1], pages[0]]


@both_databases
def test_cursor_neither_repeats_nor_skips_while_records_come_in(api):
    fill(50)
    body = api.get(URL, {"limit": 10}).json()
    fill(60, first=51)
    assert ids(api.get(URL, {"limit": 10, "cursor": body["next_cursor"]})) == list(range(40, 30, -1))


@both_databases
def test_live_tail_asks_for_what_came_after_the_last_id(api):
    fill(50)
    assert ids(api.get(URL, {"ordering": "id", "cursor": "48"})) == [49, 50]


@both_databases
def test_pages_by_offset_have_links_by_offset(api):
    fill(50)
    body = api.get(URL, {"limit": 10, "offset": 20}).json()
    assert [record["id"] for record in body["results"]] == list(range(30, 20, -1))
    assert "offset=30" in body["next"]
    assert "offset=10" in body["previous"]


@both_databases
@pytest.mark.parametrize("place", [{"offset": 10_000}, {"cursor": "1"}, {"offset": 50}])
def test_page_past_the_end_is_empty(api, place):
    fill(50)
    body = api.get(URL, place).json()
    assert (body["count"], body["results"], body["next"], body["next_cursor"]) == (50, [], None, None)


@both_databases
def test_empty_ring_is_an_empty_list(api):
    assert ids(api.get(URL)) == []


@both_databases
def test_count_is_exact_up_to_its_cap(api):
    fill(COUNT_MAX + 1, capacity=COUNT_MAX + 1)
    for query, expected in [
        ("", (COUNT_MAX, True)),
        ("?ordering=rows", (COUNT_MAX, True)),
        ("?offset=10000", (COUNT_MAX, True)),
        ("?cursor=5000", (COUNT_MAX, True)),
        ("?to=2026-01-31T12:00:51Z", (50, False)),
        ("?from=2026-01-31T12:00:02Z", (COUNT_MAX, False)),
    ]:
        body = api.get(URL + query).json()
        assert (body["count"], body["count_is_capped"]) == expected, query


@both_databases
@pytest.mark.parametrize(("limit", "expected"), [(None, 100), (1, 1), (1000, 150), ("", 100)])
def test_limit_is_what_a_page_holds(api, limit, expected):
    fill(150, capacity=200)
    assert len(ids(api.get(URL, {} if limit is None else {"limit": limit}))) == expected


@both_databases
@pytest.mark.parametrize(
    "accept",
    [
        None,  # Infinity's health check
        "*/*",
        "application/json;q=0.9,text/plain",  # Infinity's queries
        "application/json",
        "application/*",
    ],
)
def test_json_is_what_is_not_asked_for_otherwise(api, accept):
    answer = api.get(URL, headers={"Accept": accept} if accept else {})
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


@both_databases
def test_format_json_is_json_whatever_is_accepted(api):
    answer = api.get(f"{URL}?format=json", headers={"Accept": "*/*"})
    assert answer["Content-Type"] == "application/json"


@both_databases
def test_answer_is_kept_by_no_cache_and_taken_for_no_script(api):
    answer = api.get(URL)
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"


@both_databases
def test_head_is_answered_like_get_without_a_body(api):
    answer = api.head(URL)
    assert (answer.status_code, answer.content) == (200, b"")


@both_databases
def test_one_record_is_found_by_its_id(api):
    fill(150, changes={120: {"pid": 77}})
    answer = api.get(f"{URL}120/")
    assert (answer.json()["id"], answer.json()["pid"]) == (120, 77)


@both_databases
def test_host_projects_rest_framework_settings_change_nothing(api, settings):
    fill(3)
    settings.REST_FRAMEWORK = {
        "DEFAULT_RENDERER_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
        "EXCEPTION_HANDLER": "nowhere.at_all",
        "URL_FORMAT_OVERRIDE": "as",
        "FORMAT_SUFFIX_KWARG": "id",
        "UNAUTHENTICATED_USER": "nowhere.at.all",
    }
    assert ids(api.get(URL, {"format": "json"})) == [3, 2, 1]
    assert type(api)().get(URL).status_code == 401
    assert api.get(URL, {"format": "xml"}).status_code == 400
    assert api.get(f"{URL}3/").json()["id"] == 3


def test_reading_leaves_no_record(ring_alias):
    fill(5)
    client = reader()
    with recording(ring_alias) as recorder:
        wrapper.install(recorder.wrapper, connections[ring_alias])  # as where the ring is in `default`
        for url in (URL, f"{URL}5/", f"{URL}health/", f"{URL}?x=1"):
            client.get(url)
        wrapper.uninstall(recorder.wrapper, connections[ring_alias])
        assert len(stored(recorder, ring_alias)) == 5
