"""Decide which statements have become slower, larger or more error-prone, or are new and expensive.

Pure arithmetic over hourly figures, without the database: `sqllogs.findings.detection` feeds it, in the
thread that detects. Durations are compared as logarithms, so "1.5 times slower" means the same for a
statement of 1 ms and one of 1 s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, inf, log, sqrt
from statistics import median
from typing import NamedTuple

from sqllogs.statistics.histogram import GROWTH

DAY, WEEK = 24, 168
HISTORY = 4 * WEEK
"""Hours that a statement is compared with, at most."""
HISTORY_MIN = 40
"""Windows with calls that must be known before anything is judged."""
WINDOWS = (2, 3, 6)
"""Hours that are judged together: two are enough with much traffic, six are needed with little."""
HOURS = max(WINDOWS)
CALLS_MIN = 20
"""With fewer calls in a window there is too little traffic to judge."""
RECENT = (DAY, 2 * DAY, 3 * DAY, WEEK)
"""Hours back that the first look compares with."""

# Fixed on training seeds of `benchmarks.findings`.
Z_MIN = {2: 5.0, 3: 5.0, 6: 5.0}
FIRST_LOOK = log(1.2)
EFFECT_MIN = log(1.25)
MARGIN = log(1.1)
"""A change must exceed the same hour of yesterday, and of earlier weeks, by this."""
SD_MIN = 0.04
"""Least standard deviation of a window's level between days."""
SMOOTHING = 0.25
HOUR_SDS = 1.0
STEADY = 0.3
FLOOR = 0.5

_LOG_GROWTH = log(GROWTH)
_BUCKET_VARIANCE = _LOG_GROWTH**2 / 12
_LOW, _HIGH = 0.1, 0.4
"""Shares of an hour's fastest and slowest calls that its level leaves out."""
_WEIGHT_VARIANCE = 0.005
_NORMAL_975 = 2.24


class Level(NamedTuple):
    """Where the durations of one hour lie; logarithms of microseconds."""

    calls: int
    value: float
    """Mean of the logarithms between the 10th and the 60th percentile.

    Bursts of slow calls, calls that wait for a lock, and a changing share of slow ones do not move it.
    """
    variance: float
    """Of one call: `variance / calls` is that of `value` (winsorized; Tukey and McLaughlin, 1963)."""
    spread: float
    """Variance without the fastest and the slowest tenth."""
    floor: float
    """10th percentile: it moves if all calls are slower, and not if those of some minutes are."""


Series = Sequence[Level | None]
"""Consecutive hours, oldest first; None without calls."""


def level_of(durations: Mapping[int, int]) -> Level | None:
    """Return the level of a histogram of durations; see `sqllogs.statistics.histogram`."""
    numbers = sorted(durations)
    counts = [durations[number] for number in numbers]
    calls = sum(counts)
    if not calls:
        return None
    value, variance = _trimmed(numbers, counts, _LOW * calls, (1 - _HIGH) * calls)
    _, spread = _trimmed(numbers, counts, 0.1 * calls, 0.9 * calls)
    scale = _LOG_GROWTH**2
    return Level(
        calls=calls,
        value=value * _LOG_GROWTH,
        variance=variance * scale + _BUCKET_VARIANCE,
        spread=spread * scale,
        floor=_quantile(numbers, counts, 0.1 * calls) * _LOG_GROWTH,
    )


def _trimmed(numbers: list[int], counts: list[int], low: float, high: float) -> tuple[float, float]:
    """Return the mean of the calls from number `low` to number `high`, and the variance of one call."""
    seen = total = squares = 0.0
    first = last = numbers[0]
    kept_any = False
    for number, count in zip(numbers, counts, strict=True):
        upto = seen + count
        kept = min(upto, high) - max(seen, low)
        if kept > 0:
            first, last, kept_any = first if kept_any else number, number, True
            total += kept * number
            squares += kept * number * number
        seen = upto
    calls, kept = seen, high - low
    cut = calls - high
    center = (total + low * first + cut * last) / calls
    winsorized = (squares + low * first * first + cut * last * last) / calls - center * center
    return total / kept, max(0.0, winsorized) / (kept / calls) ** 2


