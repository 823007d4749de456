"""`make demo`: prepare .venv with whatever Python there is, then run the demo inside it.

Only the standard library, and only what Python 3.6 can parse: a Python that is
too old must read this far to say so. The rest is `manage.py demo`.
"""

import importlib.util
import os
import socket
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
REQUIREMENTS = os.path.join(ROOT, "requirements.txt")
INSTALLED = os.path.join(VENV, "installed-requirements.txt")
"""Copy of the requirements that .venv was last filled from."""
OLDEST = (3, 11)


def main() -> None:
    check_python()
    check_port(number_from_environment("PORT", 8000, 1, 65535))
    number_from_environment("DEMO_SECONDS", 0, 0, 10**6)
    if not venv_works():
        make_venv()
    if read(INSTALLED) != read(REQUIREMENTS):
        install()
    os.chdir(ROOT)
    os.execv(PYTHON, [PYTHON, "manage.py", "demo"])  # noqa: S606 (the same process: signals reach it)


def check_python() -> None:
    if sys.version_info < OLDEST:
        found, needed = sys.version.split()[0], ".".join(map(str, OLDEST))
        sys.exit(f"Python {needed} or newer is needed; {sys.executable} is {found}.")


def number_from_environment(name: str, default: int, lowest: int, highest: int) -> int:
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if not value.isdecimal() or not lowest <= int(value) <= highest:
        sys.exit(f"{name}={value} is not a number from {lowest} to {highest}.")
    return int(value)


def check_port(port: int) -> None:
    with socket.socket() as probe:
        # As gunicorn does it: a port in TIME_WAIT after the last demo is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            sys.exit(f"Port {port} cannot be used ({exc.strerror}). Choose another: PORT=8001 make demo")


def venv_works() -> bool:
    """Tell whether .venv is there, whole and new enough."""
    question = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return subprocess.call([PYTHON, "-c", question], stderr=subprocess.DEVNULL) == 0  # noqa: S603
    except OSError:
        return False


def make_venv() -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            package = f"python3.{sys.version_info[1]}-venv"
            sys.exit(f"Python's module {module} is missing. On Debian: sudo apt-get install {package}")
    say("Making .venv")
    run(sys.executable, "-m", "venv", "--clear", VENV)


def install() -> None:
    say("Installing requirements.txt (only when it has changed)")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS)
    with open(INSTALLED, "w") as copy:
        copy.write(read(REQUIREMENTS))


def run(*command: str) -> None:
    if subprocess.call(command) != 0:  # noqa: S603
        sys.exit("This did not work, its own message is above: " + " ".join(command))


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Stopped.")
