"""Create virtual environments for `make` if missing or broken, and install changed requirements.

Uses only the standard library and the syntax of Python 3.6, so that an old Python can report that it is too
old.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
OLDEST = (3, 11)


def prepare(requirements: str, venv: str = VENV, python: str = sys.executable) -> str:
    """Return the interpreter of a virtual environment with the packages of a requirements file.

    File paths are relative to the project. An error exits the program with one line.
    """
    check_python()
    inside = os.path.join(venv, "bin", "python")
    if not answers(inside, f"import pip, sys; sys.exit(sys.version_info < {OLDEST!r})"):
        make(venv, python)
    # One stamp for each requirements file: the demo, the tests and the benchmarks share .venv.
    stamp = os.path.join(venv, "installed-" + requirements.replace("/", "-"))
    wanted = text(requirements)
    if not os.path.exists(stamp) or read(stamp) != wanted:
        say(f"Installing {requirements} into {os.path.relpath(venv, ROOT)}")
        install(inside, "--requirement", os.path.join(ROOT, requirements))
        with open(stamp, "w") as file:
            file.write(wanted)
    return inside


def check_python() -> None:
    if sys.version_info < OLDEST:
        found, needed = sys.version.split()[0], ".".join(map(str, OLDEST))
        sys.exit(f"Python {needed} or newer is needed; {sys.executable} is {found}.")


def make(venv: str, python: str) -> None:
    if not answers(python, "import venv, ensurepip"):
        sys.exit(f"{python} has no module venv. On Debian: sudo apt-get install python3-venv")
    say(f"Creating {os.path.relpath(venv, ROOT)}")
    run(python, "-m", "venv", "--clear", venv)


def install(python: str, *packages: str) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)


def text(requirements: str) -> str:
    """Return the text of a requirements file and of the files it includes."""
    path = os.path.join(ROOT, requirements)
    lines = read(path)
    included = [line.split()[1] for line in lines.splitlines() if line.startswith("-r ")]
    return "".join([lines] + [text(os.path.join(os.path.dirname(path), name)) for name in included])


def answers(python: str, question: str) -> bool:
    """Return whether an interpreter exists and runs a line of code without error."""
    try:
        return subprocess.call([python, "-c", question], stderr=subprocess.DEVNULL) == 0  # noqa: S603
    except OSError:
        return False


def run(*command: str) -> None:
    if subprocess.call(command) != 0:  # noqa: S603
        sys.exit("This command failed, see its message above: " + " ".join(command))


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    prepare(sys.argv[1])
