"""The app adds little to a process that sends no query; why capture is off is reported."""

import os
import re
import subprocess
import sys
import threading
import time

import pytest

from sqllogs import conf
from sqllogs import recorder as recorder_module
from sqllogs.checks import settings as checks
from sqllogs.recorder import Recorder
from tests.servers import ROOT

PROJECT = """
import logging, os, sys
from django.conf import settings
{imports}
logging.basicConfig()
settings.configure(
    INSTALLED_APPS={apps},
    DATABASES={{
        "sqllogs": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, "default": {default},
    }},
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    MIDDLEWARE=["sqllogs.middleware.SQLLogsMiddleware"],
    ROOT_URLCONF="tests.sqllogs.urls_without_admin",
    SQLLOGS={sqllogs},
    TEMPLATES=[{{"BACKEND": "django.template.backends.django.DjangoTemplates"}}],
)
import django
django.setup()
{then}
print(*sorted(sys.modules))
"""
ADMIN = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "sqllogs"]
HEAVY = {
    "django_filters",
    "opentelemetry",
    "prometheus_client",
    "sqllogs.capture.call_site",
    "requests",
    "rest_framework",
    "sqllogs.metrics",
    "sqllogs.otel",
    "sqllogs.pipeline",
    "sqllogs.read",
    "sqllogs.record",
    "sqllogs.recorder",
    "sqllogs.sql.normalize",
}
LATE = {
    "django_filters",
    "opentelemetry",
    "prometheus_client",
    "requests",
    "rest_framework",
    "sqllogs.api",
    "sqllogs.otel",
    "sqllogs.page",
    "sqllogs.pipeline.delivery",
    "sqllogs.pipeline.writer",
    "sqllogs.read",
    "sqllogs.record",
    "sqllogs.sql.normalize",
    "sqllogs.statistics",
    "sqllogs.storage.ring",
}
"""Imported with the first query, the first request to the log, or the first server."""


def start(sqllogs, imports="", then="", apps=("sqllogs",), default="{}", **environment):
    outside = {name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
    program = PROJECT.format(sqllogs=sqllogs, imports=imports, then=then, apps=list(apps), default=default)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=outside | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split()), done.stderr


def test_disabled_app_imports_nothing_heavy():
    modules, _ = start({"ENABLED": False})
    assert modules & HEAVY == set()


def test_admin_imports_nothing_heavy_before_its_first_request():
    modules, _ = start({"ENABLED": False}, apps=ADMIN)
    assert "sqllogs.admin" in modules
    assert modules & (HEAVY | {"sqllogs.api", "sqllogs.page", "sqllogs.admin.records"}) == set()


def test_command_that_sends_no_query_imports_nothing_heavy():
    then = "from django.core.management import call_command; call_command('check', verbosity=0)"
    modules, _ = start({}, then=then)
    assert "sqllogs.urls" in modules
    assert modules & LATE == set()


def test_process_that_sends_no_query_has_nothing_to_flush():
    then = "from sqllogs import recorder; assert recorder.flush() and recorder.flush_all(); recorder.close()"
    modules, _ = start({}, then=then)
    assert modules & LATE == set()


def test_server_imports_the_writer_before_its_first_request():
    then = "from django.test import Client; Client().handler.load_middleware()"
    modules, _ = start({}, then=then)
    assert {"sqllogs.pipeline.writer", "sqllogs.storage.ring"} <= modules


def test_test_runner_that_a_program_starts_records_nothing():
    """As the `runtests.py` of many packages does; no argument of it says so."""
    then = """
from django.db import connection
from django.test.utils import setup_databases, setup_test_environment, teardown_databases
from sqllogs import recorder
setup_test_environment()
databases = setup_databases(0, False)
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
teardown_databases(databases, 0)
assert recorder.recorder.is_idle
"""
    modules, stderr = start(
        {}, then=then, imports="import django.test.utils", default='{"ENGINE": "django.db.backends.sqlite3"}'
    )
    assert "sqllogs.pipeline.writer" not in modules
    assert stderr == ""


def test_relative_path_of_the_store_means_the_folder_of_the_start():
    then = """
from django.db import connections
from sqllogs import recorder
connections.settings["log"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "sqllogs.sqlite3"}
recorder._make_path_absolute("log")
recorder._make_path_absolute("sqllogs")
assert connections.settings["log"]["NAME"] == os.path.join(os.getcwd(), "sqllogs.sqlite3")
assert connections.settings["sqllogs"]["NAME"] == ":memory:"
"""
    start({}, then=then)


def test_fork_waits_for_a_thread_that_imports_the_writer(monkeypatch):
    recorder = Recorder(conf.Conf())
    process, make, entered = recorder._process, recorder._process._make, threading.Event()

    def make_slowly():
        entered.set()
        time.sleep(0.1)
        return make()

    monkeypatch.setattr(process, "_make", make_slowly)
    thread = threading.Thread(target=lambda: recorder.writer)
    thread.start()
    entered.wait()
    recorder.before_fork()
    assert process.made is not None
    recorder.after_fork_in_parent()
    thread.join()
    assert not process.making.is_busy


