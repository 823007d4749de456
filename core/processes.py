"""Run child processes of the demo, and leave none of them running.

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
    """Run a command during a block, with its output in `log`; leave none of its processes behind."""
    # In a new session, because Ctrl-C signals the whole foreground group: only the demo gets it, and
    # stops its children one after the other.
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        # The whole group, because a killed server leaves its workers behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
