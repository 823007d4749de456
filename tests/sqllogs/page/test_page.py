"""The page: what a browser gets where programs get JSON."""

from contextlib import ExitStack
from datetime import UTC, datetime
from html import unescape
from types import ModuleType
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from debug_toolbar.toolbar import DebugToolbar
from django import urls
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils.translation import gettext as _
from django.utils.translation import override

from sqllogs.api import tokens
from sqllogs.api.views import RecordList
from sqllogs.capture import EXECUTE_NS, wrapper
from sqllogs.context import TraceContext, current
from sqllogs.middleware import PANEL, SQLLogsMiddleware
from sqllogs.models import Event, Finding, StoredPlan, Unit
from sqllogs.page import debug_toolbar, frame
from sqllogs.page.records import LINKED
from sqllogs.templatetags.sqllogs import source_url
from tests.sqllogs.factories import BEGINNING, BROWSER, fill, put, put_process, put_statement, reader
from tests.sqllogs.pages import (
    FOREIGN,
    HOSTILE,
    LOG_LINES,
    NEWEST,
    URL,
    VIEWERS,
    Isolation,
    Page,
    filled_in,
    look,
)
from tests.sqllogs.recording import recording, stored
from tests.test_translations import write_catalog

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

EVERY_FIELD = {
    "alias": "replica", "error": "ValueError", "sqlstate": "22P02", "trace_id": "ab" * 16, "sampled": True,
    "kind": "request", "route": "a/<int:id>/", "view": "a.views.x, y", "method": "POST", "status": 500,
    "call_site": r"a/views.py:4 x,\y", "vendor": "postgresql", "release": "1.0, beta", "host": "web-7",
    "service": "shop",
    "request_id": "r&1=2", "many": True, "in_transaction": True, "rows": 7, "duration_ms": 1234.5,
}  # fmt: skip


@pytest.fixture
def browser(db):
    return reader(Accept=BROWSER)


def shown_ids(page):
    return [int(row["data-id"]) for row in page.all("tr") if "data-id" in row]


def test_browser_sees_the_records_newest_first(browser):
    put_statement(sql="SELECT name FROM app_author WHERE id = ?")
    fill(5)
    page = look(browser)
    assert shown_ids(page) == [5, 4, 3, 2, 1]
    assert "SELECT name FROM app_author WHERE id = ?" in page.words


@pytest.mark.parametrize("query", ["", "?format=json"])
def test_json_stays_what_is_not_asked_for_otherwise(browser, query):
    headers = {"Accept": BROWSER if query else "application/json;q=0.9,text/plain"}
    assert browser.get(URL + query, headers=headers)["Content-Type"] == "application/json"


ACCEPTED = (
    "text/html", "*/*", "", "text/*", "image/avif,image/webp,*/*;q=0.8", "image/png", "application/xml",
    "application/xhtml+xml", "text/csv", "application/x-ndjson", "TEXT/HTML", "text/html;level=1",
    "text/html;q=0", "text/html;q=x", "application/json;indent=4", 'a/b;c="d,e"', ",,,", ";;;", "garbage",
    "text/event-stream", "text/plain",
)  # fmt: skip


def test_every_address_answers_whatever_is_accepted(browser):
    put_statement()
    put({"trace_id": "a" * 32})
    addresses = (
        NEWEST, "1/", f"traces/{'a' * 32}/", f"fingerprints/{'f' * 16}/", "stats/", "requests/", "repeats/",
        "findings/", "health/", "events/", "series/", "settings/", "schema/", "reviews/", "views/",
    )  # fmt: skip
    found = {
        (address, accepted): browser.get(URL + address, headers={"Accept": accepted})
        for address in addresses
        for accepted in ACCEPTED
    }
    assert {case: answer.status_code for case, answer in found.items() if answer.status_code != 200} == {}
    for address in addresses:
        assert found[address, "text/html"]["Content-Type"] == "text/html; charset=utf-8", address
        assert found[address, "text/plain"]["Content-Type"] == "application/json", address


