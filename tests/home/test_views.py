"""The landing page and the health of the site, from a real server and in a real browser."""

import re

import pytest
import requests

from tests.ports import free_port

GUNICORN = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--threads=2")
HTML = {"Accept": "text/html,*/*;q=0.8"}


@pytest.fixture
def migrated(manage):
    manage("migrate", "--verbosity=0")
    manage("migrate", "--verbosity=0", "--database=sqllogs")


def addresses(page, start="/"):
    """Return where a page leads, by link or form, and what it loads."""
    return {found for found in re.findall(r'(?:href|src|action)="([^"#]+)', page) if found.startswith(start)}


def states(page):
    return re.findall(r'class="state \w+">(\w+)<', page)


@pytest.mark.usefixtures("migrated")
def test_page_shows_every_part_and_leads_on(server, chromium, tmp_path):
    one = server(*GUNICORN)
    assert requests.get(f"{one.url}/healthz", timeout=60).json() == {"database": "up", "sql_logs": "up"}

    page = chromium.dump_dom(f"{one.url}/")
    assert states(page)[:2] == ["up", "up"]
    assert one.url + "/sql-logs/" in page  # in the command to paste
    found = addresses(page)
    assert {"/", "/admin/", "/sql-logs/", "/sql-logs/health/", "/transactions/fast/"} <= found
    # 401: the SQL log wants a token or a login; 405: what a form sends by POST.
    expected = {
        "/transactions/crashing/": 500,
        "/transactions/bulk-write/": 405,
        "/transactions/saving/": 405,
    }
    for path in sorted(found):
        status = requests.get(one.url + path, headers=HTML, allow_redirects=False, timeout=60).status_code
        allowed = {expected[path]} if path in expected else {200, 302, 401}
        assert status in allowed, path

    # A person with a small window, in the dark.
    shot = chromium.screenshot(f"{one.url}/", tmp_path / "home.png", width=500, height=900, dark=True)
    assert shot.stat().st_size > 10_000


def test_database_that_is_down_is_reported_without_its_address(server):
    nowhere = {"DATABASE_NAME": "secret-name", "PGHOST": "127.0.0.1", "PGPORT": str(free_port())}
    one = server(*GUNICORN, **nowhere)
    health = requests.get(f"{one.url}/healthz", timeout=60)
    assert health.status_code == 503
    # The ring has no tables either: nothing was migrated.
    assert health.json() == {"database": "down", "sql_logs": "down"}

    page = requests.get(f"{one.url}/", timeout=60)
    assert page.status_code == 200
    assert states(page.text)[:2] == ["down", "down"]
    assert "OperationalError" in page.text
    assert "secret-name" not in page.text
    assert nowhere["PGPORT"] not in page.text


def test_site_works_without_the_ring(server, manage):
    manage("migrate", "--verbosity=0")
    one = server(*GUNICORN)
    health = requests.get(f"{one.url}/healthz", timeout=60)
    assert (health.status_code, health.json()) == (200, {"database": "up", "sql_logs": "down"})


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_only_reading_is_allowed(path, client):
    assert client.post(path).status_code == 405


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_answers_are_never_cached(path, client):
    assert "no-store" in client.get(path)["Cache-Control"]
