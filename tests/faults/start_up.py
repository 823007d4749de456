"""What the app costs a process while capture is off: CPU seconds and memory of a start, with and without it.

A project of its own, with nothing else installed, in processes of their own.
"""

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

from tests.faults.lab import Lab
from tests.faults.outcome import Measured
from tests.servers import ROOT

START = """
import json, resource, sys
from django.conf import settings

apps = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "django_filters"]
settings.configure(
    INSTALLED_APPS=apps + (["sqllogs"] if sys.argv[1] == "with" else []),
    DATABASES={name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "sqllogs")},
    SQLLOGS={"ENABLED": False},
    USE_TZ=True,
)
import django
django.setup()
from django.core.management import get_commands
get_commands()
usage = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss: that begins with the parent's.
peak_kb = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(json.dumps([usage.ru_utime + usage.ru_stime, peak_kb / 1024]))
"""


def capture_off(lab: Lab) -> Measured:
    rounds = 3 if lab.short else 11
    ratios, growth_mb = [], []
    for number in range(rounds + 1):
        (base_s, base_mb), (ours_s, ours_mb) = (_start(variant) for variant in ("without", "with"))
        if number:  # the first compiles
            ratios.append(ours_s / base_s)
            growth_mb.append(ours_mb - base_mb)
    return Measured(
        load=f"{rounds} starts each",
        figures={"cpu_ratio": round(median(ratios), 3), "grown_mb": round(median(growth_mb), 2)},
    )


PLUGIN = """
import json, resource, sys
import pytest
if sys.argv[1] == "with":
    import sqllogs.pytest_plugin
usage = resource.getrusage(resource.RUSAGE_SELF)
names = [name for name in sys.modules if name.partition(".")[0] in ("django", "sqllogs", "rest_framework")]
print(json.dumps([usage.ru_utime + usage.ru_stime, names]))
"""


def pytest_plugin(lab: Lab) -> Measured:
    """What the plugin costs each pytest run of an environment in which the app is installed."""
    rounds = 3 if lab.short else 11
    more_ms, names = [], []
    for _ in range(rounds):
        (base_s, _none), (ours_s, names) = (_start(variant, PLUGIN) for variant in ("without", "with"))
        more_ms.append((ours_s - base_s) * 1000)
    return Measured(
        load=f"{rounds} starts each",
        figures={
            "more_ms": round(median(more_ms)),
            "modules": len(names),
            "django": any(name.startswith("django") for name in names),
        },
    )


def _start(variant: str, program: str = START) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program, variant],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
