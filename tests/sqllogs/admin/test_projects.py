"""Projects with another admin than Django's own, with the real packages: see host_settings.py."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from tests.servers import ROOT

SITES = {"custom": {"staff", "support"}}


def run(host, folder, **environment):
    """Return what host.py prints for a project."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.sqllogs.admin.host_settings", "ADMIN_HOST": host}
    done = subprocess.run(
        [sys.executable, "-m", "tests.sqllogs.admin.host"],
        cwd=ROOT,
        env=os.environ | settings | {"DATA_DIR": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]


def check(found, sites):
    assert {site for site, *_ in found} == {*sites, "review"}
    assert len(found) == len(sites) * (2 * 17 + 3) + 1  # three are for superusers
    assert [line for line in found if line[2] not in (200, 302, "reviewed")] == []
    # Each page leads to pages of its own site.
    assert [line for line in found if line[3] not in ([], [line[0]])] == []


@pytest.mark.parametrize("host", ["custom", "jazzmin", "unfold", "unfold base"])
def test_every_page_is_shown_and_reviews_are_stored(host, tmp_path, chromium):
    check(run(host, tmp_path), SITES.get(host, {"admin"}))
    assert cut_off(chromium, tmp_path / "pages") == []


LISTS = ("sqllogs/finding/", "sqllogs/sqllog/", "sqllogs/statement/", "sqllogs/token/")
FORMS = ("sqllogs/finding/1/change/", "sqllogs/token/add/", f"sqllogs/statement/{'a' * 16}/change/")
OUTSIDE = """() => [...document.querySelectorAll("#result_list :is(td, th), .sqllogs-page, .readonly")]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth)
    .map((one) => one.className)"""
WITHOUT_BORDER = """() =>
    [...document.querySelectorAll(":is(.sqllogs-page, .sqllogs-decide) input[type=text]")]
    .filter((one) => one.checkVisibility() && parseFloat(getComputedStyle(one).borderTopWidth) === 0)
    .map((one) => one.name)"""
OPEN = """() => [...document.querySelectorAll(".sqllogs-filter[open] li")]
    .filter((one) => one.checkVisibility()).map((one) => one.textContent)"""
SETTLED_MAX_S = 60
"""Only what is wrong is waited for so long."""
STATIC = [
    Path(find_spec(name).origin).parent / "static"
    for name in ("sqllogs", "django.contrib.admin", "jazzmin", "unfold")
]


def settled(page, script):
    """Return what a script finds, once nothing moves: scripts of the themes begin after the load."""
    until_s = time.monotonic() + SETTLED_MAX_S
    while (found := page.evaluate(script)) and time.monotonic() < until_s:
        page.wait_for_timeout(100)
    return found


OURS = (
    "#result_list .field-statement, #result_list .field-where, .sqllogs-page, .sqllogs-filter, .sqllogs-span,"
    " .sqllogs-nothing, .sqllogs-keys, .sqllogs-decide, .readonly > *"
)
"""Parts of the pages that are neither the admin's nor the theme's."""
VIOLATIONS = f"""() => document.querySelector("{OURS}") === null ? [] :
    axe.run("{OURS}", {{resultTypes: ["violations"]}}).then(({{violations}}) => violations.map(
        (one) => `${{one.id}}: ${{one.nodes[0].failureSummary}} ${{one.nodes[0].html}}`.slice(0, 500)))"""


def inaccessible(page):
    """Return what axe finds in our parts of a page: on a phone, and wide and dark."""
    page.add_style_tag(content="* { transition: none !important; animation: none !important }")
    page.evaluate(AXE_SCRIPT)
    for size, scheme in ((PHONE, "light"), (PHONE, "dark"), (WIDE, "dark"), (WIDE, "light")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        yield from (f"{size['width']} {scheme} {one}" for one in page.evaluate(VIOLATIONS))
    page.set_viewport_size(PHONE)


PHONE, WIDE = {"width": 375, "height": 812}, {"width": 1280, "height": 800}


def cut_off(chromium, folder):
    """Return what is wrong: cells beside a phone's screen, invisible fields, open filters, and for axe."""

    def answer(route):
        path = urlsplit(route.request.url).path
        files = [
            folder / f"{quote(path[1:], safe='')}.html",
            *(one / path.removeprefix("/static/") for one in STATIC),
        ]
        found = next((file for file in files if file.is_file()), None)
        route.fulfill(path=found) if found else route.abort()

    def look(browser):
        page = browser.new_page(viewport=PHONE)
        page.route("**", answer)
        for path in (*LISTS, *FORMS):
            page.goto(f"http://site.example/{path}", wait_until="load")
            for script in (OUTSIDE, WITHOUT_BORDER, OPEN):
                yield from ((path, one) for one in settled(page, script))
            yield from ((path, one) for one in inaccessible(page))
        page.close()

    return chromium.call(lambda browser: list(look(browser)))


@pytest.fixture
def tenants(postgresql):
    """The environment of a project with django-tenants, and an empty database."""
    postgresql.create_database("tenants")
    return {"TENANTS_PORT": str(postgresql.port), "TENANTS_DATABASE": "tenants"}


def test_every_page_is_shown_with_tenants(tmp_path, tenants):
    check(run("tenants", tmp_path, **tenants), {"admin"})


def test_router_of_tenants_before_ours_is_reported_with_the_line_to_add(tmp_path, tenants):
    with pytest.raises(AssertionError) as failure:
        run("tenants", tmp_path, TENANTS_ROUTER_FIRST="1", **tenants)
    assert "sqllogs.E004" in str(failure.value)
    assert "`migrate` may not create its tables in 'sqllogs'" in str(failure.value)
    assert 'DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter", *' in str(failure.value)
