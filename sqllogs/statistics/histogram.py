"""Histograms of durations with logarithmic ranges, packed into a few bytes; their percentiles and levels.

Range 0 is less than a microsecond, range n is 1.1 ** (n - 1) to 1.1 ** n microseconds. A duration is reported
as the geometric mean of its range, which is at most 4.9 % off. Concatenating two packed histograms adds them.
`sqllogs.statistics.counting` packs them in the writer's thread, `sqllogs.read` reads them in the reader's.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from math import ceil, log
from struct import Struct
from typing import NamedTuple

# A growth of 1.1 bounds the error to 4.9 %, within the 5 % promised; 1.05 would double the bytes per row.
GROWTH = 1.1
RANGE_MAX = 255
"""The last range starts at 9 hours and has no end."""
LOG_GROWTH = log(GROWTH)
"""Width of a range, where durations are compared as logarithms."""

_PAIR = Struct(">BI")  # range, count
_COUNT_MAX = 2**32 - 1
Durations = dict[int, int]
"""Calls by range."""

_BEGINS_US = [ceil(GROWTH**number) for number in range(RANGE_MAX)]
"""Rounded up: the same result for whole microseconds, and integers are compared twice as fast."""


SHORT_RANGES = b"".join(
    bytes([number]) * (end_us - begin_us)
    for number, (begin_us, end_us) in enumerate(pairwise([0, *_BEGINS_US[:100]]))
)
"""The range of each duration up to 12 ms, which most are. A lookup takes a third of a search's time."""


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
    """Add a packed histogram; a truncated end is ignored, because broken data must not stop the writer."""
    for number, count in _pairs(more):
        durations[number] = durations.get(number, 0) + count


def _pairs(packed: bytes) -> Iterator[tuple[int, int]]:
    return _PAIR.iter_unpack(packed[: len(packed) // _PAIR.size * _PAIR.size])


def merged(one: bytes, other: bytes) -> bytes:
    """Return the sum of two packed histograms, with one count per range."""
    durations: Durations = {}
    add(durations, one)
    add(durations, other)
    return packed(durations)


def calls_by_range(packed: bytes) -> list[int]:
    """Return the calls of each range; twice as fast as `add` for long histograms."""
    # Each pair has 5 bytes: the range, and its count in big-endian order.
    ranges, upper, lowest = packed[::5], packed[1::5] + packed[2::5] + packed[3::5], packed[4::5]
    # If no count is above 255, its lowest byte is enough: 27 ns a pair instead of 54.
    is_low = upper == bytes(len(upper))
    calls = [0] * (RANGE_MAX + 1)
    for number, count in zip(ranges, lowest, strict=False) if is_low else _pairs(packed):
        calls[number] += count
    return calls


def percentiles_us(calls: Sequence[int], shares: Sequence[float], max_us: int) -> list[float]:
    """Return nearest-rank percentiles of `calls_by_range`, for shares from 0 to 1; 0 without calls."""
    # One pass for all percentiles: a page needs three for each of its 100 rows.
    upto = list(accumulate(calls))
    return [_percentile_us(upto, share, max_us) for share in shares]


def _percentile_us(upto: list[int], share: float, max_us: int) -> float:
    # Without 1e-9, an error in the last bit of the product could round up to the next rank.
    number = bisect_left(upto, max(1, ceil(share * upto[-1] - 1e-9)))
    if number == 0 or not upto[-1]:
        return 0.0
    return float(max_us) if number >= RANGE_MAX else min(mean_us(number), max_us)


def mean_us(number: int) -> float:
    """Return the geometric mean of a range."""
    return 0.0 if number == 0 else float(GROWTH ** (number - 0.5))


_LOW, _HIGH = 0.1, 0.6
"""A level is the mean of the calls between these shares, ordered by duration."""


class Level(NamedTuple):
    """How long the calls of one hour typically take; durations are logarithms of microseconds."""

    calls: int
    value: float
    """Trimmed mean of the logarithms between the 10th and the 60th percentile.

    Bursts of slow calls, calls that wait for a lock, and a changing share of slow ones do not move it.
    """
    variance: float
    """Winsorized variance of one call; that of `value` is `variance / calls` (Tukey and McLaughlin, 1963)."""
    durations: Mapping[int, int]
    """Calls by range."""


def level_of(durations: Mapping[int, int]) -> Level | None:
    """Return the level of a histogram; None without calls."""
    calls = sum(durations.values())
    if not calls:
        return None
    low, high = _LOW * calls, _HIGH * calls
    seen = total = squares = 0.0
    first = last = -1
    for number in sorted(durations):
        upto = seen + durations[number]
        kept = (min(high, upto)) - (max(low, seen))
        if kept > 0:
            first, last = first if first >= 0 else number, number
            total += kept * number
            squares += kept * number * number
        seen = upto
        if seen >= high:
            break
    kept, cut = high - low, calls - high
    center = (total + low * first + cut * last) / calls
    winsorized = (squares + low * first * first + cut * last * last) / calls - center * center
    # 1 / 12 is the variance within a range, in which durations are taken to be spread evenly.
    variance = (max(0.0, winsorized) / (kept / calls) ** 2 + 1 / 12) * LOG_GROWTH**2
    # Range n ends at GROWTH ** n, so its middle is half a range below.
    return Level(calls, (total / kept - 0.5) * LOG_GROWTH, variance, durations)
