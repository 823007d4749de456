"""The package stays easy to follow: few modules, each with a docstring, and few on the way of a request."""

import ast
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.sqllogs.factories import put, put_statement, put_statistics

MODULES_MAX = 135
TOP_LEVEL_MODULES_MAX = 18
GIVEN_BY_DJANGO = frozenset(["Command", "Meta", "Media"])
RIDDLES = frozenset(["of", "take", "told", "held"])

PACKAGE = Path(__file__).parents[2] / "sqllogs"


def modules_entered(call):
    """Return the modules of the package in which functions are called meanwhile, in this thread."""
    entered = set()

    def profile(frame, event, argument):
        if event == "call":
            entered.add(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    paths = (Path(name) for name in entered)
    names = (str(path.relative_to(PACKAGE)) for path in paths if path.is_relative_to(PACKAGE))
    return sorted(name for name in names if not name.startswith("testing/"))  # other tests leave its wrapper


EXAMPLE_ONLY = "sqllogs.metrics"
"""Middlewares that the demo site has besides; a plain host has one of ours."""


def browser(accept):
    client = Client(headers={"Accept": accept})
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize(
    ("path", "accept", "most"),
    [
        ("?from=now-1h", "application/json", 14),  # threads.py may have a lock
        ("?from=now-1h", "text/html", 19),
        ("stats/", "text/html", 25),
        ("stats/?source=statistics", "text/html", 29),  # reads rows of histograms besides
    ],
)
def test_one_request_crosses_few_modules(settings, path, accept, most):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith(EXAMPLE_ONLY)]
    unit = {"time": datetime.now(UTC), "trace_id": "a" * 32, "unit_id": "b" * 16, "call_site": "a.py:1 f"}
    put(*[unit | {"duration_ms": float(seq)} for seq in range(1, 31)])
    put_statement()
    put_statistics(*[{"time": datetime.now(UTC), "duration_ms": float(seq)} for seq in range(1, 31)])
    client = browser(accept)

    def get():
        answer = client.get(f"/sql-logs/{path}")
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith(accept)

    get()  # imports and caches
    found = modules_entered(get)
    assert len(found) <= most, f"{len(found)}: {found}"


def modules():
    return [path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts]


def trees():
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in modules()}


def test_package_has_few_modules():
    named = [path for path in modules() if path.name != "__init__.py"]
    assert len(named) <= MODULES_MAX
    assert len([path for path in named if path.parent == PACKAGE]) <= TOP_LEVEL_MODULES_MAX


def test_each_module_says_what_it_is_for():
    empty = {name for name, tree in trees().items() if tree.body and not ast.get_docstring(tree)}
    assert not empty


def test_class_names_are_unique():
    names = [
        node.name for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    names = [name for name in names if name not in GIVEN_BY_DJANGO]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_locks_are_those_of_which_a_signal_handler_that_raises_leaves_none_taken():
    locks = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}
    found = [
        f"{module}:{node.lineno}"
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if (
            (isinstance(node, ast.ImportFrom) and node.module in ("threading", "_thread"))
            and locks & {alias.name for alias in node.names}
        )
        or (
            isinstance(node, ast.Attribute)
            and node.attr in locks
            and getattr(node.value, "id", "") == "threading"
        )
    ]
    # The one of this module is the class that type checkers read.
    assert [place for place in found if not place.startswith("threads")] == []


def test_no_function_has_a_name_that_is_a_riddle():
    riddles = [
        f"{module}:{node.name}"
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in RIDDLES
    ]
    assert riddles == []
