"""Say in the code that queries are repeated on purpose.

Runs in the caller's thread; the mark goes with each record, and readers heed it.
"""

from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import Token
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction

from sqllogs.context import UnitOfWork, current


class _Repeating(UnitOfWork):
    """The same unit of work, as queries see it that are repeated on purpose.

    An object of its own, so that capture has nothing more to look at. It holds nothing: all is
    asked of, and told to, the unit that it stands for, also what becomes known later.
    """

    __slots__ = ("_unit",)
    repeats_allowed = True

    _unit: UnitOfWork

    def __init__(self, unit: UnitOfWork) -> None:
        object.__setattr__(self, "_unit", unit)

    @property
    def muted(self) -> bool:  # type: ignore[override]
        return self._unit.muted  # capture asks at each query: a fifth of the way by __getattr__

    @property
    def whole(self) -> UnitOfWork:
        return self._unit.whole

    def __getattr__(self, name: str) -> Any:  # a slot that was never set comes here too
        return getattr(self._unit, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._unit, name, value)


class repeats_allowed(ContextDecorator):
    """Tell no N+1 of what a block or a function, sync or async, repeats; it is recorded as ever."""

    def __enter__(self) -> None:
        # In a plain thread, or a test, the block becomes a unit of its own.
        unit = current.get() or UnitOfWork("thread")
        self._token: Token[UnitOfWork | None] = current.set(_Repeating(unit))

    def __exit__(self, *exc_info: object) -> None:
        current.reset(self._token)

    def __call__(self, function: Callable[..., Any]) -> Any:
        if not iscoroutinefunction(function):
            return super().__call__(function)

        @wraps(function)
        async def repeating(*args: Any, **kwargs: Any) -> Any:
            with repeats_allowed():
                return await function(*args, **kwargs)

        return repeating

    def _recreate_cm(self) -> "repeats_allowed":
        return repeats_allowed()  # calls within calls, and in other threads, have tokens of their own
