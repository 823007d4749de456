"""Stand before four methods of a connection: those that make its cursors and end its transactions.

Put on by `sqllogs.recorder` beside the execute wrapper, which they feed and which works
without them. Runs in the caller's thread.

They are attributes of the connection itself, so that any ENGINE keeps its class. They refer
to it weakly: a cycle would keep a dead thread's connection open until the garbage
collector comes by.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from weakref import ref

from sqllogs.cursors import Watch

IDLE = 0
"""The transaction status of libpq, which both psycopgs pass on: nothing has begun."""

BUSY = "_sqllogs_ending"
"""Attribute of a connection while it ends a transaction."""

NO_CURSOR = SimpleNamespace(cursor=SimpleNamespace(rowcount=-1))


class Overrides:
    """Those of one execute wrapper, on any number of connections."""

    def __init__(self, wrapper: Callable[..., Any]) -> None:
        self.wrapper = wrapper
        self.watch = Watch(wrapper)

    def install(self, connection: Any) -> None:
        """Put on what is missing, over what somebody else has put there."""
        for name, kind in OVERRIDES.items():
            if not self._owns(vars(connection).get(name)):
                setattr(connection, name, kind(self, connection, name))

    def uninstall(self, connection: Any) -> None:
        """Take off what is ours; what has been covered stays, and passes all calls on."""
        for name in OVERRIDES:
            override = vars(connection).get(name)
            if not self._owns(override):
                continue
            if override.beneath is None:
                delattr(connection, name)
            else:
                setattr(connection, name, override.beneath)

    def _owns(self, method: Any) -> bool:
        return isinstance(method, _Override) and method.owner is self


class _Override:
    """In place of one method of one connection."""

    __slots__ = ("_connection", "_name", "beneath", "owner")

    def __init__(self, owner: Overrides, connection: Any, name: str) -> None:
        self.owner = owner
        self.beneath = vars(connection).get(name)
        """What somebody else has put there before; None stands for the class's own method."""
        self._connection = ref(connection)
        self._name = name


class _MakeCursor(_Override):
    __slots__ = ()

    def __call__(self, cursor: Any) -> Any:
        connection = self._connection()
        if self.beneath is None:
            return self.owner.watch(getattr(type(connection), self._name)(connection, cursor))
        return self.owner.watch(self.beneath(cursor))


class _EndTransaction(_Override):
    __slots__ = ()

    def __call__(self) -> Any:
        connection: Any = self._connection()
        end = self.beneath or partial(getattr(type(connection), self._name), connection)
        state = vars(connection)
        recorded = self.owner.wrapper in connection.execute_wrappers and BUSY not in state
        if not recorded or not _has_begun(connection):
            return end()
        state[BUSY] = True
        try:
            return self.owner.wrapper(
                lambda *args: end(), ENDINGS[self._name], None, False, _context(connection)
            )
        finally:
            state.pop(BUSY, None)


OVERRIDES: dict[str, type[_Override]] = {
    "make_cursor": _MakeCursor,
    "make_debug_cursor": _MakeCursor,
    "_commit": _EndTransaction,
    "_rollback": _EndTransaction,
}
ENDINGS = {"_commit": "COMMIT", "_rollback": "ROLLBACK"}


def _context(connection: Any) -> dict[str, Any]:
    """Return the wrapper's context for the end of a transaction: Django has left the atomic block by now."""
    within = SimpleNamespace(alias=connection.alias, vendor=connection.vendor, in_atomic_block=True)
    return {"connection": within, "cursor": NO_CURSOR}


def _has_begun(connection: Any) -> bool:
    """Tell whether the driver has a transaction to end; without one it sends nothing."""
    driver = connection.connection
    try:
        if driver is None:
            return False
        if connection.vendor == "sqlite":
            return bool(driver.in_transaction)
        if connection.vendor == "postgresql":
            return bool(driver.info.transaction_status != IDLE)
        return not connection.autocommit
    except Exception:
        return True  # the driver's connection is broken, as the attempt is about to tell
