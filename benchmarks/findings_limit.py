"""What could be known of the synthetic series: recall of an observer who knows all but the noise itself.

Knows each statement's pattern, drift, shape of durations, and the parameters of its noise; there are no
bursts of slow calls. Its level of an hour is as exact as Fisher's information allows, a Kalman filter
predicts it, and the best of all begins of a change is taken. No rule can do better. Run by
`python -m benchmarks.findings_limit`.
"""

from collections import Counter
from collections.abc import Sequence
from math import erf, inf, log, sqrt
from random import Random
from typing import NamedTuple

from benchmarks.findings import LIMITS, SEED, SITES, TIMES
from benchmarks.findings_series import SITE, Statement, make_site, poisson
from benchmarks.report import table
from sqllogs.findings.regressions import CALLS_MIN, DAY, HISTORY, HOURS, WEEK
from sqllogs.statistics.histogram import GROWTH

WEEKS = 2
EFFECT_MIN = log(1.2)
THRESHOLDS = (4.3, 4.6, 5.0)
"""Standard deviations."""


class Innovation(NamedTuple):
    """What is new in an hour's level."""

    value: float
    variance: float
    gain: float


def information(one: Statement) -> float:
    """Return Fisher's information of one call about the level."""
    width, step, share = log(GROWTH), 0.02, sorted(one.slow_share)[len(one.slow_share) // 2]
    parts = (
        ((1 - share) * (1 - one.outliers), 0.0, one.sigma),
        (share * (1 - one.outliers), one.slow_shift, one.sigma),
        (one.outliers, 2.5, 0.8),
    )

    def share_of(number: int, level: float) -> float:
        return sum(
            weight
            * (erf((number + 1) * width / sd / sqrt(2) - at) - erf(number * width / sd / sqrt(2) - at))
            / 2
            for weight, shift, sd in parts
            if (at := (level + shift) / sd / sqrt(2)) is not None
        )

    total = 0.0
    for number in range(-60, 90):
        if (usual := share_of(number, 0.0)) > 1e-12:
            total += ((share_of(number, step) - share_of(number, -step)) / (2 * step)) ** 2 / usual
    return total


def innovations(one: Statement, levels: Sequence[float], noise: Sequence[float]) -> list[Innovation]:
    value, variance, found = 0.0, one.noise_sd**2, []
    for level, error in zip(levels, noise, strict=True):
        total = variance + error
        gain = variance / total
        found.append(Innovation(level - value, total, gain))
        value, variance = value + gain * (level - value), variance * (1 - gain)
        value *= one.lasting
        variance = one.lasting**2 * variance + one.noise_sd**2 * (1 - one.lasting**2)
    return found


def best_z(one: Statement, new: Sequence[Innovation], shifts: Sequence[float]) -> float:
    """Return by how many standard deviations the last hours differ, for the best begin of a change.

    `shifts` are what a planted change adds to the innovations.
    """
    best = 0.0
    for begin in range(len(new)):
        absorbed = above = below = 0.0
        for hour, shift in zip(new[begin:], shifts[begin:], strict=True):
            if hour.variance < inf:
                seen = 1 - absorbed
                above += seen * (hour.value + shift) / hour.variance
                below += seen * seen / hour.variance
                absorbed += hour.gain * seen
            absorbed *= one.lasting
        if below and above / below >= EFFECT_MIN:
            best = max(best, above / sqrt(below))
    return best


def _absorbed(one: Statement, new: Sequence[Innovation], begin: int, shift: float) -> list[float]:
    found, absorbed = [0.0] * begin, 0.0
    for hour in new[begin:]:
        found.append((1 - absorbed) * shift)
        absorbed = one.lasting * (absorbed + hour.gain * (1 - absorbed))
    return found


def observe(one: Statement, rng: Random, counts: Counter[object]) -> None:
    hours = len(one.calls)
    calls, precision = [poisson(rng, mean) for mean in one.calls], information(one)
    noise = [1 / number / precision if number else inf for number in calls]
    value, levels = rng.gauss(0, one.noise_sd), []
    for error in noise:
        levels.append(value + (rng.gauss(0, sqrt(error)) if error < inf else 0.0))
        value = one.lasting * value + rng.gauss(0, one.noise_sd * sqrt(1 - one.lasting**2))
    new = innovations(one, levels, noise)
    last = dict.fromkeys(THRESHOLDS, -DAY)
    for end in range(HISTORY + 1, hours + 1):
        if sum(calls[end - HOURS : end]) >= CALLS_MIN:
            z = best_z(one, new[end - HOURS : end], [0.0] * HOURS)
            for threshold in THRESHOLDS:
                if z > threshold:
                    counts["false", threshold] += end - last[threshold] > DAY
                    last[threshold] = end
    for times in TIMES:
        begin, minute = rng.randrange(HISTORY, hours - HOURS - 1), rng.random()
        for limit, calls_min, calls_max in LIMITS:
            window = slice(begin, begin + limit)
            since = sum(calls[window]) - calls[begin] * minute
            if calls_min <= since <= calls_max:
                shifts = _absorbed(one, new[window], 1, log(times))  # from the first full hour on
                z = max(best_z(one, new[window][:end], shifts[:end]) for end in range(2, limit + 1))
                counts["planted", limit, calls_min, calls_max, times] += 1
                for threshold in THRESHOLDS:
                    counts["found", threshold, limit, calls_min, calls_max, times] += z > threshold


def main() -> None:
    counts: Counter[object] = Counter()
    for number in range(SITES):
        for at, one in enumerate(make_site(f"{SEED}/{number}", HISTORY + WEEKS * WEEK)):
            observe(one, Random(f"{SEED}/{number}/{at} limit"), counts)
    rows = []
    for threshold in THRESHOLDS:
        false = 1000 * counts["false", threshold] / (SITES * SITE * WEEKS)
        for limit in LIMITS:
            shares = [
                counts["found", threshold, *limit, times] / max(1, counts["planted", *limit, times])
                for times in TIMES
            ]
            name = f"{limit[1]} or more" if limit[2] > 199 else f"{limit[1]} to {limit[2]}"
            rows.append((false, limit[0], name, *shares))
    table(
        "The best that can be known",
        ("false per 1,000 weeks", "within, h", "calls since it", *(f"{times} times" for times in TIMES)),
        rows,
    )


if __name__ == "__main__":
    main()
