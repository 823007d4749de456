"""`make demo`: prepare .venv with any Python, then run `manage.py demo` in it.

Uses only the standard library and the syntax of Python 3.6, see `core.virtualenv`.
"""

import os
import signal
import socket
import sys

from core import virtualenv


def main() -> None:
    # Handle these like Ctrl-C, so that a running installation ends too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    virtualenv.check_python()
    check_port(port())
    seconds()
    python = virtualenv.prepare("requirements.txt")
    os.chdir(virtualenv.ROOT)
    os.execv(python, [python, "manage.py", "demo"])  # noqa: S606 (the same process: signals reach it)


def port() -> int:
    return number_from_environment("PORT", 8000, 1, 65535)


def seconds() -> int:
    """Return how long the demo runs; 0 means until it is stopped."""
    return number_from_environment("DEMO_SECONDS", 0, 0, 10**6)


def number_from_environment(name: str, default: int, lowest: int, highest: int) -> int:
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if not (value.isdecimal() and lowest <= int(value) <= highest):
        sys.exit(f"{name}={value} is invalid: it must be a number from {lowest} to {highest}.")
    return int(value)


def check_port(number: int) -> None:
    """Exit with one line if gunicorn could not use this port."""
    with socket.socket() as probe:
        # Like gunicorn: a port in TIME_WAIT after the last demo is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as exc:
            sys.exit(f"Port {number} cannot be used ({exc.strerror}). Choose another: PORT=8001 make demo")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Stopped.")
