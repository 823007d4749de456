"""Servers, commands and forked processes store all of their queries, however they end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from threading import Event, Thread

import pytest
import requests
from django.core.management import call_command
from django.db.models import Sum

from sqllogs.models import Process, RingHead, SQLLog, Statement
from sqllogs.storage.ring import BATCH_ROWS
from tests.servers import ROOT
from tests.sqllogs.pipeline.test_writer import wait_until
from tests.sqllogs.rings import database

GUNICORN = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=2")
UVICORN = ("-m", "uvicorn", "core.asgi:application", "--port={port}")
RUNSERVER = ("manage.py", "runserver", "--noreload", "{address}")

CLIENTS = 4
LOAD_S = 1.0
TIMEOUT_S = 300.0
LOST_MAX_S = 1.0
"""What a kill -9 may cost: the flush interval of 0.5 s and the batch that is being written."""


@pytest.fixture(scope="module")
def empty_site(tmp_path_factory, django_db_blocker):
    """The application's database, migrated."""
    path = tmp_path_factory.mktemp("site") / "db.sqlite3"
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
    with django_db_blocker.unblock(), database("site", settings_dict):
        call_command("migrate", database="site", verbosity=0)
    return path


@pytest.fixture
def ring_database(tmp_path, empty_site):
    """The ring of a site that is ready to be started."""
    shutil.copy(empty_site, tmp_path)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "sqllogs.sqlite3"}


def trace_id(response):
    return re.fullmatch(r"00-(\w{32})-\w{16}-00", response.headers["traceresponse"])[1]


