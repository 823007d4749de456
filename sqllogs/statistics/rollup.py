"""Roll minutes up into hours and days, and let go of what is too old or too much.

One for each `sqllogs.storage.Ring`: after each batch it takes one small step, in a
transaction of its own, in the writer's thread. Any process may take it; a row
in the database sees to it that no step is taken twice.
"""

import random
import time
from collections.abc import Iterator
from typing import Protocol

from sqllogs.conf import Conf
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S, ceil_to, floor_to

GRACE_S = 120
"""Minutes are rolled up when so old: what comes later costs three times as much."""
INTERVAL_S = 10.0
TIDY_INTERVAL_S = 300
"""One process of all looks for old rows so often."""
DELETE_ROWS = 5_000
"""Rows deleted in one transaction, about."""
SHARES = {MINUTE_S: 0.4, HOUR_S: 0.5, DAY_S: 0.1}
"""Of the rows that there may be, by resolution."""


class RetentionStore(Protocol):
    """What is asked of a store; each call is a transaction."""

    def roll_up(self, before_s: int) -> bool: ...

    def rolled_up_s(self) -> int:
        """Return up to when minutes are rolled up."""

    def acquire_cleanup_lease(self, now_s: int, interval_s: int) -> bool:
        """Note that this process tidies now, unless one has within the interval."""

    def count_statistics(self, resolution_s: int) -> int: ...

    def count_keys(self) -> int: ...

    def statistic_time_s(self, resolution_s: int, number: int) -> int | None:
        """Return the time of the row with that number, from 0, the oldest."""

    def delete_statistics(self, resolution_s: int, before_s: int) -> int: ...

    def delete_keys(self, before_s: int) -> int:
        """Delete keys last seen before a time; return how many."""


class Retention:
    """For one thread."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._due_at_s = 0.0
        self._cleanup: Iterator[None] | None = None

    def step(self, store: RetentionStore) -> None:
        """Do a little of what is to be done, if it is time."""
        if not self._conf.statistics_rows_max or time.monotonic() < self._due_at_s:
            return
        # Set first: a step that fails is not tried again with every batch.
        self._due_at_s = time.monotonic() + INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
        if self._cleanup is None and store.roll_up(floor_to(int(time.time()) - GRACE_S, MINUTE_S)):
            self._due_at_s = 0.0
            return
        if self._cleanup is None and store.acquire_cleanup_lease(int(time.time()), TIDY_INTERVAL_S):
            self._cleanup = self.tidy(store, int(time.time()))
        if self._cleanup is not None:
            tidying, self._cleanup = self._cleanup, None
            for _ in tidying:
                self._cleanup = tidying
                self._due_at_s = 0.0
                return

    def forget(self) -> None:
        """Begin anew, on another connection."""
        self._cleanup = None

    def tidy(self, store: RetentionStore, now_s: int) -> Iterator[None]:
        """Delete what is too old, then what is too much, oldest first; yield after each chunk."""
        rolled_up_s = store.rolled_up_s()
        # An hour more: minutes are known to be complete from the first full hour of them on.
        minutes_s = now_s - self._conf.statistics_minute_days * DAY_S - HOUR_S
        # Never a minute that is not yet in its hour.
        yield from _delete(store, MINUTE_S, min(floor_to(minutes_s, HOUR_S), floor_to(rolled_up_s, HOUR_S)))
        days_s = floor_to(now_s - self._conf.statistics_hour_days * DAY_S, DAY_S)
        yield from _delete(store, HOUR_S, days_s)
        yield from _delete(store, DAY_S, days_s)
        for resolution_s, share in SHARES.items():
            surplus = store.count_statistics(resolution_s) - int(share * self._conf.statistics_rows_max)
            last_s = store.statistic_time_s(resolution_s, surplus - 1) if surplus > 0 else None
            if last_s is not None:
                end_s = ceil_to(last_s + 1, HOUR_S if resolution_s == MINUTE_S else DAY_S)
                yield from _delete(
                    store, resolution_s, min(end_s, rolled_up_s) if resolution_s == MINUTE_S else end_s
                )
        yield from self._tidy_keys(store, now_s)

    def _tidy_keys(self, store: RetentionStore, now_s: int) -> Iterator[None]:
        """Delete keys of no rows; when they are too many, with the oldest day's rows, but never today's."""
        if store.count_keys() < 0.9 * self._conf.statistics_keys_max:
            return
        oldest_s = store.statistic_time_s(DAY_S, 0)
        if oldest_s is None:
            return
        if not store.delete_keys(oldest_s) and oldest_s < floor_to(store.rolled_up_s(), DAY_S):
            for resolution_s in (MINUTE_S, HOUR_S, DAY_S):
                yield from _delete(store, resolution_s, oldest_s + DAY_S)
            store.delete_keys(oldest_s + DAY_S)
        yield


def _delete(store: RetentionStore, resolution_s: int, before_s: int) -> Iterator[None]:
    while True:
        oldest_s = store.statistic_time_s(resolution_s, 0)
        if oldest_s is None or oldest_s >= before_s:
            return
        end_s = store.statistic_time_s(resolution_s, DELETE_ROWS)
        end_s = before_s if end_s is None else min(max(end_s, oldest_s + 1), before_s)
        store.delete_statistics(resolution_s, end_s)
        yield