def test_page_can_be_asked_for_by_format(db):
    assert reader().get(f"{URL}?format=html")["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "query", [NEWEST, "1/", "?min_ms=x", "nothing/", "stats/", "requests/", "repeats/", f"traces/{'a' * 32}/"]
)
def test_every_page_lets_only_its_own_files_run(browser, query):
    fill(3)
    answer = browser.get(URL + query)
    assert answer["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"
    page = Page(answer)
    assert not page.all("style")
    assert all(script.get("src") for script in page.all("script"))
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


def test_static_files_of_another_host_may_be_loaded(browser, settings):
    settings.STATIC_URL = "https://cdn.example/static/"
    policy = browser.get(URL + NEWEST)["Content-Security-Policy"]
    assert "style-src 'self' https://cdn.example; img-src 'self' https://cdn.example;" in policy


def test_every_value_is_a_link_to_a_list_that_has_its_record(browser):
    put_statement(sql="SELECT 1", tables="one,two")
    put(EVERY_FIELD)
    links = [link for link in look(browser).links() if link.startswith(f"{URL}?")]
    found = {parse_qs(urlsplit(link).query).popitem()[0]: link for link in links}
    names = ["min_ms", "error", "call_site", "fingerprint", "route", "view", "alias", "trace_id"]
    for name in names:
        assert shown_ids(look(browser, found[name].removeprefix(URL))) == [1], found[name]


def test_every_fact_of_a_record_is_a_link_to_a_list_that_has_it(browser):
    put_statement(sql="SELECT 1", tables="one,two")
    put({}, EVERY_FIELD, {})
    page = look(browser, "2/")
    links = [link for link in page.links() if link.startswith(f"{URL}?")]
    names = {name for link in links for name in parse_qs(urlsplit(link).query)}
    assert names >= {*LINKED, "table"}
    for link in links:
        assert 2 in shown_ids(look(browser, link.removeprefix(URL))), link


def test_filters_that_are_on_are_in_the_form_and_can_be_taken_away_one_by_one(browser):
    put({"route": "a/"}, {"route": "b,c/"}, {"route": "d/", "error": "ValueError"})
    query = r"?route=a/,b\,c/&min_ms=0.5&error=false&ordering=-duration_ms&search="
    page = look(browser, query)
    assert page.all("input", name="route")[0]["value"] == r"a/,b\,c/"
    assert page.all("option", value="false", selected=None)
    assert page.all("input", name="ordering", type="hidden")[0]["value"] == "-duration_ms"
    chips = [parse_qs(urlsplit(found["href"]).query) for found in page.all("a", title="Remove this filter")]
    on = {"min_ms": ["0.5"], "error": ["false"], "ordering": ["-duration_ms"]}
    assert len(chips) == 4
    assert on | {"route": ["a/"]} in chips
    assert on | {"route": [r"b\,c/"]} in chips
    assert {"route": [r"a/,b\,c/"], "min_ms": ["0.5"], "ordering": ["-duration_ms"]} in chips


def test_browser_begins_with_the_requests(browser):
    fill(1)
    answer = browser.get(URL)
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}requests/")
    tabs = look(browser, "requests/").all("nav", **{"aria-label": "Tabs"})
    assert tabs
    assert reader().get(URL).json()["results"][0]["id"] == 1


def test_column_headers_sort_the_list_and_reverse_it(browser):
    fill(3, changes={2: {"duration_ms": 9.0}})
    page = look(browser, "?min_ms=0&cursor=9")
    by_duration = next(link for link in page.links() if "ordering=-duration_ms" in link)
    assert parse_qs(urlsplit(by_duration).query) == {"min_ms": ["0"], "ordering": ["-duration_ms"]}
    page = look(browser, by_duration.removeprefix(URL))
    assert shown_ids(page) == [2, 3, 1]
    assert [head["aria-sort"] for head in page.all("th") if "aria-sort" in head] == [
        "none",
        "descending",
        "none",
    ]
    assert any("ordering=duration_ms" in link for link in page.links())


