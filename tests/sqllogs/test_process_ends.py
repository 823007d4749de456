"""No way in which a process starts or ends loses queries uncounted."""

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from sqllogs.models import Process, SQLLog
from sqllogs.pipeline import processes
from tests.sqllogs.test_servers import (
    TIMEOUT_S,
    asked,
    assert_all_stored,
    each_once,
    empty_site,
    ring_database,
    run,
)

__all__ = ["empty_site", "ring_database"]

# Stopped gracefully: at the SIGTERM of --die-on-term a worker that is busy ends without atexit.
UWSGI = """
import os, sys
os.execvp("uwsgi", ["uwsgi", "--http-socket", sys.argv[1], "--virtualenv", sys.prefix, "--module", "{module}",
    "--master", "--hook-master-start=unix_signal:15 gracefully_kill_them_all", "--need-app",
    "--pythonpath", os.getcwd(), *sys.argv[2:]])
"""
REQUESTS = 60


def uwsgi(server, *options, module="tests.sqllogs.patient_wsgi", **environment):
    folder = Path(sys.executable).parent
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    assert shutil.which("uwsgi", path=path["PATH"]), "pip install -r tests/requirements.txt"
    return server("-c", UWSGI.format(module=module), "{address}", *options, **path, **environment)


def ask_two_workers(one, ring_alias):
    """Send requests, several at once, and more until a second worker has had one; return their number.

    On a busy machine the first worker may have answered all before another has started.
    """

    def ask(_number):
        return requests.get(f"{one.url}/transactions/streaming/", timeout=60).ok

    with ThreadPoolExecutor(4) as clients:
        answered = list(clients.map(ask, range(REQUESTS)))
        until_s = time.monotonic() + TIMEOUT_S
        while Process.objects.using(ring_alias).count() < 2 and time.monotonic() < until_s:
            answered += clients.map(ask, range(8))
    assert all(answered)
    return len(answered)


OPTIONS = {
    "plain": ["--processes=2"],
    "four": ["--processes=4"],
    "threads": ["--processes=2", "--enable-threads"],
    "lazy": ["--processes=2", "--lazy-apps"],
    "hooks": ["--processes=2", "--py-call-uwsgi-fork-hooks", "--enable-threads", "--threads=2"],
}
# On newer Pythons uWSGI's workers abort with this option, whatever the application:
# https://github.com/unbit/uwsgi/issues/2710
if sys.version_info < (3, 13):
    OPTIONS["after fork"] = ["--processes=2", "--py-call-osafterfork", "--enable-threads", "--threads=2"]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_worker_of_uwsgi_has_its_own_account(options, server, ring_alias):
    one = uwsgi(server, *options)
    answered = ask_two_workers(one, ring_alias)
    output = one.stop()
    assert_all_stored(ring_alias)
    per_request = 5
    streamed = SQLLog.objects.using(ring_alias).filter(view="transactions.views.streaming")
    assert streamed.count() == per_request * answered
    assert Process.objects.using(ring_alias).count() >= 2
    assert "Traceback" not in output


LOADING = """
from tests.sqllogs.patient_wsgi import application
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT 1 AS loading")
connection.close()
"""


def test_query_sent_while_uwsgi_loads_is_stored_once(server, ring_alias, tmp_path):
    (tmp_path / "loading_wsgi.py").write_text(LOADING)
    one = uwsgi(server, "--processes=2", module="loading_wsgi", PYTHONPATH=str(tmp_path))
    for _ in range(REQUESTS):
        assert requests.get(f"{one.url}/transactions/streaming/", timeout=60).ok
    one.stop()
    assert_all_stored(ring_alias)
    assert asked(ring_alias)["loading"] == 1


# Python 3.13 and newer keep a list of waiting threads, and forget it after their own forks. In another child
# the entry of the parent's writer is on a stack that a thread of the child may have got: one in 40 crashed.
FORK_IN_C = """
import ctypes
ask("parent")
recorder.flush()
if ctypes.PyDLL(None).fork() == 0:
    getattr(ctypes.pythonapi, "_PyParkingLot_AfterFork", int)()
    {child}
    sys.exit()
ask("after")
assert os.wait()[1] == 0
"""


def test_child_of_a_fork_in_c_has_its_own_writer_and_identity(site, tmp_path, ring_alias):
    run(FORK_IN_C.format(child="ask('child')"), site, tmp_path)
    assert asked(ring_alias) == each_once("parent", "after", "child")
    assert Process.objects.using(ring_alias).values("uuid", "pid").distinct().count() == 2
    assert_all_stored(ring_alias)


