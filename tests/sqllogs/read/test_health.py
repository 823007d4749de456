"""health/ tells how full the ring is, what was lost and why it is not well."""

from datetime import timedelta

import pytest
from django.utils import timezone

from sqllogs import conf
from sqllogs.models import Event, Finding
from sqllogs.read import health as read_health
from sqllogs.storage.ring import Ring
from tests.sqllogs.factories import BEGINNING, fill, put_process, reader
from tests.sqllogs.storage.test_ring import write

URL = "/sql-logs/health/"


def health():
    answer = reader().get(URL)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_full_and_wrapped_ring_is_told(ring_alias):
    fill(150, capacity=120)
    ring = health()["ring"]
    assert ring.pop("oldest_age_s") > 0
    assert ring == {
        "rows": 120,
        "capacity": 120,
        "fill_percent": 100.0,
        "seq": 150,
        "oldest_time": "2026-01-31T12:00:31.000000Z",
    }


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_log_without_traffic_is_well():
    body = health()
    assert (body["status"], body["reasons"], body["lag_ms"]) == ("ok", [], 0.0)
    assert body["ring"]["rows"] == body["ring"]["fill_percent"] == 0
    put_process(timezone.now() - timedelta(hours=3), lag_ms=1e9, dropped={"buffer_rows": 3})
    body = health_again()
    assert (body["status"], body["processes"][0]["alive"]) == ("ok", False)


def health_again():
    return reader("again").get(URL).json()


def test_processes_are_added_up(ring_alias):
    now = timezone.now()
    put_process(
        now, captured=10, stored=7, dropped={"buffer_rows": 1}, exported={"sent": 7}, queued=2, lag_ms=8
    )
    put_process(now, captured=20, stored=15, dropped={"buffer_rows": 2, "rejected": 3}, lag_ms=9)
    put_process(now - timedelta(days=1), captured=5, stored=5, exported={"sent": 5}, queued=4, lag_ms=100)
    body = health()
    assert (body["captured"], body["stored"], body["dropped_total"]) == (35, 27, 6)
    assert body["dropped"] == {"buffer_rows": 3, "rejected": 3}
    assert body["exported"] == {"sent": 12}
    assert (body["queued"], body["lag_ms"]) == (2, 9.0)
    assert [one["alive"] for one in body["processes"]] == [True, True, False]


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dropped": {"buffer_rows": 3}}, "dropped 3 records"),
        ({"units_dropped": 4}, "dropped 4 requests"),
        ({"exported": {"sent": 9, "refused": 2}}, "not sent 2 records over OTLP (refused)"),
        ({"lag_ms": 12_345.0}, "12.3 s behind"),
    ],
)
def test_process_that_loses_or_lags_is_a_reason(changes, words):
    put_process(timezone.now(), **changes)
    body = health()
    assert body["status"] == "degraded"
    assert words in body["reasons"][0]


def test_reasons_have_the_same_order_in_every_process(ring_alias):
    """The order of a set of words differs between processes, and an answer with it."""
    put_process(timezone.now(), exported={"unsent": 3, "refused": 2, "sent": 9, "queue_full": 1})
    reasons = health()["reasons"]
    assert [reason.rpartition("(")[2] for reason in reasons] == ["queue_full)", "refused)", "unsent)"]


def test_process_with_a_long_flush_interval_is_neither_late_nor_gone(ring_alias, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "FLUSH_INTERVAL_S": 60}
    put_process(timezone.now() - timedelta(seconds=59), lag_ms=60_000.0)
    body = health()
    assert body["processes"][0]["alive"]
    assert (body["status"], body["reasons"]) == ("ok", [])
    put_process(timezone.now(), lag_ms=71_000.0)
    assert "71.0 s behind" in health_again()["reasons"][0]


def test_loss_is_a_reason_for_an_hour_though_many_processes_have_ended_since(ring_alias, monkeypatch):
    monkeypatch.setattr(read_health, "PROCESSES_MAX", 2)
    now = timezone.now()
    for minutes, queued in ((1, 0), (2, 0), (3, 4), (4, 0), (70, 5)):
        put_process(now - timedelta(minutes=minutes), queued=queued)
    assert [reason for reason in health()["reasons"] if "not stored" in reason] == [
        "process 1 on web-1 has ended and lost 4 records that were not stored"
    ]


def test_full_table_of_statements_is_a_reason_for_an_hour(ring_alias, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "STATEMENTS_MAX": 3}
    ring = Ring(conf.load())
    for number in range(5):
        write(ring, 1, f"SELECT c{number} FROM t")
    ring.close()
    body = health()
    assert body["status"] == "degraded"
    assert "table of statement texts is full" in body["reasons"][0]
    Event.objects.filter(kind="statements").update(time=timezone.now() - timedelta(minutes=61))
    assert not any("is full" in reason for reason in health_again()["reasons"])


def test_first_time_of_a_finding_is_an_event_among_the_others(ring_alias):
    for number in (1, 3):
        time = BEGINNING + timedelta(hours=number)
        Event.objects.using(ring_alias).create(time=time, kind="deploy", title=f"Deploy {number}")
    for number, state in ((0, "closed"), (2, "open"), (2, "ignored"), (9, "open")):
        time = BEGINNING + timedelta(hours=number)
        times = {"first_seen": time, "last_seen": time, "started_at": time}
        Finding.objects.using(ring_alias).create(
            key=f"{number} {state}", kind="n_plus_one", fingerprint="a" * 16, route="shop/",
            call_site="shop/views.py:7 books", state=state, occurrences=1, **times,
        )  # fmt: skip
    client = reader("events")

    def events(**query):
        query = {"to": (BEGINNING + timedelta(hours=5)).isoformat()} | query
        answer = client.get("/sql-logs/events/", query).json()
        return answer["count"], [one["title"] for one in answer["results"]]

    found = f"N+1: {'a' * 16}"
    assert events() == (4, ["Deploy 3", found, "Deploy 1", found])
    assert events(limit=2, offset=1) == (4, [found, "Deploy 1"])
    assert events(kind="finding", limit=1) == (2, [found])
    assert events(kind="deploy") == (2, ["Deploy 3", "Deploy 1"])
    assert events(service="shop") == (0, [])
    first = client.get("/sql-logs/events/", {"kind": "finding", "limit": 1, "offset": 1}).json()["results"][0]
    assert (first["tags"], first["text"]) == ("finding,n_plus_one", "shop/ shop/views.py:7 books")
