"""The three resolutions of statistics: which of them cover a time range, rollup of minutes, and retention.

Rows that count units of work have a negative resolution. So code that reads or deletes the calls of
statements never sees them, not even that of an earlier release. All times are seconds since the epoch, so
time zones and daylight saving time do not matter. `sqllogs.storage.ring` calls `Retention.step` after each
batch, in the writer's thread; `sqllogs.read` uses the rest in the reader's.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sqllogs.conf import Conf

MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400
RESOLUTIONS_S = (MINUTE_S, HOUR_S, DAY_S)
"""Each divides the next, so that a coarse row is the exact sum of its fine rows."""

NEVER_S = 1 << 62
"""Later than any row."""

GRACE_S = 120
"""Age at which minutes are rolled up. A call that comes later must be added to all three resolutions."""
INTERVAL_S = 10.0
CLEANUP_INTERVAL_S = 300
"""How often old rows are deleted, by one of all processes."""
DELETE_ROWS = 5_000
"""Approximate number of rows deleted in one transaction."""
SHARES = {
    MINUTE_S: 0.37, HOUR_S: 0.45, DAY_S: 0.1, -MINUTE_S: 0.03, -HOUR_S: 0.04, -DAY_S: 0.01,
}  # fmt: skip
"""Share of STATISTICS_ROWS_MAX by resolution.

Negative ones need few rows, one per route and not per statement.
"""


class ResolutionSpan(NamedTuple):
    """Rows of one resolution with `since_s` <= time < `until_s`."""

    resolution_s: int
    since_s: int
    until_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Oldest:
    """The time of the oldest row of each resolution; None if there is no row."""

    minute_s: int | None
    hour_s: int | None
    day_s: int | None
    rolled_up_s: int
    """Minutes before this are included in hours and days."""

    @property
    def minutes_from_s(self) -> int:
        """The time from which minutes are complete; 0 if none has been deleted."""
        return _complete_from_s(self.minute_s, self.hour_s, HOUR_S)

    @property
    def hours_from_s(self) -> int:
        return _complete_from_s(self.hour_s, self.day_s, DAY_S)

    @property
    def complete_since_s(self) -> int | None:
        """The time from which every call is counted: the start of the oldest call's finest row."""
        oldest = next(
            (time_s for time_s in (self.day_s, self.hour_s, self.minute_s) if time_s is not None), None
        )
        for finer, length in ((self.hour_s, DAY_S), (self.minute_s, HOUR_S)):
            if oldest is not None and finer is not None and oldest < finer < oldest + length:
                oldest = finer
        return oldest

    def outward(self, since_s: int, until_s: int) -> tuple[int, int]:
        """Widen a range to the boundaries of the rows that exist at its ends."""
        return floor_to(since_s, self.finest_s(since_s)), ceil_to(until_s, self.finest_s(until_s))

    def finest_s(self, time_s: int) -> int:
        """Return the finest resolution that still exists at a time."""
        if floor_to(time_s, MINUTE_S) >= self.minutes_from_s:
            return MINUTE_S
        return HOUR_S if floor_to(time_s, HOUR_S) >= self.hours_from_s else DAY_S


def _complete_from_s(oldest_s: int | None, coarser_s: int | None, length_s: int) -> int:
    """Return the time since which rows are complete.

    If older coarse rows exist, fine rows have been deleted; otherwise there never were older calls.
    """
    if coarser_s is None:
        return 0
    if oldest_s is None:
        return NEVER_S
    return 0 if coarser_s >= floor_to(oldest_s, length_s) else ceil_to(oldest_s, length_s)


def floor_to(time_s: int, length_s: int) -> int:
    return time_s - time_s % length_s


