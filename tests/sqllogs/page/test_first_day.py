"""The first day: every page of a log without a record, and with one, says what it shows and what to do."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from sqllogs.models import Event, Finding, Review
from tests.sqllogs.factories import BEGINNING, BROWSER, put, put_statement, put_statistics
from tests.sqllogs.page.test_stories import OURS, findings, in_browser
from tests.sqllogs.pages import NEWEST, URL, look

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqllogs"])
__all__ = ["in_browser"]

TRACE, STATEMENT = "ab" * 16, "a" * 16
LOOKS = [(1280, "light"), (375, "dark")]
ADMIN = "/admin/sqllogs/"
EMPTY = {
    "findings/": "Not searched yet",
    NEWEST: "No queries recorded yet",
    "stats/": "No queries recorded yet",
    "stats/?group_by=call_site": "No queries recorded yet",
    "stats/?compare=previous": "No queries recorded yet",
    "stats/?compare=release": "No queries recorded yet",
    "requests/": "No queries recorded yet",
    "repeats/": "No N+1 found",
    "series/": "No queries recorded yet",
    "events/": "No events yet",
    "reviews/": "Review slow queries",
    "views/": "No saved views",
    "health/": "Nothing to do.",
    f"traces/{TRACE}/": "reload the page",
}
"""By page: what it says without a record."""
EMPTY_IN_ADMIN = {
    "statement/": "Show all statements.",
    "finding/": "manage.py sqllogs findings --detect",
    "sqllog/": "manage.py check",
    "token/": "manage.py sqllogs token create NAME",
}
FILTERED = ("events/?kind=deploy", "reviews/?review=ignored&got_worse=true", "series/?route=nowhere")


@pytest.fixture
def person(settings):
    settings.DEBUG = False  # or django-debug-toolbar is in the admin's pages, without its URLs
    client = Client(headers={"Accept": BROWSER})
    client.force_login(User.objects.create_superuser("admin"))
    return client


def one_record():
    """Store what there is after the first query, of the first release, on a site with one of everything."""
    put_statement(STATEMENT, "SELECT id FROM app_author WHERE id = ?", tables="app_author")
    call = {
        "fingerprint": STATEMENT, "trace_id": TRACE, "unit_id": "c" * 16, "route": "books/", "method": "GET",
        "status": 200, "call_site": "app/views.py:5 books", "release": "1.0", "duration_ms": 5.0,
    }  # fmt: skip
    put(call)
    put_statistics(call)


def test_empty_pages_say_what_to_do(person):
    for path, words in EMPTY.items():
        assert words in look(person, path).words, path
    for path, words in EMPTY_IN_ADMIN.items():
        assert words in person.get(ADMIN + path).text, path
    for path in FILTERED:
        page = look(person, path)
        assert "No matches" in page.words
        assert len(page.all("a", title="Remove this filter")) == path.count("="), path


def test_pages_are_accessible_without_records_and_with_one(in_browser, person, live_server):
    cookie = {"name": "sessionid", "value": person.cookies["sessionid"].value, "url": live_server.url}

    def look_at(browser, own, admin):
        context = browser.new_context()
        context.add_cookies([cookie])
        found = findings(context, *(live_server.url + URL + path for path in own), looks=LOOKS)
        of_admin = [f"{live_server.url}{ADMIN}{path}" for path in admin]
        found |= findings(context, *of_admin, part=OURS, looks=LOOKS)
        context.close()
        return found

    # One of those that share a template.
    empty = [path for path in EMPTY if not path.startswith("stats/")] + [FILTERED[0]]
    assert in_browser(lambda browser: look_at(browser, empty, EMPTY_IN_ADMIN)) == {}
    one_record()
    assert person.get(URL, {"ordering": "-id"}).text.count("data-id") == 1
    one = (
        NEWEST, "stats/?compare=release", "requests/", f"traces/{TRACE}/", f"fingerprints/{STATEMENT}/", "1/",
    )  # fmt: skip
    assert in_browser(lambda browser: look_at(browser, one, ["sqllog/"])) == {}


def test_one_of_a_thing_is_singular(person):
    one_record()
    expected = {
        "stats/": "1 statement from", "stats/?group_by=route": "1 route from",
        "requests/": "1 request, command or task from", f"traces/{TRACE}/": "went to 1 query",
    }  # fmt: skip
    for path, words in expected.items():
        assert words in look(person, path).words, path
    words = look(person, f"fingerprints/{STATEMENT}/").words
    assert "<0.001 per second" in words
    assert "e-0" not in words


def test_events_lead_to_what_happened(person):
    Event.objects.create(time=BEGINNING, kind="deploy", title="Deploy 1.0", text="1.0")
    times = dict.fromkeys(("first_seen", "last_seen", "started_at"), BEGINNING)
    finding = Finding.objects.create(
        key="a", kind="n_plus_one", fingerprint=STATEMENT, occurrences=1, **times
    )
    links = look(person, "events/").links("lead")
    assert f"{ADMIN}finding/{finding.pk}/change/" in links
    deploy = next(link for link in links if link.startswith(f"{URL}stats/"))
    assert person.get(deploy).status_code == 200
    assert "compare=previous" in deploy


def test_who_has_decided_about_all_statements_is_told_so(person):
    one_record()
    Review.objects.create(fingerprint=STATEMENT, status="reviewed", by="admin", at=BEGINNING)
    query = "?from=2026-01-01"
    assert STATEMENT not in person.get(f"{ADMIN}statement/{query}").text
    assert STATEMENT in person.get(f"{ADMIN}statement/{query}&status=all&data=all").text


def test_who_may_not_read_yet_is_told_whom_to_ask():
    client = Client(headers={"Accept": BROWSER})
    client.force_login(User.objects.create_user("eve", is_staff=True))
    words = look(client, "requests/", 403).words
    assert "the permission sqllogs.view_sqllog" in words
    assert "A superuser of this site can give it to you." in words
