"""A worker of `tests.celery_project` in separate processes, and functions that send tasks to it.

Used by the tests of Celery, in the site and in the app.
"""

from contextlib import contextmanager

from celery import Celery

from tests import servers
from tests.celery_project import broker

NAME = "tests.celery_project"
TIMEOUT_S = 180.0


@contextmanager
def working(folder, environment, *options):
    """Run a worker with a pool of two; what is left of it at the end is killed."""
    command = f"-m celery -A {NAME} worker --concurrency=2 --without-gossip --without-mingle".split()
    environment = environment | {"BROKER_FOLDER": str(folder)}
    process = servers.start([*command, *options], environment, folder / "worker.log")
    try:
        yield process
    finally:
        servers.kill(process)


@contextmanager
def sending(folder):
    """Give what sends a task, by its name in the project."""
    with Celery("sender", set_as_current=False, fixups=[]) as sender:
        sender.conf.update(broker(folder))
        yield lambda task, *arguments, **options: sender.send_task(f"{NAME}.{task}", arguments, **options)