@contextmanager
def load(url, paths=("fast", "streaming")):
    """Send requests for the time of a block; give the trace id of each answer, and when it was there."""
    answered = {}
    over = Event()

    def ask():
        with requests.Session() as session:
            while not over.is_set():
                for path in paths:
                    try:
                        response = session.get(f"{url}/transactions/{path}/", timeout=60)
                    except requests.RequestException:
                        time.sleep(0.02)  # stopped, or a killed worker
                    else:
                        answered[trace_id(response)] = time.monotonic()

    clients = [Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answered
    finally:
        over.set()
        for client in clients:
            client.join()


def stored_traces(alias):
    return set(SQLLog.objects.using(alias).values_list("trace_id", flat=True))


def assert_all_stored(alias):
    """Every process has stored what it captured, and the ring has as many records."""
    accounts = list(Process.objects.using(alias).values_list("captured", "stored", "dropped", "queued"))
    assert accounts == [(captured, captured, {}, 0) for captured, *_ in accounts]
    total = Process.objects.using(alias).aggregate(Sum("stored"))["stored__sum"]
    assert RingHead.objects.using(alias).get().seq == total == SQLLog.objects.using(alias).count()


@pytest.mark.parametrize(
    "command",
    [
        GUNICORN,
        (*GUNICORN, "--threads=4"),
        (*GUNICORN, "--threads=4", "--preload"),
        (*GUNICORN, "--worker-class=gevent"),
        UVICORN,
    ],
    ids=["gunicorn", "gunicorn-threads", "gunicorn-preload", "gunicorn-gevent", "uvicorn"],
)
def test_server_stopped_under_load_loses_nothing(command, server, ring_alias):
    one = server(*command)
    with load(one.url) as answered:
        time.sleep(LOAD_S)
        wait_until(lambda: len(answered) > 50, timeout_s=TIMEOUT_S)
        output = one.stop()
    assert answered.keys() <= stored_traces(ring_alias)
    assert_all_stored(ring_alias)
    assert "Traceback" not in output


def test_runserver_stopped_by_ctrl_c_loses_nothing(server, ring_alias):
    one = server(*RUNSERVER)
    with load(one.url) as answered:
        time.sleep(LOAD_S)
    one.stop(signal.SIGINT)
    assert answered.keys() <= stored_traces(ring_alias)
    assert_all_stored(ring_alias)


def test_killed_worker_loses_no_more_than_an_interval_and_others_nothing(server, ring_alias):
    one = server(*GUNICORN, "--threads=2")
    with load(one.url) as answered:
        time.sleep(2 * LOAD_S)
        killed = Process.objects.using(ring_alias).first()
        os.kill(killed.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        time.sleep(LOAD_S)
        one.stop()
    lost_s = [killed_s - answered[lost] for lost in answered.keys() - stored_traces(ring_alias)]
    assert all(-0.1 < age_s < LOST_MAX_S for age_s in lost_s)
    others = Process.objects.using(ring_alias).exclude(uuid=killed.uuid)
    assert others
    assert all((one.captured, one.dropped, one.queued) == (one.stored, {}, 0) for one in others)
    gap = RingHead.objects.using(ring_alias).get().seq - SQLLog.objects.using(ring_alias).count()
    assert 0 <= gap <= BATCH_ROWS


def test_queries_of_a_streamed_and_of_an_async_answer_belong_to_their_request(server, ring_alias):
    one = server(*UVICORN)
    for path in ("streaming", "asynchronous"):
        requests.get(f"{one.url}/transactions/{path}/", timeout=60)
    one.stop()
    rows = SQLLog.objects.using(ring_alias).filter(view__startswith="transactions")
    counts = Counter(rows.values_list("view", "kind", "status", "trace_id"))
    assert {key[:3]: count for key, count in counts.items()} == {
        ("transactions.views.streaming", "request", 200): 5,
        ("transactions.views.asynchronous", "request", 200): 3,
    }


def test_command_is_recorded_by_its_name_as_one_trace(manage, ring_alias):
    manage("showmigrations")
    rows = SQLLog.objects.using(ring_alias)
    assert set(rows.values_list("kind", "view")) == {("command", "showmigrations")}
    assert rows.values("trace_id").distinct().count() == 1
    assert set(rows.values_list("repeats_allowed", flat=True)) == {True}  # Django's own
    assert_all_stored(ring_alias)


def test_our_own_command_records_nothing(manage, ring_alias):
    """Not even what Django's system checks ask SQLite before the command."""
    for subcommand in ("health", "top"):
        manage("sqllogs", subcommand)
    assert not SQLLog.objects.using(ring_alias).exists()


SCRIPT = """
import multiprocessing, os, sys, time
import django
django.setup()
from django.db import connection
from sqllogs import recorder
import tests.sqllogs.patient

def ask(who, count=10):
    with connection.cursor() as cursor:
        for number in range(count):
            cursor.execute(f"SELECT 1 AS {who}_{number}")
    connection.close()
"""


def run(script, site, tmp_path):
    """Run a program of the site to its end and return its output.

    From a file, because a spawned process reads it again. None runs the one that is there.
    """
    path = tmp_path / "program.py"
    if script is not None:
        path.write_text(SCRIPT + script)
    environment = site | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        # Since Python 3.12 a process that has a thread, as the writer's, is warned of forking.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", path],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def asked(alias):
    """Return how often each of the statements of `ask` is in the ring."""
    names = dict(Statement.objects.using(alias).values_list("fingerprint", "sql"))
    texts = [names[row] for row in SQLLog.objects.using(alias).values_list("fingerprint", flat=True)]
    return Counter(text.removeprefix("SELECT ? AS ") for text in texts)


def each_once(*names, count=10):
    return Counter(f"{name}_{number}" for name in names for number in range(count))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_child_stores_its_queries_at_its_end(method, site, tmp_path, ring_alias):
    run(
        f"""
if __name__ == "__main__":
    ask("parent")
    child = multiprocessing.get_context("{method}").Process(target=ask, args=["child"])
    child.start()
    child.join()
""",
        site,
        tmp_path,
    )
    assert asked(ring_alias) == each_once("parent", "child")
    assert_all_stored(ring_alias)


FORK = """
ask("before")
{flush}
if os.fork() == 0:
    ask("child")
    sys.exit()
ask("after")
assert os.wait()[1] == 0
"""


@pytest.mark.parametrize("flush", ["", "recorder.flush()"], ids=["buffer", "open ring"])
def test_record_of_a_forking_process_is_stored_once(flush, site, tmp_path, ring_alias):
    run(FORK.format(flush=flush), site, tmp_path)
    assert asked(ring_alias) == each_once("before", "child", "after")
    assert_all_stored(ring_alias)


def test_forked_child_stores_on_after_its_parent_has_ended(site, tmp_path, ring_alias):
    """SQLite's locks do not cross a fork: who believes to be the last user of a file deletes its log."""
    run(
        """
ask("parent")
recorder.flush()
started, ended = os.pipe(), os.pipe()
if os.fork() == 0:
    os.close(ended[1])
    ask("early")
    recorder.flush()
    os.write(started[1], b"1")
    os.read(ended[0], 1)
    ask("late")
    sys.exit()
os.read(started[0], 1)
recorder.close()
os.close(ended[1])
assert os.wait()[1] == 0
""",
        site,
        tmp_path,
    )
    assert asked(ring_alias) == each_once("parent", "early", "late")


def test_process_that_forks_while_it_writes_disturbs_nobody(site, tmp_path, ring_alias):
    run(
        """
for number in range(20):
    ask(f"parent_{number}", 200)
    recorder.recorder.buffer.waker.put(None)
    time.sleep(0.002)
    if os.fork() == 0:
        ask(f"child_{number}", 10)
        sys.exit(not recorder.flush())
    if number % 4 == 3:
        assert [os.wait()[1] for _ in range(4)] == [0] * 4
""",
        site,
        tmp_path,
    )
    children = each_once(*(f"child_{number}" for number in range(20)))
    parents = each_once(*(f"parent_{number}" for number in range(20)), count=200)
    assert asked(ring_alias) == children + parents
    assert_all_stored(ring_alias)
