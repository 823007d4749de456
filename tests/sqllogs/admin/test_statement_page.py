"""The page of a slow query: figures, origins, samples, releases, review and plan."""

import json
import re
import sys
from contextlib import ExitStack
from datetime import timedelta
from types import ModuleType
from urllib.parse import urlencode

import pytest
from django import urls
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sqllogs.admin import register
from sqllogs.models import Review, SQLLog, Statistic, StoredPlan
from sqllogs.read import reviews
from sqllogs.read.decisions import Terms
from tests.sqllogs.factories import put, put_statement, put_statistics
from tests.sqllogs.pages import Page
from tests.sqllogs.rings import ALIAS
from tests.sqllogs.slow_queries import (
    EVERYTHING,
    HOSTILE,
    URL,
    A,
    B,
    C,
    admin,
    ago,
    login,
    put_calls,
    run,
    shown,
    staff,
    three,
    visible_text,
    words,
)

__all__ = ["admin", "three"]

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
on_sqlite = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)


def test_page_has_figures_origins_and_samples(admin, three):
    text = words(admin, f"{B}/change/")
    for part in (
        "SELECT on app_book", "SELECT title FROM app_book", "N+1: 6 times", "Calls 6", "Mean 5.00 ms",
        "100.0 % books/ 6 5.00", "100.0 % app/views.py:7 b 6", "Slowest", "Newest", "dddddddd",
    ):  # fmt: skip
        assert part in text
    links = Page(admin.get(f"{URL}{B}/change/")).links()
    assert f"/sql-logs/traces/{'d' * 32}/" in links
    assert f"/sql-logs/fingerprints/{B}/" in links
    assert "/admin/sqllogs/sqllog/8/change/" in links
    assert f"/sql-logs/?fingerprint={B}&route=books%2F" in links


def test_graph_has_a_bar_for_each_step_and_marks_what_failed(admin, three):
    page = Page(admin.get(f"{URL}{B}/change/"))
    assert len(page.all("title")) > 2
    assert not page.all("rect", **{"class": "failed"})
    assert Page(admin.get(f"{URL}{C}/change/")).all("rect", **{"class": "failed"})


@pytest.mark.parametrize("path", ["", f"{C}/change/"])
def test_charts_need_no_stylesheet(admin, three, path):
    """A theme replaces the admin's, so sizes and colours are attributes of the elements or their parents."""
    page = Page(admin.get(URL + path))
    icons = re.compile("theme-icon|base-svgs")  # the admin's own
    charts = [svg for svg in page.all("svg") if not icons.match(svg.get("class", ""))]
    assert len(charts) > 5
    assert [svg for svg in charts if not {"width", "height"} <= svg.keys()] == []
    assert [rect for rect in page.all("rect") if "fill" not in rect] == []
    lines = [line for line in page.all("path") if "vector-effect" in line]
    assert lines
    assert [line for line in lines if "stroke" not in line] == []


def test_page_does_without_the_list_of_records(admin, three, monkeypatch, settings):
    site = AdminSite()
    register(site)
    site.unregister(SQLLog)
    urlconf = ModuleType("urls_without_records")
    urlconf.urlpatterns = [
        urls.path("admin/", site.urls),
        urls.path("sql-logs/", urls.include("sqllogs.urls")),
    ]
    monkeypatch.setitem(sys.modules, urlconf.__name__, urlconf)
    settings.ROOT_URLCONF = urlconf.__name__
    page = words(admin, f"{B}/change/")
    assert "Slowest" in page
    assert "Newest" in page


def test_page_is_limited_to_the_selected_time(admin, three):
    assert "No calls in this period." in words(admin, f"{A}/change/?from=now-5m")
    assert "Calls 2" in words(admin, f"{A}/change/?from=now-1w")
    assert "Calls 2" in words(admin, f"{A}/change/?from=yesterday")
    assert f"{URL}{A}/change/?from=now-1w" in Page(admin.get(f"{URL}?from=now-1w")).links()


@pytest.mark.parametrize(
    "begin", ["now-999999999w", "0001-01-01", "9999-12-31", "now-1d" + "x" * 3000, "All", "%00"]
)
def test_any_time_is_answered(admin, three, begin):
    assert "SELECT on app_author" in words(admin, f"{A}/change/?from={begin}")
    assert admin.get(f"{URL}?from={begin}", follow=True).status_code == 200


def test_releases_are_compared_latest_first(admin):
    releases = [("1", 10.0, 3), ("2", 15.0, 2), ("3", 15.2, 1)]
    put_calls(*(
        {"fingerprint": A, "release": name, "duration_ms": ms, "time": ago(hours=hours)}
        for name, ms, hours in releases
    ))  # fmt: skip
    text = words(admin, f"{A}/change/")
    assert "Releases compared" in text
    assert re.search(r"% 3 1 15\.2 same .*% 2 1 15\.0 \+50 % .*% 1 1 10\.0 ", text)


