"""Other requests and processes at the same moment, for the examples of locks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Barrier, BrokenBarrierError, Event, Thread
from typing import Any

from django.db import Error, connection, transaction

from sqllogs import muted, unit_of_work
from sqllogs.context import current

WAIT_S = 20.0
"""Only ends an example that hangs."""


def at_once(*parts: Callable[[Callable[[], None]], Any]) -> None:
    """Answer requests at the same moment, each in a thread; its function `meet` waits for the others, once.

    What a request fails with is a page of status 500, and nothing else.
    """
    barrier, outer = Barrier(len(parts)), current.get()

    def answer(part: Callable[[Callable[[], None]], Any]) -> None:
        has_met = Event()

        def meet() -> None:
            if not has_met.is_set():
                has_met.set()
                with suppress(BrokenBarrierError):
                    barrier.wait(WAIT_S)

        try:
            with suppress(Error), unit_of_work("request", outer.view) as unit:
                unit.route = outer.route_and_view()[0]
                part(meet)
        finally:
            connection.close()

    _join([Thread(target=answer, args=(part,)) for part in parts])


@contextmanager
def locked_elsewhere(lock: Callable[[], Any], *, for_s: float | None = None) -> Iterator[None]:
    """Let another process lock something in a transaction during the block, or for a while."""
    has_locked, may_end = Event(), Event()

    def hold() -> None:
        try:
            with muted(), transaction.atomic():
                lock()
                has_locked.set()
                may_end.wait(WAIT_S if for_s is None else for_s)
        finally:
            has_locked.set()
            connection.close()

    holder = Thread(target=hold)
    holder.start()
    has_locked.wait(WAIT_S)
    try:
        yield
    finally:
        may_end.set()
        holder.join()


def elsewhere(work: Callable[[], Any]) -> None:
    """Let another process do something, and commit it."""

    def run() -> None:
        try:
            with muted():
                work()
        finally:
            connection.close()

    _join([Thread(target=run)])


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def execute(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


PATIENT = {
    "postgresql": ("SET lock_timeout = '20s'", "RESET lock_timeout"),
    "mysql": ("SET innodb_lock_wait_timeout = 20", "SET innodb_lock_wait_timeout = 1"),
    "sqlite": ("PRAGMA busy_timeout = 20000", "PRAGMA busy_timeout = 300"),
}


@contextmanager
def patient():
    """Wait for locks as long as it takes, on a machine that is busy too."""
    begin, end = PATIENT[connection.vendor]
    execute(begin)
    try:
        yield
    finally:
        execute(end)
