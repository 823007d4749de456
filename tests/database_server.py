"""What the tests' own database servers have in common: a temporary folder, a port, a process and its log.

`tests.postgresql` and `tests.mariadb` say how each is made, started and asked.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.ports import free_port

STOP_TIMEOUT_S = 20.0


class DatabaseServer(ABC):
    """One server, which runs for the time of a `with` block and of which nothing is left after it."""

    name: ClassVar[str]
    engine: ClassVar[str]
    """Value of ENGINE in Django's DATABASES."""
    user: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    start_timeout_s: ClassVar[float]
    host = "127.0.0.1"

    def __init__(self) -> None:
        self._owner = unprivileged()
        # Not in pytest's own temporary folder: that is closed to the server's user.
        self._folder = Path(tempfile.mkdtemp(prefix=f"sqllogs-{self.name.lower()}-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.log_path = self._folder / "log"

    def __enter__(self) -> Self:
        try:
            if self._owner:
                os.chown(self._folder, self._owner["user"], self._owner["group"])
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def settings_dict(self, database: str) -> dict[str, Any]:
        """Return an entry for Django's DATABASES."""
        address = {"HOST": self.host, "PORT": self.port, "USER": self.user}
        return {"ENGINE": self.engine, "NAME": database, **address}

    def start(self) -> None:
        """Start the server unless it runs; raise RuntimeError with its log if it does not answer."""
        if self._process:
            return
        with self.log_path.open("ab") as log:
            # In a new session, so that Ctrl-C reaches only pytest, which then stops the server.
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._owner,
            )
        deadline = time.monotonic() + self.start_timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start:\n{self.log_path.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server in good order, its connections cut."""
        self._end(self.stop_signal)

    def _end(self, signum: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signum)
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()

    @abstractmethod
    def _make(self) -> None:
        """Fill the folder of the data."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return the command that runs the server."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return True once a connection is accepted."""


def unprivileged() -> dict[str, Any]:
    """Return the options that make a subprocess not root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
