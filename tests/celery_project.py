"""A Celery application with tasks, run by the workers of `tests.celery_worker`; its broker is a folder."""

import logging
import os
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from sqllogs.threads import RLock

logger = logging.getLogger("work")


def broker(folder):
    """Return the settings of a broker that both sides find in a folder."""
    for name in ("messages", "control"):
        (folder / name).mkdir(exist_ok=True)
    messages = str(folder / "messages")
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(folder / "control"),
        },
        "broker_connection_retry_on_startup": True,
        "worker_hijack_root_logger": False,
    }


app = Celery("celery_project")
if "BROKER_FOLDER" in os.environ:
    app.conf.update(broker(Path(os.environ["BROKER_FOLDER"])))


@app.task
def ask(count, done=None):
    """Send tasks; a file appears when the last of them is done."""
    from django.db import connection

    with connection.cursor() as cursor:
        for _ in range(count):
            cursor.execute("SELECT 1 AS asked")
    if done is not None:
        Path(done).touch()


@app.task
def work(number):
    """Send three statements and log one line."""
    ask(3)
    logger.warning("task %s", number)


@app.task
def fail():
    raise ZeroDivisionError


def _ask_for(duration_s):
    # A function: Python 3.13 leaves a loop's jump back out of the `try` around it, as
    # https://github.com/python/cpython/issues/130279 says. 3.14 may leave Django's own lock taken, see
    # https://github.com/python/cpython/issues/148874.
    from django.db import connection

    connection._thread_sharing_lock = RLock()
    until_s = time.monotonic() + duration_s
    while time.monotonic() < until_s:
        ask(1)


@app.task(soft_time_limit=0.3)
def ask_until_limit(done):
    """Send statements until the soft time limit; a file says that it came.

    It ends without one too, for Python ignores what is raised in a finalizer. A hard limit would let the pool
    fork another child in a thread, and there Python 3.13.0 runs no signal handler any more.
    """
    try:
        _ask_for(5)
    except SoftTimeLimitExceeded:
        Path(done).touch()


@app.task
def rest():
    """Send no statement at all."""