def test_time_since_the_review_is_compared_with_that_before(admin):
    calls = [(20.0, 30), (20.0, 20), (10.0, 5)]
    put_calls(*(
        {"fingerprint": A, "duration_ms": ms, "time": ago(minutes=minutes)} for ms, minutes in calls
    ))  # fmt: skip
    reviews.decide([A], "reviewed", by="ann")
    assert "Since the review" not in words(admin, f"{A}/change/")  # there is no call since
    Review.objects.update(at=ago(minutes=10))
    text = words(admin, f"{A}/change/")
    assert re.search(r"20\.0 % Since the review 1 10\.0 -50 % .*80\.0 % Before the review 2 20\.0", text)


def test_unknown_statement_is_not_found(admin, three):
    for path in ("change", "explain", "review"):
        assert admin.get(f"{URL}{'e' * 16}/{path}/", follow=True).status_code == 404
        assert path == "change" or admin.post(f"{URL}{'e' * 16}/{path}/").status_code == 404


def test_statement_is_known_by_any_trace_of_it(admin):
    put({"fingerprint": A, "time": ago(days=9)})
    put_statistics({"fingerprint": B, "time": ago(days=80)})
    reviews.decide([C], "ignored", by="ann")
    put_statement("d" * 16)
    for fingerprint in (A, B, C, "d" * 16):
        assert "No calls in this period." in words(admin, f"{fingerprint}/change/")
    assert "The text of this statement is not stored." in words(admin, f"{C}/change/")


@pytest.mark.parametrize("path", ["", f"{B}/change/"])
def test_numbers_of_the_graphs_are_not_those_of_the_hosts_language(admin, three, settings, path):
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    numbers = re.findall(r' (?:width|height|x|y|d)="([^"]*)"', admin.get(URL + path).text)
    assert numbers
    assert not [found for found in numbers if "," in found]


# ---- Reviews.


def test_review_is_stored_with_its_note(admin, three):
    answer = admin.post(f"{URL}{A}/review/?from=now-1w", {"status": "ignored", "note": "by night"})
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}{B}/change/?from=now-1w")
    review = Review.objects.get()
    assert (review.pk, review.status, review.by, review.note) == (A, "ignored", "admin", "by night")
    text = words(admin, f"{A}/change/")
    for part in ("1 statement: Ignored.", "Ignored by admin", "by night"):
        assert part in text


def test_decision_moves_on_in_the_order_of_the_list(admin, three):
    listed = next(link for link in Page(admin.get(f"{URL}?o=3")).links() if f"{C}/change" in link)
    assert listed == f"{URL}{C}/change/?list=o%3D3"
    for decided, following in ((C, f"{A}/change/?list=o%3D3"), (A, f"{B}/change/?list=o%3D3"), (B, "?o=3")):
        answer = admin.post(f"{URL}{decided}/review/?list=o%3D3", {"status": "reviewed"})
        assert answer["Location"] == URL + following
    assert shown(admin) == []


@pytest.mark.parametrize("query", ["error=x", "fingerprint=a", "o=x.y", "%00=1", "q=%00"])
def test_decision_in_a_list_that_does_not_exist_leads_to_it(admin, three, query):
    answer = admin.post(f"{URL}{A}/review/?{urlencode({'list': query})}", {"status": "reviewed"})
    assert answer.status_code == 302
    assert Review.objects.get().status == "reviewed"


@pytest.mark.parametrize("data", [{"status": "x"}, {}, {"status": "open", "note": "x" * 10_001}])
def test_invalid_review_changes_nothing(admin, three, data):
    admin.post(f"{URL}{A}/review/", data)
    assert reviews.decided() == {}
    assert "The review was not saved:" in words(admin, f"{A}/change/")


def test_reviewing_requires_its_permission(three):
    client = staff("view_sqllog")
    reviews.decide([A], "open", by="ann", note="wait for the index")
    assert client.post(f"{URL}{A}/review/", {"status": "ignored"}).status_code == 403
    page = client.get(f"{URL}{A}/change/").text
    assert "<form" not in page.partition('id="content-main"')[2]
    assert "wait for the index" in page
    assert client.get(f"{URL}{A}/review/")["Location"] == f"{URL}{A}/change/"


