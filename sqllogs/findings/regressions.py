"""Decide which statements have become slower, larger or more error-prone.

Pure arithmetic over hourly figures, without the database: `sqllogs.findings.detection` feeds it, in the
thread that detects. Durations are compared as logarithms, so "1.5 times slower" means the same for a
statement of 1 ms and one of 1 s. `slowdown` works in five steps:

1. The level of each hour is a trimmed mean of its durations, see `sqllogs.statistics.histogram.Level`.
2. The seasonal pattern is subtracted: medians by hour of day, by weekday and of weekly jobs (`_pattern`).
3. The level of the window is predicted from the hours before it, by exponential smoothing. The error of the
   prediction is what it was in four weeks: their median absolute deviation (Hampel, 1974; `_expected`).
4. The likelihood of the window's durations is computed for each factor by which all of them may be slower,
   with the density of the last week, estimated by a kernel (`_likelihood`, `_log_density`).
5. The best factor must be likelier than the predicted level, and than a burst, which is a mixture of usual
   and slower calls: likelihood ratio tests (Neyman and Pearson, 1933; Wilks, 1938;
   `_StatementHours.slowdown`).

Rows per call and calls per unit are compared by median and median absolute deviation, errors by their number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import exp, log, sqrt
from statistics import median
from typing import NamedTuple

from sqllogs.statistics.histogram import LOG_GROWTH, Level

DAY, WEEK = 24, 168
HISTORY = 4 * WEEK
"""Maximum hours that a statement is compared with."""
HISTORY_MIN = 40
"""Minimum number of earlier windows with calls; with fewer, nothing is judged."""
WINDOWS = (2, 3, 4, 6)
"""Hours that are judged together: two are enough with much traffic, six are needed with little."""
HOURS = max(WINDOWS)
CALLS_MIN = 20
"""Minimum calls in a window of HOURS; with fewer, there is too little traffic to judge."""
RECENT = (DAY, 2 * DAY, 3 * DAY, WEEK)
"""The first look compares with windows this many hours back."""

# Fixed on the training seeds of `benchmarks.findings`.
FIRST_LOOK = log(1.15)
"""Minimum shift of a statement that is compared with four weeks."""
EFFECT_MIN = log(1.35)
"""Minimum shift of a finding."""
LIKELIER_MIN = 12.0
"""Minimum log-likelihood ratio of a change against the usual noise: 4.9 standard deviations."""
THAN_BURST_MIN = 3.0
"""Minimum log-likelihood ratio of a change against a burst of at most 90 minutes."""
SD_MIN, SD_FACTOR = 0.04, 1.1
"""Minimum standard deviation of a window's level between days; the factor accounts for heavy tails."""
MARGIN = log(1.1)
"""A change must exceed the same hours of yesterday and of earlier weeks by this factor."""
SMOOTHINGS = (0.15, 0.4, 0.8)
"""Weights of the newest hour, from slow to fast."""
PREDICTIONS = ((0.0, 0), (0.5, 0), (0.9, 0), (0.5, 1), (0.9, 1), (0.6, 2), (0.9, 2))
"""Share of the smoothed hours before a window in what is expected of it, and index of the smoothing."""
CALLS_MAX = 500
"""Of an hour, that count: with more, small differences of shape would decide."""

_PARTS = 4
"""Positions in a range, for durations relative to a level."""
_FIRST, _LAST = -80 * _PARTS, 140 * _PARTS
_SHIFTS = range(-14 * _PARTS, 34 * _PARTS)
"""Shifts that are tried, in parts of a range: from a quarter to 25 times as slow."""
_BURST_SHIFTS = range(6 * _PARTS, 23 * _PARTS, _PARTS)
_EDGE = 12 * _PARTS
"""An expected level closer than this to an end of the shifts leaves too few of them to try."""
_WEIGHT_VARIANCE = 0.005
"""Variance between hours, apart from sampling, that weights assume."""
_SD_PER_DEVIATION = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""

