"""Let the processes of a site share one folder of metrics, each in a numbered slot.

`share` is called in the settings, `slot` by any thread that creates the first metric. Used by
`sqllogs.metrics.sink` and prometheus_client for the names of their files.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Lock

logger = logging.getLogger(__name__)

ENVIRONMENT = "PROMETHEUS_MULTIPROC_DIR"
RESERVED_BYTES = 1 << 20
"""Size of each file that prometheus_client maps into memory, enough for some 7,000 series. It would create
sparse files, and writing to a hole kills the process (SIGBUS) when the disk is full."""
RESERVED = ("counter", "histogram")
FILE_SUFFIXES = (".db", ".json", ".lock", ".new")


class Slots:
    """The shared folder, and the slot of this process.

    prometheus_client names files by process id, so each dead worker would leave files behind. A slot is a
    locked file, which the system frees when the process ends in any way. The next process continues the
    counts: no sum decreases, and there are never more files than there were processes at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reset()

    def _reset(self) -> None:
        self._number: int | None = None
        self._lock_file = -1
        self._claiming = Lock()

    def slot(self) -> int:
        """Return the number of this process, unique among live processes; raise OSError."""
        if self._number is None:
            with self._claiming:
                if self._number is None:
                    self._number = self._claim()
        return self._number

    def leave(self) -> None:
        """Leave the slot to the parent after a fork."""
        if self._lock_file >= 0:
            os.close(self._lock_file)  # the parent keeps the lock: its descriptor is open
        self._reset()

    def live(self) -> set[int]:
        """Return the slots of live processes."""
        with self._exclusive():
            return self._live()

    def _claim(self) -> int:
        with self._exclusive():
            if not self._live():
                self._clean()
            for number in count():
                if (lock_file := _try_lock(self._lock_path(number))) is None:
                    continue
                try:
                    self._prepare(number)
                except OSError:
                    os.close(lock_file)
                    raise
                self._lock_file = lock_file
                return number
        raise AssertionError  # count() has no end

    def _prepare(self, number: int) -> None:
        for path in self.folder.glob(f"gauge_live*_{number}.db"):
            path.unlink(missing_ok=True)
        for kind in RESERVED:
            _reserve(self.folder / f"{kind}_{number}.db")

    def _clean(self) -> None:
        """Start from zero when no other process runs: series of old code must not stay forever."""
        for pattern in ("*.db", "*.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _live(self) -> set[int]:
        live = set()
        for path in self.folder.glob("slot-*.lock"):
            number = int(path.stem.removeprefix("slot-"))
            if number == self._number or (free := _try_lock(path)) is None:
                live.add(number)
            else:
                os.close(free)
        return live

    def _lock_path(self, number: int) -> Path:
        return self.folder / f"slot-{number}.lock"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one process at a time look for a slot; takes well under a millisecond."""
        lock_file = os.open(self.folder / "door.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock_file)


def _reserve(path: Path) -> None:
    """Fill a file with zeros, which mean no series to prometheus_client; raise OSError on a full disk."""
    with open(path, "ab", buffering=0, opener=_open_private) as file:
        if (missing := RESERVED_BYTES - file.tell()) > 0 and file.write(bytes(missing)) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_private_folder(path: Path) -> None:
    """Create the folder for its owner only, because prometheus_client creates files with the umask's mode.

    A folder that an earlier version created becomes private too. One with other files is left as it is: a
    web server may have to reach a socket in it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_own = path.stat().st_uid == os.geteuid()
    if is_own and all(file.suffix in FILE_SUFFIXES for file in path.iterdir()):
        path.chmod(0o700)


def _try_lock(path: Path) -> int | None:
    """Open and lock a file; return None if another process holds the lock."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


slots: Slots | None = None
"""The slots of this process; None if it shares no folder."""


def share(folder: str | os.PathLike[str]) -> None:
    """Sum metrics over all processes that share a folder. Call it in the settings, before any metric exists.

    Without prometheus_client, or if the folder is not writable, each process has its own metrics.
    """
    global slots
    path = Path(folder)
    if slots is not None and slots.folder == path:
        return
    try:
        from prometheus_client.values import MultiProcessValue
    except ImportError:
        return
    try:
        _make_private_folder(path)
        made = Slots(path)
        made.slot()
    except OSError as exc:
        logger.warning("Metrics are not shared between processes: %s", exc)
        return
    slots = made
    os.environ[ENVIRONMENT] = str(path)
    _count_by_slot(MultiProcessValue, made)
    os.register_at_fork(after_in_child=made.leave)


def _count_by_slot(make: object, made: Slots) -> None:
    """Make prometheus_client name its files by slot, as it documents for uWSGI's worker ids."""
    from prometheus_client import values

    values.ValueClass = make(process_identifier=made.slot)  # type: ignore[operator]
