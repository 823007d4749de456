"""Every page of the admin shows the same in projects with other settings than ours."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connections

from sqllogs.admin import register
from sqllogs.models import Review
from tests.servers import ROOT
from tests.sqllogs.api.clock import set_clock
from tests.sqllogs.factories import fill, put_statement, put_statistics
from tests.sqllogs.hosts import settings_of
from tests.sqllogs.pages import Page
from tests.sqllogs.slow_queries import A, login, visible_text

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 31, 12, 30, 15, tzinfo=UTC)
RECORDS, STATEMENTS = "/admin/sqllogs/sqllog/", "/admin/sqllogs/statement/"
GETS = (
    RECORDS,
    f"{RECORDS}?q=app_author&min_ms=1&from=now-1h",
    f"{RECORDS}?from=2026-01-31T12:00:00&o=-1",
    f"{RECORDS}1233/change/",
    f"{RECORDS}1233/history/",
    f"{RECORDS}77/change/",
    STATEMENTS,
    f"{STATEMENTS}?from=now-1h&q=app_author",
    f"{STATEMENTS}?from=2026-01-31T12:00:00&status=reviewed",
    f"{STATEMENTS}{A}/change/",
    f"{STATEMENTS}{A}/change/?from=2026-01-31T12:00:00",
    f"{STATEMENTS}{A}/change/?from=now-5m",
)
POSTS = (
    (f"{STATEMENTS}{A}/explain/", {}),
    (STATEMENTS, {"action": "export_csv", "index": "0", "_selected_action": A}),
    (STATEMENTS, {"action": "export_json", "index": "0", "_selected_action": A}),
    (STATEMENTS, {"action": "mark_reviewed", "index": "0", "_selected_action": A}),
    (f"{STATEMENTS}{A}/review/?from=now-1h", {"status": "ignored", "note": "later"}),
)
NAIVE = {"USE_TZ": False, "TIME_ZONE": "Pacific/Kiritimati"}  # 14 hours ahead of UTC
GERMAN = {"LANGUAGE_CODE": "de", "USE_THOUSAND_SEPARATOR": True}  # 1.234,5
HOSTS = [
    ("sqlite", NAIVE),
    ("postgresql", NAIVE),
    ("postgresql", {"TIME_ZONE": "America/New_York"}),  # the connection's time zone
    ("sqlite", GERMAN),
    ("sqlite", {"FORCE_SCRIPT_NAME": "/below"}),
]
DRAWN = ("rect", "path", "line", "time", "li", "option")


@pytest.fixture
def client(ring_alias, monkeypatch):
    """A superuser, and a log of which each page has something to show."""
    set_clock(monkeypatch, NOW)
    unit = {
        "trace_id": "ab" * 16,
        "unit_id": "c" * 16,
        "route": "books/",
        "status": 200,
        "call_site": "a.py:1 f",
    }
    calls = [
        {
            "fingerprint": A,
            "time": NOW - timedelta(minutes=minute),
            "duration_ms": 1234.5,
            "rows": 12_345,
            **unit,
        }
        for minute in range(1, 11)
    ]
    fill(1_234, capacity=20, changes=dict(enumerate(calls, 1_225)))
    put_statement(A, "SELECT slot FROM sqllogs_sqllog WHERE seq = ?", tables="app_author,app_book")
    put_statistics(*calls, *[{"duration_ms": 2000.0, "release": "2", **call} for call in calls])
    Review.objects.create(
        fingerprint=A, status="reviewed", by="ann", at=NOW - timedelta(minutes=5), note="1,234"
    )
    return login(User.objects.create_superuser("admin"))


def answers(client):
    """Ask for each page; return what must be the same everywhere: links, numbers, charts, files."""
    found = {}
    for url in GETS:
        found[url] = content(client.get(url))
    for url, data in POSTS:
        found[url, data.get("action")] = content(client.post(url, data))
    client.get("/admin/")  # shows the messages of the posts, which would be on the next page
    return found


def content(answer):
    if "attachment" in answer.get("Content-Disposition", ""):
        return answer.status_code, answer.content
    main = answer.text.partition('id="content-main"')[2]  # what is around it is in the host's language
    page = Page(SimpleNamespace(text=main))
    numbers = re.findall(r"\d[\d.,:-]*", visible_text(main))
    drawn = [[named for named in page.all(tag) if tag != "path" or "stroke" in named] for tag in DRAWN]
    return answer.status_code, answer.get("Location"), page.links(), numbers, drawn


@pytest.mark.parametrize(("ring_database", "host"), HOSTS, indirect=["ring_database"], ids=str)
def test_pages_are_those_of_the_normal_host(client, settings, host):
    expected = answers(client)
    assert {answer[0] for answer in expected.values()} == {200, 302}
    assert "1,234" in repr(expected[f"{RECORDS}1233/change/"])
    Review.objects.update(status="reviewed", by="ann", at=NOW - timedelta(minutes=5), note="1,234")
    with settings_of(host, settings) as prefix:
        given = answers(client)
    for question, answer in expected.items():
        assert without(prefix, given[question]) == repr(answer).split(", "), question


def without(prefix, answer):
    """Return the parts of an answer, their addresses without a prefix."""
    return (repr(answer).replace(f"{prefix}/", "/") if prefix else repr(answer)).split(", ")


def test_pages_are_the_same_within_a_transaction_of_the_host(client, ring_alias, monkeypatch):
    expected = answers(client)
    Review.objects.update(status="reviewed", by="ann", at=NOW - timedelta(minutes=5), note="1,234")
    monkeypatch.setitem(connections.settings[ring_alias], "ATOMIC_REQUESTS", True)
    assert answers(client) == expected


def test_missing_table_is_answered_with_503_within_a_transaction_of_the_host(client, ring_alias, monkeypatch):
    monkeypatch.setitem(connections.settings[ring_alias], "ATOMIC_REQUESTS", True)
    with connections[ring_alias].cursor() as cursor:
        cursor.execute("ALTER TABLE sqllogs_ringhead RENAME TO elsewhere")
    for url in (
        RECORDS,
        f"{RECORDS}1233/change/",
        f"{RECORDS}1233/history/",
        STATEMENTS,
        f"{STATEMENTS}{A}/change/",
    ):
        answer = client.get(url)
        assert answer.status_code == 503, url
        assert "tables are missing; run <code>manage.py migrate --database" in answer.text


def test_documented_removal_leaves_no_list_of_ours_on_the_site():
    guide = (ROOT / "docs/how-to/admin-sites.md").read_text()
    fences = re.findall(r"(?s)```python\n(.*?)```", guide.partition("## Remove the lists")[2])
    site = admin.AdminSite()
    register(site)
    exec(fences[0].replace("from django.contrib import admin", ""), {"admin": SimpleNamespace(site=site)})
    assert [model for model in site._registry if model._meta.app_label == "sqllogs"] == []
