"""Stand before four methods of a connection: those that make its cursors and end its transactions.

Put on by `sqllogs.recorder` beside the execute wrapper, which they feed and which works
without them. Runs in the caller's thread.

They are attributes of the connection itself, so that any ENGINE keeps its class. They refer
to it weakly: a cycle would keep a dead thread's connection open until the garbage
collector comes by.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from weakref import ref

from sqllogs.capture.cursors import Watch

IDLE = 0
"""The transaction status of libpq, which both psycopgs pass on: nothing has begun."""

BUSY = "_sqllogs_ending"
"""Attribute of a connection while it ends a transaction."""

NO_CURSOR = SimpleNamespace(cursor=SimpleNamespace(rowcount=-1))


class Overrides:
    """Those of one execute wrapper, on any number of connections."""

    def __init__(self, wrapper: Callable[..., Any]) -> None:
        self.wrapper = wrapper
        self.watch = Watch(wrapper).watch

    def install(self, connection: Any) -> None:
        """Put on what is missing, over what somebody else has put there."""
        for name, call in OVERRIDES.items():
            if self._ours(connection, name) is None:
                beneath = vars(connection).get(name)
                override = _Override(self, ref(connection), name, beneath, _context(connection))
                setattr(connection, name, partial(call, override))

    def uninstall(self, connection: Any) -> None:
        """Take off what is ours; what has been covered stays, and passes all calls on."""
        for name in OVERRIDES:
            override = self._ours(connection, name)
            if override is None:
                continue
            if override.beneath is None:
                delattr(connection, name)
            else:
                setattr(connection, name, override.beneath)

    def _ours(self, connection: Any, name: str) -> "_Override | None":
        method = vars(connection).get(name)
        override = method.args[0] if isinstance(method, partial) and method.args else None
        return override if isinstance(override, _Override) and override.owner is self else None


@dataclass(frozen=True, slots=True)
class _Override:
    """What stands in place of one method of one connection: a partial with this as its argument.

    An object that is called itself is called by way of three functions of the interpreter's.
    """

    owner: Overrides
    connection: Callable[[], Any]
    name: str
    beneath: Callable[..., Any] | None
    """What somebody else has put there before; None stands for the class's own method."""
    context: dict[str, Any]
    """The execute wrapper's for the end of a transaction."""


def _make_cursor(override: _Override, cursor: Any) -> Any:
    connection = override.connection()
    if override.beneath is None:
        return override.owner.watch(getattr(type(connection), override.name)(connection, cursor))
    return override.owner.watch(override.beneath(cursor))


def _end_transaction(override: _Override) -> Any:
    connection = override.connection()
    end = override.beneath or partial(getattr(type(connection), override.name), connection)
    state = vars(connection)
    wrapper = override.owner.wrapper
    recorded = wrapper in connection.execute_wrappers and BUSY not in state
    if not recorded or not _has_begun(connection):
        return end()
    state[BUSY] = True
    try:
        return wrapper(lambda *args: end(), ENDINGS[override.name], None, False, override.context)
    finally:
        state.pop(BUSY, None)


OVERRIDES: dict[str, Callable[..., Any]] = {
    "make_cursor": _make_cursor,
    "make_debug_cursor": _make_cursor,
    "_commit": _end_transaction,
    "_rollback": _end_transaction,
}
ENDINGS = {"_commit": "COMMIT", "_rollback": "ROLLBACK"}


def _context(connection: Any) -> dict[str, Any]:
    """Return the wrapper's context for any end of a transaction: Django has left the atomic block by then."""
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
