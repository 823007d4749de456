"""Chromium shows a page as a person would see it, and what its scripts made of it."""

import struct

import pytest

from tests.browser import TIMEOUT_MS

PAGE = """<!doctype html>
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<script>console.log("said by a script"); document.write("<p>made by " + "a script</p>")</script>
"""


@pytest.fixture
def url(tmp_path):
    (tmp_path / "page.html").write_text(PAGE)
    return (tmp_path / "page.html").as_uri()


def test_dom_is_returned_as_scripts_have_made_it(chromium, url):
    assert "<p>made by a script</p>" in chromium.dump_dom(url)


def test_console_is_returned(chromium, url):
    (line,) = chromium.visit(url).console
    assert "said by a script" in line


def test_console_has_what_a_policy_refuses_and_what_raises(chromium, tmp_path):
    policy = "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">"
    (tmp_path / "refused.html").write_text(f"{policy}<script>1</script>")
    (tmp_path / "raises.html").write_text("<script>throw new Error('from a script')</script>")
    (refused,) = chromium.visit((tmp_path / "refused.html").as_uri()).console
    (raised,) = chromium.visit((tmp_path / "raises.html").as_uri()).console
    assert "Content Security Policy" in refused
    assert "from a script" in raised


def test_screenshot_has_the_size_that_was_asked_for(chromium, url, tmp_path):
    picture = chromium.screenshot(url, tmp_path / "page.png", width=640, height=480).read_bytes()
    assert struct.unpack(">II", picture[16:24]) == (640, 480)


def test_page_can_be_seen_dark(chromium, url, tmp_path):
    light = chromium.screenshot(url, tmp_path / "light.png").read_bytes()
    dark = chromium.screenshot(url, tmp_path / "dark.png", dark=True).read_bytes()
    assert light != dark


@pytest.mark.parametrize("kind", ["page", "context"])
def test_pages_wait_as_long_as_a_busy_machine_needs(chromium, kind):
    def limit_ms(browser):
        return getattr(browser, f"new_{kind}")()._impl_obj._timeout_settings.timeout(None)

    assert chromium.call(limit_ms) == TIMEOUT_MS
