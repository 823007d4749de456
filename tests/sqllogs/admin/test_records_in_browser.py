"""Slow queries in Chromium: everything is shown and works under a strict Content-Security-Policy."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from sqllogs.read import reviews
from tests.sqllogs.factories import put, put_statement, put_statistics

A = "a" * 16
HOSTILE = "<script>document.title = 'broken in'</script><img src=x onerror=alert(1)>"

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqllogs"])


@pytest.fixture
def server(settings):
    """A server of its own, since one that runs has loaded its middleware."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.sqllogs.signed_in.SignedIn"]
    server = LiveServer("localhost")
    yield server.url
    # Not `stop`, which unshares the databases in memory: the browser closes its idle connections a bit later,
    # and the threads that served them close their databases only then.
    server.thread.terminate()


@pytest.fixture
def url(server):
    """The list, on a site where everybody is the superuser; there is a statement with a call each hour."""
    User.objects.create_superuser("admin")
    put_statement(A, f"SELECT '{HOSTILE}' FROM app_author WHERE id = ?", tables="app_author")
    now = timezone.now()
    calls = [
        {"fingerprint": A, "route": HOSTILE, "release": str(hours // 6), "time": now - timedelta(hours=hours)}
        for hours in range(12, 0, -1)
    ]
    put(*calls)
    put_statistics(*calls)
    reviews.decide([A], "reviewed", by=HOSTILE, note=HOSTILE)
    return f"{server}/admin/sqllogs/statement/"


def test_pages_are_whole_and_keep_to_a_strict_policy(chromium, url):
    for path in ("?status=all", "?status=ignored", f"{A}/change/", f"{A}/change/?from=now-5m"):
        visit = chromium.visit(url + path)
        assert visit.console == [], path
        assert "<title>broken in" not in visit.dom
        assert "sqllogs/admin.css" in visit.dom


def test_rows_are_counted_by_the_admins_script_without_a_request_for_translations(chromium, url):
    dom = chromium.visit(f"{url}?status=all").dom
    assert "jsi18n" not in dom
    assert ">0 of 1 selected</span>" in dom


def test_style_is_light_and_dark_and_fits_a_phone(chromium, url, tmp_path):
    for path in ("?status=all", f"{A}/change/"):
        light = chromium.screenshot(url + path, tmp_path / "light.png", width=390).read_bytes()
        dark = chromium.screenshot(url + path, tmp_path / "dark.png", width=390, dark=True).read_bytes()
        assert light != dark


def test_paper_has_the_content_in_its_whole_width(chromium, url):
    def content(browser):
        page = browser.new_page(viewport={"width": 718, "height": 1000})
        page.emulate_media(media="print")
        found = []
        for path in ("?status=all", f"{A}/change/"):
            page.goto(url + path)
            found.append((page.locator("#header").is_visible(), page.locator("#content").bounding_box()))
        page.close()
        return found

    for is_header_visible, box in chromium.call(content):
        assert not is_header_visible
        assert box["width"] > 680
        assert box["y"] < 100
