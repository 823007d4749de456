"""`python -m tests.matrix`: the app's own tests on the corners of the Pythons and Djangos that it supports.

Interpreters are looked up on PATH and in pyenv's folder. One that is missing
is named at the end, and fails the run when REQUIRE_MATRIX=1. Arguments are
passed on to pytest. `--environments` only makes the virtual environments.
"""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import virtualenv
from tests.ports import SHARES, SHARES_OF_MATRIX

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


@dataclass(frozen=True, slots=True)
class Corner:
    python: str
    django: str
    """A requirement, applied after tests/requirements.txt: the demo's own pin is kept if it fits."""
    is_whole: bool = False
    """With the tests that start programs (tests/markers.py) and those of PostgreSQL.

    `make test` runs them on the oldest of all, and one corner with the newest of all does. What they are
    about, signals, forks, browsers, outages and SQL of the ring, does not change twice in between, and they
    take more than half of the time.
    """

    def __str__(self) -> str:
        return f"Python {self.python} + {self.django}"


LEFT_OUT = (
    "mariadb", "accessible", "malformed", "made_up_requests", "block_index", "burst_of_twenty",
    "test_in_browser", "test_stories and not test_review",
    "test_one_command_sets_a_project_up and (routers or databases or tuples or lists or base_dir or windows)",
)  # fmt: skip
"""What only `make test` runs, for -k: a third database, axe, generated cases, the page in Chromium, and
projects whose settings differ in their text only: each corner edits such texts without a project.

Each corner looks at that page's HTML; its scripts and styles are files, the same on every version. Pages of
the admin, which have Django's scripts and styles, are shown in Chromium on the whole corner too.
"""
WHOLE_ONLY = (
    "postgresql", "test_hosts", "test_parts_cache", "test_mcp", "test_projects",
    "test_one_command_sets_a_project_up and not plain", "test_no_address_fails and not everything",
    "four_processes", "statistics_agree_with_full_logs", "workers_of_xdist", "reports_of_a_run",
    "test_runner_of_django", "test_examples",
)  # fmt: skip
"""The same of what the whole corner runs too.

These do once more, in other projects, admin sites or layouts, what the corner does in one of them, or read
reports of which others read one, or let real processes and test runs end. Each starts processes or reads many
pages: two fifths of a corner's CPU.
"""

OWN = "Django~=5.2.0"
"""What requirements.txt has, and so `make test`."""
CORNERS = (
    Corner("3.11", OWN),
    Corner("3.12", "Django==6.0.10"),
    Corner("3.13", "Django==6.1.3", is_whole=True),
    Corner("3.14", "Django==6.1.3"),
)


def main() -> int:
    if sys.argv[1:] == ["--environments"]:
        make_environments()
        return 0
    outcomes = [run(corner) for corner in CORNERS]
    print("\nThe tests of sqllogs on other Pythons and Djangos:", *outcomes, sep="\n  ")
    bad = ("FAILED", "NOT RUN") if os.environ.get("REQUIRE_MATRIX") == "1" else ("FAILED",)
    return int(any(outcome.startswith(bad) for outcome in outcomes))


def make_environments() -> None:
    """Make what is missing; what fails is tried again, and reported, when the tests are to run."""
    for corner in CORNERS:
        if not is_own(corner) and (interpreter := find(corner.python)) is not None:
            with suppress(SystemExit):
                python = environment(corner, interpreter)
                # Compiles the tests once, which each worker would do otherwise.
                subprocess.run(
                    [python, "-m", "pytest", "tests/sqllogs", "--collect-only", "-q"],
                    cwd=virtualenv.ROOT,
                    stdout=subprocess.DEVNULL,
                    check=False,
                )


def is_own(corner: Corner) -> bool:
    """Return whether `make test` runs on this corner."""
    return corner.django == OWN and corner.python == "{}.{}".format(*sys.version_info)


def run(corner: Corner) -> str:
    """Run the tests on one corner; return the line to say of it."""
    if is_own(corner):
        return f"not repeated: {corner}: `make test` is that"
    print(f"\n{corner}", flush=True)
    interpreter = find(corner.python)
    if interpreter is None:
        return f"NOT RUN: {corner}: no python{corner.python} on PATH or in {PYENV}"
    try:
        python = environment(corner, interpreter)
    except SystemExit as exc:
        return f"FAILED: {corner}: {exc}"
    names = LEFT_OUT if corner.is_whole else (*LEFT_OUT, *WHOLE_ONLY)
    chosen = ["-k", " and ".join(f"not ({name})" for name in names)]
    if not corner.is_whole:
        chosen += ["-m", "not programs"]
    command = [python, "-m", "pytest", "tests/sqllogs", *chosen, *sys.argv[1:]]
    ports = {"FIRST_SHARE_OF_PORTS": str(SHARES - SHARES_OF_MATRIX)}
    tests = subprocess.run(command, cwd=virtualenv.ROOT, env=os.environ | ports, check=False)
    return (
        f"FAILED: {corner}: pytest ended with {tests.returncode}" if tests.returncode else f"passed: {corner}"
    )


def environment(corner: Corner, interpreter: str) -> str:
    """Return the interpreter of a corner's own virtual environment."""
    folder = os.path.join(virtualenv.ROOT, ".tox", f"{corner.python}-{corner.django}")
    python = virtualenv.prepare("tests/requirements.txt", folder, interpreter)
    virtualenv.install(python, corner.django)
    return python


def find(version: str) -> str | None:
    """Return an interpreter that runs and is of a version such as 3.13."""
    folders = [
        *os.environ.get("PATH", os.defpath).split(os.pathsep),
        *map(str, sorted(PYENV.glob(f"versions/{version}.*/bin"), reverse=True)),
    ]
    question = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    candidates = (os.path.join(folder, f"python{version}") for folder in folders)
    # It must answer: pyenv's shim of a version that is not switched on is on PATH, and fails.
    return next((path for path in candidates if virtualenv.answers(path, question)), None)


if __name__ == "__main__":
    sys.exit(main())
