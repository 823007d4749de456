"""Virtual environments for `make`: made when missing or broken, filled when requirements have changed.

Only the standard library, and only what Python 3.6 can parse: a Python that is
too old must read this far to say so.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
OLDEST = (3, 11)


def prepare(requirements: str, venv: str = VENV, python: str = sys.executable) -> str:
    """Return the interpreter of a virtual environment that has the packages of a requirements file in it.

    Paths of files are relative to the project. What does not work ends the program with one clear line.
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
    say(f"Making {os.path.relpath(venv, ROOT)}")
    run(python, "-m", "venv", "--clear", venv)


def install(python: str, *packages: str) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)


def text(requirements: str) -> str:
    """Return a requirements file and the ones that it includes."""
    path = os.path.join(ROOT, requirements)
    lines = read(path)
    included = [line.split()[1] for line in lines.splitlines() if line.startswith("-r ")]
    return "".join([lines] + [text(os.path.join(os.path.dirname(path), name)) for name in included])


def answers(python: str, question: str) -> bool:
    """Tell whether an interpreter is there and runs a line of code without a fault."""
    try:
        return subprocess.call([python, "-c", question], stderr=subprocess.DEVNULL) == 0  # noqa: S603
    except OSError:
        return False


def run(*command: str) -> None:
    if subprocess.call(command) != 0:  # noqa: S603
        sys.exit("This did not work, its own message is above: " + " ".join(command))


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    prepare(sys.argv[1])
