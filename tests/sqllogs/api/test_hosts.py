"""Every address gives the same answers in projects with other settings than ours."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from sqllogs.models import Event
from sqllogs.read.records import rfc3339
from tests.sqllogs.factories import BEGINNING, fill, put_process, put_statement, put_statistics, reader
from tests.sqllogs.hosts import settings_of
from tests.sqllogs.pages import URL, Page
from tests.sqllogs.recording import TIMEOUT_S, recording, send_one

TRACE = "ab" * 16
# A range in the past, so that an answer does not depend on the clock.
RANGE = "from=2026-01-31T11:00:00Z&to=2026-01-31T13:00:00Z"
TABLES = ("json", "csv", "ndjson")
ADDRESSES = {
    f"?{RANGE}&limit=3": (*TABLES, "html"),
    "?from=now-5000d&to=2026-02-01T00:00:00": (*TABLES, "html"),
    "1233/?": ("json", "html"),
    f"stats/?{RANGE}": (*TABLES, "html"),
    f"stats/?{RANGE}&source=statistics": (*TABLES, "html"),
    f"stats/?{RANGE}&group_by=route&ordering=-last_seen": TABLES,
    f"series/?{RANGE}&step=60": TABLES,
    f"series/?{RANGE}&source=statistics&group_by=alias": TABLES,
    f"requests/?{RANGE}": (*TABLES, "html"),
    f"repeats/?{RANGE}": (*TABLES, "html"),
    f"traces/{TRACE}/?{RANGE}": (*TABLES, "html"),
    f"fingerprints/{'f' * 16}/?{RANGE}": ("json", "html"),
    "events/?from=2026-01-31T11:59:59Z&to=2026-01-31T12:00:01Z": TABLES,
    "schema/?": ("json",),
    "?min_ms=x": ("json",),
    "77/?": ("json",),
    "health/?": ("json",),
}


def answers(client):
    """Ask each address for each format; return what must be the same everywhere."""
    found = {}
    for address, formats in ADDRESSES.items():
        for format in formats:
            answer = client.get(f"{URL}{address}&format={format}", headers={"Accept": "*/*"})
            if address == "health/?":  # depends on the clock
                content = sorted(answer.json())
            elif format == "html":
                page = Page(answer)
                content = page.links(), page.all("tr"), page.all("rect"), page.all("circle")
            else:
                content = answer.content.decode()
            found[address, format] = answer.status_code, content
    return found


@pytest.fixture
def client(ring_alias):
    """A reader of a log of which each address has something to show."""
    unit = {"trace_id": TRACE, "unit_id": "c" * 16, "route": "books/", "status": 200, "call_site": "a.py:1 f"}
    changes = {
        seq: {"time": BEGINNING + timedelta(milliseconds=seq), "duration_ms": 1234.5, "rows": 12_345, **unit}
        for seq in range(1_225, 1_235)
    }
    fill(1_234, capacity=20, changes=changes)
    put_statement(sql="SELECT id FROM app_author WHERE id = ?", tables="app_author")
    put_statistics(*[{"time": BEGINNING + timedelta(minutes=minute)} for minute in range(5)])
    put_process(BEGINNING)
    Event.objects.create(time=BEGINNING, kind="deploy", title="1.2", key="deploy 1.2")
    return reader()


NAIVE = {"USE_TZ": False, "TIME_ZONE": "Pacific/Kiritimati"}  # 14 hours ahead of UTC
HOSTS = [
    ("sqlite", NAIVE),
    ("postgresql", NAIVE),
    ("postgresql", {"TIME_ZONE": "America/New_York"}),  # the connection's time zone
    ("sqlite", {"LANGUAGE_CODE": "de", "USE_THOUSAND_SEPARATOR": True}),  # 1.234,5
    ("sqlite", {"FORCE_SCRIPT_NAME": "/below"}),
    ("sqlite", {"REST_FRAMEWORK": {"DEFAULT_RENDERER_CLASSES": [], "DATETIME_FORMAT": "%s", "PAGE_SIZE": 1}}),
]


@pytest.mark.parametrize(("ring_database", "host"), HOSTS, indirect=["ring_database"], ids=str)
def test_answers_are_those_of_the_normal_host(client, settings, host):
    expected = answers(client)
    assert {status for status, _ in expected.values()} == {200, 400, 404}
    with settings_of(host, settings) as prefix:
        given = answers(client)
    for question, answer in expected.items():
        found = repr(given[question]).replace(f"{prefix}/", "/") if prefix else repr(given[question])
        if "LANGUAGE_CODE" in host and answer[0] >= 400:
            assert given[question][0] == answer[0]  # the message is translated
        else:
            assert found == repr(answer), question


def test_answers_are_the_same_within_a_transaction_of_the_host(client, ring_alias, monkeypatch):
    expected = answers(client)
    monkeypatch.setitem(connections.settings[ring_alias], "ATOMIC_REQUESTS", True)
    assert answers(client) == expected


def test_host_without_time_zones_reads_the_times_that_it_wrote(ring_alias, settings):
    settings.USE_TZ, settings.TIME_ZONE = NAIVE.values()
    before = rfc3339(datetime.now(UTC) - timedelta(seconds=1))
    with recording(ring_alias) as recorder:
        send_one(recorder)
        assert recorder.writer.flush(TIMEOUT_S)
    after = rfc3339(datetime.now(UTC) + timedelta(seconds=1))
    client = reader()
    (record,) = client.get(URL, {"from": "now-1m"}).json()["results"]
    (row,) = client.get(f"{URL}stats/", {"from": "now-1m"}).json()["results"]
    assert before < record["time"] < after
    assert before < row["last_seen"] < after
    assert client.get(URL, {"to": "now-1m"}).json()["results"] == []
