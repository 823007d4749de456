"""A site for Grafana's requests, at work with records of every pattern; once for all tests of `grafana`."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import requests

from tests.grafana.infinity import Infinity
from tests.servers import ROOT, Server

TIMEOUT_S = 120.0
PATTERNS = ("fast", "n-plus-one", "joined", "report", "failing", "streaming", "asynchronous", "slow")

DEPLOY = """
from django.utils import timezone
from sqllogs.models import Event
from sqllogs.models import Finding
now = timezone.now()
Event.objects.create(time=now, kind="deploy", title="1.2.3", text="deployed", tags=["deploy"])
Finding.objects.create(
    key="k", kind="n_plus_one", fingerprint="a" * 16, call_site="shop/views.py:7 books", route="books/",
    release="1.2.3", evidence={"times_per_unit": 9.0}, first_seen=now, last_seen=now, started_at=now,
    occurrences=4,
)
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The folder of a site's data, to copy, and a token for it: five commands of a second each."""
    folder = tmp_path_factory.mktemp("prepared")
    for command in ("migrate -v0", "migrate -v0 --database=sqllogs", "generate_transactions --count=200"):
        _manage(folder, *command.split())
    token = _manage(folder, "sqllogs", "token", "create", "grafana")
    _manage(folder, "shell", "-c", DEPLOY)
    return folder, token


@pytest.fixture(scope="session")
def infinity(prepared, tmp_path_factory):
    """The provisioned datasource, asking a running site that has sent queries."""
    with _site(*prepared, tmp_path_factory.mktemp("grafana")) as found:
        for pattern in PATTERNS:
            requests.get(f"{_root(found)}/transactions/{pattern}/", timeout=TIMEOUT_S)
        _wait_for_view(found, f"transactions.views.{PATTERNS[-1]}")
        yield found


@pytest.fixture(scope="session")
def empty_infinity(prepared, tmp_path_factory):
    """The same of a site whose ring and statistics are empty."""
    with _site(*prepared, tmp_path_factory.mktemp("grafana-empty"), "sqllogs", "clear", "--yes") as found:
        yield found


def _environment(folder):
    return os.environ | {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "core.settings"}


def _manage(folder, *arguments):
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(folder), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextmanager
def _site(prepared, token, folder, *last_command):
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    if last_command:
        _manage(folder, *last_command)
    gunicorn = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--threads=2")
    server = Server(gunicorn, _environment(folder), folder / "log")
    try:
        server.wait("/sql-logs/health/")  # its own queries are not recorded
        yield Infinity.provisioned(server.url, token)
    finally:
        server.stop()


def _root(infinity):
    return infinity.url.removesuffix("/sql-logs/")


def _wait_for_view(infinity, view):
    deadline = time.monotonic() + TIMEOUT_S
    headers = {"Authorization": f"Bearer {infinity.token}"}
    while time.monotonic() < deadline:
        if requests.get(infinity.url, {"view": view}, headers=headers, timeout=TIMEOUT_S).json()["count"]:
            return
        time.sleep(0.1)
    pytest.fail(f"No query of {view} was recorded.")
