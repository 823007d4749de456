"""Findings in the admin: what is listed, and who may decide."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sqllogs.findings.causes import Evidence, merge
from sqllogs.models import Finding, Statement
from tests.sqllogs.factories import BEGINNING, put_statement

URL = "/admin/sqllogs/finding/"
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def finding():
    put_statement(sql="SELECT name FROM shop_customer WHERE id = ?")
    figures = {"times_per_unit": 9.0, "trace_id": "a" * 32}
    plain = {"kind": "n_plus_one", "fingerprint": "f" * 16, "call_site": HOSTILE, "figures": figures}
    merge([Evidence(started_at=BEGINNING, seen_at=BEGINNING + timedelta(hours=1), **plain)], BEGINNING)
    return Finding.objects.get()


def staff(*codenames):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def test_list_shows_what_is_live_and_other_states_by_filter(finding):
    client = staff("view_sqllog")
    answer = client.get(URL)
    assert "Sent 9 times per request or task." in answer.text
    assert HOSTILE not in answer.text
    Finding.objects.update(state="closed")
    assert "Sent 9 times" not in client.get(URL).text
    assert "Sent 9 times" in client.get(f"{URL}?state=closed").text
    assert "Sent 9 times" in client.get(f"{URL}?state=all").text


@pytest.mark.parametrize(("codenames", "has_text"), [([], False), (["view_sqllog_text"], True)])
def test_list_shows_the_statement_shortened_to_those_who_may_read_it(finding, codenames, has_text):
    columns = ", ".join(f"app_customer.column_{number}" for number in range(100))
    Statement.objects.update(sql=f"SELECT {columns} FROM shop_customer WHERE name = '<i>'")
    text = staff("view_sqllog", *codenames).get(URL).text
    assert ("shop_customer" in text) is has_text
    assert ("100 columns" in text) is has_text
    assert ("&lt;i&gt;" in text) is has_text
    assert "<i>" not in text
    assert "column_50" not in text


def test_list_takes_the_same_few_queries_for_many_statements(finding):
    client = staff("view_sqllog", "view_sqllog_text")

    def queries():
        with (
            CaptureQueriesContext(connections["sqllogs"]) as of_log,
            CaptureQueriesContext(connection) as own,
        ):
            assert client.get(URL).status_code == 200
        return len(of_log) + len(own)

    few = queries()
    for number in range(50):
        put_statement(f"{number:016x}", f"SELECT {number}")
    Finding.objects.bulk_create(
        Finding(
            key=f"{number:064x}", kind="n_plus_one", fingerprint=f"{number:016x}", evidence={}, occurrences=1,
            first_seen=BEGINNING, last_seen=BEGINNING, started_at=BEGINNING,
        )
        for number in range(50)
    )  # fmt: skip
    assert queries() == few <= 15


@pytest.mark.parametrize(("codenames", "has_text"), [([], False), (["view_sqllog_text"], True)])
def test_finding_shows_its_evidence_and_the_text_to_those_who_may_read_it(finding, codenames, has_text):
    answer = staff("view_sqllog", *codenames).get(f"{URL}{finding.pk}/change/")
    assert "Times in a request or task: <bdi>9<" in answer.text
    assert f'href="/sql-logs/traces/{"a" * 32}/"' in answer.text
    assert ("shop_customer" in answer.text) is has_text
    assert "<title>N+1 " in answer.text
    assert "Ignored until" not in answer.text  # what is empty is left out


@pytest.mark.parametrize(
    ("action", "state"), [("acknowledge", "acknowledged"), ("ignore", "ignored"), ("reopen", "reopened")]
)
def test_reviewer_decides_about_chosen_findings(finding, action, state):
    client = staff("view_sqllog", "review_sqllog")
    chosen = {"action": action, "_selected_action": [finding.pk]}
    if action == "ignore":
        assert "Say why" in client.post(URL, chosen, follow=True).text
    answer = client.post(URL, chosen | {"note": "known"}, follow=True)
    assert "1 finding changed." in answer.text
    finding.refresh_from_db()
    assert (finding.state, finding.assignee) == (state, "staff")
    assert (finding.ignored_until is not None) is (state == "ignored")


def test_reviewer_takes_a_finding_and_leaves_its_state_and_note(finding):
    client = staff("view_sqllog", "review_sqllog")
    chosen = {"_selected_action": [finding.pk]}
    client.post(URL, chosen | {"action": "acknowledge", "note": "see the ticket"})
    Finding.objects.update(assignee="ann")
    answer = client.post(URL, chosen | {"action": "assign_to_me"}, follow=True)
    assert "1 finding changed." in answer.text
    assert "staff" in answer.text.partition("result_list")[2]
    finding.refresh_from_db()
    assert (finding.state, finding.assignee, finding.note) == ("acknowledged", "staff", "see the ticket")
    assert "see the ticket" in client.get(f"{URL}{finding.pk}/change/").text


@pytest.mark.parametrize("before", ["open", "ignored", "closed"])
def test_reviewer_decides_on_the_page_of_a_finding(finding, before):
    Finding.objects.update(state=before)
    client = staff("view_sqllog", "review_sqllog")
    page = client.get(f"{URL}{finding.pk}/change/")
    assert f'<a href="/admin/sqllogs/statement/{"f" * 16}/' in page.text
    assert "jsi18n" not in page.text  # a request that would be recorded
    for action in ("acknowledge", "ignore", "assign_to_me"):
        assert f'value="{action}"' in page.text
    assert ('value="reopen"' in page.text) is (before != "open")
    chosen = {"_selected_action": finding.pk, "action": "reopen", "note": "it is back"}
    answer = client.post(page.context["decide_url"], chosen, follow=True)
    assert "1 finding changed." in answer.text
    finding.refresh_from_db()
    assert (finding.state, finding.note) == ("reopened", "it is back")


def test_reader_cannot_take_a_finding(finding):
    client = staff("view_sqllog")
    assert "assign_to_me" not in client.get(URL).text
    assert "assign_to_me" not in client.get(f"{URL}{finding.pk}/change/").text
    client.post(URL, {"action": "assign_to_me", "_selected_action": [finding.pk]})
    finding.refresh_from_db()
    assert finding.assignee == ""


def test_others_cannot_decide_and_strangers_see_nothing(finding):
    client = staff("view_sqllog")
    client.post(URL, {"action": "ignore", "_selected_action": [finding.pk]})
    finding.refresh_from_db()
    assert finding.state == "open"
    User.objects.all().delete()
    assert staff().get(URL).status_code == 403


@pytest.mark.parametrize(
    ("is_enabled", "expected"), [(True, "are searched every ten minutes"), (False, "is disabled: only")]
)
def test_empty_list_says_what_searches(is_enabled, expected, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "FINDINGS": is_enabled}
    text = staff("view_sqllog").get(URL).text
    assert expected in text
    assert "<code>manage.py sqllogs findings --detect</code>" in text
    assert ("ten minutes" in text) is is_enabled
