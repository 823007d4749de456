"""Measure what OpenTelemetry and the log format add to the run time of a management command."""

import os
import resource
import subprocess
import sys
import time
from statistics import median

from benchmarks.report import at_most, table

ROUNDS = 15
NEVER = "http://127.0.0.1:9"
"""Nothing answers there; the command has nothing to send."""
VARIANTS = {
    "without telemetry": {"DJANGO_SETTINGS_MODULE": "benchmarks.without_telemetry"},
    "no endpoint": {},
    "an endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": NEVER},
}


def run(variant: dict[str, str]) -> tuple[float, float]:
    """Run a management command to its end; return CPU and wall seconds. It prints nothing but its answer."""
    environment = os.environ | {
        "DATA_DIR": os.environ["BENCHMARKS_DIR"],
        "DJANGO_SETTINGS_MODULE": "core.settings",
        "METRICS_PORT": "0",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "django", "diffsettings"],
        env=environment | variant,
        capture_output=True,
        text=True,
        check=True,
    )
    wall_s = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert not done.stderr, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def main() -> None:
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for number in range(ROUNDS + 1):
        for name, variant in VARIANTS.items():
            cost = run(variant)
            if number:  # the first compiles
                measured[name].append(cost)
    rows = []
    for name, costs in measured.items():
        # Of the same round: a machine that slows down for a while slows both.
        ratios = [cost[0] / base[0] for cost, base in zip(costs, measured["without telemetry"], strict=True)]
        ratio = median(ratios)
        goal = at_most(ratio, 1.05) if name == "no endpoint" else ""
        rows.append((name, median(cpu for cpu, _ in costs), median(wall for _, wall in costs), ratio, goal))
    table(
        "Start, management command and end of a process",
        ("variant", "CPU s", "wall s", "CPU, without = 1", "goal"),
        rows,
    )


if __name__ == "__main__":
    main()
