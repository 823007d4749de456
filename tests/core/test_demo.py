"""`make demo` from its first line to its last: real processes, in a new folder, on a free port."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from core import virtualenv
from tests.ports import free_port

ROOT = Path(virtualenv.ROOT)
TIMEOUT_S = 180.0
MANAGE = (sys.executable, "manage.py", "demo")
MODULE = (sys.executable, "-m", "core.demo")


class Demo:
    """A demo that has been started, and what it has said so far."""

    def __init__(self, folder, **environment):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output = folder / "output"
        given = {"DATA_DIR": str(folder), "PORT": str(self.port), "PYTHONUNBUFFERED": "1"} | environment
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                MANAGE, cwd=ROOT, env=os.environ | given, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def output(self):
        return self._output.read_text()

    @property
    def token(self):
        return re.search(r"Bearer (\S+)\"", self.output)[1]

    def wait_for(self, what):
        """Return the first true answer of `what`; fail with the output when it does not come in time."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.1)
        return pytest.fail(f"Timeout:\n{self.output}")

    def wait_until_it_runs(self):
        self.wait_for(lambda: "Log " in self.output or self.process.poll() is not None)
        assert self.process.poll() is None, self.output

    def get(self, path, token=None):
        authorization = {"Authorization": f"Bearer {token or self.token}"}
        return requests.get(self.url + path, headers=authorization, timeout=60)

    def records_of_both_workers(self):
        """Return the newest requests' records, once two processes have written some."""
        found = self.get("/sql-logs/?kind=request&limit=1000").json()["results"]
        return found if len({record["pid"] for record in found}) == 2 else None

    def end(self, signum):
        self.process.send_signal(signum)
        return self.process.wait(TIMEOUT_S)

    def processes(self):
        """Return the command lines of all processes that belong to this demo, by its port."""
        return [line for line in command_lines() if f"127.0.0.1:{self.port}" in line]

    def summary(self):
        """Return the figures of the last lines by name."""
        figures = re.findall(r"^  (captured|stored|dropped) +([\d,]+)", self.output, re.MULTILINE)
        return {name: int(figure.replace(",", "")) for name, figure in figures}

    def kill(self):
        if self.process.poll() is None:
            self.end(signal.SIGTERM)


def command_lines():
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def files():
    """Return the files of the project's folder, but for what tools and the tests' own process leave there."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    own = ("prometheus", "webapp.log", "build")
    return {
        path
        for path in found
        if "__pycache__" not in path.parts and not path.parts[0].startswith((".", *own))
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder):
    """A demo in an empty folder, seen at work, then stopped by Ctrl-C."""
    before = files()
    demo = Demo(folder, SQLLOGS_TOKEN="", DJANGO_SUPERUSER_PASSWORD="")
    try:
        demo.wait_until_it_runs()
        demo.records = demo.wait_for(demo.records_of_both_workers)
        demo.refused = demo.get("/sql-logs/", token="wrong").status_code
        demo.running = demo.processes()
        demo.status = demo.end(signal.SIGINT)
    finally:
        demo.kill()
    demo.new_files = files() - before
    return demo


@pytest.fixture(scope="module")
def second(first):
    """Another in the same folder, with a token and a password of the user's, for a given time."""
    given = {"SQLLOGS_TOKEN": "chosen-by-the-user-0123456789", "DJANGO_SUPERUSER_PASSWORD": "chosen too"}
    demo = Demo(first.folder, DEMO_SECONDS="3", **given)
    try:
        demo.wait_until_it_runs()
        demo.answer = demo.get("/sql-logs/?limit=1", token=given["SQLLOGS_TOKEN"])
        demo.status = demo.process.wait(TIMEOUT_S)
    finally:
        demo.kill()
    demo.secrets = given.values()
    return demo


def test_places_are_printed_with_a_command_that_can_be_pasted(first):
    for place in ("/", "/sql-logs/", "/sql-logs/?limit=5", "/admin/"):
        assert f"{first.url}{place}" in first.output
    assert f"curl -H \"Authorization: Bearer {first.token}\" '{first.url}/sql-logs/?limit=5'" in first.output


def test_token_is_printed_once_and_another_is_refused(first):
    assert first.output.count(first.token) == 1
    assert first.refused == 401


