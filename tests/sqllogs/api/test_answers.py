"""A client gets the fields that it asks for, compressed if it has a token, and only once if it asks twice."""

import csv
import gzip
import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sqllogs.api import access
from sqllogs.models import RingHead
from sqllogs.record import FIELDS
from tests.sqllogs.api.clock import stop_clock
from tests.sqllogs.factories import BEGINNING, fill, put, put_statement, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
URL = "/sql-logs/"
TO = "to=2026-01-31T12:00:30Z"
CHOSEN = (
    ("", "duration_ms,time"),
    ("?ordering=-duration_ms", "sql,id"),
    ("stats/", "sql,calls"),
    ("stats/", "repeats,call_sites"),
    ("stats/?group_by=view", "p95_ms,group"),
    ("series/?group_by=view", "time,group,calls"),
    ("series/", "time,calls"),
    ("series/?buckets=true", "time,buckets"),
    ("requests/", "time,queries,worst_sql"),
    ("repeats/", "advice,sql"),
    ("events/", "title,time"),
    (f"traces/{'a' * 32}/", "id,sql"),
)


def put_records():
    put(*[{"trace_id": "a" * 32, "unit_id": "b" * 16, "duration_ms": 2.5, "call_site": "a.py:1 f"}] * 6)
    put_statement(sql="SELECT x FROM t WHERE id = ?", tables="t,u")


def get(client, path, **headers):
    return client.get(f"{URL}{path}{'&' if '?' in path else '?'}{TO}", headers=headers)