def test_child_of_a_fork_in_c_that_sends_no_query_ends_at_once(site, tmp_path, ring_alias):
    run(FORK_IN_C.format(child="recorder.close()"), site, tmp_path)
    assert asked(ring_alias) == each_once("parent", "after")


def test_mark_of_a_process_is_false_in_its_fork():
    for mark in (processes.process_mark(), processes._Pid()):
        assert mark[0]
        pid = os.fork()
        if pid == 0:
            os._exit(bool(mark[0]))
        assert os.waitpid(pid, 0)[1] == 0


POOL = """
import concurrent.futures

def task(number):
    ask(f"task_{{number}}", 2)
    return number

if __name__ == "__main__":
    {body}
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool_that_is_terminated_stores_its_finished_tasks(method, site, tmp_path, ring_alias):
    body = f"""with multiprocessing.get_context("{method}").Pool(2) as pool:
        assert pool.map(task, range(20), chunksize=1) == list(range(20))"""
    run(POOL.format(body=body), site, tmp_path)
    assert asked(ring_alias) == each_once(*(f"task_{number}" for number in range(20)), count=2)


def test_pool_whose_initializer_sets_up_django_stores_its_finished_tasks(site, tmp_path, ring_alias):
    (tmp_path / "program.py").write_text(
        """
import multiprocessing
import django

def set_up():
    django.setup()
    import tests.sqllogs.patient

def task(number):
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 AS task_{number}_0")
    return number

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2, initializer=set_up) as pool:
        assert pool.map(task, range(20), chunksize=1) == list(range(20))
"""
    )
    run(None, site, tmp_path)
    assert asked(ring_alias) == each_once(*(f"task_{number}" for number in range(20)), count=1)


def test_process_pool_executor_stores_all(site, tmp_path, ring_alias):
    body = """with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert list(pool.map(task, range(20))) == list(range(20))"""
    run(POOL.format(body=body), site, tmp_path)
    assert asked(ring_alias) == each_once(*(f"task_{number}" for number in range(20)), count=2)


FINALIZER = """
from multiprocessing.util import Finalize
def work():
    Finalize(None, ask, args=["late"], exitpriority=1)
    ask("a")
if __name__ == "__main__":  # Python 3.14 does not fork by default
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
"""
FIRST = """
import atexit
def late():
    ask("late")
atexit.unregister(recorder.close)
atexit.register(lambda: late())
atexit.register(recorder.close)
"""
"""Its last function is called after ours."""


@pytest.mark.parametrize(
    ("script", "stored"),
    [
        ("import threading; t = threading.Thread(target=lambda: (ask('a'), sys.exit())); t.start()", ["a"]),
        (
            "import threading as t; a = t.Thread(target=ask, args='a', daemon=True); a.start(); a.join()",
            ["a"],
        ),
        ("ask('a'); sys.exit()", ["a"]),
        ("import atexit; atexit.register(ask, 'late'); ask('a')", ["a", "late"]),
        ("import subprocess; ask('a'); subprocess.run(['true'], preexec_fn=lambda: None)", ["a"]),
        ("ask('a'); os._exit(0)", ["a"]),
        # As RQ ends the process of each job.
        ("if os.fork() == 0: ask('a'); os._exit(3)\nassert os.wait()[1] == 3 << 8", ["a"]),
        # Python calls it last, as logging's handlers that write to a database.
        (f"{FIRST}ask('a')", ["a", "late"]),
        (FIRST, ["late"]),
        (FINALIZER, ["a", "late"]),
    ],
    ids=[
        "exit in a thread",
        "daemon thread",
        "sys.exit",
        "atexit",
        "preexec_fn",
        "os._exit",
        "fork and os._exit",
        "atexit before ours",
        "atexit alone",
        "finalizer after ours",
    ],
)
def test_end_of_a_program_loses_nothing(script, stored, site, tmp_path, ring_alias):
    run(script + "\n", site, tmp_path)
    assert asked(ring_alias) == each_once(*stored)


SIGNALLED_AGAIN = """
import atexit, signal, sqlite3
path = os.environ["DATA_DIR"] + "/sqllogs.sqlite3"
lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

def stop(signum, frame):
    if lock.in_transaction:
        lock.rollback()
    raise {exception}

def close():
    lock.execute("BEGIN IMMEDIATE")
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.05)
    try:
        recorder.close()
    except BaseException as exc:
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(type(exc).__name__)