def test_pages_lead_on_and_back(browser):
    fill(25)
    page, seen = look(browser, "?limit=10&min_ms=0"), []
    while True:
        seen.append(shown_ids(page))
        further = page.all("a", rel="next")
        if not further:
            break
        page = Page(browser.get(further[0]["href"]))
    assert [len(ids) for ids in seen] == [10, 10, 5]
    back = Page(browser.get(page.all("a", rel="prev")[0]["href"]))
    assert shown_ids(back) == seen[1]
    assert f"{URL}?limit=10&min_ms=0" in page.links("button")


def test_figures_sum_up_what_is_shown(browser):
    put(
        *({"duration_ms": float(number)} for number in range(1, 101)),
        {"duration_ms": 2000.0, "error": "E"},
        capacity=200,
    )
    words = " ".join(look(browser, "?limit=100").words.split())
    assert "Matches101 Shown100 p5051.0 ms p9596.0 ms Maximum2,000 ms Failed1" in words


def test_chart_has_a_dot_for_each_record_that_leads_to_it(browser):
    put({"duration_ms": 0.0}, {"duration_ms": 600.0}, {"error": "E"})
    page = look(browser)
    assert [dot["class"] for dot in page.all("circle")] == ["plain", "slow", "failed"]
    assert all(0 <= float(dot["cx"].rstrip("%")) <= 100 for dot in page.all("circle"))
    assert f"{URL}2/" in [found["href"] for found in page.all("a", tabindex="-1")]


def test_foreign_text_is_isolated_wherever_it_stands(browser):
    for fingerprint in "fe":
        sql = f"SELECT {FOREIGN}.a FROM {FOREIGN}"
        put_statement(fingerprint * 16, sql, tables=FOREIGN, operation=FOREIGN)
    fields = dict.fromkeys(
        ("route", "view", "call_site", "error", "release", "host", "alias"), f"{FOREIGN}/:1 (x)"
    )
    one = {
        **fields,
        "trace_id": "c" * 32,
        "unit_id": "d" * 16,
        "method": "GET",
        "sqlstate": FOREIGN,
        "duration_ms": 9.0,
    }
    put(*[one] * 7, one | {"fingerprint": "e" * 16})
    Event.objects.create(time=BEGINNING, kind="deploy", title=FOREIGN, text=FOREIGN, author=FOREIGN)
    Finding.objects.create(
        key="a", kind="n_plus_one", fingerprint="f" * 16, route=FOREIGN, release=FOREIGN, call_site=FOREIGN,
        event=FOREIGN, evidence={"times_per_unit": 7, "trace_id": "c" * 32}, first_seen=BEGINNING,
        last_seen=BEGINNING, started_at=BEGINNING, occurrences=1, assignee=FOREIGN,
    )  # fmt: skip
    paths = (
        NEWEST, "8/", f"traces/{'c' * 32}/", f"fingerprints/{'f' * 16}/", "stats/", "stats/?group_by=route",
        "stats/?compare=previous&from=2026-01-31T12:00:04Z", "requests/", "repeats/", "findings/", "events/",
        "series/?group_by=view", f"requests/?route={FOREIGN}", f"stats/?{FOREIGN}=1",
    )  # fmt: skip
    found = {path: Isolation(browser.get(URL + path).text).found for path in paths}
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_hostile_text_is_text_wherever_it_stands(browser, settings):
    settings.SQLLOGS = dict.fromkeys(("TRACE_URL", "LOGS_URL"), "https://traces.example/?a=1&id={trace_id}")
    put_statement(sql=f"SELECT '{HOSTILE}'", tables=f"{HOSTILE},b")
    hostile = dict.fromkeys(
        ("route", "view", "call_site", "error", "release", "host", "kind", "alias"), HOSTILE
    )
    put({**hostile, "trace_id": "c" * 32, "sampled": True, "method": "<b>", "request_id": HOSTILE})
    plain = look(browser)
    for query in (
        NEWEST,
        "1/",
        f"?search={HOSTILE}",
        f"?{HOSTILE}",
        f"?min_ms={HOSTILE}",
        f"{HOSTILE.replace('/', '')}/",
    ):
        page = Page(browser.get(URL + query))
        assert HOSTILE[:14] in unescape(page.words)
        assert len(page.all("script")) == len(plain.all("script")) == 1
        assert not [found for found in page.all("img") if found["src"] == "x"]


