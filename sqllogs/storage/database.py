"""The store's database: connections separate from the application's, and the file of a SQLite store.

The connections have their own timeouts, never come from a pool, and are reopened after every error. They are
used by the stores in the writer's thread, and by `sqllogs.read.explain` in the reader's. While a process
runs, its file may be deleted, replaced or corrupted: `sqllogs.storage.ring` looks before each use of the
store, and recreates a missing or corrupt file. `sqllogs.checks` reports at start-up if the file cannot be
written.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.utils import load_backend
from django.utils.translation import gettext as _

from sqllogs import conf, guard, threads

Row = TypeVar("Row", bound=Model)

CONNECT_TIMEOUT_S = 3
BUSY_TIMEOUT_S = 15
"""SQLite's lock has no queue: of four processes that wrote without a pause, one waited more than 5 s."""
STATEMENT_TIMEOUT_MS = 10_000
LOCK_TIMEOUT_S = 8
TCP_USER_TIMEOUT_MS = 10_000

# The server cancels a slow statement, but not if its host is down or the network drops packets. Without these
# options, the writer waited forever for a server that accepted connections and never responded.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "application_name": "sqllogs",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": _POSTGRESQL_OPTIONS,
    "sqlite": {"timeout": BUSY_TIMEOUT_S},
    "mysql": {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": STATEMENT_TIMEOUT_MS // 1000,
        "write_timeout": STATEMENT_TIMEOUT_MS // 1000,
        # Less than the client's timeout. Otherwise the server waits on without a client, and then holds the
        # lock.
        "init_command": f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}",
    },
}


def open_connection(alias: str, file: Path | None = None) -> BaseDatabaseWrapper:
    """Connect to the database of `alias`, or to another file; raise Django's exception if that fails."""
    database = deepcopy(connections.settings[alias])
    if file is not None:
        database["NAME"] = str(file)
    backend = load_backend(database["ENGINE"])
    options = database.setdefault("OPTIONS", {})
    # The writer needs one connection. A pool opens four by default, and its threads do not survive a fork.
    # `pop` on a copy: the application keeps its pool.
    options.pop("pool", None)
    for name, value in _OPTIONS.get(backend.DatabaseWrapper.vendor, {}).items():
        options.setdefault(name, value)
    connection: BaseDatabaseWrapper = backend.DatabaseWrapper(database, alias)
    # The last flush of a process may run in its main thread; `SerialCalls` keeps it and the writer apart.
    connection.inc_thread_sharing()
    # Django takes this lock for each cursor; its own may stay taken on Python 3.14, see `threads.RLock`.
    connection._thread_sharing_lock = threads.RLock()  # type: ignore[attr-defined]
    connection.connect()
    return connection


def close_connection(connection: BaseDatabaseWrapper) -> None:
    """Close a connection made by `open_connection`; in-memory SQLite too, which Django would keep open."""
    driver = connection.connection
    connection.close()
    if connection.connection is not None:
        driver.close()


class Descriptors:
    """Notices that the process has closed all its file descriptors, as programs do that become daemons.

    Their numbers are given to other files then, to which SQLite would write, also when it closes.
    """

    def __init__(self) -> None:
        # A pipe, because nothing else has its identity.
        self._number, other = os.pipe()
        os.close(other)
        self._identity = self._identify()

    def _identify(self) -> "_Identity | None":
        try:
            found = os.fstat(self._number)
        except OSError as exc:
            if guard.is_interruption(exc):
                raise
            return None
        return found.st_dev, found.st_ino

    @property
    def are_closed(self) -> bool:
        return self._identify() != self._identity

    def close(self) -> None:
        if not self.are_closed:
            os.close(self._number)


def never_free(thing: object) -> None:
    """Keep an object beyond the end of the interpreter, which would close what it has open."""
    with suppress(ImportError):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@contextmanager
def used_by_orm(connection: BaseDatabaseWrapper, alias: str) -> Iterator[None]:
    """Make the ORM use this connection for an alias, in this thread, during a `with` block."""
    # Not connections[alias], which creates a connection if this thread has none.
    usual = getattr(connections._connections, alias, None)  # type: ignore[attr-defined]
    connections[alias] = connection
    try:
        yield
    finally:
        connection.queries_log.clear()  # grows without bound under DEBUG
        del connections[alias]
        if usual is not None:
            connections[alias] = usual


OTHERS_MODE = 0o007
HEADER = b"SQLite format 3\0"
SUFFIXES = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps next to a database."""
_CORRUPT = frozenset([sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])


def only_row(rows: QuerySet[Row], **values: Any) -> Row:
    """Return the only row of a table, with id 1; create it with these values if it is missing."""
    if (row := rows.filter(id=1).first()) is not None:
        return row
    # Another process may create it at the same time.
    rows.bulk_create([rows.model(id=1, **values)], ignore_conflicts=True)
    return rows.get(id=1)


def upsert(rows: Sequence[Model], key: Sequence[str], fields: Sequence[str], *, using: str) -> None:
    """Insert rows, and update these fields of rows whose key exists.

    Unlike `save()`, neither this nor `only_row` sends model signals: the application may connect a receiver
    to all models, such as an audit log's, and that must not run in our thread for each row of the log.
    """
    if not rows:
        return
    # MySQL's ON DUPLICATE KEY UPDATE applies to any unique key and accepts no column.
    is_targeted = connections[using].features.supports_update_conflicts_with_target
    type(rows[0])._default_manager.using(using).bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=key if is_targeted else None,
        update_fields=fields,
    )


class FileProblem(NamedTuple):
    """Why a file cannot be written, and what to do about it."""

    problem: str
    advice: str


def is_sqlite(alias: str) -> bool:
    """Return True if the alias is a SQLite database; False if DATABASES does not have it."""
    return alias in connections.settings and connections[alias].vendor == "sqlite"


def is_installed(path: Path) -> bool:
    """Return True for a file or folder of an installed package."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def path_of(alias: str) -> Path | None:
    """Return the file of a SQLite database; None for any other database, or one in memory."""
    if not is_sqlite(alias):
        return None
    name = str(connections.settings[alias]["NAME"])
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()


