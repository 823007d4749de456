"""Run the demo site in separate processes with separate databases.

Feeds the fixtures `site`, `manage` and `server`.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
import requests

from tests.ports import free_port

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 120.0


def start(arguments, environment, log_path, cwd=ROOT):
    """Run Python in a new process group, with its output in a file."""
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(process):
    """End what is left of its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Server:
    """A running server in a new process group."""

    def __init__(self, arguments, environment, log_path, cwd=ROOT):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self._log_path = log_path
        filled_in = [argument.format(**vars(self)) for argument in arguments]
        self.process = start(filled_in, environment, log_path, cwd)

    @property
    def output(self):
        return self._log_path.read_text()

    def wait(self, path):
        """Return when the server gives any answer; fail with its output when it does not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with suppress(requests.RequestException):
                requests.get(self.url + path, timeout=5)
                return
            time.sleep(0.05)
        pytest.fail(f"The server does not answer:\n{self.output}", pytrace=False)

    def stop(self, signum=signal.SIGTERM):
        """Send a signal, wait for the end, return the output; what is left of the group is killed."""
        try:
            self.process.send_signal(signum)
            self.process.wait(STOP_TIMEOUT_S)
        finally:
            kill(self.process)
        return self.output


@pytest.fixture
def site(tmp_path):
    """The environment of a site with new databases; a test may change it before it starts anything."""
    # Of two processes that switch a new file to WAL at once, one finds it locked and does not wait.
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    return os.environ | {
        "DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "core.settings",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def manage(site):
    """Run a management command of the site, as in `manage("migrate")`; return its output."""

    def run(*arguments):
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=site, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    return run


@pytest.fixture
def server(site, tmp_path):
    """Start a server of the site, as in `server("-m", "gunicorn", "core.wsgi", "--bind={address}")`.

    {address}, {port} and {url} are filled in. It answers when this returns, and
    is stopped at the test's end at the latest.
    """
    started = []

    def start(*arguments, path="/healthz", **environment):
        started.append(Server(arguments, site | environment, tmp_path / f"server-{len(started)}.log"))
        started[-1].wait(path)
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()
