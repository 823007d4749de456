"""Measure variants side by side: all of them in each round, in turning order, after a warm-up.

What a variant adds is its difference to the base of the same round, so that
a machine that slows down for a while slows both; the median of the rounds counts.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Microseconds for one query."""

    cpu_us: float
    """CPU time of the thread that queries."""
    wall_us: float
    others_us: float
    """CPU time of all other threads of the process."""

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            cpu_us=self.cpu_us - other.cpu_us,
            wall_us=self.wall_us - other.wall_us,
            others_us=self.others_us - other.others_us,
        )


Measure = Callable[[], Cost]


def timed(run: Callable[[], object], queries: int) -> Cost:
    """Run once and return the cost of each of its queries."""
    wall_ns, thread_ns, process_ns = time.perf_counter_ns(), time.thread_time_ns(), time.process_time_ns()
    run()
    process_ns = time.process_time_ns() - process_ns
    thread_ns = time.thread_time_ns() - thread_ns
    wall_ns = time.perf_counter_ns() - wall_ns
    per_query = 1000 * queries
    return Cost(
        cpu_us=thread_ns / per_query,
        wall_us=wall_ns / per_query,
        others_us=max(0, process_ns - thread_ns) / per_query,
    )


def added(variants: Mapping[str, Measure], base: str, rounds: int) -> dict[str, Cost]:
    """Return what each variant costs beyond the base; under the base's own name, its whole cost."""
    names = list(variants)
    for name in names:
        variants[name]()
    measured: list[dict[str, Cost]] = []
    for number in range(rounds):
        turned = names[number % len(names) :] + names[: number % len(names)]
        measured.append({name: variants[name]() for name in turned})
    return {
        name: _median([costs[name] if name == base else costs[name] - costs[base] for costs in measured])
        for name in names
    }


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        cpu_us=median(cost.cpu_us for cost in costs),
        wall_us=median(cost.wall_us for cost in costs),
        others_us=median(cost.others_us for cost in costs),
    )
