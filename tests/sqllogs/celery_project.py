"""A Celery application with tasks, run by the worker of test_celery.py; its broker is a folder."""

import os
from pathlib import Path

from celery import Celery

FOLDER = Path(os.environ["BROKER_FOLDER"])


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
app.conf.update(broker(FOLDER))


@app.task
def ask(count, done=None):
    """Send statements; a file tells when the last of them is done."""
    from django.db import connection

    with connection.cursor() as cursor:
        for _ in range(count):
            cursor.execute("SELECT 1 AS asked")
    if done is not None:
        Path(done).touch()


@app.task
def fail():
    raise ZeroDivisionError


@app.task
def rest():
    """Send no statement at all."""