def test_list_of_long_statements_stays_small(browser):
    put_statement(sql="SELECT " + "x + " * 16_000 + "x")
    fill(100)
    assert len(browser.get(URL).content) < 250_000


def test_one_record_shows_its_statement_whole_in_lines(browser, settings):
    settings.SQLLOGS = {"TRACE_URL": "https://traces.example/{trace_id}"}
    put_statement(sql='SELECT "a" FROM "b" WHERE "c" IN (SELECT "d" FROM "e") ORDER BY "a"', tables="b,e")
    put(EVERY_FIELD)
    page = look(browser, "1/")
    assert 'SELECT "a"\nFROM "b"\nWHERE "c" IN (SELECT "d" FROM "e")\nORDER BY "a"' in page.words
    assert f"https://traces.example/{'ab' * 16}" in page.links()
    assert f"{URL}traces/{'ab' * 16}/" in page.links()
    assert 'curl -H "Authorization: Bearer $SQLLOGS_TOKEN" http://testserver/sql-logs/1/' in page.words


@pytest.mark.parametrize("path", [NEWEST, "1/", f"traces/{'ab' * 16}/"])
@pytest.mark.parametrize("is_sampled", [True, False])
def test_trace_links_to_its_viewer_and_to_its_log_lines(browser, settings, path, is_sampled):
    settings.SQLLOGS = VIEWERS
    times = {"time": BEGINNING, "duration_ms": 9.0}
    put({"trace_id": "ab" * 16, "sampled": is_sampled, "unit_id": "c" * 16, **times})
    links = look(browser, path).links()
    assert links.count(LOG_LINES) == 1
    # A trace that was not sampled is in no viewer; its lines are in the log.
    assert (f"https://traces.example/{'ab' * 16}" in links) == is_sampled


def test_request_whose_records_are_overwritten_links_to_its_log_lines(browser, settings):
    settings.SQLLOGS = VIEWERS
    put({"trace_id": "cd" * 16, "unit_id": "c" * 16})
    Unit.objects.update(trace_id="ab" * 16)
    links = look(browser, f"traces/{'ab' * 16}/").links()
    assert [link for link in links if link.startswith("https://logs.example")] != []


def test_host_projects_number_format_changes_no_address(browser, settings):
    settings.USE_THOUSAND_SEPARATOR = True
    fill(1234, capacity=3)
    page = look(browser)
    assert shown_ids(page) == [1234, 1233, 1232]
    assert all("," not in link for link in page.links())


def test_curl_line_asks_for_the_same_list(browser):
    words = look(browser, "?route=a'b&format=html").words
    assert """Bearer $SQLLOGS_TOKEN" 'http://testserver/sql-logs/?route=a%27b'""" in words


@pytest.mark.parametrize("tab", ["", "stats/", "requests/", "repeats/"])
def test_each_tab_leads_to_the_same_as_json_and_csv(browser, tab):
    fill(3)
    page = look(browser, f"{tab}?kind=request")
    for name, media_type in (("json", "application/json"), ("csv", "text/csv")):
        (link,) = [link for link in page.links() if f"format={name}" in link]
        assert "kind=request" in link
        assert browser.get(link)["Content-Type"].startswith(media_type)


def test_empty_ring_says_what_to_do(browser):
    assert "No queries recorded yet" in look(browser).words


def test_filters_without_a_match_can_be_taken_away(browser):
    fill(3)
    page = look(browser, "?route=nowhere/&limit=5")
    assert "No matches" in page.words
    assert f"{URL}?limit=5" in page.links()


@pytest.mark.parametrize(
    ("query", "status"),
    [("?min_ms=abc", 400), ("?nonsense=1", 400), ("?cursor=1&offset=2", 400), ("77/", 404)],
)
def test_error_page_has_the_message_of_the_json(browser, query, status):
    error = browser.get(URL + query, headers={"Accept": "application/json"}).json()["error"]
    page = look(browser, query, status)
    assert error["message"].replace("min_ms: ", "At least (ms): ") in page.words


