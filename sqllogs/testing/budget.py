"""`@query_budget`: limit the queries of a test to a number, or to its entry in the budget file.

For functions and classes, sync and async, under pytest and unittest; runs in the test's thread. The file has
the queries of each test by operation and tables, not by text, because texts change with every column and make
diffs unreadable. Only the sum is enforced; the entries explain a failure.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from unittest import TestCase

from sqllogs.testing import queries
from sqllogs.testing.log import QueryLog, Recording
from sqllogs.testing.queries import Query

FILE = "query_budget.json"
FILE_VARIABLE = "SQLLOGS_BUDGET_FILE"
UPDATE_VARIABLE = queries.UPDATE_VARIABLE

Budget = dict[str, int]
"""Number of queries by `Query.summary`."""

unused: dict[str, tuple[int, int]] = {}
"""Queries sent and allowed, of tests that stayed below their budget; the pytest plugin reports them."""


def query_budget(target: Any = None) -> Any:
    """Decorate a test or a class of tests: `@query_budget(5)`, or `@query_budget` to use the budget file."""
    if callable(target):
        return _decorate(target, None)
    return lambda test: _decorate(test, target)


class OverBudgetError(AssertionError):
    """Raised when a test sends too many queries. Shown without a traceback: no single line is at fault."""


def enforce(test: str, limit: int | None = None) -> Recording:
    """Fail if the block sends more queries than the limit or, without one, than the budget file allows."""
    return Recording(lambda log: _check(test, limit, log))


def _check(test: str, limit: int | None, log: QueryLog) -> None:
    __tracebackhide__ = True
    if limit is not None:
        if len(log) > limit:
            raise OverBudgetError(queries.too_many(log.groups(), limit))
    elif is_updated():
        save(test, count_queries(log.queries))
    else:
        _compare(test, log)


def _compare(test: str, log: QueryLog) -> None:
    __tracebackhide__ = True
    allowed, sent = load(test), count_queries(log.queries)
    if allowed is None:
        raise OverBudgetError(queries.no_budget(test, log.groups()))
    # Only the sum counts, so that one query may replace another.
    if sum(sent.values()) > sum(allowed.values()):
        raise OverBudgetError(queries.over_budget(test, log.groups(), sent, allowed))
    if sum(sent.values()) < sum(allowed.values()):
        unused[test] = (sum(sent.values()), sum(allowed.values()))


def _decorate(target: Any, limit: int | None) -> Any:
    if not isinstance(target, type):
        return _decorate_function(target, limit)
    for name in dir(target):
        if name.startswith("test") and callable(test := getattr(target, name)):
            setattr(target, name, _decorate_function(test, limit))
    return target


def _decorate_function(function: Callable[..., Any], limit: int | None) -> Callable[..., Any]:
    if iscoroutinefunction(function):

        @wraps(function)
        async def test_within_budget(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with enforce(_test_name(function, args), limit):
                return await function(*args, **kwargs)

    else:

        @wraps(function)
        def test_within_budget(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with enforce(_test_name(function, args), limit):
                return function(*args, **kwargs)

    return test_within_budget


def _test_name(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """Return the runner's name of the current test."""
    if test := os.environ.get("PYTEST_CURRENT_TEST"):
        return test.rpartition(" (")[0]
    if args and isinstance(args[0], TestCase):
        return args[0].id()
    return f"{function.__module__}.{function.__qualname__}"


def count_queries(queries: Sequence[Query]) -> Budget:
    """Return the smallest budget that these queries stay within."""
    return dict(sorted(Counter(query.summary for query in queries).items()))


def path() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or FILE).absolute()


def is_updated() -> bool:
    """Return whether this run writes budgets instead of enforcing them."""
    return os.environ.get(UPDATE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def load(test: str) -> Budget | None:
    """Return the budget of a test, if it has one."""
    return _read(path()).get(test)


def save(test: str, budget: Budget) -> None:
    """Set the budget of a test; the others stay as they are."""
    # Under pytest-xdist and `test --parallel` several processes write. Each locks, reads and replaces the
    # whole file, so that a crashing worker loses nothing.
    file = path()
    with _locked(file):
        budgets = _read(file)
        if budgets.get(test) != budget:
            _write(file, dict(sorted((budgets | {test: budget}).items())))


def _read(file: Path) -> dict[str, Budget]:
    try:
        budgets: dict[str, Budget] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as exc:
        raise ValueError(
            f"{file} is not JSON ({exc}). Fix it, or delete it and run again with --sqllogs-update-budget."
        ) from exc
    return budgets


def _write(file: Path, budgets: dict[str, Budget]) -> None:
    """Replace the file atomically, so that a reader never sees half of it."""
    with NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as new:
        json.dump(budgets, new, indent=2, ensure_ascii=False)
        new.write("\n")
    os.chmod(new.name, file.stat().st_mode if file.exists() else 0o644)
    os.replace(new.name, file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Exclude the other processes of the run; a crashed process releases its lock."""
    try:
        import fcntl
    except ImportError:  # on Windows; a run with a single process needs no lock
        yield
        return
    # The folder is locked, because the file itself is replaced.
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