signal.signal(signal.SIGALRM, stop)
atexit.unregister(recorder.close)
atexit.register(close)
ask("a", 1000)
"""


@pytest.mark.parametrize("exception", ["SystemExit", "KeyboardInterrupt", "TimeoutError"])
def test_signal_at_the_end_of_a_process_loses_nothing(exception, site, tmp_path, ring_alias):
    """As a second Ctrl-C, or the master of gunicorn that stops a worker which is being recycled."""
    assert run(SIGNALLED_AGAIN.format(exception=exception), site, tmp_path) == f"{exception}\n"
    assert asked(ring_alias) == each_once("a", count=1000)


LOCKED = """
import logging, sqlite3
logging.disable()
lock = sqlite3.connect(os.environ["DATA_DIR"] + "/sqllogs.sqlite3", isolation_level=None, timeout=60)
ask("a")
def late():
    lock.execute("BEGIN IMMEDIATE")
    stop, calls = recorder.recorder.writer.stop, []
    recorder.recorder.writer.stop = lambda timeout_s: calls.append(timeout_s) or stop(timeout_s)
    ask("late", 100)
    assert len(calls) == 1, calls
"""


def test_late_queries_wait_once_for_a_locked_store(site, tmp_path, ring_alias):
    run(FIRST + LOCKED, site, tmp_path)
    assert asked(ring_alias) == each_once("a")


def test_writer_needs_no_import_lock(site, tmp_path, ring_alias):
    """A signal handler that raises within an import can leave it locked, as this does."""
    run("import _imp\n_imp.acquire_lock()\nask('a')\nassert recorder.flush()", site, tmp_path)
    assert asked(ring_alias) == each_once("a")


CLOSED_ALL = """
import logging
logging.disable()
ask("before")
recorder.flush()
os.closerange(3, 256)
files = [open(f"{os.environ['DATA_DIR']}/file_{number}", "w+") for number in range(30)]
ask("after")
assert not recorder.flush()
recorder.close()
assert not any(os.fstat(file.fileno()).st_size for file in files)
assert recorder.recorder.delivery.counts().queued == 10
for file in files:
    file.close()
"""


def test_program_that_closes_all_descriptors_finds_nothing_of_ours_in_its_files(site, tmp_path, ring_alias):
    run(CLOSED_ALL, site, tmp_path)
    assert asked(ring_alias) == each_once("before")


ENDED_AT_ONCE = """
import multiprocessing, signal

def work(is_stored):
    ask("early")
    while recorder.recorder.delivery.counts().queued:
        time.sleep(0.1)
    ask("lost")
    is_stored.set()
    {child}

if __name__ == "__main__":
    is_stored = multiprocessing.Event()
    child = multiprocessing.Process(target=work, args=[is_stored])
    child.start()
    {parent}
    child.join()
"""


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", ""),
        ("os.kill(os.getpid(), signal.SIGTERM)", ""),
        ("time.sleep(60)", "is_stored.wait(); child.terminate()"),
    ],
    ids=["SIGKILL", "SIGTERM", "terminate"],
)
def test_end_at_once_loses_no_more_than_the_flush_interval(child, parent, site, tmp_path, ring_alias):
    run(ENDED_AT_ONCE.format(child=child, parent=parent), site, tmp_path)
    assert each_once("early") <= asked(ring_alias)


FORKED_IN_A_THREAD = """
import threading
{before}

def fork():
    if os.fork() == 0:
        ask("child")
    else:
        assert os.wait()[1] == 0

thread = threading.Thread(target=fork)
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    "before", ["", "recorder.recorder.metrics_port = {port}; recorder.serve_metrics()"], ids=["", "metrics"]
)
def test_fork_of_a_thread_ends_with_its_thread(before, site, tmp_path, ring_alias, free_port):
    """Nothing exits there: Python leaves the end of the process to the end of its last thread."""
    run(FORKED_IN_A_THREAD.format(before=before.format(port=free_port())), site, tmp_path)
    assert asked(ring_alias) == each_once("child")


def test_sigterm_with_the_documented_handler_loses_nothing(site, tmp_path, ring_alias):
    handler = "import signal; signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))"
    script = f"{handler}\nask('a')\ntry: os.kill(os.getpid(), signal.SIGTERM)\nexcept SystemExit: sys.exit()"
    run(script, site, tmp_path)
    assert asked(ring_alias) == each_once("a")