def find_problem(path: Path) -> FileProblem | None:
    """Return why this process cannot write a SQLite file; None if it can."""
    folder = path.parent
    names = {"path": path, "folder": folder, "user": os.geteuid()}
    advice = _("Give user id %(user)s write access: SQLite creates further files in the folder.") % names
    if not folder.exists():
        return FileProblem(
            _("The folder %(folder)s does not exist.") % names,
            _("Create it, or change NAME, which is %(path)s.") % names,
        )
    if not folder.is_dir() or path.is_dir():
        return FileProblem(
            _("%(path)s is not a file in a folder.") % names,
            _("NAME must be the path of a file in an existing folder."),
        )
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return FileProblem(
            _("The folder %(folder)s is on a read-only file system.") % names,
            _("Name a file on a writable one."),
        )
    if not _is_accessible(folder, os.W_OK | os.X_OK):
        return FileProblem(_("The folder %(folder)s cannot be written.") % names, advice)
    if path.exists() and not _is_accessible(path, os.R_OK | os.W_OK):
        return FileProblem(_("The file %(path)s cannot be written.") % names, advice)
    return None


def _is_accessible(path: Path, mode: int) -> bool:
    # os.access() checks the real user by default, but a server started by root has switched to another one.
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def deny_others(path: Path) -> None:
    """Remove the access of other users to a file, but not that of its group."""
    try:
        mode = path.stat().st_mode
        if mode & OTHERS_MODE:
            path.chmod(mode & 0o777 & ~OTHERS_MODE)
    except OSError as exc:  # the file belongs to another user, whose decision it is
        if guard.is_interruption(exc):  # TimeoutError is an OSError, and signal handlers raise it
            raise


def deny_others_after_migrate(using: str, **kwargs: Any) -> None:
    """Restrict access to a store that `migrate` has created; a receiver of post_migrate.

    SQLite gives the mode of a database file to the files that it creates next to it.
    """
    path = path_of(using) if using == conf.load().database else None
    if path is not None and _is_exclusive(using, path):
        deny_others(path)


def _is_exclusive(alias: str, path: Path) -> bool:
    """Return True if the file contains only the SQL log, and no data of the application."""
    others = (other for other in connections.settings if other != alias)
    return alias != DEFAULT_DB_ALIAS and all(path_of(other) != path for other in others)


_Identity = tuple[int, int]


class StoreFile:
    """The file that this process writes to; for one thread. Does nothing unless the store is SQLite."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._opened: _Identity | None = None
        self._log: _Identity | None = None
        """Identity of the open file's write-ahead log."""
        self.path: Path | None = None

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Remember which file is opened in a `with` block."""
        self.path = path_of(self._alias)
        # Before opening: if the file is replaced at this moment, `change` notices a difference.
        before = _identity(self.path)
        self._log = None
        yield
        self._opened = before or _identity(self.path)
        if self.path is not None and _is_exclusive(self._alias, self.path):
            for suffix in ("", *SUFFIXES):
                deny_others(_beside(self.path, suffix))

    def change(self) -> str | None:
        """Return "deleted" or "replaced" if that happened to the file since it was opened, else None.

        SQLite does not notice it, and continues to write to the unlinked file.
        """
        if self._opened is None or self.path is None:
            return None
        if (now := _identity(self.path)) == self._opened:
            self._log = self._log or _identity(_beside(self.path, "-wal"))
            return None
        return "deleted" if now is None else "replaced"

    def is_corrupt(self, exc: BaseException) -> bool:
        """Return whether an exception means that the file is damaged, and that the file is ours."""
        code = getattr(exc, "sqlite_errorcode", None) or getattr(exc.__cause__, "sqlite_errorcode", None)
        if self.path is None or code is None or code & 0xFF not in _CORRUPT:
            return False
        # Not a file that was never opened and has no SQLite header: NAME may point at any file by mistake.
        return _is_exclusive(self._alias, self.path) and (
            self._opened is not None or self.path.read_bytes()[: len(HEADER)] == HEADER
        )

    def recreate(self) -> Path | None:
        """Create a new store if the file is missing, empty or corrupt, unless another process already has.

        A corrupt file is moved aside; return its new path. Raise OSError or a database error.
        """
        if self.path is None or not _is_exclusive(self._alias, self.path):
            return None
        broken, self._opened = self._opened, None
        try:
            with _one_at_a_time(self.path.parent):
                return self._recreate(self.path, broken)
        except BaseException:
            self._opened = broken  # so that the next batch tries again
            raise

    def _recreate(self, path: Path, broken: _Identity | None) -> Path | None:
        found = _identity(path)
        is_empty = found is None or path.stat().st_size == 0
        if not is_empty and found != broken:
            if self._log is not None and _identity(_beside(path, "-wal")) == self._log:
                for suffix in SUFFIXES:  # SQLite would replay the log of the old file into the new one
                    _move(_beside(path, suffix), None)
            return None
        # Always the same name, so that a failing disk does not fill up with copies.
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
        # Atomic and last, so that a process that opens the file always finds its tables.
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
    """Let one process at a time change the files of a folder."""
    import fcntl  # not available on Windows, where an open file cannot be deleted anyway

    lock = os.open(folder, os.O_RDONLY)
    try:
        # The folder and not the file: a lock belongs to an inode, and the file is about to get a new one.
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
