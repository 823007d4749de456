"""Override four methods of a connection: those that make cursors and those that end transactions.

Installed by `sqllogs.recorder` next to the execute wrapper, which they feed and which also works
without them. Run in the caller's thread. They are attributes of the connection object, because a
database backend of ours would conflict with other packages that set ENGINE.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from weakref import ref

from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs import guard
from sqllogs.capture.cursors import CursorWatcher, is_unpatched

TRANSACTION_IDLE = 0
"""libpq's transaction status outside a transaction, the same number in psycopg 2 and 3."""

ENDING = "_sqllogs_ending"
"""Attribute of a connection during COMMIT or ROLLBACK, so that nested overrides record it once."""

MAKE_CURSOR = BaseDatabaseWrapper.make_cursor

NO_CURSOR = SimpleNamespace(cursor=SimpleNamespace(rowcount=-1))


class Overrides:
    """The overrides that belong to one execute wrapper, on any number of connections."""

    def __init__(self, wrapper: Callable[..., Any]) -> None:
        self.wrapper = wrapper
        watcher = CursorWatcher(wrapper)
        self.watch = watcher.watch
        self.flat = watcher.flat

    def install(self, connection: Any) -> None:
        """Add missing overrides, on top of those of other packages."""
        for name, call in OVERRIDES.items():
            if self._ours(connection, name) is None:
                original = vars(connection).get(name)
                override = _Override(self, ref(connection), name, original, _context(connection))
                setattr(connection, name, partial(call, override))

    def uninstall(self, connection: Any) -> None:
        """Remove our overrides. One that another package has wrapped stays and only passes calls on."""
        for name in OVERRIDES:
            override = self._ours(connection, name)
            if override is None:
                continue
            if override.original is None:
                delattr(connection, name)
            else:
                setattr(connection, name, override.original)

    def _ours(self, connection: Any, name: str) -> "_Override | None":
        method = vars(connection).get(name)
        override = method.args[0] if isinstance(method, partial) and method.args else None
        return override if isinstance(override, _Override) and override.owner is self else None


class _Override:
    """State of one override; the method itself is a partial of a function with this argument.

    A class with `__call__` would take 700 instructions more per call than a partial.
    """

    __slots__ = ("connection", "context", "name", "original", "owner")

    def __init__(
        self,
        owner: Overrides,
        connection: Callable[[], Any],
        name: str,
        original: Callable[..., Any] | None,
        context: dict[str, Any],
    ) -> None:
        self.owner = owner
        self.connection = connection
        """A weak reference: a cycle would keep a dead thread's connection open until a garbage collection."""
        self.name = name
        self.original = original
        """The override of another package; None for the method of the class, which may be patched later."""
        self.context = context
        """The execute wrapper's context for COMMIT and ROLLBACK."""


def _make_cursor(override: _Override, cursor: Any) -> Any:
    connection = override.connection()
    if override.original is None:
        flat = override.owner.flat
        if flat is not None and type(connection).make_cursor is MAKE_CURSOR and is_unpatched():
            return flat(cursor, connection)
    return _make_watched_cursor(override, cursor)


def _make_watched_cursor(override: _Override, cursor: Any) -> Any:
    connection = override.connection()
    if override.original is None:
        return override.owner.watch(getattr(type(connection), override.name)(connection, cursor))
    return override.owner.watch(override.original(cursor))


def _end_transaction(override: _Override) -> Any:
    connection = override.connection()
    end = override.original or partial(getattr(type(connection), override.name), connection)
    state = vars(connection)
    wrapper = override.owner.wrapper
    recorded = wrapper in connection.execute_wrappers and ENDING not in state
    # An atomic block without a query, or commit() in autocommit mode, sends nothing.
    if not recorded or not _in_transaction(connection):
        return end()
    try:
        state[ENDING] = True
        return wrapper(lambda *args: end(), ENDINGS[override.name], None, False, override.context)
    finally:
        state.pop(ENDING, None)


OVERRIDES: dict[str, Callable[..., Any]] = {
    "make_cursor": _make_cursor,
    "make_debug_cursor": _make_watched_cursor,
    "_commit": _end_transaction,
    "_rollback": _end_transaction,
}
ENDINGS = {"_commit": "COMMIT", "_rollback": "ROLLBACK"}


def _context(connection: Any) -> dict[str, Any]:
    """Return the execute wrapper's context for COMMIT and ROLLBACK.

    Django has left the atomic block by then, so `in_atomic_block` is set here.
    """
    within = SimpleNamespace(alias=connection.alias, vendor=connection.vendor, in_atomic_block=True)
    return {"connection": within, "cursor": NO_CURSOR}


def _in_transaction(connection: Any) -> bool:
    """Return whether the driver has an open transaction; without one it sends no COMMIT."""
    driver = connection.connection
    try:
        if driver is None:
            return False
        if connection.vendor == "sqlite":
            return bool(driver.in_transaction)
        if connection.vendor == "postgresql":
            return bool(driver.info.transaction_status != TRANSACTION_IDLE)
        return not connection.autocommit
    except Exception as exc:
        if guard.is_foreign(exc) and not isinstance(exc, connection.Database.Error):
            raise
        return True  # the connection is broken; COMMIT itself raises the error
