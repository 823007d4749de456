"""Run the benchmarks: `python -m benchmarks` for all, `python -m benchmarks capture size` for some.

With `--short` those that know it take fewer rounds, to see that they run; their figures mean less.
Each part runs in a new process, so that patches and memory do not affect the next. A missed goal is shown in
its table; only a crash exits with 1.
"""

import os
import subprocess
import sys
import tempfile

from benchmarks.report import machine

PARTS = (
    "capture",
    "statement",
    "writer",
    "size",
    "listing",
    "growth",
    "aggregates",
    "refresh",
    "month",
    "pages",
    "memory",
    "burst",
    "fleet",
    "startup",
    "saturation",
    "elapsed",
    "findings",
)
SHORT = "--short"


def main(arguments: list[str]) -> int:
    parts = [argument for argument in arguments if argument != SHORT]
    if SHORT in arguments:
        os.environ["BENCHMARKS_SHORT"] = "1"
    if unknown := set(parts) - set(PARTS):
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
        return 2
    print(machine(), flush=True)
    crashed = [part for part in parts or PARTS if _run(part) != 0]
    if crashed:
        print(f"Crashed: {', '.join(crashed)}.")
    return 1 if crashed else 0


def _run(part: str) -> int:
    with tempfile.TemporaryDirectory(prefix="sqllogs-bench-") as directory:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "BENCHMARKS_DIR": directory,
        }
        command = [sys.executable, "-m", f"benchmarks.{part}"]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