def test_decision_has_an_assignee_and_an_end(admin, three):
    bob = User.objects.create_user("bob")
    day = (timezone.now() + timedelta(days=30)).date()
    data = {"status": "ignored", "assignee": "bob", "until": f"{day}", "until_release": "2.4"}
    admin.post(f"{URL}{A}/review/", data)
    review = Review.objects.get()
    assert (review.by_key, review.assignee, review.assignee_key) == (
        str(User.objects.get(username="admin").pk), "bob", str(bob.pk),
    )  # fmt: skip
    assert (review.until.isoformat(), review.until_release) == (f"{day}T00:00:00+00:00", "2.4")
    text = words(admin, f"{A}/change/")
    assert f"Ignored until {day} or the release after 2.4" in text
    assert "Assigned to bob" in text
    listed = words(admin, "?status=all")
    assert f"Ignored admin {timezone.now():%Y-%m-%d} for bob until {day} or the release after 2.4" in listed
    fields = {field.get("name"): field for field in Page(admin.get(f"{URL}{A}/change/")).all("input")}
    assert (fields["assignee"]["value"], fields["until"]["value"]) == ("bob", f"{day}")
    # A decision in the list leaves the assignee, and has no end.
    run(admin, "mark_ignored", A, query="?status=all")
    review.refresh_from_db()
    assert (review.assignee, review.until, review.until_release) == ("bob", None, "")
    admin.post(f"{URL}{A}/review/", {"status": "reviewed", "assignee": ""})
    review.refresh_from_db()
    assert review.assignee == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"assignee": "nobody"}, "Assignee: There is no active user 'nobody'."),
        ({"assignee": "gone"}, "Assignee: There is no active user 'gone'."),
        ({"until": "2020-01-01"}, "Until: Must be a later day than today."),
        ({"until": "soon"}, "Until: Must be a day such as 2026-01-31."),
        ({"until_release": "x" * 101}, "Until after release: "),
    ],
)
def test_invalid_terms_change_nothing(admin, three, data, message):
    User.objects.create_user("gone", is_active=False)
    admin.post(f"{URL}{A}/review/", {"status": "ignored", **data})
    assert reviews.decided() == {}
    assert message in words(admin, f"{A}/change/")


def test_decision_that_has_ended_is_open(admin, three):
    reviews.decide([B], "ignored", by="ann", terms=Terms(until=ago(minutes=1), assignee=("bob", "2")))
    assert B in shown(admin, "?status=open")
    assert shown(admin, "?status=ignored") == []
    assert "Open Ignored until" in words(admin, f"{B}/change/")
    assert "which is over" in words(admin, f"{B}/change/")


def test_statement_that_got_worse_is_marked_and_found(admin, django_assert_max_num_queries):
    before = [{"fingerprint": one, "time": ago(hours=9), "duration_ms": 10.0} for one in (A, B)] * 10
    for fingerprint in (A, B):
        put_statement(fingerprint, f"SELECT {fingerprint}")
    put_statistics(*before)
    reviews.decide([A, B], "reviewed", by="ann", terms=Terms(until_release="1"))
    Statistic.objects.all().delete()
    loop = {"trace_id": "d" * 32, "unit_id": "e" * 16, "call_site": "app/views.py:7 b", "rows": 1}
    put_calls(
        *[{"fingerprint": A, "duration_ms": 30.0, "time": ago(minutes=30), **loop}] * 10,
        *[{"fingerprint": B, "duration_ms": 10.0, "time": ago(minutes=30)}] * 10,
    )
    Review.objects.update(at=ago(hours=2))
    assert "Got worse: mean +200 %, p95 +2" in words(admin, f"{A}/change/")
    assert "Got worse" not in words(admin, f"{B}/change/")
    assert shown(admin) == []
    assert shown(admin, "?worse=true") == [A]
    assert shown(admin, "?worse=false") == [B]
    assert shown(admin, "?worse=true&status=reviewed") == [A]
    assert shown(admin, "?worse=true&status=open") == []
    text = words(admin, "?status=all")
    assert "Got worse: mean +200 %, p95 +2" in text
    assert "By change since the review All Got worse 75.0 % Not worse 25.0 %" in text
    assert "?worse=true" in Page(admin.get(URL)).links()
    run(admin, "mark_ignored", A, query="?worse=true")
    assert shown(admin, "?worse=true") == []
    found = json.loads(run(admin, "export_json", B, query="?worse=false").content)["results"]
    assert [(row["fingerprint"], row["got_worse"], row["until_release"]) for row in found] == [(B, [], "1")]


@pytest.mark.parametrize(
    ("path", "most"),
    [("", 15), ("?status=all", 15), ("?status=reviewed&repeats=true", 15), (f"{B}/change/", 20)],
)
def test_list_and_page_take_few_queries(admin, three, path, most):
    reviews.decide([A, B], "reviewed", by="me", terms=Terms(until_release="1"))
    Review.objects.update(at=ago(minutes=90))
    with ExitStack() as stack:
        found = [
            stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in ("default", "sqllogs")
        ]
        assert admin.get(URL + path).status_code == 200
    assert sum(map(len, found)) <= most, [query["sql"] for one in found for query in one]


