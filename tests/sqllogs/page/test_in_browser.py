"""The page in Chromium: only its own script runs, and nothing violates its CSP."""

import pytest
from django.core.signals import request_finished, request_started

from tests.sqllogs.factories import fill, put_statement
from tests.sqllogs.pages import NEWEST

HOSTILE = "<script>document.title = 'broken in'</script><img src=x onerror=alert(1)>"

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqllogs"])


@pytest.fixture
def url(live_server, settings):
    """The page of a site that lets its own machine read."""
    settings.DEBUG = True
    settings.SQLLOGS = {"ANONYMOUS_LOOPBACK": True}
    put_statement(sql=f"SELECT '{HOSTILE}' FROM app_author WHERE id = ?")
    fill(
        60,
        changes={
            60: {"trace_id": "a" * 32, "view": HOSTILE, "call_site": HOSTILE, "duration_ms": 700.0},
            59: {"error": "E"},
        },
    )
    return f"{live_server.url}/sql-logs/"


def test_pages_are_whole_and_keep_to_their_policy(chromium, url):
    for path in (
        NEWEST,
        "60/",
        f"traces/{'a' * 32}/",
        "?min_ms=abc",
        "stats/",
        "requests/",
        "repeats/",
        "stats/?route=nowhere/",
        "stats/?compare=previous&from=2026-01-31T12:00:30Z",
    ):
        visit = chromium.visit(url + path)
        refused = [line for line in visit.console if "status of 400" not in line]
        assert refused == [], path
        assert "<title>broken in" not in visit.dom
        assert "sqllogs/page.css" in visit.dom


def test_script_adds_live_tail_and_copying(chromium, url):
    dom = chromium.visit(url + NEWEST).dom
    assert 'aria-pressed="false"' in dom
    assert '<button type="button" class="button" data-copy="curl" data-copied="Copied">' in dom


def test_live_tail_shows_what_comes_in(chromium, url):
    def one_more(sender, **kwargs):
        # While the page is on its way: what comes in after that is not on it.
        request_started.disconnect(one_more)
        request_finished.connect(add)

    def add(sender, **kwargs):
        request_finished.disconnect(add)
        fill(61, first=61)

    request_started.connect(one_more)
    try:
        visit = chromium.visit(f"{url}{NEWEST}#live", after_ms=7_000)
    finally:
        request_started.disconnect(one_more)
        request_finished.disconnect(add)
    assert visit.console == []
    assert visit.dom.count('data-id="61"') == 1
    assert visit.dom.count('data-id="60"') == 1
    assert ">Pause</button>" in visit.dom


@pytest.mark.parametrize("path", [NEWEST, "stats/"])
def test_style_is_light_and_dark(chromium, url, tmp_path, path):
    light = chromium.screenshot(url + path, tmp_path / "light.png").read_bytes()
    dark = chromium.screenshot(url + path, tmp_path / "dark.png", dark=True).read_bytes()
    assert light != dark
