"""`@query_budget`: limit the queries of a test, to a number or to its line in the budget file.

For functions and classes, sync and async, under pytest and unittest. Runs in the test's thread.
"""

import os
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any
from unittest import TestCase

from sqllogs.testing import budget, messages
from sqllogs.testing.log import QueryLog, Recording

slack: dict[str, tuple[int, int]] = {}
"""Queries sent and allowed, of the tests that are below their budget; the pytest plugin reports them."""


def query_budget(target: Any = None) -> Any:
    """Decorate a test, or a class of tests: `@query_budget(5)`, or `@query_budget` for the budget file."""
    if callable(target):
        return _decorated(target, None)
    return lambda test: _decorated(test, target)


class OverBudgetError(AssertionError):
    """A whole test has sent too much: no line of it is at fault, so no traceback is of use."""


def enforce(test: str, limit: int | None = None) -> Recording:
    """Fail if the block sends more than the limit, or than the test's budget in the file."""
    return Recording(lambda log: _check(test, limit, log))


def _check(test: str, limit: int | None, log: QueryLog) -> None:
    __tracebackhide__ = True
    if limit is not None:
        if len(log) > limit:
            raise OverBudgetError(messages.too_many(log.groups(), limit))
    elif budget.is_updated():
        budget.save(test, budget.of_queries(log.queries))
    else:
        _compare(test, log)


def _compare(test: str, log: QueryLog) -> None:
    __tracebackhide__ = True
    allowed, spent = budget.load(test), budget.of_queries(log.queries)
    if allowed is None:
        raise OverBudgetError(messages.no_budget(test, log.groups()))
    if sum(spent.values()) > sum(allowed.values()):
        raise OverBudgetError(messages.over_budget(test, log.groups(), spent, allowed))
    if sum(spent.values()) < sum(allowed.values()):
        slack[test] = (sum(spent.values()), sum(allowed.values()))


def _decorated(target: Any, limit: int | None) -> Any:
    if not isinstance(target, type):
        return _budgeted_function(target, limit)
    for name in dir(target):
        if name.startswith("test") and callable(test := getattr(target, name)):
            setattr(target, name, _budgeted_function(test, limit))
    return target


def _budgeted_function(function: Callable[..., Any], limit: int | None) -> Callable[..., Any]:
    if iscoroutinefunction(function):

        @wraps(function)
        async def held_test(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with enforce(_name(function, args), limit):
                return await function(*args, **kwargs)

    else:

        @wraps(function)
        def held_test(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with enforce(_name(function, args), limit):
                return function(*args, **kwargs)

    return held_test


def _name(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """Return what the runner calls the test under way."""
    if test := os.environ.get("PYTEST_CURRENT_TEST"):
        return test.rpartition(" (")[0]
    if args and isinstance(args[0], TestCase):
        return args[0].id()
    return f"{function.__module__}.{function.__qualname__}"
