"""A site for Grafana's requests, at work with records of every pattern; once for all tests of `grafana`."""

import os
import subprocess
import sys
import time

import pytest
import requests

from tests.grafana.infinity import Infinity
from tests.servers import ROOT, Server

TIMEOUT_S = 30.0
PATTERNS = ("fast", "n-plus-one", "joined", "report", "failing", "streaming", "asynchronous", "slow")


@pytest.fixture(scope="session")
def infinity(tmp_path_factory):
    """The provisioned datasource, asking a running site that has sent queries."""
    folder = tmp_path_factory.mktemp("grafana")
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
    gunicorn = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--threads=2")
    server = Server(gunicorn, environment, folder / "log")
    try:
        server.wait("/healthz")
        for pattern in PATTERNS:
            requests.get(f"{server.url}/transactions/{pattern}/", timeout=TIMEOUT_S)
        found = Infinity.provisioned(server.url, token)
        _wait_for_view(found, f"transactions.views.{PATTERNS[-1]}")
        yield found
    finally:
        server.stop()


def _wait_for_view(infinity, view):
    deadline = time.monotonic() + TIMEOUT_S
    headers = {"Authorization": f"Bearer {infinity.token}"}
    while time.monotonic() < deadline:
        if requests.get(infinity.url, {"view": view}, headers=headers, timeout=TIMEOUT_S).json()["count"]:
            return
        time.sleep(0.1)
    pytest.fail(f"No query of {view} was recorded.")
