"""Make each Celery task a unit of work, and flush the SQL log when a worker process stops.

Connected to Celery's signals, in the worker's processes, if Celery was imported before Django is
ready; a project with tasks does that. An eager task in a request belongs to the request.
"""

from typing import Any

from celery import signals

from sqllogs import recorder
from sqllogs.context import TaskUnits

_running = TaskUnits()

_DONE = {"SUCCESS", "IGNORED"}


def install() -> None:
    """Connect to Celery's signals; a second call does nothing."""
    for signal, receiver in (
        (signals.task_prerun, begin),
        (signals.task_postrun, end),
        (signals.worker_process_shutdown, close),
        (signals.worker_ready, serve),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"sqllogs.{receiver.__name__}")


def begin(task_id: str, task: Any, **kwargs: Any) -> None:
    _running.begin(task_id, task.name)


def end(task_id: str, state: str | None = None, **kwargs: Any) -> None:
    if _running.end(task_id, failed=state not in _DONE):
        recorder.wake()


def close(**kwargs: Any) -> None:
    """Flush: a process of the pool ends without atexit (500 of 500 queries of an idle writer were lost)."""
    recorder.close()


def serve(**kwargs: Any) -> None:
    """Serve the metrics on a machine that has a worker and no web server."""
    recorder.serve_metrics()
