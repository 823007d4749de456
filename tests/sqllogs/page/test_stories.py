"""What people come for, in Chromium with a mouse and a keyboard; and axe on every page."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from sqllogs.models import Event, Finding
from tests.sqllogs.factories import BEGINNING, put, put_process, put_statement
from tests.sqllogs.pages import NEWEST

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqllogs"])

TRACE = "ab" * 16
PAGES = (
    "findings/", NEWEST, "1/", "stats/", "stats/?group_by=call_site", "requests/", "repeats/",
    f"traces/{TRACE}/", f"fingerprints/{'a' * 16}/", "health/", "events/", "series/", "settings/", "schema/",
    "nothing/", "requests/?min_ms=x", "requests/?route=nowhere",
)  # fmt: skip
LOOKS = [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark"), (320, "light")]
"""Width in pixels and colours; 320 is a window of 1280 at 400 %."""


@pytest.fixture(scope="module")
def thread():
    """Playwright runs an event loop in its thread, in which Django would refuse to query."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def in_browser(thread, chromium):
    """Call a function with a browser, in the browser's thread; return what it returns."""
    started = thread.submit(lambda: sync_playwright().start()).result()
    options = {"executable_path": str(chromium.binary), "args": ["--no-sandbox"]}
    browser = thread.submit(lambda: started.chromium.launch(**options)).result()
    yield lambda call: thread.submit(call, browser).result()
    thread.submit(browser.close).result()
    thread.submit(started.stop).result()


@pytest.fixture
def url(live_server, settings):
    """The page of a site with one slow request among fast ones."""
    settings.DEBUG = True
    settings.SQLLOGS = {"ANONYMOUS_LOOPBACK": True}
    put_statement("a" * 16, "SELECT id FROM app_author WHERE id = ?", tables="app_author")
    put_statement(
        "b" * 16, "SELECT id FROM app_book ORDER BY " + "a_long_column_name, " * 20 + "id", tables="app_book"
    )
    slow = {"trace_id": TRACE, "unit_id": "c" * 16, "route": "books/", "method": "GET", "status": 200}
    fast = {
        "unit_id": "d" * 16,
        "route": "quick/<a_very_long_argument_name_of_a_route:argument>/",
        "method": "GET",
    }
    put(
        fast | {"fingerprint": "b" * 16, "trace_id": "cd" * 16, "error": "OperationalErrorOfSomeKind"},
        *(
            slow | {
                "fingerprint": "a" * 16, "call_site": "app/a/long/path/to/some/views.py:5 books",
                "time": BEGINNING + timedelta(milliseconds=10 * number), "duration_ms": 9.0,
            }
            for number in range(60)
        ),
    )  # fmt: skip
    put_process(BEGINNING, dropped={"buffer_rows": 3})
    Finding.objects.create(
        key="a", kind="n_plus_one", fingerprint="b" * 16, route=fast["route"], release="2026.01.31-rc.1",
        call_site="app/a/long/path/to/some/views.py:5 books", event="Migration app.0042_a_long_name_of_it",
        evidence={"times_per_unit": 60, "trace_id": TRACE}, first_seen=BEGINNING, last_seen=BEGINNING,
        started_at=BEGINNING, occurrences=1_234_567, assignee="a_reviewer",
    )  # fmt: skip
    Event.objects.create(time=BEGINNING, kind="deploy", title="Release 1.4.2")
    return f"{live_server.url}/sql-logs/"


def test_slow_page_leads_to_its_cause_within_two_clicks(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("link", name="Elapsed ms").click()
        page.locator("tbody tr a.name").first.click()
        return page.locator("#sentence").inner_text(), page.locator(".advice").inner_text()

    sentence, advice = in_browser(story)
    assert "run 60 times by app/a/long/path/to/some/views.py:5 books" in sentence
    assert "N+1: 60 times" in advice


def test_keys_move_along_rows_and_open_them(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.goto(f"{url}requests/")
        page.keyboard.press("?")
        is_open = page.locator("#keys").is_visible()
        page.keyboard.press("?")
        page.keyboard.press("/")
        page.keyboard.type("/j?")
        typed = page.locator("[name=path]").input_value()
        page.locator("[name=path]").blur()
        for key in "jjk":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_url("**/traces/**")
        return is_open, typed

    assert in_browser(story) == (True, "/j?")


def test_date_picker_fills_the_text(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.goto(url)
        page.locator(".f-from .picker").fill("2026-01-31T12:00")
        page.locator(".f-from .picker").dispatch_event("change")
        return page.locator("[name=from]").input_value()

    assert in_browser(story) == "2026-01-31T12:00Z"


def findings(browser, address):
    """Return what axe finds on a page, how far it scrolls sideways, and what its console says."""
    page = browser.new_page()
    found = []
    page.on("console", lambda message: "status of 40" in message.text or found.append(message.text))
    page.goto(address)
    for width, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        broken = Axe().run(page).response["violations"]
        found += [f"{width} {scheme} {one['id']}: {one['nodes'][0]['html'][:120]}" for one in broken]
        if scrolls := page.evaluate("Math.max(0, document.documentElement.scrollWidth - innerWidth)"):
            found.append(f"{width}: scrolls {scrolls} px")
    page.close()
    return found


def test_pages_are_accessible_and_do_not_scroll_sideways(in_browser, url):
    found = in_browser(lambda browser: {path: findings(browser, url + path) for path in PAGES})
    assert {path: one for path, one in found.items() if one} == {}


def test_axe_and_the_width_are_checked(in_browser, tmp_path):
    (tmp_path / "bad.html").write_text("<!doctype html><title>x</title><input><p style='width: 2000px'>x")
    found = in_browser(lambda browser: findings(browser, (tmp_path / "bad.html").as_uri()))
    assert [line for line in found if "label" in line]
    assert [line for line in found if line.startswith("375: scrolls")], found
