"""A demo site under load, and what its requests have left behind in its files."""

import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import requests
from django.core.management import call_command
from django.test import override_settings

from sqllogs.models import SQLLog
from tests.servers import Server
from tests.sqllogs.rings import database

PATHS = (
    "/transactions/fast/",
    "/transactions/asynchronous/",
    "/transactions/streaming/",
    "/transactions/n-plus-one/",
    "/transactions/crashing/",
    "/no-such-page/",
)
LOGGED = {
    "/transactions/crashing/": "Internal Server Error: /transactions/crashing/",
    "/no-such-page/": "Not Found: /no-such-page/",
}
"""The line that Django logs of a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    path: str
    status: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class Left:
    """What was left when the server had ended."""

    answers: list[Answer]
    rows: list[SQLLog]
    lines: list[str]
    """Of webapp.log."""
    output: str


def make_site(folder):
    """Make the databases of a site; return them to copy, because migrations take seconds."""
    for name, alias in (("db", "site"), ("sqllogs", "ring")):
        settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / f"{name}.sqlite3"}
        with database(alias, settings_dict), override_settings(SQLLOGS={"DATABASE": "ring"}):
            call_command("migrate", database=alias, verbosity=0)
    return folder


def ask(url, count, concurrent):
    """Send requests of all kinds, every third from a caller that has a trace already."""

    def one(number):
        path = PATHS[number % len(PATHS)]
        traced = {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"} if number % 3 == 0 else {}
        response = requests.get(url + path, headers=traced, timeout=60)
        found = re.fullmatch(r"00-([0-9a-f]{32})-[0-9a-f]{16}-0[01]", response.headers["traceresponse"])
        if traced:
            assert found[1] == f"{number + 1:032x}", (path, response.status_code, found, number)
        return Answer(path, response.status_code, found[1])

    with ThreadPoolExecutor(concurrent) as pool:
        return list(pool.map(one, range(count)))


def serve(command, source, folder, environment, *, count, concurrent, signum=signal.SIGTERM):
    """Run a server of a copied site, send requests, stop it; return what is left."""
    for path in source.glob("*.sqlite3*"):
        shutil.copy(path, folder)
    server = Server(command, environment | {"DATA_DIR": str(folder)}, folder / "output.txt")
    try:
        server.wait("/healthz")
        answers = ask(server.url, count, concurrent)
    finally:
        output = server.stop(signum)
    path = folder / "webapp.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return Left(answers, _rows(folder), lines, output)


def _rows(folder):
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "sqllogs.sqlite3"}
    with database("left", settings_dict) as alias:
        return list(SQLLog.objects.using(alias).order_by("seq"))
