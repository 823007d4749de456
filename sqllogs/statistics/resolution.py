"""The three resolutions of statistics, and which of them cover a time range.

Rows that count units of work have the negative of their resolution: what reads or deletes the calls of
statements, in this release or an earlier one, never meets them.
Everything is in seconds since the epoch, so that neither time zones nor daylight saving time
matter. Used by the writer's thread and by `sqllogs.read`; `by_second` by the writer only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqllogs.record import Record

MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400
RESOLUTIONS_S = (MINUTE_S, HOUR_S, DAY_S)
"""Each divides the next, so that a coarse row is the exact sum of its fine rows."""

NEVER_S = 1 << 62
"""Later than any row."""


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
        """From when the minutes are complete; 0 if none has been deleted."""
        return _complete_from_s(self.minute_s, self.hour_s, HOUR_S)

    @property
    def hours_from_s(self) -> int:
        return _complete_from_s(self.hour_s, self.day_s, DAY_S)

    @property
    def complete_since_s(self) -> int | None:
        """From when every call is counted: the start of the oldest call's finest row."""
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
    """Return from when rows are complete.

    If older coarse rows exist, fine ones have been deleted; if not, there never were any.
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
    """Cut a range, widened by `outward`, into as few rows as cover it, none longer than `coarsest_s`."""
    lengths = [length_s for length_s in RESOLUTIONS_S if length_s <= coarsest_s]
    return _cut(*oldest.outward(since_s, until_s), oldest.rolled_up_s, lengths)


def _cut(since_s: int, until_s: int, rolled_up_s: int, lengths_s: list[int]) -> list[ResolutionSpan]:
    if since_s >= until_s:
        return []
    *finer_s, length_s = lengths_s
    if not finer_s:
        return [ResolutionSpan(length_s, since_s, until_s)]
    # Coarse rows in the middle only: those at the ends hold calls outside the range.
    first_s, last_s = ceil_to(since_s, length_s), floor_to(min(until_s, rolled_up_s), length_s)
    if first_s >= last_s:
        return _cut(since_s, until_s, rolled_up_s, finer_s)
    return [
        *_cut(since_s, first_s, rolled_up_s, finer_s),
        ResolutionSpan(length_s, first_s, last_s),
        *_cut(last_s, until_s, rolled_up_s, finer_s),
    ]


SECOND = timedelta(seconds=1)


def by_second(records: Iterable[Record]) -> Iterator[tuple[datetime, list[Record]]]:
    """Yield a second (UTC) and consecutive records of it; unsorted records yield a second repeatedly.

    What is computed from a time can then be computed once per second, since a batch spans few.
    """
    run: list[Record] = []
    begin = end = datetime.min.replace(tzinfo=UTC)
    for record in records:
        if not begin <= record.time < end:
            if run:
                yield begin, run
            # In UTC whatever the host's time zone is, since minutes of several hosts are added up.
            begin = datetime.fromtimestamp(int(record.time.timestamp()), UTC)
            end = begin + SECOND
            run = []
        run.append(record)
    if run:
        yield begin, run