WITHOUT_WRITER = """
import multiprocessing
from django.db import connection
from django.test import Client
from sqllogs import guard, recorder

def ask(number):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return number

Client().handler.load_middleware()
assert [ask(number) for number in range(20)] == list(range(20))
assert guard.faults == {"writer": 1}, guard.faults
assert not recorder.flush()
assert not recorder.flush_all()
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map_async(ask, range(3)).get(60) == [0, 1, 2]
"""


@pytest.mark.parametrize("settings", [{}, {"OTLP": "http://127.0.0.1:9"}], ids=["plain", "otlp"])
def test_process_that_cannot_import_the_writer_goes_on(settings):
    """As in an isolated subinterpreter, where orjson cannot be loaded, or after half an upgrade."""
    _, log = start(
        settings,
        imports='sys.modules["orjson"] = None',
        then=WITHOUT_WRITER,
        default='{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}',
    )
    said = [line for line in log.splitlines() if line.startswith(("WARNING", "Exception"))]
    assert said[0].startswith("WARNING:sqllogs.guard:writer: import of orjson halted")
    assert re.fullmatch(
        r"WARNING:sqllogs.recorder:20 SQL log records of process \d+ could not be .*", said[-1]
    )
    assert not any(line.startswith("Exception") for line in said)


def test_writer_that_cannot_be_imported_is_tried_again(monkeypatch):
    """Such as by a process that had no free file descriptor: an attempt takes 13 ms."""
    recorder, tries = Recorder(conf.Conf()), []
    process = recorder._process

    def fail():
        tries.append(1)
        raise ImportError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(process, "_make", fail)
        assert [recorder.own_writer() for _ in range(3)] == [None] * 3
    assert len(tries) == 1
    monkeypatch.setattr(recorder_module, "WRITER_RETRY_S", 0.0)
    assert recorder.own_writer() is recorder.writer


def test_query_in_the_middle_of_the_import_leaves_the_writer_to_it(monkeypatch):
    """Of a `__del__` or of `sys.remote_exec`: a second import would find the modules incomplete."""
    recorder = Recorder(conf.Conf())
    process, make, nested = recorder._process, recorder._process._make, []

    def make_interrupted():
        nested.append(recorder.own_writer())
        return make()

    monkeypatch.setattr(process, "_make", make_interrupted)
    assert recorder.own_writer() is recorder.writer
    assert nested == [None]


def test_process_that_imports_pytest_outside_of_a_test_run_logs_that_nothing_is_recorded():
    modules, log = start({}, "import pytest")
    assert "No query is recorded: pytest is imported" in log
    assert "sqllogs.recorder" not in modules


def test_test_run_logs_nothing():
    _, log = start({}, "import pytest", PYTEST_VERSION="9")
    assert log == ""


def test_check_reports_that_pytest_disables_capture(settings, monkeypatch):
    settings.SQLLOGS = {}
    assert [message.id for message in checks.check_pytest()] == []
    monkeypatch.delenv("PYTEST_VERSION")
    assert [message.id for message in checks.check_pytest()] == ["sqllogs.I001"]
    settings.SQLLOGS = {"ENABLED": False}
    assert [message.id for message in checks.check_pytest()] == []


def test_unittest_is_a_test_run(settings, monkeypatch):
    settings.SQLLOGS = {}
    monkeypatch.delitem(sys.modules, "pytest")
    monkeypatch.setattr(sys, "argv", ["python -m unittest", "shop.tests"])
    assert "Tests are running" in conf.why_disabled()
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    assert conf.why_disabled() is None


INTERRUPTED = """
import random, signal, sys
from django.conf import settings
from django.core.management import call_command

settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        "sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]},
    },
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    SQLLOGS={"ENABLED": len(sys.argv) > 2},
    USE_TZ=True,
)
import django
django.setup()
if len(sys.argv) == 2:
    call_command("migrate", database="sqllogs", verbosity=0)
    sys.exit()

raised = caught = 0

def interrupt(signum, frame):
    global raised
    raised += 1
    raise TimeoutError

from django.core.signals import request_finished
from django.db import connection
from sqllogs import recorder, threads
from sqllogs.pipeline import processes
has_threads = sys.argv[2] == "threads"
processes.threads_run = lambda: has_threads
# Python 3.14 may leave Django's own taken (python/cpython#148874).
request_finished.lock = connection._thread_sharing_lock = threads.RLock()
signal.signal(signal.SIGALRM, interrupt)
cursor = connection.cursor()

def ask_until_raised():  # a function: Python 3.13 leaves a loop's jump back out of the `try` around it
    before = raised
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0008))
    while raised == before:
        cursor.execute("SELECT 1")
        cursor.fetchall()
        if not has_threads:  # then the writer works at the end of a request
            recorder.recorder.writer._due_at_s = 0.0
            request_finished.send(sender=None)

while raised < 400:
    try:
        ask_until_raised()
    except TimeoutError:
        caught += 1
is_stored, counts = recorder.flush(20), recorder.recorder.delivery.counts()
print(raised - caught, is_stored, signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(counts.captured - counts.stored, counts.units_dropped)
"""


@pytest.mark.parametrize("threads", ["threads", "none"])
def test_writer_works_though_signal_handlers_raise_from_the_first_query_on(threads, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "ring.sqlite3")]
    subprocess.run(command, cwd=ROOT, check=True)
    done = subprocess.run([*command, threads], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "set()", "0", "0"]