def test_password_of_a_new_admin_is_printed_and_fits(first):
    assert re.search(r"user admin, password \S{8,} \(shown only now\)", first.output)


def test_both_workers_statements_are_read_with_their_trace_ids(first):
    assert len({record["pid"] for record in first.records}) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", record["trace_id"]) for record in first.records)
    assert all(record["sql"] for record in first.records)


def test_server_and_traffic_run_as_processes_of_their_own(first):
    kinds = [kind for kind in ("gunicorn", "traffic") if any(kind in line for line in first.running)]
    assert kinds == ["gunicorn", "traffic"]


def test_ctrl_c_leaves_no_process(first):
    assert first.status == 0, first.output
    assert first.processes() == []


def test_everything_captured_is_stored_or_counted_as_dropped(first):
    summary = first.summary()
    assert summary["captured"] == summary["stored"] + summary["dropped"] > 100


def test_nothing_is_written_beside_the_data_folder(first):
    assert first.new_files == set()
    assert {path.name for path in first.folder.iterdir()} >= {"db.sqlite3", "sqllogs.sqlite3", "demo.log"}


def test_token_of_the_environment_is_taken_and_not_printed(second):
    assert second.answer.status_code == 200
    assert 'Bearer $SQLLOGS_TOKEN"' in second.output
    assert not any(secret in second.output for secret in second.secrets)


def test_demo_seconds_ends_it_with_the_summary(second):
    assert second.status == 0, second.output
    assert second.processes() == []
    summary = second.summary()
    assert summary["captured"] == summary["stored"] + summary["dropped"] > 0


@pytest.fixture(scope="module")
def third(second, chromium):
    """One that lets a browser in without a login, stopped by SIGTERM."""
    demo = Demo(second.folder, SQLLOGS_ANONYMOUS_LOOPBACK="1")
    try:
        demo.wait_until_it_runs()
        demo.wait_for(demo.records_of_both_workers)
        demo.page = chromium.dump_dom(f"{demo.url}/sql-logs/?view=transactions.views.fast")
        demo.status = demo.end(signal.SIGTERM)
    finally:
        demo.kill()
    return demo


def test_browser_shows_the_queries(third):
    assert "FROM transactions_transaction ORDER BY" in re.sub(r"<[^>]*>", "", third.page)


def test_sigterm_stops_all_of_it_too(third):
    assert third.status == 0, third.output
    assert third.processes() == []
    summary = third.summary()
    assert summary["captured"] == summary["stored"] + summary["dropped"]


def fails(command, cwd=ROOT, **environment):
    """Run what must fail; return the one line that it says."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", [MODULE, MANAGE], ids=["make demo", "manage.py demo"])
def test_port_in_use_is_one_clear_line(command, tmp_path):
    with socket.socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        said = fails(command, PORT=str(port), DATA_DIR=str(tmp_path))
    assert said == (
        f"Port {port} cannot be used (Address already in use). Choose another: PORT=8001 make demo\n"
    )


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("PORT", "0"), ("DEMO_SECONDS", "-1")])
def test_bad_number_in_the_environment_is_one_clear_line(name, value):
    assert fails(MODULE, **{name: value}).startswith(f"{name}={value} is invalid: it must be a number from ")


@pytest.fixture
def copy(tmp_path):
    """The launcher without a .venv beside it."""
    for name in ("core", "requirements.txt"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["venv", "ensurepip"])
def test_missing_venv_module_is_one_clear_line(name, copy):
    # As on Debian without the package: the project's folder comes first on sys.path.
    (copy / f"{name}.py").write_text("raise ImportError")
    assert "has no module venv. On Debian: sudo apt-get install python3-venv\n" in fails(
        MODULE, cwd=copy, PORT=str(free_port())
    )
    assert not (copy / ".venv").exists()


def test_python_that_is_too_old_is_one_clear_line(copy):
    launcher = copy / "core" / "virtualenv.py"
    launcher.write_text(launcher.read_text().replace("OLDEST = (3, 11)", "OLDEST = (9, 9)"))
    assert fails(MODULE, cwd=copy).startswith("Python 9.9 or newer is needed; ")
