"""Watch what a cursor does beside execute: fetches, callproc, COPY, streams.

Fed by `sqllogs.capture.connection`, which passes each new cursor through `Watch`; runs in
the caller's thread. What the methods do is in `sqllogs.capture.cursor_methods`.

A cursor is given a subclass of its own class. A proxy beneath it would not do:
to programs and drivers `cursor.cursor` is the driver's own, whose type counts.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from operator import attrgetter
from types import MethodType
from typing import Any

from django.db.backends.utils import CursorWrapper

from sqllogs import guard
from sqllogs.capture.cursor_methods import METHODS, Beneath, Method
from sqllogs.record import Fetch

CLASSES_MAX = 64
"""Classes of cursors remembered: there are two or three, but a host may make one for each cursor."""


class WatchedCursor(CursorWrapper):
    """Any of Django's cursors, watched."""

    __slots__ = ()

    sqllogs_fetch: Fetch | None = None
    """Of the statement sent last."""
    sqllogs_wrapper: Method
    sqllogs_delegated: frozenset[str]
    """The methods that stand for what Django delegates to the driver."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Step aside for a class that delegates in its own way; debug-toolbar's refuses to, for templates."""
        super().__init_subclass__(**kwargs)
        if cls.__getattr__ is not CursorWrapper.__getattr__:
            for name in cls.sqllogs_delegated:
                owner = next(base for base in cls.__mro__ if name in vars(base))
                if "sqllogs_delegated" in vars(owner):
                    setattr(cls, name, property())  # raises AttributeError, upon which __getattr__ is asked

    def __del__(self) -> None:
        if self.sqllogs_fetch is not None:
            self.sqllogs_fetch.done = True

    def sqllogs_begin(self, fetch: Fetch | None) -> None:
        """Add what is fetched from now on to this; the execute wrapper calls it after each statement."""
        if self.sqllogs_fetch is not None:
            self.sqllogs_fetch.done = True
        self.sqllogs_fetch = fetch

    def sqllogs_send(self, sql: Any, run: Callable[[], Any]) -> Any:
        """Run what sends a statement past all wrappers; have ours record it."""
        self.sqllogs_begin(None)
        if self.sqllogs_wrapper not in self.db.execute_wrappers:
            return run()
        context = {"connection": self.db, "cursor": self}
        return self.sqllogs_wrapper(lambda *args: run(), sql, None, False, context)


class Watch:
    """Turn cursors into watched ones, for one execute wrapper."""

    def __init__(self, wrapper: Method) -> None:
        self._wrapper = wrapper
        self._classes: dict[type, type] = {}

    def __len__(self) -> int:
        return len(self._classes)

    def watch(self, cursor: Any) -> Any:
        """Return the same cursor, watched if it is one of Django's."""
        kind = type(cursor)
        try:
            watched = self._classes.get(kind) or self._learn(kind)
            if watched is not kind:
                cursor.__class__ = watched
        except Exception as exc:  # a class with a metaclass or a layout of its own
            self._classes[kind] = kind
            guard.fault("cursor", exc)
        return cursor

    def _learn(self, kind: type) -> type:
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
        if hasattr(kind, "__del__"):
            body["__del__"] = kind.__del__
        return type(kind.__name__, (WatchedCursor, kind), body)


def _own(kind: type, name: str) -> Method:
    """Watch a method that a class has itself."""
    return METHODS[name](Beneath(lambda self: MethodType(getattr(kind, name), self), nullcontext))


def _delegated(name: str) -> Any:
    """Watch what Django delegates to the driver, in the way it does that."""
    find = attrgetter(f"cursor.{name}")
    if name in CursorWrapper.WRAP_ERROR_ATTRS:
        return METHODS[name](Beneath(find, attrgetter("db.wrap_database_errors")))
    method = METHODS[name](Beneath(find, nullcontext))
    if name == "close":
        return method

    def bound(self: WatchedCursor) -> Method:
        find(self)  # not every driver has it
        return partial(method, self)

    return property(bound)
