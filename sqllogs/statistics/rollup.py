"""Roll minutes up into hours and days, and delete statistics that are too old or too many.

`sqllogs.storage.ring` calls `step` after each batch, in the writer's thread; each step is a small
transaction. Any process may do it: a row in the database ensures that no step is done twice.
"""

import random
import time
from collections.abc import Iterator
from typing import Protocol

from sqllogs.conf import Conf
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S, ceil_to, floor_to

GRACE_S = 120
"""Age at which minutes are rolled up; calls that come later cost three times as much."""
INTERVAL_S = 10.0
CLEANUP_INTERVAL_S = 300
"""How often one of all processes searches for old rows."""
DELETE_ROWS = 5_000
"""Approximate number of rows deleted in one transaction."""
SHARES = {
    MINUTE_S: 0.37, HOUR_S: 0.45, DAY_S: 0.1, -MINUTE_S: 0.03, -HOUR_S: 0.04, -DAY_S: 0.01,
}  # fmt: skip
"""Share of STATISTICS_ROWS_MAX by resolution; a route has many statements, but is one key of units."""


class RetentionStore(Protocol):
    """What `Retention` needs from a store; each call is a transaction."""

    def roll_up(self, before_s: int) -> bool: ...

    def rolled_up_s(self) -> int:
        """Return the time before which minutes are rolled up."""

    def acquire_cleanup_lease(self, now_s: int, interval_s: int) -> bool:
        """Take the lease for a cleanup; return False if a process has had it within the interval."""

    def count_statistics(self, resolution_s: int) -> int: ...

    def count_keys(self) -> int: ...

    def statistic_time_s(self, resolution_s: int, number: int) -> int | None:
        """Return the time of the row with that number; 0 is the oldest."""

    def delete_statistics(self, resolution_s: int, before_s: int) -> int: ...

    def delete_keys(self, before_s: int) -> int:
        """Delete keys last seen before a time; return their number."""


class Retention:
    """For one thread."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._due_at_s = 0.0
        self._cleanup: Iterator[None] | None = None

    def step(self, store: RetentionStore) -> None:
        """Do one step of rollup or cleanup if it is due."""
        if not self._conf.statistics_rows_max or time.monotonic() < self._due_at_s:
            return
        # Set first, so that a step that fails is not retried with every batch.
        self._due_at_s = time.monotonic() + INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
        if self._cleanup is None and store.roll_up(floor_to(int(time.time()) - GRACE_S, MINUTE_S)):
            self._due_at_s = 0.0
            return
        if self._cleanup is None and store.acquire_cleanup_lease(int(time.time()), CLEANUP_INTERVAL_S):
            self._cleanup = self.delete_old(store, int(time.time()))
        if self._cleanup is not None:
            cleanup, self._cleanup = self._cleanup, None
            for _ in cleanup:
                self._cleanup = cleanup
                self._due_at_s = 0.0
                return

    def reset(self) -> None:
        """Stop a cleanup: its connection is closed."""
        self._cleanup = None

    def delete_old(self, store: RetentionStore, now_s: int) -> Iterator[None]:
        """Delete rows beyond the ages, then beyond the numbers, oldest first; yield after each chunk."""
        rolled_up_s = store.rolled_up_s()
        # An hour more: minutes are known to be complete only from the first full hour.
        minutes_s = now_s - self._conf.statistics_minute_days * DAY_S - HOUR_S
        # Never a minute that is not rolled up yet.
        minutes_s = min(floor_to(minutes_s, HOUR_S), floor_to(rolled_up_s, HOUR_S))
        days_s = floor_to(now_s - self._conf.statistics_hour_days * DAY_S, DAY_S)
        for resolution_s in SHARES:
            yield from _delete(store, resolution_s, minutes_s if abs(resolution_s) == MINUTE_S else days_s)
        for resolution_s, share in SHARES.items():
            surplus = store.count_statistics(resolution_s) - int(share * self._conf.statistics_rows_max)
            last_s = store.statistic_time_s(resolution_s, surplus - 1) if surplus > 0 else None
            if last_s is not None:
                is_minute = abs(resolution_s) == MINUTE_S
                end_s = ceil_to(last_s + 1, HOUR_S if is_minute else DAY_S)
                yield from _delete(store, resolution_s, min(end_s, rolled_up_s) if is_minute else end_s)
        yield from self._delete_keys(store, now_s)

    def _delete_keys(self, store: RetentionStore, now_s: int) -> Iterator[None]:
        """Delete keys without rows; if that is not enough, those of the oldest day with its rows.

        Today's rows are never deleted.
        """
        if store.count_keys() < 0.9 * self._conf.statistics_keys_max:
            return
        oldest_s = store.statistic_time_s(DAY_S, 0)
        if oldest_s is None:
            return
        if not store.delete_keys(oldest_s) and oldest_s < floor_to(store.rolled_up_s(), DAY_S):
            for resolution_s in SHARES:
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
