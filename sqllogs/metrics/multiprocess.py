"""Let the processes of a site share one folder of metrics, each in a numbered slot of its own.

prometheus_client names its files after process ids, so that each dead worker would leave one
behind. A slot is taken by locking a file, the system frees it when its holder dies however
it does, and the next process goes on counting where that one ended: no sum goes down, and there
are never more files than there have been processes at one time.

`share` is called in the settings, `slot` in any thread that makes a first figure.
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
"""Of each file that prometheus_client maps into memory, some 7,000 series: it would make them with
holes, and a hole that a full disk cannot fill kills the process that writes into it (SIGBUS)."""
RESERVED = ("counter", "histogram")
FILE_SUFFIXES = (".db", ".json", ".lock", ".new")


class Slots:
    """The folder, and this process's place in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        self._number: int | None = None
        self._held = -1
        self._claiming = Lock()

    def slot(self) -> int:
        """Return the number of this process, which no other has at the same time; raise OSError."""
        if self._number is None:
            with self._claiming:
                if self._number is None:
                    self._number = self._claim()
        return self._number

    def leave(self) -> None:
        """Leave the slot to the parent, after a fork."""
        if self._held >= 0:
            os.close(self._held)  # the lock stays the parent's, who has the file open still
        self._begin()

    def live(self) -> set[int]:
        """Return the slots whose process is alive."""
        with self._door():
            return self._live()

    def _claim(self) -> int:
        with self._door():
            if not self._live():
                self._clean()
            for number in count():
                if (held := _locked(self._lock_of(number))) is None:
                    continue
                try:
                    self._prepare(number)
                except OSError:
                    os.close(held)
                    raise
                self._held = held
                return number
        raise AssertionError  # count() has no end

    def _prepare(self, number: int) -> None:
        for left in self.folder.glob(f"gauge_live*_{number}.db"):
            left.unlink(missing_ok=True)
        for kind in RESERVED:
            _reserve(self.folder / f"{kind}_{number}.db")

    def _clean(self) -> None:
        """Begin from zero, as nobody else is here: series of old code must not stay for ever."""
        for pattern in ("*.db", "*.json"):
            for left in self.folder.glob(pattern):
                left.unlink(missing_ok=True)

    def _live(self) -> set[int]:
        live = set()
        for path in self.folder.glob("slot-*.lock"):
            number = int(path.stem.removeprefix("slot-"))
            if number == self._number or (free := _locked(path)) is None:
                live.add(number)
            else:
                os.close(free)
        return live

    def _lock_of(self, number: int) -> Path:
        return self.folder / f"slot-{number}.lock"

    @contextmanager
    def _door(self) -> Iterator[None]:
        """Let one process at a time look for a slot; held for well under a millisecond."""
        door = os.open(self.folder / "door.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(door, fcntl.LOCK_EX)
            yield
        finally:
            os.close(door)


def _reserve(path: Path) -> None:
    """Fill a file up with zeros, which are no series to prometheus_client; raise OSError on a full disk."""
    with open(path, "ab", buffering=0, opener=_open_private) as file:
        if (lacking := RESERVED_BYTES - file.tell()) > 0 and file.write(bytes(lacking)) < lacking:
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


def _locked(path: Path) -> int | None:
    """Return an open file whose lock is ours, None if another has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


slots: Slots | None = None
"""Those of this process; None where it counts for itself alone."""


def share(folder: str | os.PathLike[str]) -> None:
    """Sum metrics over all processes that share a folder; in the settings, before a metric is made.

    Without prometheus_client, or where the folder cannot be written, each process counts for itself.
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
    """Have prometheus_client name its files by slot, in the way it documents for uWSGI's worker ids."""
    from prometheus_client import values

    values.ValueClass = make(process_identifier=made.slot)  # type: ignore[operator]