def _quantile(numbers: list[int], counts: list[int], rank: float) -> float:
    seen = 0
    for number, count in zip(numbers, counts, strict=True):
        if seen + count >= rank:
            return number - 1 + (rank - seen) / count
        seen += count
    return float(numbers[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """A statement that has become slower, all its calls alike."""

    hours: int
    """How many of the last hours were judged together."""
    times: float
    """How many times slower, compared with the same hours of earlier days."""
    z: float
    """By how many standard deviations."""


def looks_slower(window: Series, earlier: Iterable[Series]) -> float:
    """Return the shift of a window of HOURS against a few earlier days, as a logarithm: a first look.

    It takes 20 us, and spares nine statements of ten the comparison with four weeks.
    """
    days = list(earlier)
    best = 0.0
    for length in (WINDOWS[0], HOURS):
        total = calls = 0.0
        for at in range(len(window) - length, len(window)):
            now = window[at]
            known = [level.value for hours in days if (level := hours[at]) is not None]
            if now is not None and known:
                total += now.calls * (now.value - median(known))
                calls += now.calls
        best = max(best, total / calls if calls else 0.0)
    return best


class _Hour(NamedTuple):
    """What is left of an hour's level without the patterns of day and week."""

    value: float
    weight: float
    noise: float
    """Variance of `value` by the number of calls."""


def slowdown(series: Series, shared: float = 0.0) -> Slowdown | None:
    """Judge the last hours of a statement against up to four weeks before them.

    `shared` is the shift that all statements have in common, which is a finding for itself. Takes 3 ms
    for four weeks of hours.
    """
    hours = _without_patterns(series)
    before = _smoothed(hours)
    found = [
        change
        for length in WINDOWS
        if (change := _Judge(series, hours, before, length, max(0.0, shared)).slowdown()) is not None
    ]
    return max(found, key=lambda change: change.z, default=None)


def _without_patterns(series: Series) -> list[_Hour | None]:
    profile = [_center(series[hour::DAY]) for hour in range(DAY)]
    rest = [
        None if level is None or (usual := profile[at % DAY]) is None else level.value - usual
        for at, level in enumerate(series)
    ]
    of_day = []
    for day in range(0, WEEK, DAY):
        known = [
            value
            for begin in range(day, len(rest), WEEK)
            for value in rest[begin : begin + DAY]
            if value is not None
        ]
        of_day.append(median(known) if len(known) >= DAY // 2 else 0.0)
    typical = _typical_variance(series)
    hours: list[_Hour | None] = []
    for at, (level, value) in enumerate(zip(series, rest, strict=True)):
        if level is None or value is None:
            hours.append(None)
            continue
        variance = max(typical, level.variance) if level.calls >= 10 else typical
        weight = level.calls / (level.calls + typical / _WEIGHT_VARIANCE)
        hours.append(_Hour(value - of_day[at % WEEK // DAY], weight, variance / level.calls))
    return hours


def _center(levels: Series) -> float | None:
    known = [level.value for level in levels if level is not None]
    return median(known) if len(known) >= 5 else None


def _typical_variance(series: Series) -> float:
    total = calls = 0.0
    for level in series:
        if level is not None and level.calls >= 3:
            total += level.variance * level.calls * level.calls / (level.calls - 1)
            calls += level.calls
    return total / calls if calls else 1.0


def _smoothed(hours: Sequence[_Hour | None]) -> list[float]:
    """Return what the hours before each lead to expect of it."""
    expected, found = 0.0, []
    for hour in hours:
        found.append(expected)
        if hour is not None:
            expected += SMOOTHING * hour.weight * (max(-1.0, min(1.0, hour.value)) - expected)
    return found


class _Judge:
    """Compares the last `length` hours of one statement with all earlier windows of that length."""

    def __init__(
        self, series: Series, hours: list[_Hour | None], before: list[float], length: int, shared: float
    ) -> None:
        self._series, self._hours, self._before = series, hours, before
        self._length, self._shared = length, shared
        self._means = self._window_means()
        self._last = [hour for hour in hours[-length:] if hour is not None]
        self._between = SD_MIN**2
        """Variance of a window's level between days; known after `_z`."""

    def _window_means(self) -> list[tuple[float, float] | None]:
        """Return the mean of the window that ends at each hour, and its variance by the number of calls."""
        hours, length = self._hours, self._length
        sums = [
            list(accumulate((0.0 if hour is None else part(hour) for hour in hours), initial=0.0))
            for part in (
                lambda hour: hour.weight,
                lambda hour: hour.weight * hour.value,
                lambda hour: hour.weight**2 * hour.noise,
                lambda hour: 1.0,
            )
        ]
        means: list[tuple[float, float] | None] = []
        for end in range(1, len(hours) + 1):
            begin = max(0, end - length)
            weight, total, noise, count = (each[end] - each[begin] for each in sums)
            enough = count > length / 2 - 0.5 and weight > 1e-12
            means.append((total / weight, max(noise, 0.0) / weight**2) if enough else None)
        return means

    def slowdown(self) -> Slowdown | None:
        now = self._means[-1] if self._means else None
        calls = sum(level.calls for level in self._series[-self._length :] if level is not None)
        if now is None or calls < CALLS_MIN or len(self._last) < 2:
            return None
        effect = min(now[0], self._without_highest()) - self._shared
        if effect < EFFECT_MIN or (z := self._z(effect, now[1])) is None or z < Z_MIN[self._length]:
            return None
        if self._is_usual(effect) or not self._is_steady(effect):
            return None
        return Slowdown(hours=self._length, times=exp(effect), z=z)

    def _without_highest(self) -> float:
        """Return the mean of a longer window without its slowest hour, which may be a burst."""
        if self._length == WINDOWS[0]:
            return inf
        kept = sorted(self._last, key=lambda hour: hour.value)[:-1]
        return sum(hour.weight * hour.value for hour in kept) / sum(hour.weight for hour in kept)

    def _z(self, effect: float, noise: float) -> float | None:
        """Return by how many standard deviations the window differs, None with too little history.

        The best of three predictions is used: the usual level, that of the hours before, or their middle.
        """
        means, length = self._means, self._length
        known = [
            (mean, self._before[at - length + 1])
            for at, mean in enumerate(means[:-length])
            if mean is not None and at >= 3 * DAY
        ]
        if len(known) < HISTORY_MIN:
            return None
        deviation, share, center = _best_prediction([(mean[0], before) for mean, before in known])
        between = max(deviation**2 - median(mean[1] for mean, _ in known), SD_MIN**2)
        z = sorted((mean[0] - share * before - center) / sqrt(between + mean[1]) for mean, before in known)
        # A statement whose level jumps about has heavier tails than a normal distribution.
        scale = max(1.0, z[int(len(z) * 0.975)] / _NORMAL_975)
        jump = effect - share * self._before[len(means) - length] - center
        self._between = between
        if jump < 0.8 * EFFECT_MIN:
            return None
        return jump / sqrt(between + noise) / scale

    def _is_usual(self, effect: float) -> bool:
        """Return whether yesterday, or the same weekday, was about as slow at this time."""
        end = len(self._means) - 1
        earlier = [self._means[end - back] for back in (DAY, *range(WEEK, end + 1, WEEK)) if back <= end]
        return any(effect - mean[0] < MARGIN for mean in earlier if mean is not None)

    def _is_steady(self, effect: float) -> bool:
        """Return whether all of the window is slower; a burst of an hour and a half is not."""
        limit = self._shared + EFFECT_MIN
        if any(hour.value + HOUR_SDS * sqrt(hour.noise + self._between) < limit for hour in self._last):
            return False
        full = self._last[1:] if self._length > WINDOWS[0] else self._last  # it may begin within the first
        values = [hour.value - self._shared for hour in full]
        slack = HOUR_SDS * sqrt(max(hour.noise for hour in full) + self._between)
        if max(values) - min(values) > STEADY * max(values) + slack:
            return False
        weight = sum(hour.weight for hour in full)
        since = sum(hour.weight * hour.value for hour in full) / weight
        if self._length > WINDOWS[0] and since < 0.97 * (effect + self._shared):
            return False
        return self._length == HOURS or self._has_same_shape(effect)

    def _has_same_shape(self, effect: float) -> bool:
        """Return whether the fastest calls are slower too, and the durations as alike as before."""
        series = self._series
        spreads = sorted(level.spread for level in series[-WEEK:] if level is not None and level.calls >= 5)
        spread_max = 1.3 * spreads[int(0.8 * len(spreads))] + 0.02 if spreads else 0.0
        for back, level in enumerate(reversed(series[-2:])):
            if level is None or level.calls < 8:
                continue
            if spreads and level.spread > spread_max:
                return False
            floors = [
                other.floor
                for other in series[len(series) - 1 - back - DAY : 0 : -DAY]
                if other is not None and other.calls >= 8
            ]
            if floors and level.floor - self._shared - median(floors) < FLOOR * effect:
                return False
        return True


def _best_prediction(known: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the deviation from the best prediction, its share of the hours before, and its center."""
    best: tuple[float, float, float] | None = None
    for share in (0.0, 0.5, 1.0):
        rest = [mean - share * before for mean, before in known]
        center = median(rest)
        deviation = 1.4826 * median(abs(value - center) for value in rest)
        if best is None or deviation < 0.9 * best[0]:
            best = deviation, share, center
    assert best is not None  # noqa: S101
    return best


TOGETHER_MIN = 5
"""Statements needed to find what all have in common."""
TOGETHER_SHARE = 0.8


def shared_shift(shifts: Sequence[float]) -> float:
    """Return the shift that all statements have in common, given `looks_slower` of each, else 0."""
    if len(shifts) < TOGETHER_MIN:
        return 0.0
    slower = sum(shift >= FIRST_LOOK for shift in shifts)
    return median(shifts) if slower >= TOGETHER_SHARE * len(shifts) else 0.0


RATIO_MIN = 2.0
RATIO_Z_MIN = 4.0
RATIO_SD_MIN = 0.15
RATIO_DAYS_MIN = 5
RATIO_CALLS_MIN = 5


class Ratio(NamedTuple):
    """Rows of some calls, calls of some units of work, and the like."""

    total: float
    calls: int

    @property
    def each(self) -> float:
        return self.total / self.calls if self.calls else 0.0


def times_more(now: Ratio, days: Iterable[Ratio]) -> float | None:
    """Return how many times a ratio has grown against the same hours of earlier days; None if it has not.

    Logarithms of the ratios are compared by their median and its absolute deviation, so that one strange
    day among the earlier ones changes nothing.
    """
    earlier = [log(day.each + 1) for day in days if day.calls >= RATIO_CALLS_MIN]
    if now.calls < CALLS_MIN or len(earlier) < RATIO_DAYS_MIN:
        return None
    usual = median(earlier)
    deviation = max(1.4826 * median(abs(value - usual) for value in earlier), RATIO_SD_MIN)
    grown = log(now.each + 1) - usual
    is_clear = (
        grown >= max(log(RATIO_MIN), RATIO_Z_MIN * deviation) and log(now.each + 1) > max(earlier) + MARGIN
    )
    return exp(grown) if is_clear else None


ERRORS_MIN = 5
ERROR_RATE_MIN = 0.01
ERRORS_TIMES_MIN = 3.0
ERRORS_Z_MIN = 5.0
ERRORS_DISPERSION = 4.0
"""Errors come in groups: their variance is taken as four times that of a Poisson distribution."""


def more_errors(calls: int, errors: int, usual_calls: int, usual_errors: int) -> bool:
    """Return whether a statement fails clearly more often than before; both counts are of whole hours."""
    if errors < ERRORS_MIN or calls < CALLS_MIN or errors < ERROR_RATE_MIN * calls:
        return False
    expected = calls * (usual_errors + 0.5) / (usual_calls + 1)
    z = (errors - expected) / sqrt(ERRORS_DISPERSION * expected + 1)
    return errors >= ERRORS_TIMES_MIN * expected and z >= ERRORS_Z_MIN


EXPENSIVE_SHARE = 0.1
EXPENSIVE_MS = 10_000.0


def is_expensive(total_ms: float, all_ms: float) -> bool:
    """Return whether a new statement takes so much of the load that it is worth a look."""
    return total_ms >= EXPENSIVE_MS and total_ms >= EXPENSIVE_SHARE * all_ms
