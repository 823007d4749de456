"""A Celery task is a unit of work; a worker loses no query, serves its metrics and keeps its time limits."""

import re
import time
from collections import Counter
from contextlib import suppress

import pytest
import requests
from celery import signals

from sqllogs import celery as ours
from sqllogs import context
from sqllogs.context import current
from sqllogs.models import SQLLog
from tests.celery_worker import NAME, TIMEOUT_S, sending, working
from tests.ports import free_port
from tests.sqllogs.test_servers import assert_all_stored

LIMITED_TASKS = 20


@pytest.fixture
def ring_database(tmp_path):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "sqllogs.sqlite3"}


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def settings_module():
    return "core.settings"


@pytest.fixture
def worker(tmp_path, site, port, settings_module):
    environment = site | {"METRICS_PORT": str(port), "DJANGO_SETTINGS_MODULE": settings_module}
    with working(tmp_path, environment, "--loglevel=WARNING") as process:
        yield process


@pytest.fixture
def send(tmp_path, worker):
    with sending(tmp_path) as send:
        yield send


def scrape(port):
    with suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    return ""


def wait_until(condition, timeout_s=TIMEOUT_S):
    until_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.1)


def wait_for(port, *lines):
    wait_until(lambda: all(line in scrape(port) for line in lines))
    return scrape(port)


def jobs(task, outcome, count):
    return f'sqllogs_jobs_total{{kind="task",name="{NAME}.{task}",outcome="{outcome}"}} {count:.1f}\n'


def test_tasks_are_recorded_counted_and_all_stored_at_the_end(worker, send, port, ring_alias, tmp_path):
    for _ in range(10):
        send("ask", 3)
        send("fail")
        send("rest")
    expected = (
        jobs("ask", "ok", 10), jobs("fail", "error", 10), jobs("rest", "ok", 10),
        f'sqllogs_job_queries_total{{kind="task",name="{NAME}.ask"}} 30.0\n',
    )  # fmt: skip
    text = wait_for(port, *expected)
    for line in expected:
        assert line in text, (tmp_path / "worker.log").read_text()
    send("ask", 1)
    wait_for(port, jobs("ask", "ok", 11))
    worker.terminate()
    worker.wait(TIMEOUT_S)
    rows = SQLLog.objects.using(ring_alias).filter(kind="task")
    assert Counter(rows.values_list("view", flat=True)) == {f"{NAME}.ask": 31}
    assert sorted(Counter(rows.values_list("trace_id", flat=True)).values()) == [1, *[3] * 10]
    assert_all_stored(ring_alias)


@pytest.mark.parametrize("settings_module", ["tests.sqllogs.celery_settings"])
def test_statements_of_the_last_minute_are_stored_when_the_worker_ends(worker, send, ring_alias, tmp_path):
    """A child of the pool ends without atexit, and here without its writer's next interval."""
    done = tmp_path / "done"
    send("ask", 500, str(done))
    wait_until(done.exists)
    assert not SQLLog.objects.using(ring_alias).filter(kind="task").exists()
    worker.terminate()
    worker.wait(TIMEOUT_S)
    assert SQLLog.objects.using(ring_alias).filter(kind="task").count() == 500
    assert_all_stored(ring_alias)


OUR_FRAME = re.compile(r'File "[^"]*/sqllogs/[^"]*\.py"')


def ignored_limits(log):
    """Return the tracebacks of limits that Python ignored, because they were raised in a finalizer."""
    parts = log.read_text().split("Exception ignored in")[1:]
    return [part.partition("SoftTimeLimitExceeded()")[0] for part in parts]


def test_soft_time_limit_reaches_every_task(worker, send, tmp_path):
    """The pool's signal handler raises it, in one of four cases while a query is being recorded.

    Only finalizers of Django 6.1, such as DatabaseErrorWrapper's, may be in its way: they run without us too.
    """
    files, log = [tmp_path / f"limit_{number}" for number in range(LIMITED_TASKS)], tmp_path / "worker.log"
    for file in files:
        send("ask_until_limit", str(file))

    def missing():
        return [file.name for file in files if not file.exists()]

    wait_until(lambda: len(missing()) <= len(ignored_limits(log)))
    ignored = ignored_limits(log)
    assert len(missing()) <= len(ignored), log.read_text()
    assert [traceback for traceback in ignored if OUR_FRAME.search(traceback)] == []


class Task:
    name = "shop.tasks.nightly"


def test_task_in_a_unit_belongs_to_it():
    with context.unit_of_work("request", "view") as unit:
        ours.begin("1", Task)
        assert current.get() is unit
        ours.end("1", "SUCCESS")
        assert current.get() is unit


def test_task_in_a_command_is_a_unit_of_its_own():
    with context.unit_of_work("command", "worker") as command:
        ours.begin("1", Task)
        assert current.get().view == Task.name
        ours.end("1", "SUCCESS")
        assert current.get() is command


@pytest.mark.parametrize(
    ("state", "failed"), [("SUCCESS", False), ("IGNORED", False), ("FAILURE", True), ("RETRY", True)]
)
def test_task_that_does_not_succeed_has_failed(state, failed):
    context.finished.clear()
    ours.begin("1", Task)
    unit = current.get()
    assert (unit.kind, unit.view) == ("task", Task.name)
    ours.end("1", state)
    assert current.get() is None
    assert list(context.finished) == [unit]
    assert unit.failed is failed


def test_end_of_a_task_that_was_not_seen_to_begin_is_nothing():
    ours.end("unknown", "SUCCESS")
    assert current.get() is None


def test_signals_are_connected_once():
    for _ in range(2):
        ours.install()
    receivers = [key for key, _ in signals.task_prerun.receivers if "sqllogs.begin" in str(key)]
    assert len(receivers) == 1
    for signal_, receiver in ((signals.task_prerun, ours.begin), (signals.task_postrun, ours.end)):
        signal_.disconnect(receiver, dispatch_uid=f"sqllogs.{receiver.__name__}")
