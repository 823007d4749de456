"""Every demo view says what it shows, to programs and to people."""

import pytest

from transactions import views  # noqa: F401  (defines the patterns)
from transactions.models import Category
from transactions.patterns import PATTERNS

PLAIN = [pattern for pattern in PATTERNS if pattern.name not in {"slow", "crashing", "streaming", "failing"}]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_every_view_has_a_title_and_an_explanation(pattern):
    assert pattern.title
    assert not pattern.title.endswith(".")
    assert pattern.explanation.endswith(".")


@pytest.mark.parametrize("pattern", PLAIN, ids=lambda pattern: pattern.name)
def test_the_answer_says_which_pattern_it_is(client, bookings, pattern):
    said = client.generic(pattern.method, pattern.url).json()
    assert said["pattern"] == pattern.title
    assert said["explanation"] == pattern.explanation
    assert said["queries"] == f"/sql-logs/?view=transactions.views.{pattern.name}"


def test_the_answer_leads_to_the_queries_of_its_own_request(client, bookings):
    response = client.get("/transactions/fast/")
    trace_id = response["traceresponse"].split("-")[1]
    assert response.json()["trace"] == f"/sql-logs/?trace_id={trace_id}&ordering=id"
    page = client.get("/transactions/fast/", headers={"Accept": "text/html"})
    trace_id = page["traceresponse"].split("-")[1]
    assert f'href="/sql-logs/?trace_id={trace_id}&amp;ordering=id"' in page.text


def test_a_browser_gets_a_page(client, bookings):
    response = client.get("/transactions/fast/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Fast: one row by its primary key</h1>" in response.text


def test_a_page_shows_values_as_text(client, bookings):
    Category.objects.filter(name="food").update(name="<script>")
    response = client.get("/transactions/joined/", headers={"Accept": "text/html"})
    assert "<script>" not in response.text
    assert "&lt;script&gt;" in response.text


def test_the_page_of_what_writes_has_a_form_and_no_link(client, bookings):
    response = client.post("/transactions/bulk-write/", headers={"Accept": "text/html"})
    assert '<form method="post" action="/transactions/bulk-write/">' in response.text
    assert "csrfmiddlewaretoken" in response.text