Series = Sequence[Level | None]
"""Consecutive hours, oldest first; None without calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """A statement whose calls have all become slower by the same factor."""

    hours: int
    """Number of hours that were judged together."""
    times: float
    """How many times slower, compared with the same hours of earlier days."""
    z: float
    """The change in standard deviations."""


def looks_slower(window: Series, earlier: Iterable[Series]) -> float:
    """Return the shift of a window of HOURS against a few earlier days, as a logarithm: a first look.

    0 if it is within two standard deviations. It takes 20 us, and spares most statements the comparison
    with four weeks.
    """
    days = list(earlier)
    best = 0.0
    for length in (WINDOWS[0], HOURS):
        total = calls = squares = 0.0
        for at in range(len(window) - length, len(window)):
            now = window[at]
            known = [level.value for hours in days if (level := hours[at]) is not None]
            if now is not None and known:
                total += now.calls * (now.value - median(known))
                squares += now.calls * now.variance
                calls += now.calls
        # Squares of two standard deviations; half of that by chance, since a first look must not miss.
        if calls and total > 0 and total**2 >= 4 * (SD_MIN**2 * calls**2 + 0.25 * squares):
            best = max(best, total / calls)
    return best


def slowdown(series: Series, shared: float = 0.0, *, end: int = 0) -> Slowdown | None:
    """Judge the last hours of a statement against up to four weeks before them.

    `end` is the hour of the week, from midnight on, at which the series ends: weekdays differ.
    `shared` is the shift that all statements have in common, which is a separate finding.
    """
    if sum(level.calls for level in series[-HOURS:] if level is not None) < CALLS_MIN:
        return None
    statement = _StatementHours(series, max(0.0, shared), end)
    # The shortest window that shows a change is closest to its begin.
    return next((found for length in WINDOWS if (found := statement.slowdown(length)) is not None), None)


class _Expected(NamedTuple):
    """The expected level of a window, relative to the pattern of day and week."""

    value: float
    sd: float


class _StatementHours:
    """The hours of one statement: their pattern, noise, and the shape of their durations."""

    def __init__(self, series: Series, shared: float, end: int) -> None:
        self._series, self._shared = series, shared
        self._end = len(series)
        self._history = range(max(0, self._end - HOURS))
        self._pattern = _pattern(series, len(self._history), end - len(series))
        self._rest = _minus(_values(series), self._pattern)
        self._noise, self._weight = self._precision()
        self._before = [self._smoothed(smoothing) for smoothing in SMOOTHINGS]
        # Running sums: the mean of each of some 300 windows is then a difference.
        self._sums = [
            list(accumulate(values, initial=0.0))
            for values in (
                self._weight,
                [weight * (rest or 0.0) for weight, rest in zip(self._weight, self._rest, strict=True)],
                [weight**2 * noise for weight, noise in zip(self._weight, self._noise, strict=True)],
                [float(rest is not None) for rest in self._rest],
            )
        ]
        self._density: list[float] = []
        self._likelihoods: dict[int, list[float]] = {}

    def _precision(self) -> tuple[list[float], list[float]]:
        """Return the variance of each hour's level by the number of its calls, and the hour's weight."""
        known = [level for level in self._series if level is not None and level.calls >= 3]
        calls = sum(level.calls for level in known)
        total = sum(level.variance * level.calls * level.calls / (level.calls - 1) for level in known)
        typical = total / calls if calls else 1.0
        noise, weights = [], []
        for level, rest in zip(self._series, self._rest, strict=True):
            if level is None or rest is None:
                noise.append(0.0)
                weights.append(0.0)
                continue
            variance = max(typical, level.variance) if level.calls >= 10 else typical
            noise.append(variance / level.calls)
            # Like 1 / (variance between hours + sampling variance); more calls reduce only the second.
            weights.append(level.calls / (level.calls + typical / _WEIGHT_VARIANCE))
        return noise, weights

    def _smoothed(self, smoothing: float) -> list[float]:
        """Return a prediction of each hour from the hours before it, by exponential smoothing."""
        expected, found = 0.0, []
        for rest, weight in zip(self._rest, self._weight, strict=True):
            found.append(expected)
            if rest is not None:
                # Clipped to a factor of 1.6, so that a single outlier does not dominate the prediction.
                expected += smoothing * weight * (max(-0.5, min(0.5, rest)) - expected)
        return found

    def _mean(self, end: int, length: int) -> tuple[float, float] | None:
        """Return the mean level of a window, and its variance by the number of calls."""
        begin = end - length
        if begin < 0:
            return None
        weight, total, noise, hours = (each[end] - each[begin] for each in self._sums)
        if hours < 2 or hours < length / 2 or weight < 1e-12:
            return None
        return total / weight, max(noise, 0.0) / weight**2

    def _may_be_slower(self, length: int) -> bool:
        """Return True if a window is worth the 3 ms that a prediction takes."""
        lowest = min(share * self._before[at][self._end - length - 1] for share, at in PREDICTIONS)
        return self._is_far(length, _Expected(lowest + self._shared, SD_MIN))

    def _is_far(self, length: int, expected: _Expected) -> bool:
        """Return True if the mean level alone is nearly significant; the likelihood adds only a little."""
        mean = self._mean(self._end, length)
        if mean is None or (shift := mean[0] - expected.value) < FIRST_LOOK:
            return False
        return shift**2 >= 9 * (expected.sd**2 + 0.25 * mean[1])

    def _expected(self, length: int) -> _Expected | None:
        """Return the level that the window should have; None with too little history.

        The hour before the window is left out, because a change may have begun within it.
        """
        known = [
            (mean, end - length - 1)
            for end in range(3 * DAY, len(self._history), 2)
            if end > length and (mean := self._mean(end, length)) is not None
        ]
        if len(known) < HISTORY_MIN:
            return None
        best: tuple[float, float] | None = None
        value = 0.0
        for share, number in PREDICTIONS:
            before = self._before[number]
            rest = sorted(mean[0] - share * before[at] for mean, at in known)
            center = rest[len(rest) // 2]
            deviations = sorted(abs(one - center) for one in rest)
            deviation = _SD_PER_DEVIATION * deviations[len(rest) // 2]
            # A prediction that follows recent hours must be clearly better than a simpler one.
            if best is None or deviation < 0.95 * best[0]:
                best = deviation, center
                value = share * before[self._end - length - 1] + center
        assert best is not None  # noqa: S101
        noise = median(mean[1] for mean, _ in known)
        # Without the sampling variance of few calls, which the likelihoods already contain.
        sd = sqrt(max(best[0] ** 2 - noise, SD_MIN**2))
        return _Expected(value + self._shared, SD_FACTOR * sd)

    def slowdown(self, length: int) -> Slowdown | None:
        """Judge the last `length` hours: is a change likelier than the usual noise, and than a burst?"""
        hours = [at for at in range(self._end - length, self._end) if self._rest[at] is not None]
        if len(hours) < 2 or not self._may_be_slower(length):
            return None
        expected = self._expected(length)
        if expected is None or not self._is_far(length, expected):
            return None
        zero = round(expected.value / LOG_GROWTH * _PARTS) - _SHIFTS[0]
        if not _EDGE < zero < len(_SHIFTS) - 2 * _EDGE:
            return None
        likelihoods = [sum(column) for column in zip(*map(self._likelihood, hours), strict=True)]
        smallest = zero + round(EFFECT_MIN / LOG_GROWTH * _PARTS)
        changed = max(likelihoods[smallest:])
        shift = (likelihoods.index(changed, smallest) - zero) * LOG_GROWTH / _PARTS
        # The logarithm of a normal distribution about the expected level, in steps of the shifts.
        scale = (LOG_GROWTH / _PARTS / expected.sd) ** 2 / 2
        usual = max(one - scale * (at - zero) ** 2 for at, one in enumerate(likelihoods))
        if changed - usual < LIKELIER_MIN or self._is_usual(shift + expected.value, length):
            return None
        if changed - self._burst(hours, length, zero) < THAN_BURST_MIN:
            return None
        # Twice the logarithm of a likelihood ratio is about the square of a standard normal variable.
        return Slowdown(hours=length, times=exp(shift), z=sqrt(2 * (changed - usual)))

    def _is_usual(self, level: float, length: int) -> bool:
        """Return True if yesterday or the same weekday was about as slow at these hours."""
        for back in (DAY, *range(WEEK, self._end, WEEK)):
            end = self._end - back
            known = [rest for rest in self._rest[max(0, end - length) : end] if rest is not None]
            if known and level - sum(known) / len(known) < MARGIN:
                return True
        return False

    def _likelihood(self, hour: int) -> list[float]:
        """Return the log-likelihood of an hour's durations for each of the shifts."""
        if hour not in self._likelihoods:
            density = self._log_density()
            found = [0.0] * len(_SHIFTS)
            for position, calls in self._positions(hour):
                # The density is kept from its end: a larger shift looks at a shorter duration.
                begin = max(0, min(len(density) - len(_SHIFTS), _LAST - position + _SHIFTS[0]))
                part = density[begin : begin + len(_SHIFTS)]
                found = [one + calls * other for one, other in zip(found, part, strict=True)]
            self._likelihoods[hour] = found
        return self._likelihoods[hour]

    def _positions(self, hour: int) -> list[tuple[int, float]]:
        """Return the durations of an hour relative to the usual level, and how many calls count."""
        level, usual = self._series[hour], self._pattern[hour]
        if level is None or usual is None:
            return []
        weight = min(1.0, CALLS_MAX / level.calls)
        center = usual / LOG_GROWTH + 0.5
        return [
            (round((number - center) * _PARTS), calls * weight) for number, calls in level.durations.items()
        ]

    def _log_density(self) -> list[float]:
        """Return the logarithms of a kernel density estimate of the last week, longest durations first."""
        if not self._density:
            counts = [0.0] * (_LAST - _FIRST + 1)
            for hour in self._history[-WEEK - 2 : -2]:
                level, rest = self._series[hour], self._rest[hour]
                if level is None or rest is None:
                    continue
                weight = min(1.0, 60 / min(level.calls, CALLS_MAX))
                moved = round(max(-0.3, min(0.3, rest)) * min(1.0, level.calls / 60) / LOG_GROWTH * _PARTS)
                for position, calls in self._positions(hour):
                    counts[min(_LAST, max(_FIRST, position - moved)) - _FIRST] += calls * weight
            # Two moving averages approximate a bell curve: the density must not follow each detail of a week.
            smooth = _box(_box(counts, 7), 7)
            total = sum(smooth) or 1.0
            shares = (0.985 * one / total + other for one, other in zip(smooth, _tail(), strict=True))
            self._density = [log(share) for share in reversed(list(shares))]
        return self._density

    def _burst(self, hours: Sequence[int], length: int, zero: int) -> float:
        """Return the largest likelihood of a burst of at most 90 minutes, during which calls are slower."""
        mixed = {hour - self._end + length: self._mixed(hour, zero) for hour in hours}
        best: float = max(
            max(sum(column) for column in zip(*(mixed[at][shares[at]] for at in mixed), strict=True))
            for shares in _bursts(length)
        )
        return best

    def _mixed(self, hour: int, zero: int) -> list[list[float]]:
        """Return the likelihoods of an hour of which 0 to 4 quarters are slower, by how much."""
        whole = self._likelihood(hour)
        usual, slower = whole[zero], [whole[zero + shift] for shift in _BURST_SHIFTS]
        density, base = self._log_density(), zero + _SHIFTS[0]
        pairs = []
        for position, calls in self._positions(hour):
            at = _LAST - position + base
            pairs.append(
                (calls, exp(_at(density, at)), [exp(_at(density, at + one)) for one in _BURST_SHIFTS])
            )
        mixed = [[usual] * len(slower)]
        for quarters in (1, 2, 3):
            share = quarters / 4
            columns = (
                [calls * log((1 - share) * normal + share * one) for one in slow]
                for calls, normal, slow in pairs
            )
            mixed.append([sum(column) for column in zip(*columns, strict=True)])
        return [*mixed, slower]


