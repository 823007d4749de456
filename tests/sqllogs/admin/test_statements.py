"""The list of slow queries: filters, search, actions and permissions."""

import csv
import io
import json

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from sqllogs.admin.statement_filters import CHOICES_MAX
from sqllogs.capture import wrapper
from sqllogs.models import Review, RingRow, Statistic
from sqllogs.read import reviews
from tests.sqllogs.factories import put_statement
from tests.sqllogs.pages import Page
from tests.sqllogs.recording import recording, stored
from tests.sqllogs.slow_queries import (
    EVERYTHING,
    HOSTILE,
    URL,
    A,
    B,
    C,
    admin,
    login,
    put_calls,
    run,
    shown,
    staff,
    three,
    words,
)

__all__ = ["admin", "three"]

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def test_statements_are_ordered_by_their_share_of_the_load(admin, three):
    assert shown(admin) == [A, B, C]
    text = words(admin)
    assert "60.0 % SELECT name FROM app_author WHERE id = ? authors/ app/views.py:3 a 2 30.0" in text
    assert "30.0 % SELECT title FROM app_book N+1: 6 times books/ app/views.py:7 b 6 5.00" in text
    assert {"statistics": "From the statistics", "ring": "From the stored records"}[three] in text


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("1", [C, B, A]),
        ("-1", [A, B, C]),
        ("3", [C, A, B]),
        ("-3", [B, A, C]),
        ("-4", [A, C, B]),
        ("-5", [A, C, B]),
        ("-7", [A, B, C]),
        ("8", [A, B, C]),
        ("-8.3", [C, A, B]),
        ("2", [A, B, C]),
        ("99.x.-99", [A, B, C]),
    ],
)
def test_list_is_ordered_by_its_columns(admin, three, order, expected):
    assert shown(admin, f"?o={order}") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [A, C]),
        ("?status=all", [A, B, C]),
        ("?error=true", [C]),
        ("?error=false", [A]),
        ("?status=all&error=false", [A, B]),
        ("?status=all&repeats=true", [B]),
        ("?repeats=false", [A, C]),
        ("?status=reviewed", [B]),
        ("?status=open", [A, C]),
        ("?status=ignored", []),
        ("?operation=DELETE", [C]),
        ("?operation=SELECT&repeats=false", [A]),
        ("?alias=other", [C]),
        ("?status=all&route=books/", [B]),
        ("?status=all&from=now-1w", [A, B, C]),
        ("?from=now-5m", []),
        ("?q=AUTHOR", [A]),
        (f"?q={C}", [C]),
        (f"?q={B}", [B]),
        (f"?q={B}&status=open", []),
        ("?q=nothing", []),
    ],
)
def test_list_is_filtered_and_searched(admin, three, query, expected):
    reviews.decide([B], "reviewed", by="me")
    assert shown(admin, query) == expected


def test_statements_that_define_something_are_left_out_by_default(admin):
    operations = {A: "SELECT", B: "COMMIT", C: "CREATE TABLE"}
    for fingerprint, operation in operations.items():
        put_statement(fingerprint, f"{operation} x", operation=operation)
    put_calls(*({"fingerprint": fingerprint} for fingerprint in operations))
    assert shown(admin) == [A]
    assert set(shown(admin, "?data=false")) == {B, C}
    assert set(shown(admin, "?data=all")) == {A, B, C}
    assert "Only begin, end or define 66.7 %" in words(admin)


def test_each_filter_shows_shares_of_the_load_under_the_other_filters(admin, three):
    text = words(admin)
    for shown_share in (
        "Suspects 30.0 %",
        "With errors 10.0 %",
        "SELECT 90.0 %",
        "other 10.0 %",
        "Open 100.0 %",
    ):
        assert shown_share in text
    assert "authors/ 66.7 % books/ 33.3 %" in text  # of what has a route
    text = words(admin, "?operation=SELECT")
    assert "SELECT 90.0 % DELETE 10.0 %" in text
    assert "Suspects 33.3 %" in text


def test_list_of_routes_is_cut_but_keeps_the_selected_one(admin):
    put_calls(*({"route": f"r{number:02}/", "duration_ms": 100.0 - number} for number in range(20)))
    assert f"r{CHOICES_MAX - 1:02}/" in words(admin)
    assert f"r{CHOICES_MAX:02}/" not in words(admin)
    assert "r19/ 4.5 %" in words(admin, "?route=r19/")


def test_value_with_a_comma_is_one_choice(admin):
    put_calls({"fingerprint": A, "route": "a,b/"}, {"fingerprint": B, "route": "a"})
    link = next(link for link in Page(admin.get(URL)).links() if "route=a%5C%2Cb" in link)
    assert shown(admin, link) == [A]