def test_wrong_value_can_be_corrected_where_it_was_typed(browser):
    page = look(browser, "?min_ms=abc&to=now", 400)
    (wrong,) = [found for found in page.all("input") if "aria-invalid" in found]
    assert (wrong["name"], wrong["value"]) == ("min_ms", "abc")
    assert page.all("input", name="to")[0]["value"] == "now"


ANONYMOUS = Client(headers={"Accept": BROWSER})


@pytest.mark.parametrize(
    ("login_url", "expected"),
    [
        ("/accounts/login/", "/admin/login/?next=%2Fsql-logs%2F%3Froute%3Da%2F"),  # Django's default: nowhere
        ("no-such-name", "/admin/login/?next=%2Fsql-logs%2F%3Froute%3Da%2F"),
        ("/sql-logs/1/?by=sso", "/sql-logs/1/?by=sso&next=%2Fsql-logs%2F%3Froute%3Da%2F"),
        (
            "https://sso.example/",
            "https://sso.example/?next=http%3A%2F%2Ftestserver%2Fsql-logs%2F%3Froute%3Da%2F",
        ),
    ],
)
def test_anonymous_person_is_sent_to_the_login_and_back(settings, login_url, expected):
    settings.LOGIN_URL = login_url
    answer = ANONYMOUS.get(f"{URL}?route=a/")
    assert (answer.status_code, unquote(answer["Location"])) == (302, unquote(expected))
    assert answer["Cache-Control"] == "private, no-store"


def test_programs_and_wrong_tokens_are_not_sent_to_a_login():
    assert ANONYMOUS.get(URL, headers={"Accept": "application/json"}).status_code == 401
    assert ANONYMOUS.get(URL, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_project_without_a_login_explains_tokens(settings):
    settings.ROOT_URLCONF = "tests.sqllogs.urls_without_admin"
    page = look(ANONYMOUS, "", 401)
    assert not page.links("primary")
    assert "sqllogs token create" in page.words


EVERY_ADDRESS = (
    NEWEST, "1/", "stats/", "series/", "requests/", f"traces/{'a' * 32}/", "repeats/",
    f"fingerprints/{'f' * 16}/", "health/", "events/", "settings/", "schema/",
)  # fmt: skip


@pytest.mark.parametrize("accept", ["text/html", BROWSER])
@pytest.mark.parametrize("address", EVERY_ADDRESS)
def test_every_address_has_a_page(browser, address, accept):
    put({"unit_id": "b" * 16, "trace_id": "a" * 32})
    put_process(BEGINNING, dropped={"buffer_rows": 3})
    Event.objects.create(time=BEGINNING, kind="deploy", title=HOSTILE)
    answer = browser.get(URL + address, headers={"Accept": accept})
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer)
    assert page.all("h1")
    assert f"{URL}health/" in page.links()
    assert len(page.all("script")) == 1


def test_address_without_a_page_is_json_for_a_browser(browser):
    assert browser.get(f"{URL}1/?format=json", headers={"Accept": "text/html"}).json()["error"]


@pytest.mark.parametrize("address", ["stats/", NEWEST, f"fingerprints/{'f' * 16}/"])
def test_every_figure_has_a_label_where_rows_become_cards(browser, address):
    put({"trace_id": "ab" * 16, "call_site": "a.py:1 f"})
    cells = [cell for cell in look(browser, address).all("td") if "time" not in cell["class"]]
    figures = [cell for cell in cells if {"number", "trace"} & {*cell["class"].split()}]
    assert figures
    assert [cell for cell in figures if "data-label" not in cell and "duration" not in cell["class"]] == []


def test_health_says_what_a_state_means_and_what_to_do(browser):
    put_process(datetime.now(UTC), dropped={"buffer_rows": 3})
    words = look(browser, "health/").words
    assert "degraded" in words
    assert "raise BUFFER_ROWS" in words


def test_migrations_of_an_event_are_listed_with_commas(browser):
    names = "shop.0001_initial\nshop.0002_price"
    Event.objects.create(time=BEGINNING, kind="migration", title="shop.0001_initial and 1 more", text=names)
    assert "shop.0001_initial, shop.0002_price" in look(browser, "events/").words


