"""Watch the methods of a cursor other than execute: fetches, callproc, COPY, streams.

Used by `sqllogs.capture.wrapper` in the caller's thread. A plain cursor gets a class that calls the driver
directly. The class of any other cursor is changed by `CursorWatcher` to a subclass with the methods of
`sqllogs.capture.cursor_methods`, which feed the query's `Fetch`.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from operator import attrgetter
from types import MethodType
from typing import Any

from django.db.backends.utils import CursorWrapper

from sqllogs import guard
from sqllogs.capture import Fetch
from sqllogs.capture.cursor_methods import FLAT_METHODS, METHODS, Method, Original

CLASSES_MAX = 64
"""Maximum cursor classes cached. There are two or three, unless the site creates a class per cursor."""

_NAMES_USED = {
    "__init__": {"cursor", "db"},
    "__getattr__": {"getattr", "cursor", "CursorWrapper", "WRAP_ERROR_ATTRS", "db", "wrap_database_errors"},
    "execute": {"_execute_with_wrappers", "_execute"},
    "_execute_with_wrappers": {"db", "reversed", "execute_wrappers", "functools", "partial"},
    "_execute": {
        "apps", "ready", "stored_app_configs", "warnings", "warn", "APPS_NOT_READY_WARNING_MSG",
        "RuntimeWarning", "db", "validate_no_broken_transaction", "wrap_database_errors", "cursor", "execute",
    },
}  # fmt: skip
"""The methods of Django that a flat cursor replaces, with all names that their code uses.

If a method uses other names, Django has changed it or a package has patched it, and our copy may be wrong.
"""


def _is_known(name: str) -> bool:
    """Return False for a method of an unsupported Django version, or a patched one."""
    code = getattr(getattr(CursorWrapper, name), "__code__", None)
    return code is not None and set(code.co_names) == _NAMES_USED[name]


HAS_KNOWN_METHODS = all(map(_is_known, _NAMES_USED))
# Django's own, to notice a package that patches them later.
INIT = CursorWrapper.__init__
GETATTR = CursorWrapper.__getattr__
EXECUTE = CursorWrapper.execute
EXECUTE_WITH_WRAPPERS = CursorWrapper._execute_with_wrappers  # type: ignore[attr-defined]
EXECUTE_IN_DRIVER = CursorWrapper._execute  # type: ignore[attr-defined]


def is_unpatched() -> bool:
    """Return True while no package has patched Django's cursor, which a flat cursor would bypass."""
    return (
        CursorWrapper.__init__ is INIT
        and CursorWrapper.__getattr__ is GETATTR
        and CursorWrapper.execute is EXECUTE
        and CursorWrapper._execute_with_wrappers is EXECUTE_WITH_WRAPPERS  # type: ignore[attr-defined]
        and CursorWrapper._execute is EXECUTE_IN_DRIVER  # type: ignore[attr-defined]
    )


class WatchedCursor(CursorWrapper):
    """Base class of the classes that cursors are changed to.

    Assigning `__class__` takes 0.1 us. A proxy of the driver's cursor would add a call to each execute, and
    fail the drivers' type checks (`psycopg2.extensions.register_type`).
    """

    __slots__ = ()

    sqllogs_fetch: Fetch | None = None
    """Rows and fetch time of the last statement."""
    sqllogs_wrapper: Method
    sqllogs_restore: Callable[[Any], bool]
    """Installs the wrapper on a connection that has lost it; returns False if it was uninstalled."""
    sqllogs_direct: Method | None = None
    """The execute wrapper that lets a flat cursor call the driver directly; None for other classes."""
    sqllogs_delegated: frozenset[str]
    """Methods that Django's class lacks and passes to the driver's cursor by `__getattr__`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Remove the delegated methods from a class that has its own `__getattr__`.

        debug-toolbar blocks queries in templates that way.
        """
        super().__init_subclass__(**kwargs)
        if "sqllogs_direct" not in vars(cls):
            cls.sqllogs_direct = None  # the class may override execute
        if cls.__getattr__ is not CursorWrapper.__getattr__:
            for name in cls.sqllogs_delegated:
                owner = next(base for base in cls.__mro__ if name in vars(base))
                if "sqllogs_delegated" in vars(owner):
                    setattr(cls, name, property())  # raises AttributeError, so __getattr__ is called

    def sqllogs_begin(self, fetch: Fetch | None) -> None:
        """Count further fetches for a new statement; called by the execute wrapper after it ran."""
        if self.sqllogs_fetch is not None:
            self.sqllogs_fetch.done = True
        self.sqllogs_fetch = fetch

    def sqllogs_send(self, sql: Any, run: Callable[[], Any]) -> Any:
        """Run a method that bypasses Django's execute wrappers, and capture it with ours."""
        self.sqllogs_begin(None)
        if not self.sqllogs_restore(self.db):
            return run()
        context = {"connection": self.db, "cursor": self}
        return self.sqllogs_wrapper(lambda *args: run(), sql, None, False, context)


