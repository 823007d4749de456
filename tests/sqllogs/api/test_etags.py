"""A client that polls gets 304 until something has changed, and never after."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from sqllogs.models import Process, RingHead
from tests.sqllogs.api.clock import set_clock
from tests.sqllogs.factories import (
    BEGINNING,
    fill,
    put_process,
    put_rows,
    put_statement,
    put_statistics,
    reader,
    row,
)
from tests.sqllogs.recording import TIMEOUT_S, recording, send_one

both_databases = pytest.mark.django_db(databases=["default", "sqllogs"])
URL = "/sql-logs/"
PATHS = ("", "stats/", "series/", "requests/", "repeats/", f"traces/{'a' * 32}/", f"fingerprints/{'f' * 16}/")
RANGE = "?from=2026-01-31T12:00:00Z&to=2026-01-31T12:01:00Z"


@pytest.fixture
def ask(settings):
    """Ask with the tag of the last answer to the same address."""
    client, tags = reader("ask"), {}

    def get(path, **headers):
        answer = client.get(URL + path, headers={"If-None-Match": tags[path]} if path in tags else headers)
        assert answer.status_code in (200, 304), answer.content
        tags[path] = answer["ETag"]
        return answer

    return get


@both_databases
@pytest.mark.parametrize("path", PATHS)
def test_same_range_is_answered_once_until_something_is_written(path, ask):
    fill(10)
    put_process(BEGINNING)
    put_statement()
    first, again = ask(path + RANGE), ask(path + RANGE)
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert again["ETag"] == first["ETag"]
    assert "Content-Type" not in again
    # The writer reserves the number first; the record is there once the process has updated its counts.
    RingHead.objects.update(seq=11)
    assert ask(path + RANGE).status_code == 200
    put_rows(row(11))
    Process.objects.update(stored=11)
    assert ask(path + RANGE).status_code == 200
    assert ask(path + RANGE).status_code == 304


def test_a_batch_of_the_writer_is_seen(ring_alias, ask):
    with recording(ring_alias) as recorder:
        assert [ask("").status_code for _ in range(2)] == [200, 304]
        send_one(recorder)
        assert recorder.writer.flush(TIMEOUT_S)
        assert [ask("").status_code for _ in range(2)] == [200, 304]


def test_cleared_ring_is_no_longer_what_it_was(ring_alias, ask):
    fill(10)
    ask("")
    call_command("sqllogs", "clear", "--yes", verbosity=0)
    answer = ask("")
    assert (answer.status_code, answer.json()["results"]) == (200, [])


@both_databases
@pytest.mark.parametrize("path", ["", "stats/", "requests/", "repeats/"])
def test_moving_range_is_the_same_until_a_record_leaves_it(path, ask, monkeypatch):
    now = datetime.now(UTC)
    fill(2, changes={1: {"time": now - timedelta(minutes=14, seconds=50)}, 2: {"time": now}})
    put_process(now)
    query = f"{path}?from=now-15m"
    assert [ask(query).status_code for _ in range(3)] == [200, 304, 304]
    set_clock(monkeypatch, now + timedelta(seconds=5))
    assert ask(query).status_code == 304
    set_clock(monkeypatch, now + timedelta(seconds=12))
    assert ask(query).status_code == 200
    set_clock(monkeypatch, now + timedelta(minutes=10))
    assert ask(query).status_code == 304


@both_databases
def test_moving_series_is_the_same_until_a_step_comes_or_goes(ask, monkeypatch):
    now = BEGINNING + timedelta(seconds=60)
    set_clock(monkeypatch, now)
    fill(60)
    query = "series/?from=now-15m&step=10s"
    assert ask(query).status_code == 200
    set_clock(monkeypatch, now - timedelta(seconds=5))
    assert ask(query).status_code == 304
    set_clock(monkeypatch, now + timedelta(seconds=5))
    assert ask(query).status_code == 200


@both_databases
def test_rate_over_a_growing_range_is_new_each_hundredth(ask, monkeypatch):
    now = BEGINNING + timedelta(hours=1)
    set_clock(monkeypatch, now)
    fill(10)
    query = "stats/?from=2026-01-31T12:00:00Z"
    assert ask(query).status_code == 200
    assert ask(query).status_code == 304
    set_clock(monkeypatch, now + timedelta(minutes=1))
    assert ask(query).status_code == 200


@both_databases
def test_statistics_are_the_same_for_a_minute(ask, monkeypatch):
    now = BEGINNING + timedelta(hours=1, seconds=5)
    set_clock(monkeypatch, now)
    put_statistics({"time": BEGINNING})
    query = "stats/?from=now-2h&source=statistics"
    assert ask(query).status_code == 200
    set_clock(monkeypatch, now + timedelta(seconds=50))
    assert ask(query).status_code == 304
    set_clock(monkeypatch, now + timedelta(seconds=60))
    assert ask(query).status_code == 200


@both_databases
def test_tag_is_of_one_query_form_and_right(ask, client, django_user_model, settings):
    fill(3)
    tag = ask("")["ETag"]
    other = reader("other")
    for path in ("?limit=5", "?format=csv", "stats/"):
        assert other.get(URL + path, headers={"If-None-Match": tag}).status_code == 200
    assert other.get(URL, headers={"If-None-Match": f'"x", {tag}'}).status_code == 304
    settings.DEBUG, settings.SQLLOGS = True, {"ANONYMOUS_LOOPBACK": True}
    assert client.get(URL, headers={"If-None-Match": tag}).status_code == 200


@both_databases
@pytest.mark.parametrize(
    "tag",
    ["*", "x", 'W/""', '"."', '"{}."', '"{}.x"', '"{}.9999999999999999999999"', "\udcff", '"{}.\u0661"'],
)
def test_unknown_tag_gets_the_whole_answer(tag):
    fill(3)
    client = reader()
    digest = client.get(f"{URL}?from=now-5m")["ETag"].split('"')[1].split(".")[0]
    answer = client.get(f"{URL}?from=now-5m", headers={"If-None-Match": tag.replace("{}", digest)})
    assert answer.status_code == 200


@both_databases
def test_tag_reveals_nothing_without_permission(client):
    fill(3)
    tag = reader().get(URL)["ETag"]
    assert client.get(URL, headers={"If-None-Match": tag}).status_code == 401


@both_databases
def test_answer_has_server_timing():
    fill(3)
    for path in ("", "stats/", "?colour=red"):
        timing = reader(f"r{path}").get(URL + path)["Server-Timing"]
        name, render = timing.split(", ")
        assert name.startswith("db;dur=")
        assert float(render.removeprefix("render;dur=")) >= 0