@pytest.mark.parametrize(
    "query",
    ["?from=yesterday", "?p=99", "?status=x", "?error=x", "?repeats=1", "?alias=" + "x" * 3000, "?route=%00"],
)
def test_invalid_parameters_redirect_to_the_list(admin, three, query):
    answer = admin.get(URL + query)
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}?e=1")
    assert shown(admin, "?e=1") == [A, B, C]


@pytest.mark.parametrize("query", ["?sql__regex=((a*)*)*", "?fingerprint=a", "?min_ms=1"])
def test_no_other_lookup_is_possible(admin, query):
    assert admin.get(URL + query).status_code == 400


def test_empty_list_says_why(admin):
    assert "No open statement that reads or changes data was recorded in this period." in words(admin)
    assert "No statement matches." in words(admin, "?error=true")


def test_list_is_paged(admin):
    put_calls(*({"fingerprint": f"{number:016x}", "duration_ms": 200.0 - number} for number in range(70)))
    assert shown(admin, "?p=2") == [f"{number:016x}" for number in range(50, 70)]
    assert "70 Slow queries" in words(admin)


def test_list_takes_the_same_queries_however_many_statements(admin):
    def queries(*numbers):
        put_calls(*({"fingerprint": put_statement(f"{number:016x}")} for number in numbers))
        with CaptureQueriesContext(connections["sqllogs"]) as found:
            assert len(shown(admin)) == len(numbers)
        RingRow.objects.all().delete()
        Statistic.objects.all().delete()
        return len(found)

    assert queries(*range(2)) == queries(*range(2, 42))


def test_other_statements_are_one_row_without_a_page(admin):
    put_calls({"fingerprint": "other"})
    assert shown(admin) == []
    assert "Other statements (beyond STATISTICS_KEYS_MAX)" in words(admin)


# ---- Actions.


@pytest.mark.parametrize(
    ("action", "status"), [("mark_reviewed", "reviewed"), ("mark_ignored", "ignored"), ("reopen", "open")]
)
def test_selected_statements_are_reviewed(admin, three, action, status):
    answer = run(admin, action, A, C, query="?error=false")
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}?error=false")
    assert {review.pk: (review.status, review.by) for review in Review.objects.all()} == {
        A: (status, "admin")
    }
    run(admin, action, A, C, query="?status=all")
    assert set(reviews.decided()) == {A, C}
    text = words(admin, "?status=all")
    assert f"2 statements: {status.capitalize()}." in text
    assert f"{status.capitalize()} admin {timezone.now():%Y-%m-%d}" in text


def test_all_that_match_are_reviewed(admin):
    put_calls(*({"fingerprint": f"{number:016x}"} for number in range(70)), {"fingerprint": "other"})
    run(admin, "mark_ignored", "0" * 16, select_across="1")
    assert len(reviews.decided()) == 70
    assert "Ignored 98.6 %" in words(admin)


def test_figures_are_exported_as_csv_that_no_spreadsheet_runs(admin):
    put_statement(A, sql="=cmd()|'/c calc'!A1")
    put_calls({"fingerprint": A, "duration_ms": 2.0, "rows": 3, "route": "@x/"}, {"fingerprint": B})
    reviews.decide([B], "reviewed", by="admin", note="+1")
    answer = run(admin, "export_csv", A, B, query="?status=all")
    assert answer["Content-Disposition"] == 'attachment; filename="slow-queries.csv"'
    one, other = csv.DictReader(io.StringIO(answer.text))
    assert (one["fingerprint"], one["calls"], one["rows_per_call"], one["status"]) == (A, "1", "3.0", "open")
    assert (one["sql"], one["route"]) == ("'=cmd()|'/c calc'!A1", "'@x/")
    assert (other["status"], other["reviewed_by"], other["note"]) == ("reviewed", "admin", "'+1")


def test_figures_are_exported_as_json_with_their_source(admin, three):
    found = json.loads(run(admin, "export_json", A, C, query="?from=now-1w").content)
    assert (found["source"], found["count"]) == (three, 2)
    assert [row["fingerprint"] for row in found["results"]] == [A, C]
    assert found["results"][0]["sql"].startswith("SELECT name")
    assert found["results"][1]["errors"] == 1


# ---- Permissions.


@pytest.mark.parametrize(
    ("codenames", "actions"),
    [
        (("view_sqllog",), ["export_csv", "export_json"]),
        (EVERYTHING, ["mark_reviewed", "mark_ignored", "reopen", "export_csv", "export_json"]),
    ],
)
def test_only_permitted_actions_are_offered(three, codenames, actions):
    client = staff(*codenames)
    options = [found["value"] for found in Page(client.get(URL)).all("option") if found.get("value")]
    assert options == actions
    run(client, "mark_reviewed", A)
    assert bool(reviews.decided()) == ("mark_reviewed" in actions)


