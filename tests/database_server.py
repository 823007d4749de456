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
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.ports import free_port

STOP_TIMEOUT_S = 60.0
MEMORY = Path("/dev/shm")
"""Linux's file system in memory."""
MEMORY_MIN_BYTES = 4 << 30
"""Free there; a server takes less than 300 MB."""


class DatabaseServer(ABC):
    """One server, which runs for the time of a `with` block and of which nothing is left after it."""

    name: ClassVar[str]
    engine: ClassVar[str]
    """Value of ENGINE in Django's DATABASES."""
    user: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    start_timeout_s: ClassVar[float]
    host = "127.0.0.1"

    def __init__(self, *, in_memory: bool = False) -> None:
        """Keep the data in memory where there is room; benchmarks keep it on the disk."""
        self._owner = unprivileged()
        # Not in pytest's own temporary folder: that is closed to the server's user.
        self._folder = Path(tempfile.mkdtemp(prefix=f"sqllogs-{self.name.lower()}-"))
        self._data = self._folder / "data"
        if in_memory and has_room(MEMORY):
            self._data.symlink_to(tempfile.mkdtemp(prefix=f"{self._folder.name}-", dir=MEMORY))
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []
        self.port = free_port()
        self.log_path = self._folder / "log"

    def __enter__(self) -> Self:
        try:
            self._data.mkdir(exist_ok=True)
            if self._owner:
                for folder in (self._folder, self._data):
                    os.chown(folder, self._owner["user"], self._owner["group"])
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._data.is_symlink():
            shutil.rmtree(self._data.resolve())
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
        self.resume()
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End all of the server's processes at once, as a power cut does."""
        self.pause()
        processes, self._paused = self._paused, []
        send_signals(processes, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze all of the server's processes: connections are accepted and nothing answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        self._paused = [self._process.pid]

    def resume(self) -> None:
        """Let the server go on."""
        processes, self._paused = self._paused, []
        send_signals(processes, signal.SIGCONT)

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
        """Fill the folder of the data, which is empty."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return the command that runs the server."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return True once a connection is accepted."""


def has_room(folder: Path) -> bool:
    """Return whether a file system in memory is there, and is not a small one as containers have it."""
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MEMORY_MIN_BYTES


def send_signals(processes: list[int], signum: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signum)


def unprivileged() -> dict[str, Any]:
    """Return the options that make a subprocess not root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