def test_settings_in_effect_hide_passwords(browser, settings):
    settings.SQLLOGS = {"OTLP": "https://me:secret@collector.example/v1/logs", "SLOW_MS": -1, "SAMPLE": 0.5}
    page = look(browser, "settings/")
    assert "https://***@collector.example/v1/logs" in page.words
    assert "secret" not in page.words
    assert "Must be at least 0." in page.words
    rows = browser.get(f"{URL}settings/?format=json").json()["results"]
    shown = {row["name"]: (row["value"], row["is_default"]) for row in rows}
    assert shown["SLOW_MS"] == ("500.0", True)
    assert shown["SAMPLE"] == ("0.5", False)


@pytest.fixture
def staff():
    return User.objects.create_user("staff", is_staff=True)


def logged_in(user, *codenames):
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client(headers={"Accept": BROWSER})
    client.force_login(user)
    return client


def test_staff_without_the_permission_read_its_name(staff):
    page = look(logged_in(staff), "", 403)
    assert "sqllogs.view_sqllog" in page.words
    assert not page.all("form")


def test_page_works_for_one_who_may_not_read_the_text(staff):
    put_statement(sql="SELECT secret FROM vault", tables="vault")
    fill(2)
    client = logged_in(staff, "view_sqllog")
    for page in (look(client), look(client, "1/")):
        assert "secret" not in page.words
        assert "sqllogs.view_sqllog_text" in page.words
        assert not page.all("input", name="search")
    assert "SELECT on vault" in look(client).words
    assert (
        "Searching SQL text requires the permission sqllogs.view_sqllog_text"
        in look(client, "?search=x", 403).words
    )
    assert "SELECT secret FROM vault" in look(logged_in(staff, "view_sqllog", "view_sqllog_text")).words


def test_unreadable_ring_is_an_error_page(browser, settings):
    settings.SQLLOGS = {"DATABASE": "nowhere"}
    page = look(browser, "", 503)
    assert "is unavailable" in page.words
    assert "nowhere" in page.words


QUERIES_MAX = {
    f"fingerprints/{'f' * 16}/": 20, f"traces/{'a' * 32}/": 10, "1/": 7, "stats/": 19, "requests/": 12,
    "stats/?compare=previous&from=2026-01-31T12:00:00.5Z": 20, "repeats/": 10, NEWEST: 11, "series/": 7,
    "findings/": 7, "events/": 6, "health/": 11, "settings/": 2, "schema/": 2, "views/": 3,
}  # fmt: skip
"""By page: the queries of all databases, with those of session and user."""


@pytest.mark.parametrize("address", QUERIES_MAX)
def test_page_sends_few_queries(address):
    put_statement()
    put(*[{"trace_id": "a" * 32, "unit_id": "b" * 16, "call_site": "a.py:1 f", "route": "a/"}] * 9)
    client = Client(headers={"Accept": BROWSER})
    client.force_login(User.objects.create_superuser("ann"))
    client.get(URL + address)
    with ExitStack() as stack:
        captured = [
            stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in ("default", "sqllogs")
        ]
        assert client.get(URL + address).status_code == 200
    assert sum(map(len, captured)) <= QUERIES_MAX[address]


def test_filling_in_the_page_sends_no_query(django_assert_num_queries):
    fill(5)
    token = tokens.create("x")
    request = RequestFactory().get(
        URL + NEWEST, headers={"Accept": BROWSER, "Authorization": f"Bearer {token}"}
    )
    response = RecordList.as_view()(request)
    for alias in ("default", "sqllogs"):
        with django_assert_num_queries(0, using=alias):
            assert "data-id" in filled_in(response)


def test_reading_the_page_leaves_no_record(ring_alias):
    fill(5)
    client = reader(Accept=BROWSER)
    with recording(ring_alias) as recorder:
        wrapper.install(recorder.wrapper, connections[ring_alias])  # as where the ring is in `default`
        for url in (URL, f"{URL}5/", f"{URL}?x=1"):
            client.get(url)
        wrapper.uninstall(recorder.wrapper, connections[ring_alias])
        assert len(stored(recorder, ring_alias)) == 5


