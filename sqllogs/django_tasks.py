"""Make each task of `django.tasks`, or of its backport `django_tasks`, a unit of work.

Connected to their signals, in the worker's thread. A task that runs immediately in a request belongs to it.
"""

from importlib import import_module
from typing import Any

import django
from django.apps import apps

from sqllogs import recorder
from sqllogs.context import TaskUnits

_running = TaskUnits()


def install() -> None:
    """Connect to the signals of what is there; a second call does nothing."""
    if django.VERSION >= (6, 0):
        _connect(import_module("django.tasks.signals"))
    # Only if it is used: importing it takes time.
    if apps.is_installed("django_tasks") or apps.is_installed("django_tasks_db"):
        try:
            _connect(import_module("django_tasks.signals"))
        except ImportError:  # django_tasks_db needs no backport since Django 6.0
            return


def _connect(signals: Any) -> None:
    for signal, receiver in ((signals.task_started, begin), (signals.task_finished, end)):
        signal.connect(receiver, weak=False, dispatch_uid=f"sqllogs.{receiver.__name__}")


def begin(task_result: Any, **kwargs: Any) -> None:
    _running.begin(task_result.id, task_result.task.module_path)


def end(task_result: Any, **kwargs: Any) -> None:
    if _running.end(task_result.id, failed=task_result.status != "SUCCESSFUL"):
        recorder.wake()