@pytest.mark.parametrize("codenames", [(), ("view_sqllog_text", "review_sqllog", "explain_sqllog")])
def test_everything_requires_the_permission_to_read(three, codenames):
    client = staff(*codenames)
    for path in ("", f"{A}/change/"):
        assert client.get(URL + path).status_code == 403
    assert run(client, "export_csv", A).status_code == 403
    for path in ("explain", "review"):
        assert client.post(f"{URL}{A}/{path}/", {"status": "ignored"}).status_code == 403
    assert reviews.decided() == {}
    assert "Slow queries" not in client.get("/admin/").text


def test_anonymous_users_are_redirected_to_the_login(three):
    for path in ("", f"{A}/change/"):
        assert Client().get(URL + path)["Location"].startswith("/admin/login/")
    for path in ("", f"{A}/review/", f"{A}/explain/"):
        assert Client().post(URL + path)["Location"].startswith("/admin/login/")


def test_text_requires_its_permission(three):
    client = staff("view_sqllog", "explain_sqllog")
    assert shown(client) == [A, B, C]
    for path in ("", f"{A}/change/"):
        text = words(client, path)
        assert "SELECT name" not in text
        assert "SELECT on app_author" in text
        assert "sqllogs.view_sqllog_text" in text
    assert shown(client, "?q=name") == []
    assert shown(client, "?q=app_book") == [B, C]
    assert "SELECT name" not in run(client, "export_csv", A).text


@pytest.mark.parametrize("path", ["", f"{A}/review/", f"{A}/explain/"])
def test_posts_require_a_csrf_token(admin, three, path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get())
    assert client.post(URL + path, {"status": "reviewed", "action": "reopen"}).status_code == 403
    assert reviews.decided() == {}


@pytest.mark.parametrize(
    "path", ["add/", f"{A}/delete/", f"{A}/history/", "x/change/", f"{A.upper()}/change/"]
)
def test_other_addresses_of_a_model_do_not_exist(admin, three, path):
    assert admin.get(URL + path).status_code == 404


def test_hostile_text_is_escaped(admin):
    names = ("route", "view", "call_site", "error", "alias", "kind", "host", "release", "method")
    put_statement(A, sql=f"SELECT '{HOSTILE}'", tables=HOSTILE)
    call = {"fingerprint": A, "trace_id": HOSTILE}
    put_calls(call, call | dict.fromkeys(names, HOSTILE))
    reviews.decide([A], "reviewed", by=HOSTILE, note=f"</textarea>{HOSTILE}")
    for path in ("", f"{A}/change/", f"?q={HOSTILE}", f"?route={HOSTILE}"):
        text = admin.get(URL + path).text
        assert HOSTILE not in text
        assert "alert(1)" in text
    for action in ("export_csv", "export_json"):
        assert run(admin, action, A)["X-Content-Type-Options"] == "nosniff"


# ---- The log itself.


def test_unreadable_ring_is_answered_with_503(admin, settings):
    settings.SQLLOGS = {"DATABASE": "nowhere"}
    for path in ("", f"{A}/change/"):
        assert admin.get(URL + path).status_code == 503
    for path in (f"{A}/review/", f"{A}/explain/"):
        assert admin.post(URL + path, {"status": "open"}).status_code == 503


def test_answers_are_not_cached(admin, three):
    for path in ("", f"{A}/change/"):
        assert "no-store" in admin.get(URL + path)["Cache-Control"]
    assert "no-store" in run(admin, "export_csv", A)["Cache-Control"]
    assert "no-store" in admin.post(f"{URL}{A}/explain/")["Cache-Control"]


@pytest.mark.parametrize("path", ["", f"{A}/change/"])
def test_rendering_a_page_sends_no_query(admin, three, django_assert_num_queries, path):
    request = RequestFactory().get(URL + path)
    request.user = User.objects.get()
    view, args, kwargs = resolve(URL + path)
    answer = view(request, *args, **kwargs)
    with django_assert_num_queries(0, using="sqllogs"):
        assert "app_author" in answer.render().text


def test_reviewing_leaves_no_record(ring_alias, db):
    put_statement(A, "SELECT seq FROM sqllogs_sqllog WHERE slot = ?", tables="sqllogs_sqllog")
    put_calls(*[{"fingerprint": A, "alias": ring_alias, "route": "a/"}] * 5)
    client = login(User.objects.create_superuser("admin"))
    with recording(ring_alias) as recorder:
        wrapper.install(recorder.wrapper, connections[ring_alias])  # as where the ring is in `default`
        assert shown(client) == [A]
        assert "Calls 5" in words(client, f"{A}/change/")
        client.post(f"{URL}{A}/review/", {"status": "reviewed"})
        assert 'class="plan"' in client.post(f"{URL}{A}/explain/").text
        run(client, "mark_ignored", A, query="?status=all")
        run(client, "export_csv", A, query="?status=all")
        client.get(f"{URL}{'e' * 16}/change/")
        wrapper.uninstall(recorder.wrapper, connections[ring_alias])
        assert len(stored(recorder, ring_alias)) == 5
    assert reviews.get_review(A).status == "ignored"