@pytest.mark.parametrize("language", ["de", "ar"])
def test_page_without_a_translation_is_in_english_alone(browser, language):
    with override(language):
        page = look(browser)
        assert _("All") not in page.words  # which Django has
    assert [html.get("dir", "ltr") for html in page.all("html", lang="en")] == ["ltr"]


@pytest.mark.parametrize("path", ["requests/", "stats/", NEWEST, "1/", "findings/", "health/"])
def test_page_below_a_language_stays_there(browser, settings, path):
    settings.LANGUAGE_CODE, settings.LANGUAGES = "de", [("de", "German")]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    settings.ROOT_URLCONF = ModuleType("german_urls")
    settings.ROOT_URLCONF.urlpatterns = i18n_patterns(urls.path("sql-logs/", urls.include("sqllogs.urls")))
    fill(3)
    answer = browser.get(f"/de/sql-logs/{path}")
    assert 'lang="en"' in answer.text
    page = Page(answer)
    ours = [link for link in page.links() if "sql-logs" in link]
    assert ours
    assert [link for link in ours if not link.startswith("/de/sql-logs/")] == []
    assert path == "1/" or page.all("a", **{"aria-current": "page"})


def test_page_names_language_and_direction_of_its_translation(browser, settings, tmp_path):
    texts = {"": "Content-Type: text/plain; charset=UTF-8\n", "No queries recorded yet": "لا شيء"}
    write_catalog(tmp_path / "ar" / "LC_MESSAGES" / "django.mo", texts)
    settings.LOCALE_PATHS = [tmp_path]
    with override("ar"):
        page = look(browser)
    assert page.all("html", lang="ar", dir="rtl")
    assert "لا شيء" in page.words


@pytest.mark.parametrize(("count", "expected"), [(1, "1 statement from"), (2, "2 statements from")])
def test_count_of_one_is_singular(browser, count, expected):
    put(*({"fingerprint": f"{number:016x}"} for number in range(count)))
    assert expected in " ".join(look(browser, "stats/").words.split())


SOURCE = {"SOURCE_URL": "https://code.example/{release}/{path}#L{line}"}
CODE = "https://code.example/1.0%2C%20beta/a/views.py#L4"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (NEWEST, CODE),
        ("1/", CODE),
        (f"traces/{'ab' * 16}/", CODE),
        ("stats/?group_by=call_site", "https://code.example/HEAD/a/views.py#L4"),
        (f"fingerprints/{'f' * 16}/", "https://code.example/HEAD/a/views.py#L4"),
    ],
)
def test_call_sites_lead_to_the_code(browser, settings, path, expected):
    put_statement()
    put(EVERY_FIELD | {"unit_id": "c" * 16})
    assert not look(browser, path).links("code")
    settings.SQLLOGS = SOURCE
    assert look(browser, path).links("code") == [expected]


def test_hostile_call_site_is_no_other_url():
    assert (
        source_url("https://x/{path}:{line}", 'a"?b#{line}.py:4 f', None)
        == "https://x/a%22%3Fb%23%7Bline%7D.py:4"
    )
    assert source_url("https://x/{path}", "no line", None) == ""
    assert source_url("", "a.py:4 f", None) == ""


@pytest.mark.parametrize("path", ["1/", f"fingerprints/{'f' * 16}/"])
def test_record_and_statement_can_be_copied_as_an_issue(browser, path):
    put_statement(sql="SELECT name FROM author WHERE id = ?")
    put({"call_site": "a/views.py:4 x", "duration_ms": 12.5})
    page = look(browser, path)
    assert page.all("button", **{"data-copy": "issue"})
    assert "```sql\nSELECT name\nFROM author\nWHERE id = ?\n```" in page.words
    assert "- call_site: `a/views.py:4 x`" in page.words
    assert f"http://testserver{URL}{path}" in page.words


PLAN_LINES = ["QUERY PLAN", "  Filter: (a = '```')", *(f"  step {number}" for number in range(200))]


