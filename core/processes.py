"""Child processes of the demo, each with an end that is certain.

Used by `manage.py demo` in its main thread.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

STOP_TIMEOUT_S = 15.0
"""Longer than gunicorn gives its workers to finish, see `manage.py demo`."""


@contextmanager
def running(*command: str, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for the time of a block, its output in `log`; no process of it is left after."""
    # In a session of its own, because a Ctrl-C goes to the whole foreground group:
    # the demo alone gets it, and stops its children one after the other.
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        # The whole group: a server that was killed has left its workers.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
