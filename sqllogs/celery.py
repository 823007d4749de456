"""Make each Celery task a unit of work, and flush the SQL log when a worker process stops.

Connected to Celery's signals, in the worker's processes, if Celery was imported before Django is
ready; a project with tasks does that. An eager task in a request belongs to the request.
"""

from contextvars import Token
from time import perf_counter_ns
from typing import Any

from celery import signals

from sqllogs import guard, recorder
from sqllogs.context import UnitOfWork, current, finish

_running: dict[str, tuple[UnitOfWork, Token[UnitOfWork | None], int]] = {}
"""By task id: the unit, the token that restores the previous one, and the start time."""

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
    if current.get() is None:
        unit = UnitOfWork("task", view=task.name)
        _running[task_id] = (unit, current.set(unit), perf_counter_ns())


def end(task_id: str, state: str | None = None, **kwargs: Any) -> None:
    found = _running.pop(task_id, None)
    if found is None:
        return
    unit, token, started_ns = found
    try:
        current.reset(token)
    except ValueError as exc:  # the pool ends the task in another context than it started in
        guard.fault("celery", exc)
        current.set(None)
    unit.failed = state not in _DONE
    finish(unit, perf_counter_ns() - started_ns)
    recorder.wake()


def close(**kwargs: Any) -> None:
    """Flush: a process of the pool ends without atexit (500 of 500 queries of an idle writer were lost)."""
    recorder.close()


def serve(**kwargs: Any) -> None:
    """Serve the metrics on a machine that has a worker and no web server."""
    recorder.serve_metrics()