@pytest.mark.parametrize("path", ["1/", f"fingerprints/{'f' * 16}/"])
@pytest.mark.parametrize("with_text", [True, False])
def test_issue_has_the_last_plan_if_the_reader_may_see_it(browser, path, with_text):
    put_statement()
    put({})
    times = {"made_at": BEGINNING, "seen_at": BEGINNING}
    plan = {"fingerprint": "f" * 16, "alias": "replica", "vendor": "postgresql", "release": "1.4", **times}
    StoredPlan.objects.create(id=6, lines=["OLDER"], **plan)
    StoredPlan.objects.create(id=7, lines=PLAN_LINES, **plan)
    if not with_text:
        user = User.objects.create_user("reader", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_sqllog"))
        browser = Client(headers={"Accept": BROWSER})
        browser.force_login(user)
    words = look(browser, path).words
    assert "OLDER" not in words
    assert (
        "Plan on replica, 2026-01-31, release 1.4:\n\n````text\nQUERY PLAN\n  Filter" in words
    ) == with_text
    assert ("  step 57\n… 142 more lines\n````\n\nhttp://testserver/sql-logs/plans/7/" in words) == with_text


def test_debug_toolbar_leads_to_the_request(rf):
    panel = debug_toolbar.SQLLogsPanel(DebugToolbar(rf.get("/"), lambda request: HttpResponse()), None)
    request = rf.get("/")
    assert "are missing" in panel.content
    request.sqllogs_trace = TraceContext(0xAB, 1, False)
    panel.generate_stats(request, HttpResponse())
    assert f"{URL}traces/{'0' * 30}ab/" in panel.content
    assert panel.nav_subtitle == ""  # its middleware came first


def test_debug_toolbar_shows_the_time_of_the_queries(rf, settings):
    settings.DEBUG_TOOLBAR_PANELS = [PANEL]
    panel = debug_toolbar.SQLLogsPanel(DebugToolbar(rf.get("/"), lambda request: HttpResponse()), None)

    def toolbar(request):
        for _number in range(3):
            current.get().counts.add({EXECUTE_NS: 1_500_000})
        panel.generate_stats(request, HttpResponse())
        return HttpResponse()

    settings.SQLLOGS = {}
    response = SQLLogsMiddleware(toolbar)(rf.get("/"))
    assert panel.nav_subtitle == "3 queries in 4.50 ms"
    assert panel.nav_subtitle in panel.content
    assert f"{URL}traces/" in panel.content
    assert "Server-Timing" not in response


def test_first_migrations_of_a_project_do_not_fill_the_page(browser):
    Event.objects.create(
        time=BEGINNING, kind="migration", title="many", text="\n".join(f"shop.{n:04}_x" for n in range(50))
    )
    words = look(browser, "events/").words
    assert "shop.0004_x and 45 more" in words
    assert "shop.0005_x" not in words


@pytest.mark.parametrize("path", ["events/", "reviews/"])
def test_page_beyond_the_end_of_a_table_leads_to_the_first(browser, path):
    Event.objects.create(time=BEGINNING, kind="deploy", title="Deploy 1", text="1")
    page = look(browser, f"{path}?kind=deploy&offset=200" if path == "events/" else f"{path}?offset=200")
    assert "End of the list" in page.words
    assert f"{URL}{path}" in {link.split("?")[0] for link in page.links() if "offset" not in link}
    assert "rel" not in {name for found in page.all("a") for name in found}


@pytest.mark.parametrize(
    ("query", "is_empty_range"),
    [("from=now&to=now-1h", True), ("from=2026-02-01&to=2026-01-01", True), ("from=now-1h&to=now", False)],
)
def test_reversed_time_range_is_pointed_out(browser, query, is_empty_range):
    page = look(browser, f"?{query}")
    assert ("“From” is after “To”" in page.words) == is_empty_range


def test_project_overrides_a_template(browser, settings, tmp_path):
    (tmp_path / "sqllogs").mkdir()
    (tmp_path / "sqllogs" / "text_missing.html").write_text("<p>{{ text_permission }}: ask Ada</p>")
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"DIRS": [tmp_path]}]
    put({})
    frame._engine.cache_clear()
    try:
        assert "ask Ada" in look(browser, "1/").words
    finally:
        frame._engine.cache_clear()
