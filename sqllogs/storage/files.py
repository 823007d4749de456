"""Watch the file of a SQLite store: deleted, replaced, corrupt, not writable or readable by everyone.

`sqllogs.storage.ring` asks before each use of the store, in the writer's thread, and has a missing
or corrupt file created again. `sqllogs.checks` asks at start-up whether the file can be written.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections

from sqllogs import conf
from sqllogs.storage.connection import close_connection, open_connection, used_by_orm

OTHERS_MODE = 0o007
HEADER = b"SQLite format 3\0"
SUFFIXES = ("-wal", "-shm", "-journal")
"""Of the files that SQLite keeps next to a database; they belong to it and to no other."""
_CORRUPT = frozenset([sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])


class FileProblem(NamedTuple):
    """Why a file cannot be written, and what to do about it."""

    problem: str
    advice: str


def path_of(alias: str) -> Path | None:
    """Return the file of a SQLite database; None for another database, or one in memory."""
    if connections[alias].vendor != "sqlite":
        return None
    name = str(connections.settings[alias]["NAME"])
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()


def find_problem(path: Path) -> FileProblem | None:
    """Return why this process cannot write a SQLite file, None if it can."""
    folder = path.parent
    advice = f"Give user id {os.geteuid()} write access: SQLite creates further files in the folder."
    if not folder.exists():
        return FileProblem(
            f"The folder {folder} does not exist.", f"Create it, or change NAME, which is {path}."
        )
    if not folder.is_dir() or path.is_dir():
        return FileProblem(
            f"{path} is not a file in a folder.", "NAME must be the path of a file in an existing folder."
        )
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return FileProblem(
            f"The folder {folder} is on a read-only file system.", "Name a file on a writable one."
        )
    if not _is_accessible(folder, os.W_OK | os.X_OK):
        return FileProblem(f"The folder {folder} cannot be written.", advice)
    if path.exists() and not _is_accessible(path, os.R_OK | os.W_OK):
        return FileProblem(f"The file {path} cannot be written.", advice)
    return None


def _is_accessible(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def deny_others(path: Path) -> None:
    """Take the access of other users from a file; their group's stays as it is."""
    with suppress(OSError):  # it belongs to another user, who decides
        mode = path.stat().st_mode
        if mode & OTHERS_MODE:
            path.chmod(mode & 0o777 & ~OTHERS_MODE)


def deny_others_after_migrate(using: str, **kwargs: Any) -> None:
    """Restrict a store that `migrate` has created; a receiver of post_migrate.

    SQLite gives the mode of a database to the files that it creates next to it.
    """
    path = path_of(using) if using == conf.load().database else None
    if path is not None and _is_exclusive(using, path):
        deny_others(path)


def _is_exclusive(alias: str, path: Path) -> bool:
    """Return whether the file holds the SQL log alone, and not the application's data too."""
    others = (other for other in connections.settings if other != alias)
    return alias != DEFAULT_DB_ALIAS and all(path_of(other) != path for other in others)


_Identity = tuple[int, int]


class StoreFile:
    """The file that this process writes to; for one thread. Does nothing for other databases."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._opened: _Identity | None = None
        self._log: _Identity | None = None
        """The write-ahead log of the file that is open."""
        self.path: Path | None = None

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Remember which file is opened in a `with` block."""
        self.path = path_of(self._alias)
        # Before, since a file that is replaced in this moment is then found to be another one.
        before = _identity(self.path)
        self._log = None
        yield
        self._opened = before or _identity(self.path)
        if self.path is not None and _is_exclusive(self._alias, self.path):
            for suffix in ("", *SUFFIXES):
                deny_others(_beside(self.path, suffix))

    def change(self) -> str | None:
        """Return what has happened to the file since it was opened, None if nothing.

        SQLite itself notices nothing: it goes on writing to the file that has no name any more.
        """
        if self._opened is None or self.path is None:
            return None
        if (now := _identity(self.path)) == self._opened:
            self._log = self._log or _identity(_beside(self.path, "-wal"))
            return None
        return "deleted" if now is None else "replaced"

    def is_corrupt(self, exc: BaseException) -> bool:
        """Return whether an exception means that the file is damaged, and not something else's file."""
        code = getattr(exc, "sqlite_errorcode", None) or getattr(exc.__cause__, "sqlite_errorcode", None)
        if self.path is None or code is None or code & 0xFF not in _CORRUPT:
            return False
        return _is_exclusive(self._alias, self.path) and (
            self._opened is not None or self.path.read_bytes()[: len(HEADER)] == HEADER
        )

    def recreate(self) -> Path | None:
        """Put a new store where the file is missing, empty or corrupt, unless another process has.

        A corrupt file is moved aside; return its new path. Raise OSError or a database error.
        """
        if self.path is None or not _is_exclusive(self._alias, self.path):
            return None
        broken, self._opened = self._opened, None
        try:
            with _one_at_a_time(self.path.parent):
                return self._recreate(self.path, broken)
        except BaseException:
            self._opened = broken  # tried again with the next batch
            raise

    def _recreate(self, path: Path, broken: _Identity | None) -> Path | None:
        found = _identity(path)
        is_empty = found is None or path.stat().st_size == 0
        if not is_empty and found != broken:
            if self._log is not None and _identity(_beside(path, "-wal")) == self._log:
                for suffix in SUFFIXES:  # the new file would be filled with what the old one's log has
                    _move(_beside(path, suffix), None)
            return None
        # One name, so that a broken disk does not fill up with copies.
        aside = None if is_empty else _beside(path, ".corrupt")
        new = _beside(path, ".new")
        for suffix in SUFFIXES:  # a new file must not find the log of the old one
            _move(_beside(path, suffix), aside and _beside(aside, suffix))
            _move(_beside(new, suffix), None)
        _move(new, None)
        if aside is not None:
            _move(path, aside)
        _migrate(self._alias, new)
        deny_others(new)
        os.replace(new, path)
        return aside


def _identity(path: Path | None) -> _Identity | None:
    try:
        found = os.stat(path) if path is not None else None
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _move(path: Path, to: Path | None) -> None:
    """Rename a file, or delete it, if there is one."""
    with suppress(FileNotFoundError):
        if to is None:
            path.unlink()
        else:
            os.replace(path, to)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process of several change the files of a folder."""
    import fcntl  # not on Windows, where an open file cannot be deleted either

    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _migrate(alias: str, path: Path) -> None:
    """Create the tables of this package in a new file."""
    from django.db.migrations.executor import MigrationExecutor

    connection = open_connection(alias, file=path)
    try:
        with used_by_orm(connection, alias):
            executor = MigrationExecutor(connection)
            executor.migrate(executor.loader.graph.leaf_nodes("sqllogs"))
    finally:
        close_connection(connection)