def _at(values: list[float], index: int) -> float:
    return values[min(len(values) - 1, max(0, index))]


@cache
def _tail() -> list[float]:
    """Return a density that is never near zero, so that a single outlier does not decide."""
    tail = [exp(-abs(at / _PARTS - 10) / 15) for at in range(_FIRST, _LAST + 1)]
    total = sum(tail)
    return [0.015 * one / total for one in tail]


def _box(values: list[float], width: int) -> list[float]:
    """Return the mean of `width` neighbours of each value."""
    half = width // 2
    sums = list(accumulate([*[0.0] * half, *values, *[0.0] * half], initial=0.0))
    return [(upto - before) / width for before, upto in zip(sums, sums[width:], strict=False)]


@cache
def _bursts(length: int) -> list[tuple[int, ...]]:
    """Return by hour of a window how many quarters of it a burst of 30 to 90 minutes takes."""
    found = {
        tuple(max(0, min(4 * at + 4, begin + quarters) - max(4 * at, begin)) for at in range(length))
        for quarters in (2, 4, 5, 6)
        for begin in range(-5, 4 * length)
    }
    return [shares for shares in found if any(shares)]


def _pattern(series: Series, history: int, first: int) -> list[float | None]:
    """Return the usual level of each hour: of the hour of day, the day of week, and weekly jobs.

    The first `history` hours show what is usual. `first` is the hour of the week at which the series begins,
    or one of another week. Each part is computed from what the parts before it leave unexplained.
    """
    hours = range(len(series))
    rest = _values(series[:history])
    of_day = [_center(rest[hour::DAY], 5) for hour in range(DAY)]
    by_hour = [of_day[at % DAY] for at in hours]
    rest = _minus(rest, by_hour)
    weekdays = [(first + at) % WEEK // DAY for at in hours]
    of_weekday = [
        _center([one for one, other in zip(rest, weekdays, strict=False) if other == day], DAY // 2) or 0.0
        for day in range(WEEK // DAY)
    ]
    by_weekday = [of_weekday[day] for day in weekdays]
    rest = _minus(rest, by_weekday)
    deviations = [None if one is None else abs(one) for one in rest]
    deviation = _SD_PER_DEVIATION * (_center(deviations, 1) or 0.0)
    jobs = [_job(rest[hour::WEEK], deviation) for hour in range(WEEK)]
    return [
        None if usual is None else usual + by_weekday[at] + jobs[at % WEEK]
        for at, usual in enumerate(by_hour)
    ]


def _values(series: Series) -> list[float | None]:
    return [None if level is None else level.value for level in series]


def _minus(values: Sequence[float | None], usual: Sequence[float | None]) -> list[float | None]:
    """Subtract hour by hour; None where either is unknown. `usual` may be longer."""
    return [
        None if value is None or other is None else value - other
        for value, other in zip(values, usual, strict=False)
    ]


def _job(weeks: Sequence[float | None], deviation: float) -> float:
    """Return by how much an hour of the week is slower each week, 0 if that is not clear."""
    known = [value for value in weeks if value is not None]
    if len(known) < 3:
        return 0.0
    usual = median(known)
    # It must recur in each week, and not come from a single outlier.
    is_clear = usual > 3.1 * deviation / sqrt(len(known)) and min(known) > 0.3 * usual
    return usual if is_clear else 0.0


def _center(values: Iterable[float | None], known_min: int) -> float | None:
    """Return the median of the known values; None if there are fewer than `known_min`."""
    known = [value for value in values if value is not None]
    return median(known) if len(known) >= known_min else None


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
RATIO_Z_MIN = 5.0
RATIO_SD_MIN = 0.15
"""Minimum standard deviation of a ratio's logarithm between days: a week alone shows too little of it."""
RATIO_MARGIN = log(1.3)
"""A ratio must exceed each of the earlier days by this factor."""
RATIO_DAYS_MIN = 5
RATIO_CALLS_MIN = 5
"""Minimum calls, or units of work, of a day or hour whose ratio is compared."""
RATIO_LEAST = 0.2
"""Added to ratios before taking logarithms, so that growth from almost nothing is no finding."""


class Ratio(NamedTuple):
    """A ratio of two counts, such as rows per call or calls per unit of work."""

    total: float
    calls: int

    @property
    def each(self) -> float:
        return self.total / self.calls if self.calls else 0.0


def usual_of_grown(now: Ratio, days: Iterable[Ratio]) -> float | None:
    """Return what a ratio was at the same hours of earlier days; None if it has not clearly grown.

    Logarithms are compared by median and absolute deviation, so that one strange day changes nothing.
    """
    earlier = [log(day.each + RATIO_LEAST) for day in days if day.calls >= RATIO_CALLS_MIN]
    if now.calls < CALLS_MIN or len(earlier) < RATIO_DAYS_MIN:
        return None
    usual = median(earlier)
    # The relative deviation of n events, as of a Poisson distribution.
    by_count = 1 / sqrt(max(1.0, exp(usual) * now.calls))
    deviation = max(
        _SD_PER_DEVIATION * median(abs(value - usual) for value in earlier), RATIO_SD_MIN, by_count
    )
    level = log(now.each + RATIO_LEAST)
    has_grown = level - usual >= max(log(RATIO_MIN), RATIO_Z_MIN * deviation)
    is_clear = has_grown and level > max(earlier) + RATIO_MARGIN
    return max(0.0, float(exp(usual)) - RATIO_LEAST) if is_clear else None


def grown_since(hours: Mapping[int, Ratio], usual: float) -> int | None:
    """Return the first of the last consecutive hours in which a ratio is grown; None if it is one alone.

    One hour may be a burst. Hours without enough calls are left out by the caller.
    """
    since, number = None, 0
    for time_s in sorted(hours, reverse=True):
        # Slightly less than RATIO_MIN, because single hours vary more than the whole window.
        if hours[time_s].each + RATIO_LEAST < RATIO_MIN**0.75 * (usual + RATIO_LEAST):
            break
        since, number = time_s, number + 1
    return since if number >= 2 else None


ERRORS_MIN = 5
ERROR_RATE_MIN = 0.01
ERRORS_TIMES_MIN = 4.0
ERRORS_Z_MIN = 7.0
ERRORS_DISPERSION = 4.0
"""Errors come in groups: their variance is taken as four times that of a Poisson distribution."""


def more_errors(now: Ratio, days: Sequence[Ratio]) -> bool:
    """Return whether a statement fails clearly more often than at the same hours of all earlier days."""
    errors, calls = now
    if errors < ERRORS_MIN or calls < CALLS_MIN or errors < ERROR_RATE_MIN * calls:
        return False
    # Plus half an error, because no errors before does not mean that none were possible.
    expected = calls * (sum(day.total for day in days) + 0.5) / (sum(day.calls for day in days) + 1)
    z = (errors - expected) / sqrt(ERRORS_DISPERSION * expected + 1)
    # A weekly job may fail this often each time.
    is_usual = any(day.calls >= CALLS_MIN and now.each < exp(RATIO_MARGIN) * day.each for day in days)
    return errors >= ERRORS_TIMES_MIN * expected and z >= ERRORS_Z_MIN and not is_usual
