"""The page of a slow query: figures, origins, samples, releases, review and plan."""

import re
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connections

from sqllogs.models import Review
from sqllogs.read import reviews
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
        ({"sql": "SELECT …"}, "too long to be kept whole"),
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