def ceil_to(time_s: int, length_s: int) -> int:
    return -(-time_s // length_s) * length_s


def spans(since_s: int, until_s: int, oldest: Oldest, coarsest_s: int = DAY_S) -> list[ResolutionSpan]:
    """Split a range, widened by `outward`, so that few rows cover it, none longer than `coarsest_s`."""
    lengths = [length_s for length_s in RESOLUTIONS_S if length_s <= coarsest_s]
    return _cut(*oldest.outward(since_s, until_s), oldest.rolled_up_s, lengths)


def _cut(since_s: int, until_s: int, rolled_up_s: int, lengths_s: list[int]) -> list[ResolutionSpan]:
    if since_s >= until_s:
        return []
    *finer_s, length_s = lengths_s
    if not finer_s:
        return [ResolutionSpan(length_s, since_s, until_s)]
    # Coarse rows only in the middle: at the ends they contain calls outside the range.
    first_s, last_s = ceil_to(since_s, length_s), floor_to(min(until_s, rolled_up_s), length_s)
    if first_s >= last_s:
        return _cut(since_s, until_s, rolled_up_s, finer_s)
    return [
        *_cut(since_s, first_s, rolled_up_s, finer_s),
        ResolutionSpan(length_s, first_s, last_s),
        *_cut(last_s, until_s, rolled_up_s, finer_s),
    ]


class RetentionStore(Protocol):
    """What `Retention` needs from a store; each call is a transaction."""

    def roll_up(self, before_s: int) -> bool: ...

    def rolled_up_s(self) -> int:
        """Return the time before which minutes are rolled up."""

    def acquire_cleanup_lease(self, now_s: int, interval_s: int) -> bool:
        """Take the lease for a cleanup; return False if any process took it within the interval."""

    def count_statistics(self, resolution_s: int) -> int: ...

    def count_keys(self) -> int: ...

    def statistic_time_s(self, resolution_s: int, number: int) -> int | None:
        """Return the time of the row with that number; 0 is the oldest."""

    def delete_statistics(self, resolution_s: int, before_s: int) -> int: ...

    def delete_keys(self, before_s: int) -> int:
        """Delete keys last seen before a time; return their number."""


class Retention:
    """Roll up minutes and delete old rows, step by step; for one thread."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._due_at_s = 0.0
        self._cleanup: Iterator[None] | None = None

    def step(self, store: RetentionStore) -> None:
        """Do one step of rollup or cleanup if it is due."""
        if not self._conf.statistics_rows_max or time.monotonic() < self._due_at_s:
            return
        # Set first, so that a failing step is not retried with every batch.
        self._due_at_s = time.monotonic() + INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
        if self._cleanup is None and store.roll_up(floor_to(int(time.time()) - GRACE_S, MINUTE_S)):
            self._due_at_s = 0.0
            return
        if self._cleanup is None and store.acquire_cleanup_lease(int(time.time()), CLEANUP_INTERVAL_S):
            self._cleanup = self.delete_old(store, int(time.time()))
        if self._cleanup is not None:
            cleanup, self._cleanup = self._cleanup, None
            # One chunk per step, because no process can write a batch during it.
            for _ in cleanup:
                self._cleanup = cleanup
                self._due_at_s = 0.0
                return

    def reset(self) -> None:
        """Stop a cleanup, whose connection is about to be closed."""
        self._cleanup = None

    def delete_old(self, store: RetentionStore, now_s: int) -> Iterator[None]:
        """Delete rows beyond the ages, then beyond the numbers, oldest first; yield after each chunk."""
        rolled_up_s = store.rolled_up_s()
        # One hour more, because minutes are known to be complete only from the first full hour on.
        minutes_s = now_s - self._conf.statistics_minute_days * DAY_S - HOUR_S
        # Never a minute that is not rolled up yet.
        minutes_s = min(floor_to(minutes_s, HOUR_S), floor_to(rolled_up_s, HOUR_S))
        days_s = floor_to(now_s - self._conf.statistics_hour_days * DAY_S, DAY_S)
        # A day at a time: otherwise a host whose clock is years ahead would delete all statistics at once.
        if (oldest_s := store.statistic_time_s(DAY_S, 0)) is not None:
            days_s = min(days_s, oldest_s + DAY_S)
        for resolution_s in SHARES:
            yield from _delete(store, resolution_s, minutes_s if abs(resolution_s) == MINUTE_S else days_s)
        for resolution_s, share in SHARES.items():
            surplus = store.count_statistics(resolution_s) - int(share * self._conf.statistics_rows_max)
            last_s = store.statistic_time_s(resolution_s, surplus - 1) if surplus > 0 else None
            if last_s is not None:
                is_minute = abs(resolution_s) == MINUTE_S
                # Whole hours or days, because readers would not use the rest of one.
                end_s = ceil_to(last_s + 1, HOUR_S if is_minute else DAY_S)
                yield from _delete(store, resolution_s, min(end_s, rolled_up_s) if is_minute else end_s)
        yield from self._delete_keys(store, now_s)

    def _delete_keys(self, store: RetentionStore, now_s: int) -> Iterator[None]:
        """Delete keys without rows; if nothing was deleted, the oldest day's rows and then their keys.

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
        # All rows of a time are deleted together, even if one minute has more than DELETE_ROWS.
        end_s = store.statistic_time_s(resolution_s, DELETE_ROWS)
        end_s = before_s if end_s is None else min(max(end_s, oldest_s + 1), before_s)
        store.delete_statistics(resolution_s, end_s)
        yield
