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
SETTLED_MAX_S = 10
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


def cut_off(chromium, folder):
    """Return what is wrong on a phone: cells beside the screen, fields that nobody sees, open filters."""

    def answer(route):
        path = urlsplit(route.request.url).path
        files = [
            folder / f"{quote(path[1:], safe='')}.html",
            *(one / path.removeprefix("/static/") for one in STATIC),
        ]
        found = next((file for file in files if file.is_file()), None)
        route.fulfill(path=found) if found else route.abort()

    def look(browser):
        page = browser.new_page(viewport={"width": 375, "height": 812})
        page.route("**", answer)
        for path in (*LISTS, *FORMS):
            page.goto(f"http://site.example/{path}", wait_until="load")
            for script in (OUTSIDE, WITHOUT_BORDER, OPEN):
                yield from ((path, one) for one in settled(page, script))
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
