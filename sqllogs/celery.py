"""Make each task of Celery, and of `django.tasks` or its backport, a unit of work; flush when a worker stops.

Receives their signals in the worker's processes and threads. Celery's are connected if the project imports it
before Django is ready. A task that runs immediately in a request belongs to the request.
"""

from importlib import import_module
from typing import Any

import django
from django.apps import apps

from sqllogs import recorder
from sqllogs.context import current, unit_of_work

_DONE = {"SUCCESS", "IGNORED"}


class _TaskUnits:
    """The units of running tasks, by task id: a task has a signal for its start and one for its end."""

    def __init__(self) -> None:
        self._running: dict[str, unit_of_work] = {}

    def begin(self, task_id: str, name: str) -> None:
        """Begin a unit, unless the task runs within a request or another task, to which it then belongs."""
        outer = current.get()
        if outer is None or outer.kind == "command":  # a worker is itself an endless command
            task = self._running[task_id] = unit_of_work("task", name)
            task.__enter__()

    def end(self, task_id: str, *, failed: bool) -> bool:
        """End the unit; return False if the task has none."""
        task = self._running.pop(task_id, None)
        if task is not None:
            task.end(failed=failed)
        return task is not None


_running = _TaskUnits()


def install() -> None:
    """Connect to Celery's signals; a second call does nothing."""
    from celery import signals  # here, because projects without Celery import this module too

    _connect(signals.task_prerun, begin)
    _connect(signals.task_postrun, end)
    _connect(signals.worker_process_shutdown, close)
    _connect(signals.worker_ready, serve)


def begin(task_id: str, task: Any, **kwargs: Any) -> None:
    _running.begin(task_id, task.name)


def end(task_id: str, state: str | None = None, **kwargs: Any) -> None:
    if _running.end(task_id, failed=state not in _DONE):
        recorder.wake()


def close(**kwargs: Any) -> None:
    """Flush, because the pool's processes skip atexit: without this all 500 queries of a test were lost."""
    recorder.close()


def serve(**kwargs: Any) -> None:
    """Serve the metrics on a machine that runs a worker but no web server."""
    recorder.serve_metrics()


def install_django_tasks() -> None:
    """Connect to the signals of `django.tasks` and its backport, if available; a second call does nothing."""
    if django.VERSION >= (6, 0):
        _connect_django_tasks(import_module("django.tasks.signals"))
    # Only if it is used: importing it takes time.
    if apps.is_installed("django_tasks") or apps.is_installed("django_tasks_db"):
        try:
            _connect_django_tasks(import_module("django_tasks.signals"))
        except ImportError:  # django_tasks_db needs no backport since Django 6.0
            return


def _connect_django_tasks(signals: Any) -> None:
    _connect(signals.task_started, begin_django_task)
    _connect(signals.task_finished, end_django_task)


def begin_django_task(task_result: Any, **kwargs: Any) -> None:
    _running.begin(task_result.id, task_result.task.module_path)


def end_django_task(task_result: Any, **kwargs: Any) -> None:
    if _running.end(task_result.id, failed=task_result.status != "SUCCESSFUL"):
        recorder.wake()


def _connect(signal: Any, receiver: Any) -> None:
    signal.connect(receiver, weak=False, dispatch_uid=f"sqllogs.{receiver.__name__}")