# ---- Plans.


@pytest.fixture
def of_ring(ring_alias, db):
    """A statement on the ring's own database, with its text and a call."""
    put_statement(A, "SELECT seq FROM sqllogs_sqllog WHERE slot = ?", tables="sqllogs_sqllog")
    put_calls({"fingerprint": A, "alias": ring_alias})
    return {"sqlite": "SEARCH sqllogs_sqllog", "postgresql": "Index Scan"}[connections[ring_alias].vendor]


def explained(client, **data):
    answer = client.post(f"{URL}{A}/explain/?from=now-1w", data)
    assert answer.status_code == 200
    return visible_text(answer.text.partition('<section id="explained">')[2])


def test_plan_is_shown_with_its_notes(of_ring):
    text = explained(login(User.objects.create_superuser("admin")))
    assert text.startswith(f"Plan on {ALIAS}")
    assert of_ring in text
    assert "Planned without values" in text


def test_plan_is_kept_linked_and_compared(of_ring):
    client = login(User.objects.create_superuser("admin"))
    explained(client)
    StoredPlan.objects.update(lines=["SCAN sqllogs_sqllog"], vendor=connections[ALIAS].vendor)
    answer = client.post(f"{URL}{A}/explain/", {})
    first, second = StoredPlan.objects.order_by("id")
    assert (second.by, second.fingerprint) == ("admin", A)
    assert "Compared with the plan of" in visible_text(answer.text)
    links = Page(client.get(f"{URL}{A}/change/")).links()
    assert {f"/sql-logs/plans/{one.pk}/" for one in (first, second)} <= set(links)
    assert f"/sql-logs/plans/{second.pk}/" in Page(answer).links()
    page = staff("view_sqllog", "explain_sqllog").get(f"{URL}{A}/change/")
    assert "/sql-logs/plans/" not in page.text


@on_sqlite
def test_plan_comes_only_from_a_database_that_ran_the_statement(ring_alias, db):
    put_statement(A, "SELECT seq FROM sqllogs_sqllog WHERE slot = ?")
    put_calls({"fingerprint": A, "alias": "gone"}, {"fingerprint": A, "alias": ring_alias})
    client = login(User.objects.create_superuser("admin"))
    options = Page(client.get(f"{URL}{A}/change/")).all("option")
    assert len(options) == 2
    assert explained(client, alias="gone").startswith("Plan DATABASES has no alias 'gone'.")
    assert explained(client, alias="default").startswith(f"Plan on {ALIAS}")  # the alias of the newest record


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            {"sql": "SELECT missing FROM sqllogs_sqllog"},
            "explain the statement without its values: .*missing",
        ),
        ({"sql": "SELECT …"}, "Only the beginning of its text is stored"),
        ({"sql": f"SELECT {HOSTILE}"}, "cannot explain the statement"),
        ({"sql": "DELETE FROM sqllogs_sqllog", "operation": "DELETE"}, "DELETE changes data"),
    ],
)
@on_sqlite
def test_reason_for_a_missing_plan_is_shown(ring_alias, db, statement, reason):
    put_statement(A, **statement)
    put_calls({"fingerprint": A, "alias": ring_alias})
    client = login(User.objects.create_superuser("admin"))
    assert re.search(reason, explained(client))
    assert HOSTILE not in client.post(f"{URL}{A}/explain/").text


def test_plan_is_not_offered_for_a_statement_that_changes_data(admin, three):
    assert ">Explain</button>" in admin.get(f"{URL}{A}/change/").text
    assert ">Explain</button>" not in admin.get(f"{URL}{C}/change/").text
    assert "Only SELECT statements are explained here." in words(admin, f"{C}/change/")


@pytest.mark.parametrize("missing", ["view_sqllog", "view_sqllog_text", "explain_sqllog"])
def test_plan_requires_three_permissions(three, missing):
    client = staff(*(name for name in EVERYTHING if name != missing))
    assert client.post(f"{URL}{A}/explain/").status_code == 403
    assert ">Explain</button>" not in client.get(f"{URL}{A}/change/").text


def test_plan_is_shown_with_the_permissions(three):
    client = staff("view_sqllog", "view_sqllog_text", "explain_sqllog")
    assert ">Explain</button>" in client.get(f"{URL}{A}/change/").text
    assert "app_author" in explained(client)


def test_get_of_a_plan_redirects_to_the_statement(admin, three):
    assert admin.get(f"{URL}{A}/explain/?from=now-1h")["Location"] == f"{URL}{A}/change/?from=now-1h"
