"""A site for Grafana's requests, at work with records of every pattern; once for all tests of `grafana`."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import requests

from tests.grafana.infinity import Infinity
from tests.servers import ROOT, Server

TIMEOUT_S = 30.0
PATTERNS = ("fast", "n-plus-one", "joined", "report", "failing", "streaming", "asynchronous", "slow")

DEPLOY = """
from django.utils import timezone
from sqllogs.models import Event
Event.objects.create(time=timezone.now(), kind="deploy", title="1.2.3", text="deployed", tags=["deploy"])
"""


@pytest.fixture(scope="session")
def infinity(tmp_path_factory):
    """The provisioned datasource, asking a running site that has sent queries."""
    with _site(tmp_path_factory.mktemp("grafana")) as found:
        for pattern in PATTERNS:
            requests.get(f"{_root(found)}/transactions/{pattern}/", timeout=TIMEOUT_S)
        _wait_for_view(found, f"transactions.views.{PATTERNS[-1]}")
        yield found


@pytest.fixture(scope="session")
def empty_infinity(tmp_path_factory):
    """The same of a site whose ring and statistics are empty."""
    with _site(tmp_path_factory.mktemp("grafana-empty"), "sqllogs", "clear", "--yes") as found:
        yield found


@contextmanager
def _site(folder, *last_command):
    environment = os.environ | {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "core.settings"}

    def manage(*arguments):
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    manage("migrate", "--verbosity=0")
    manage("migrate", "--verbosity=0", "--database=sqllogs")
    manage("generate_transactions", "--count=200")
    token = manage("sqllogs", "token", "create", "grafana")
    manage("shell", "-c", DEPLOY)
    if last_command:
        manage(*last_command)
    gunicorn = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--threads=2")
    server = Server(gunicorn, environment, folder / "log")
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
