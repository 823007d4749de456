"""Follow the ring: return each new record once, although writers overtake each other.

A writer reserves a block of numbers before it writes them, so a number that is missing below the newest one
may still arrive. Runs in the reader's thread.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqllogs.models import SQLLog, slot_ranges
from sqllogs.read.records import Row, rows
from sqllogs.read.ring import Ordering, Position, Records, RingSnapshot, Window, ring

GAP_TIMEOUT_S = 30.0
"""How long a reserved number is waited for; a writer that was killed never writes its block."""

WINDOW_ROWS = 20_000
"""Records read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """What has been found since the last time."""

    rows: list[Row]
    """Oldest first; one that was late stands where it comes."""
    overwritten: int = 0
    """Records that the ring lost before they could be read."""
    unwritten: int = 0
    """Numbers that were given out and not written in time, so that they are not waited for any more."""


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    until_s: float


class RingTail:
    """For one reader."""

    def __init__(self, filtered: Records, after: int) -> None:
        self._filtered = filtered
        self._last = after
        self._gaps: list[_Gap] = []

    def poll(self) -> Iterator[Poll]:
        """Yield what is new by now, in portions."""
        now = ring()
        yield self._late(now)
        while self._last < now.seq:
            yield self._next(now)

    def _next(self, now: RingSnapshot) -> Poll:
        first = max(self._last + 1, now.oldest)
        overwritten = first - self._last - 1
        self._last = min(now.seq, first + WINDOW_ROWS - 1)
        found = self._read(_Gap(first, self._last, time.monotonic() + GAP_TIMEOUT_S), now)
        return Poll(rows=found, overwritten=overwritten)

    def _late(self, now: RingSnapshot) -> Poll:
        gaps, self._gaps = self._gaps, []
        found: list[Row] = []
        overwritten = unwritten = 0
        for gap in gaps:
            overwritten += max(0, min(gap.last + 1, now.oldest) - gap.first)
            gap.first = max(gap.first, now.oldest)
            if gap.first > gap.last:
                continue
            found += self._read(gap, now)
            # What is missing still has become gaps of its own, with the same end.
        expired = [gap for gap in self._gaps if time.monotonic() >= gap.until_s]
        unwritten = sum(gap.last - gap.first + 1 for gap in expired)
        self._gaps = [gap for gap in self._gaps if gap not in expired]
        return Poll(rows=found, overwritten=overwritten, unwritten=unwritten)

    def _read(self, span: _Gap, now: RingSnapshot) -> list[Row]:
        """Read the numbers of a span; remember those that are not there yet."""
        # First what is there: a record written in between is late, not twice.
        there = _there(span.first, span.last, now)
        self._remember(span, there)
        if not there:
            return []
        window = Window(
            ordering=Ordering(descending=False),
            limit=span.last - span.first + 1,
            after=Position(span.first - 1),
        )
        up_to = RingSnapshot(seq=span.last, capacity=now.capacity)
        known = set(there)
        return [row for row in rows(self._filtered, up_to, window) if row[0] in known]

    def _remember(self, span: _Gap, there: list[int]) -> None:
        expected = span.first
        for seq in [*there, span.last + 1]:
            if seq > expected:
                self._gaps.append(_Gap(expected, seq - 1, span.until_s))
            expected = seq + 1


def _there(first: int, last: int, now: RingSnapshot) -> list[int]:
    """Return the numbers of a span that have been written, in order."""
    found: list[int] = []
    for slots in slot_ranges(first, last, now.capacity):
        chosen = SQLLog.objects.filter(slot__range=slots, seq__gte=first, seq__lte=last)
        found += chosen.order_by("slot").values_list("seq", flat=True)
    return found
