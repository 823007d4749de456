"""Run the search for findings in a separate thread, in one process at a time.

A sink: the writer's thread only looks at the clock after each round, and starts a thread that runs
`sqllogs.findings.detection` and `notifications`. The application is not affected: the search's queries are
muted, and its errors are counted and logged at most once a minute.
"""

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.db import connections

from sqllogs import conf, guard, threads
from sqllogs.conf import Conf
from sqllogs.context import muted, untraced
from sqllogs.record import Batch, WriterStatus

if TYPE_CHECKING:
    from sqllogs.models import Finding

INTERVAL_S = 600
"""Minimum time between two searches, over all processes."""


class Schedule:
    """A sink that uses no records, only the writer's rounds as a clock."""

    def __init__(self) -> None:
        self._thread: threads.RunningThread | None = None
        # Not at the start of a process, because commands end soon and all workers start together.
        self._due_at_s = time.monotonic() + INTERVAL_S * random.uniform(0.1, 1.0)  # noqa: S311

    def add(self, batch: Batch) -> None:
        pass

    def close(self, timeout_s: float) -> None:
        pass  # a search that is under way is repeated by the next process

    def set_status(self, status: WriterStatus) -> None:
        if time.monotonic() < self._due_at_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._due_at_s = time.monotonic() + INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
        self._thread = threads.start(_search, "sqllogs-findings")


def make(settings: Conf) -> Schedule | None:
    return Schedule() if settings.findings else None


def _search() -> None:
    try:
        search()
    except Exception as exc:
        guard.fault("findings", exc)
    finally:
        connections[conf.load().database].close()


def search(*, at_once: bool = False) -> "list[Finding] | None":
    """Search, and return the findings that are new or reopened; None if another process has just searched.

    With `at_once` search in any case. Raise database errors.
    """
    from sqllogs.findings.detection import detect, take_turn  # imports the readers, which few processes need
    from sqllogs.findings.notifications import notify

    now = datetime.now(UTC)
    with muted(), untraced():
        turn = take_turn(now, 0 if at_once else INTERVAL_S)
        if turn is None:
            return None
        found = detect(turn, now)
        notify(conf.load(), now)
        return found