def signed_in(*permissions):
    """Return a client with the session of a staff user."""
    user = User.objects.create_user(permissions[-1], is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def token():
    return reader("cheap")


@pytest.mark.parametrize(("path", "fields"), CHOSEN)
def test_rows_have_the_fields_asked_for_and_the_same_values(path, fields):
    put_records()
    client, names = reader("fields"), fields.split(",")
    separator = "&" if "?" in path else "?"
    chosen = f"{path}{separator}fields={fields}"
    whole, part = get(client, path).json(), get(client, chosen).json()
    assert [list(row) for row in part["results"]] == [names] * len(whole["results"])
    assert part["results"] == [{name: row[name] for name in names} for row in whole["results"]]
    assert {name: part[name] for name in part if name in ("count", "source", "begin")} == {
        name: whole[name] for name in whole if name in ("count", "source", "begin")
    }
    table = get(client, f"{chosen}&format=csv").content.decode().splitlines()
    assert next(csv.reader(table)) == names
    assert len(table) == len(part["results"]) + 1


@pytest.mark.parametrize("path", ["", "stats/", "series/", "requests/", "repeats/", "events/"])
def test_unknown_field_is_refused_even_of_an_empty_list(path):
    answer = get(reader("unknown"), f"{path}?fields=time,nonsense")
    error = answer.json()["error"]
    name = "time" if path in ("stats/", "repeats/") else "nonsense"
    assert (answer.status_code, error["field"]) == (400, "fields")
    assert f"Unknown field '{name}'. Valid fields: " in error["message"]


def test_fields_of_stats_and_series_are_those_of_the_grouping():
    client = reader("grouping")
    assert get(client, "stats/?fields=sql").status_code == 200
    assert get(client, "stats/?group_by=view&fields=sql").status_code == 400
    assert get(client, "series/?fields=group").status_code == 400


def test_empty_fields_are_all():
    put_records()
    client = reader("all")
    for value in ("", "All", "$__all", ","):
        assert list(get(client, f"?fields={value}").json()["results"][0]) == list(FIELDS)


def test_answer_without_a_list_has_no_fields():
    put_records()
    assert get(reader("none"), f"fingerprints/{'f' * 16}/?fields=sql").status_code == 400


@pytest.mark.parametrize(
    ("path", "unread"),
    [
        ("?fields=time,duration_ms", ('"view"', '"execute_ms"')),
        ("stats/?fields=calls,total_ms", ("call_site",)),
        ("requests/?fields=time,queries", ("worst_sql",)),
    ],
)
def test_only_what_is_asked_for_is_read(path, unread):
    put_records()
    alias = RingHead.objects.db
    with CaptureQueriesContext(connections[alias]) as queries:
        assert get(reader("few"), path).status_code == 200
    statements = [one["sql"] for one in queries]
    assert not [sql for sql in statements for name in unread if name in sql.partition(" FROM ")[0]]
    assert not [sql for sql in statements if "sqllogs_statement" in sql]


def test_pages_continue_with_few_fields():
    fill(5, changes={number: {"duration_ms": float(number)} for number in range(1, 6)})
    client, found, cursor = reader("cursor"), [], ""
    while cursor is not None:
        page = get(client, f"?limit=2&ordering=-duration_ms&fields=id&cursor={cursor}").json()
        found += [row["id"] for row in page["results"]]
        cursor = page["next_cursor"]
    assert found == [5, 4, 3, 2, 1]


def test_token_gets_a_compressed_answer(token):
    fill(50)
    plain, packed = get(token, ""), get(token, "", **{"Accept-Encoding": "br, gzip"})
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert len(packed.content) < len(plain.content) / 4
    assert "Accept-Encoding" in plain["Vary"]
    assert packed["ETag"] == plain["ETag"]
    assert json.loads(plain.content)["count"] == 29


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity, gzip; q=0.0"])
def test_answer_is_plain_without_gzip(token, accepted):
    fill(50)
    assert "Content-Encoding" not in get(token, "", **{"Accept-Encoding": accepted})


def test_short_answer_is_plain(token):
    assert "Content-Encoding" not in get(token, "?fields=id", **{"Accept-Encoding": "gzip"})


def test_session_gets_no_compressed_answer():
    # A site could make its visitor's browser send requests, and guess from the sizes what is in an answer.
    fill(50)
    assert "Content-Encoding" not in get(signed_in("view_sqllog"), "", **{"Accept-Encoding": "gzip"})


@pytest.mark.parametrize("path", ["", "stats/", "series/", "requests/", "repeats/"])
def test_same_request_is_answered_from_memory_until_something_is_written(path, token, monkeypatch):
    fill(50)
    stop_clock(monkeypatch, BEGINNING + timedelta(hours=1))
    get(token, "health/")  # the token's use is noted
    connection = connections[RingHead.objects.db]
    with CaptureQueriesContext(connection) as reads:
        first = get(token, path, **{"Accept-Encoding": "gzip"})
    with CaptureQueriesContext(connection) as queries:
        again = get(token, path, **{"Accept-Encoding": "gzip"})
    assert (again.content, again["ETag"]) == (first.content, first["ETag"])
    assert {name for name, _ in again.items()} == {name for name, _ in first.items()}
    assert len(queries) < len(reads)
    RingHead.objects.update(seq=51)
    assert get(token, path, **{"Accept-Encoding": "gzip"})["ETag"] != first["ETag"]


def test_other_permissions_get_another_answer():
    fill(1)
    put_statement(sql="SELECT secret")
    with_text, without = signed_in("view_sqllog", "view_sqllog_text"), signed_in("view_sqllog")
    assert get(with_text, "").json()["results"][0]["sql"] == "SELECT secret"
    assert get(without, "").json()["results"][0]["sql"] is None


def test_answers_are_kept_for_a_second(token, monkeypatch):
    fill(2)
    get(token, "")
    now_s = access.time.monotonic()
    monkeypatch.setattr(access.time, "monotonic", lambda: now_s + access.KEPT_S + 0.1)
    key = next(iter(access.recent._kept))
    assert access.recent.get(key) is None


def test_memory_is_bounded():
    kept = access.RecentAnswers()
    big, small = (HttpResponse(b"x" * size) for size in (access.KEPT_ANSWER_MAX_BYTES, 10))
    for number in range(10):
        kept.put(f"big {number}", big)
    assert kept.size_bytes <= access.KEPT_MAX_BYTES
    for number in range(2 * access.KEPT_MAX):
        kept.put(f"small {number}", small)
    assert (len(kept), kept.size_bytes) == (access.KEPT_MAX, 10 * access.KEPT_MAX)
    kept.put("too big", HttpResponse(b"x" * (access.KEPT_ANSWER_MAX_BYTES + 1)))
    assert kept.get("too big") is None
