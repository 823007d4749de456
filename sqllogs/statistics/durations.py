"""Counts of durations in logarithmic ranges, packed into a few bytes; percentiles of them.

Range 0 is what took no microsecond; range n is from 1.1 ** (n - 1) to 1.1 ** n
microseconds, and is told by its geometric mean: 4.9 % off at most. Two packed
counts are added by joining them; `packed` makes one count of each range again.
Used by the writer and by the readers.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil
from struct import Struct

GROWTH = 1.1
RANGE_MAX = 255
"""The last range begins at 9 hours, and has no end."""

_PAIR = Struct(">BI")  # range, count
_COUNT_MAX = 2**32 - 1
Durations = dict[int, int]
"""Calls by range."""


_BEGINS_US = [GROWTH**number for number in range(RANGE_MAX)]


def range_of(duration_us: int) -> int:
    return bisect_right(_BEGINS_US, duration_us)


def packed(durations: Mapping[int, int]) -> bytes:
    pairs = []
    for number, count in durations.items():
        while count > _COUNT_MAX:
            pairs.append(_PAIR.pack(number, _COUNT_MAX))
            count -= _COUNT_MAX
        pairs.append(_PAIR.pack(number, count))
    return b"".join(pairs)


def add(durations: Durations, more: bytes) -> None:
    """Add packed counts; bytes that are none of ours are ignored, as a fault must not stop the writer."""
    for number, count in _PAIR.iter_unpack(more[: len(more) // _PAIR.size * _PAIR.size]):
        durations[number] = durations.get(number, 0) + count


def merged(one: bytes, other: bytes) -> bytes:
    """Return the sum of two packed counts."""
    durations: Durations = {}
    add(durations, one)
    add(durations, other)
    return packed(durations)


def percentiles_us(durations: Durations, shares: Sequence[float], max_us: int) -> list[float]:
    """Return the nearest-rank percentiles for shares between 0 and 1; 0 of no calls."""
    ranges = sorted(durations)
    upto = list(accumulate(durations[number] for number in ranges))
    return [_percentile_us(ranges, upto, share, max_us) for share in shares]


def _percentile_us(ranges: list[int], upto: list[int], share: float, max_us: int) -> float:
    if not upto:
        return 0.0
    rank = max(1, ceil(share * upto[-1] - 1e-9))
    for number, calls in zip(ranges, upto, strict=True):
        if calls >= rank and number < RANGE_MAX:
            return min(GROWTH ** (number - 0.5), max_us) if number else 0.0
    return float(max_us)
