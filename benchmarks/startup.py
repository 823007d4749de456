"""What is added to the start of a process: by the app, by its pytest plugin, and by telemetry.

Each is measured in processes that do nothing else, side by side in the same rounds. Bytecode is compiled
before, as it is wherever a package is installed.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import at_most, table

ROUNDS = 5 if "BENCHMARKS_SHORT" in os.environ else 15
NEVER = "http://127.0.0.1:9"
"""Nothing answers there; the command has nothing to send."""
CPU_MAX, MEMORY_MAX_MB, PLUGIN_MAX_MS = 1.15, 10.0, 20.0
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What one process took from its start to its end."""

    cpu_s: float
    memory_mb: float


def run(arguments: list[str], environment: dict[str, str], cwd: Path = ROOT) -> Start:
    """Run Python to its end."""
    directory = os.environ["BENCHMARKS_DIR"]
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": f"{directory}/bytecode"}
        | environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return Start(cpu_s=usage.ru_utime + usage.ru_stime, memory_mb=usage.ru_maxrss / 1024)


def compare(variants: dict[str, tuple[list[str], dict[str, str]]], cwd: Path = ROOT) -> list[list[Start]]:
    """Run all variants in each round; return what each took, without the first round, which compiles."""
    rounds = [[run(*variant, cwd) for variant in variants.values()] for _ in range(ROUNDS + 1)]
    return [list(starts) for starts in zip(*rounds[1:], strict=True)]


def app() -> None:
    """Compare a new project without and with the app, which records but gets no query."""
    rows = []
    for command in ("diffsettings", "check"):
        environment = {"DJANGO_SETTINGS_MODULE": "benchmarks.project"}
        arguments = ["-m", "django", command]
        without, beside = compare(
            {
                name: (arguments, environment | {"WATCHED_BY": name, "PYTHONDONTWRITEBYTECODE": ""})
                for name in ("nothing", "sqllogs")
            }
        )
        ratio = median(one.cpu_s / base.cpu_s for one, base in zip(beside, without, strict=True))
        added_mb = median(one.memory_mb - base.memory_mb for one, base in zip(beside, without, strict=True))
        rows.append(
            (
                f"manage.py {command}",
                median(base.cpu_s for base in without) * 1000,
                ratio,
                at_most(ratio, CPU_MAX),
                added_mb,
                at_most(added_mb, MEMORY_MAX_MB, "MB"),
            )
        )
    header = ("command", "CPU ms without", "with the app, of without", "goal", "added MB", "goal")
    table("A new project with its admin: start and end of a command that sends no query", header, rows)


def pytest_plugin() -> None:
    """Compare a run of one empty test without Django, without and with the plugin."""
    folder = Path(os.environ["BENCHMARKS_DIR"], "tests")
    folder.mkdir()
    (folder / "test_nothing.py").write_text("def test_nothing(): pass\n")
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": ""}
    arguments = ["-m", "pytest", "-q"]
    without, beside = compare(
        {
            "without": (arguments, environment),
            "with": ([*arguments, "-p", "sqllogs.pytest_plugin"], environment),
        },
        folder,
    )
    added_ms = median(one.cpu_s - base.cpu_s for one, base in zip(beside, without, strict=True)) * 1000
    table(
        "The pytest plugin in a run that does not use it",
        ("CPU ms without", "added ms", "goal"),
        [(median(base.cpu_s for base in without) * 1000, added_ms, at_most(added_ms, PLUGIN_MAX_MS, "ms"))],
    )


def telemetry() -> None:
    """Compare a command of the demo site without OpenTelemetry, without an endpoint, and with one."""
    environment = {
        "DATA_DIR": os.environ["BENCHMARKS_DIR"],
        "DJANGO_SETTINGS_MODULE": "core.settings",
        "METRICS_PORT": "0",
    }
    variants = {
        "without telemetry": {"DJANGO_SETTINGS_MODULE": "benchmarks.without_telemetry"},
        "no endpoint": {},
        "an endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": NEVER},
    }
    arguments = ["-m", "django", "diffsettings"]
    starts = compare({name: (arguments, environment | variant) for name, variant in variants.items()})
    rows = []
    for name, costs in zip(variants, starts, strict=True):
        # Of the same round: a machine that slows down for a while slows both.
        ratio = median(cost.cpu_s / base.cpu_s for cost, base in zip(costs, starts[0], strict=True))
        goal = at_most(ratio, 1.05) if name == "no endpoint" else ""
        rows.append((name, median(cost.cpu_s for cost in costs), ratio, goal))
    table(
        "The demo site: start, management command and end of a process",
        ("variant", "CPU s", "CPU, without = 1", "goal"),
        rows,
    )


if __name__ == "__main__":
    app()
    pytest_plugin()
    telemetry()
