"""`make screenshots`: every page of the log and of its admin, as Chromium shows it to a person.

Starts the demo site with new databases and traffic, logs in, and takes each page at two widths, light and
dark, into build/screenshots. Those of the documentation have the size of a window; the others show all.
"""

import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import requests
from playwright.sync_api import sync_playwright

from tests.monitored import manage
from tests.programs import CHROMIUM, find
from tests.servers import ROOT, Server
from transactions.traffic import MIX, Traffic

OUTPUT = ROOT / "build" / "screenshots"
IMAGES = ROOT / "docs" / "images"
TRAFFIC_S = int(os.environ.get("TRAFFIC_S", "60"))
SIZES = ((1280, 800), (375, 812))
SCHEMES = ("light", "dark")
TALL = 1_000
"""Height of pictures in the documentation where much comes before the rows: the admin's, and a comparison."""
HEIGHT_MAX = 4_000
"""Of a picture that shows a whole page: a list of 100 rows on a phone is longer than anybody looks at."""
LOGIN = {"DJANGO_SUPERUSER_USERNAME": "admin", "DJANGO_SUPERUSER_PASSWORD": "a-password-for-pictures"}
STABLE = "#djDebugRoot { display: none !important } * { animation: none !important }"
"""django-debug-toolbar is of the demo site, not of the log."""
PAGES = {
    "findings": "/sql-logs/findings/",
    "requests": "/sql-logs/requests/?kind=request&ordering=-queries",
    "request": "/sql-logs/traces/{trace_id}/",
    "statements": "/sql-logs/stats/",
    "statements-compared": "/sql-logs/stats/?compare=previous&from={middle}&to={end}",
    "call-sites": "/sql-logs/stats/?group_by=call_site",
    "statement": "/sql-logs/fingerprints/{fingerprint}/",
    "n-plus-one": "/sql-logs/repeats/",
    "queries": "/sql-logs/?ordering=-id",
    "query": "/sql-logs/{id}/",
    "health": "/sql-logs/health/",
    "events": "/sql-logs/events/",
    "reviews": "/sql-logs/reviews/",
    "series": "/sql-logs/series/",
    "settings": "/sql-logs/settings/",
    "saved-views": "/sql-logs/views/",
    "api": "/sql-logs/schema/",
    "invalid-filter": "/sql-logs/requests/?min_elapsed_ms=x",
    "not-found": "/sql-logs/nothing/",
    "no-results": "/sql-logs/requests/?route=nowhere/",
    "admin-slow-queries": "/admin/sqllogs/statement/",
    "admin-statement": "/admin/sqllogs/statement/{fingerprint}/change/",
    "admin-findings": "/admin/sqllogs/finding/",
    "admin-finding": "/admin/sqllogs/finding/{finding}/change/",
    "admin-records": "/admin/sqllogs/sqllog/",
    "admin-record": "/admin/sqllogs/sqllog/{id}/change/",
}
"""Name and address; the ids are those of the N+1 of the demo site, the times those of the traffic."""
PUBLISHED = (
    "requests-light", "requests-dark", "request-light", "request-dark", "statements-compared-light",
    "admin-slow-queries-light", "admin-findings-light",
)  # fmt: skip
"""What README.md and docs show, from the wide pictures."""


def take(url, ids, output):
    """Write a picture of each page for each width and colour scheme."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(find(CHROMIUM)), args=["--no-sandbox"])
        for width, height in SIZES:
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB"
                )
                page = context.new_page()
                _log_in(page, url)
                for name, address in PAGES.items():
                    path = output / f"{name}-{scheme}-{width}.png"
                    _take_one(page, url + address.format(**ids), path, (width, height))
                context.close()
        browser.close()


def _take_one(page, address, path, size):
    width, height = size
    page.goto(address)
    page.add_style_tag(content=STABLE) if "/admin/" in address else None
    whole = page.evaluate("document.documentElement.scrollHeight")
    if over := page.evaluate("document.documentElement.scrollWidth") - width:
        print(f"{path.name}: {over} px too wide")
    tall = min(max(whole, height), HEIGHT_MAX)
    if path.stem in {f"{name}-{SIZES[0][0]}" for name in PUBLISHED}:
        tall = TALL if "/admin/" in address or "compare=" in address else height
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": tall})


def _log_in(page, url):
    page.goto(f"{url}/admin/login/")
    page.fill("[name=username]", LOGIN["DJANGO_SUPERUSER_USERNAME"])
    page.fill("[name=password]", LOGIN["DJANGO_SUPERUSER_PASSWORD"])
    page.click("[type=submit]")


def prepared(environment):
    """Migrate and fill the databases; return a token."""
    manage(environment, "migrate", "-v0")
    manage(environment, "migrate", "-v0", "--database=sqllogs")
    manage(environment, "generate_transactions", "--count=10000", "--seed=1")
    manage(environment, "createsuperuser", "--noinput", "--email=admin@example.com")
    return manage(environment, "sqllogs", "token", "create", "screenshots")


def found_ids(url, token, environment):
    """Return ids for PAGES: the N+1 with most queries in a request, and the first finding."""

    def read(path):
        answer = requests.get(
            f"{url}/sql-logs/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        answer.raise_for_status()
        return answer.json()["results"]

    suspect = max(read("repeats/"), key=lambda row: row["times_max"])
    records = read(f"?fingerprint={suspect['fingerprint']}&ordering=-id&limit=1")
    manage(environment, "sqllogs", "findings", "--detect")
    ids = {"trace_id": suspect["trace_id"], "fingerprint": suspect["fingerprint"]}
    return ids | {"id": records[0]["id"], "finding": read("findings/")[0]["id"]}


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | LOGIN | {
            "DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "core.settings", "METRICS_PORT": "0"
        }  # fmt: skip
        token = prepared(environment)
        gunicorn = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=2", "--no-control-socket")
        server = Server(gunicorn, environment, Path(folder) / "server.log")
        try:
            server.wait("/healthz")
            began = datetime.now(UTC)
            Traffic(server.url, 8).run(TRAFFIC_S)
            end = datetime.now(UTC)
            times = {"middle": f"{began + (end - began) / 2:%FT%TZ}", "end": f"{end:%FT%TZ}"}
            for _, method, path in MIX:  # each once, however small its weight
                requests.request(method, server.url + path, timeout=30)
            take(server.url, found_ids(server.url, token, environment) | times, OUTPUT)
        finally:
            server.stop()
    if "--publish" in sys.argv:
        for name in PUBLISHED:
            shutil.copy(OUTPUT / f"{name}-{SIZES[0][0]}.png", IMAGES / f"{name}.png")
    print(f"Pictures in {OUTPUT}")


if __name__ == "__main__":
    main()