class CursorWatcher:
    """Change the class of cursors to a watched one; belongs to one execute wrapper."""

    def __init__(self, wrapper: Method, restore: Callable[[Any], bool]) -> None:
        self._wrapper = wrapper
        self._restore = restore
        self._classes: dict[type, type] = {}
        self.flat = self._flat_class() if HAS_KNOWN_METHODS and hasattr(wrapper, "execute") else None
        """The class of plain cursors; None with an unsupported version of Django."""

    def __len__(self) -> int:
        return len(self._classes)

    def watch(self, cursor: Any) -> Any:
        """Return the same cursor, watched if it is one of Django's cursors."""
        kind = type(cursor)
        try:
            watched = self._classes.get(kind) or self._watched_class(kind)
            if watched is not kind:
                cursor.__class__ = watched
        except Exception as exc:  # a class with a metaclass or another memory layout
            if guard.must_propagate(exc):
                raise
            self._classes[kind] = kind
            guard.fault("cursor", exc)
        return cursor

    def _watched_class(self, kind: type) -> type:
        # Cleared as a whole: only a site that creates classes without end gets here.
        if len(self) >= CLASSES_MAX:
            self._classes.clear()
        watched = self._classes[kind] = self._subclass(kind)
        return watched

    def _subclass(self, kind: type) -> type:
        if not issubclass(kind, CursorWrapper) or issubclass(kind, WatchedCursor):
            return kind
        delegated = frozenset(name for name in METHODS if not hasattr(kind, name))
        body = {name: _delegated(name) if name in delegated else _own(kind, name) for name in METHODS}
        body |= {"__slots__": (), "__module__": __name__, "sqllogs_delegated": delegated}
        body["sqllogs_wrapper"] = staticmethod(self._wrapper)
        body["sqllogs_restore"] = staticmethod(self._restore)
        return type(kind.__name__, (WatchedCursor, kind), body)

    def _flat_class(self) -> Callable[[Any, Any], WatchedCursor]:
        """Return a class whose methods do in one call what Django does in three or four.

        A `fetchmany` takes 1.2 us in Django: `__getattr__`, a new function, and a context manager around
        the call, which is needed only if it raises.
        """
        watched = self._subclass(CursorWrapper)
        direct = staticmethod(self._wrapper)
        body = {"__module__": __name__, "execute": self._wrapper.execute, "sqllogs_direct": direct}  # type: ignore[attr-defined]
        # Here too, because `__init_subclass__` looks for it in the class that has the method.
        body |= {**FLAT_METHODS, "sqllogs_delegated": watched.sqllogs_delegated}  # type: ignore[attr-defined]
        return type(CursorWrapper.__name__, (watched,), body)


def _own(kind: type, name: str) -> Method:
    """Watch a method that the class defines."""
    return METHODS[name](Original(lambda self: MethodType(getattr(kind, name), self), nullcontext))


def _delegated(name: str) -> Any:
    """Watch a method that Django delegates to the driver's cursor.

    Django's `__getattr__` creates a function per fetch: a `fetchmany` without rows takes 1.19 us that way,
    and 0.95 us through this method.
    """
    find = attrgetter(f"cursor.{name}")
    if name in CursorWrapper.WRAP_ERROR_ATTRS:
        return METHODS[name](Original(find, attrgetter("db.wrap_database_errors")))
    method = METHODS[name](Original(find, nullcontext))
    if name == "close":
        return method

    def bound(self: WatchedCursor) -> Method:
        find(self)  # raises AttributeError if the driver lacks it
        return partial(method, self)

    return property(bound)
