"""Synthetic hours of statements, as the statistics of a site have them, without a change or with one planted.

Used by `benchmarks.findings` and, for a small sample, by the tests. Only the standard library: the same
seed gives the same series everywhere.
"""

from dataclasses import dataclass, field
from math import cos, erf, exp, log, pi, sqrt
from random import Random

from sqllogs.findings.regressions import DAY, WEEK
from sqllogs.statistics.histogram import GROWTH, RANGE_MAX, Durations

SITE = 25
"""Statements that share a database, and with it a common noise."""
_WIDTH = log(GROWTH)


@dataclass(slots=True, kw_only=True)
class Statement:
    """What the calls of one statement follow, by hour."""

    calls: list[float]
    """Expected number."""
    level: list[float]
    """Logarithm of the median duration in microseconds."""
    sigma: float
    """Standard deviation of the logarithms of one hour's durations."""
    slow_share: list[float]
    """Share of calls of a second, slower mode, which changes from hour to hour."""
    slow_shift: float
    outliers: float
    """Share of calls that take twelve times as long, for whatever reason."""
    lasting: float
    """Autocorrelation of the level's noise from hour to hour."""
    noise_sd: float
    bursts: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By hour: the share of it in which calls are slower, and by which logarithm."""


def make_site(seed: str, hours: int, statements: int = SITE) -> list[Statement]:
    """Return the statements of a site: a common noise of 1 to 4 %, and each its own."""
    rng = Random(seed)
    common = _noise(rng, hours, rng.uniform(0.3, 0.95), rng.uniform(0.01, 0.04))
    return [_make(Random(f"{seed} {number}"), hours, common) for number in range(statements)]


def _make(rng: Random, hours: int, common: list[float]) -> Statement:
    lasting = rng.uniform(0.3, 0.95)
    (noise_sd,) = rng.choices((0.02, 0.05, 0.08, 0.12), (0.3, 0.4, 0.2, 0.1))
    base, drift = log(200) + rng.uniform(0, log(1000)), rng.choice((0, 0, 0.003, -0.003, 0.006))
    level = [
        base + drift * at / DAY + one + other + shared
        for at, (one, other, shared) in enumerate(
            zip(_pattern(rng, hours), _noise(rng, hours, lasting, noise_sd), common, strict=True)
        )
    ]
    (mode,) = rng.choices((0, 0.1, 0.3), (0.6, 0.2, 0.2))
    return Statement(
        calls=_traffic(rng, hours),
        level=level,
        sigma=rng.choices((0.15, 0.3, 0.5, 0.8, 1.1), (0.15, 0.25, 0.3, 0.2, 0.1))[0],
        slow_share=[min(1.0, mode * exp(rng.gauss(0, 0.15))) for _ in range(hours)],
        slow_shift=rng.uniform(1, 3),
        outliers=rng.choices((0, 0.005, 0.02), (0.5, 0.3, 0.2))[0],
        lasting=lasting,
        noise_sd=noise_sd,
        bursts=_bursts(rng, hours),
    )


def _bursts(rng: Random, hours: int) -> dict[int, tuple[float, float]]:
    """Return times of 20 to 90 minutes in which all calls take 2 to 8 times as long, one in two weeks."""
    bursts = {}
    for _ in range(poisson(rng, hours / DAY / 14)):
        begin, length, shift = rng.uniform(0, hours - 3), rng.uniform(0.3, 1.5), log(rng.uniform(2, 8))
        for at in range(int(begin), int(begin + length) + 1):
            share = min(at + 1, begin + length) - max(at, begin)
            if share > 0:
                bursts[at] = (share, shift)
    return bursts


def _traffic(rng: Random, hours: int) -> list[float]:
    peak, depth, phase = exp(rng.uniform(log(2), log(3000))), rng.uniform(0, 0.95), rng.uniform(0, 24)
    weekend, sd = rng.choice((1, 0.6, 0.2, 1.3)), rng.uniform(0.05, 0.4)
    calls = []
    for at in range(hours):
        of_day = 1 - depth * (0.5 - 0.5 * cos((at % DAY - phase) / 12 * pi))
        calls.append(peak * of_day * (weekend if at % WEEK >= 5 * DAY else 1) * exp(rng.gauss(0, sd)))
    for _ in range(poisson(rng, hours / WEEK)):  # bursts of traffic
        begin, times = rng.randrange(hours), rng.uniform(3, 15)
        for at in range(begin, min(hours, begin + rng.randrange(1, 4))):
            calls[at] *= times
    for _ in range(poisson(rng, hours / DAY / 20)):  # gaps
        begin = rng.randrange(hours)
        for at in range(begin, min(hours, begin + rng.randrange(1, 14))):
            calls[at] = 0.0
    kind, job = rng.random(), rng.randrange(DAY)
    if kind < 0.15:
        return [one if 8 <= at % DAY < 18 else 0.0 for at, one in enumerate(calls)]  # office hours
    if kind < 0.2:
        return [one * 20 if at % DAY == job else 0.0 for at, one in enumerate(calls)]  # a daily job
    return calls


def _pattern(rng: Random, hours: int) -> list[float]:
    (height,) = rng.choices((0, 0.1, 0.2, 0.4), (0.4, 0.3, 0.2, 0.1))
    phase, weekend = rng.uniform(0, 24), rng.choice((0, 0, -0.2, 0.25))
    day, begin, length, job = rng.randrange(7), rng.randrange(22), rng.randrange(1, 4), rng.uniform(0.3, 1.2)
    first = day * DAY + begin
    job_hours = range(first, first + length if rng.random() < 0.1 else first)  # a weekly job
    return [
        height * cos((at % DAY - phase) / 12 * pi)
        + (weekend if at % WEEK >= 5 * DAY else 0)
        + (job if at % WEEK in job_hours else 0)
        for at in range(hours)
    ]


def _noise(rng: Random, hours: int, lasting: float, sd: float) -> list[float]:
    """Return noise that lasts for hours or days: AR(1)."""
    noise = [rng.gauss(0, sd)]
    for _ in range(hours - 1):
        noise.append(lasting * noise[-1] + rng.gauss(0, sd * sqrt(1 - lasting**2)))
    return noise


def poisson(rng: Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(rng.gauss(mean, sqrt(mean))))
    number, chance, limit = 0, rng.random(), exp(-mean)
    while chance > limit:
        chance *= rng.random()
        number += 1
    return number


def histogram(rng: Random, one: Statement, hour: int, shift: float = 0.0, share: float = 1.0) -> Durations:
    """Return the calls of an hour by range of duration; a planted change shifts a share of the hour."""
    found: Durations = {}
    for part, more in ((share, shift), (1 - share, 0.0)):
        if part <= 0:
            continue
        burst, burst_shift = one.bursts.get(hour, (0.0, 0.0))
        calls, level = one.calls[hour] * part, one.level[hour] + more
        for weight, moved in ((1 - burst, 0.0), (burst, burst_shift)):
            slow = one.slow_share[hour] * (1 - one.outliers)
            _draw(rng, found, calls * weight * (1 - slow - one.outliers), level + moved, one.sigma)
            _draw(rng, found, calls * weight * slow, level + moved + one.slow_shift, one.sigma)
            _draw(rng, found, calls * weight * one.outliers, level + moved + 2.5, 0.8)
    return found


def _draw(rng: Random, found: Durations, mean: float, level: float, sigma: float) -> None:
    """Add calls with lognormal durations."""
    if mean <= 0:
        return
    if mean < 50:
        for _ in range(poisson(rng, mean)):
            number = min(RANGE_MAX, max(0, int(rng.gauss(level, sigma) / _WIDTH) + 1))
            found[number] = found.get(number, 0) + 1
        return
    scale = _WIDTH / sigma / sqrt(2)
    center, reach = level / _WIDTH, 4.5 * sigma / _WIDTH
    below = 0.0
    for number in range(max(0, int(center - reach)), min(RANGE_MAX, int(center + reach) + 1) + 1):
        upto = 0.5 + 0.5 * erf((number - center) * scale)
        if calls := poisson(rng, mean * (upto - below)):
            found[number] = found.get(number, 0) + calls
        below = upto


@dataclass(slots=True, kw_only=True)
class Amounts:
    """By hour: what some calls, or units of work, have of something. Rows, calls of a statement, errors."""

    calls: list[int]
    each: list[float]
    """Expected of one call."""

    def drawn(self, rng: Random, hour: int, times: float = 1.0) -> tuple[float, int]:
        """Return the total of an hour, and its calls; the total varies as counts do."""
        return float(poisson(rng, self.calls[hour] * self.each[hour] * times)), self.calls[hour]


def make_amounts(seed: str, hours: int) -> Amounts:
    """Return rows per call, or calls per unit: 1 to 50, by time of day, with noise and bursts of an hour."""
    rng = Random(seed)
    base, pattern, phase = exp(rng.uniform(0, log(50))), rng.choice((0, 0.1, 0.3)), rng.uniform(0, 24)
    sd = rng.choice((0.05, 0.1, 0.2))
    each = [base * exp(pattern * cos((at % DAY - phase) / 12 * pi) + rng.gauss(0, sd)) for at in range(hours)]
    for _ in range(poisson(rng, hours / DAY / 7)):
        each[rng.randrange(hours)] *= rng.uniform(2, 8)
    return Amounts(calls=[poisson(rng, one) for one in _traffic(rng, hours)], each=each)


def make_errors(seed: str, hours: int) -> Amounts:
    """Return errors per call: none, 0.1 or 1 %, in groups that make an hour have up to some times more."""
    rng = Random(seed)
    rate = rng.choice((0.0, 0.001, 0.01))
    each = [rate * exp(rng.gauss(0, 0.6)) for _ in range(hours)]
    return Amounts(calls=[poisson(rng, one) for one in _traffic(rng, hours)], each=each)
