"""The pytest plugin of `sqllogs.testing`: fixture `sql_log`, marker `query_budget`, options of the budget.

Pytest loads it wherever this package is installed, even without Django, so it imports nothing before a test
asks for it.
"""

import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqllogs.testing import QueryLog


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("sqllogs", "queries of a test").addoption(
        "--sqllogs-update-budget",
        action="store_true",
        help="write what the tests with a query budget send into the budget file, in place of checking it",
    )
    parser.addini(
        "sqllogs_budget_file", "budget file, from the root directory (query_budget.json)", default=""
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "query_budget(limit=None): fail if the test sends more queries, or more than its budget"
    )
    config.pluginmanager.register(_Slack(), "sqllogs-slack")
    # By the environment, as without pytest: the decorator knows no `config`.
    if config.getoption("sqllogs_update_budget"):
        _set(config, "SQLLOGS_UPDATE_BUDGET", "1")
    if "SQLLOGS_BUDGET_FILE" not in os.environ:
        file = config.getini("sqllogs_budget_file") or "query_budget.json"
        _set(config, "SQLLOGS_BUDGET_FILE", str(config.rootpath / file))


def _set(config: pytest.Config, name: str, value: str) -> None:
    before = os.environ.get(name)
    os.environ[name] = value

    def undo() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    config.add_cleanup(undo)


@pytest.fixture
def sql_log() -> Iterator["QueryLog"]:
    """The queries of the test's body, in all threads; what its fixtures send is not counted."""
    from sqllogs.testing import record_queries

    with record_queries() as log:
        yield log


def pytest_runtestloop(session: pytest.Session) -> None:
    """Be ready before the first test that asks, so that no connection that a thread keeps is older."""
    if any(_asks(item) for item in session.items):
        from sqllogs.testing import log

        log.connect()


def _asks(item: pytest.Item) -> bool:
    return (
        "sql_log" in getattr(item, "fixturenames", ()) or item.get_closest_marker("query_budget") is not None
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    log = getattr(item, "funcargs", {}).get("sql_log")
    if log is not None:
        log.clear()
    marker = item.get_closest_marker("query_budget")
    try:
        if marker is None:
            return (yield)
        from sqllogs.testing.enforcement import enforce

        with enforce(item.nodeid, *marker.args, **marker.kwargs):
            return (yield)
    except AssertionError as exc:
        if type(exc).__name__ != "OverBudgetError":
            raise
        raise pytest.fail.Exception(str(exc), pytrace=False) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: Any
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send along, from a worker of pytest-xdist too, what a test has left of its budget."""
    report = yield
    if report.when == "call" and (holding := sys.modules.get("sqllogs.testing.enforcement")):
        # An attribute of a report is sent along with it.
        report.sqllogs_slack = holding.slack.pop(item.nodeid, None)  # type: ignore[attr-defined]
    return report


class _Slack:
    """The tests that send less than their budget; listed at the end of the run."""

    def __init__(self) -> None:
        self._tests: dict[str, tuple[int, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and (slack := getattr(report, "sqllogs_slack", None)):
            self._tests[report.nodeid] = slack

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._tests:
            return
        terminalreporter.section("query budgets that can be lowered")
        for test, (spent, allowed) in sorted(self._tests.items()):
            terminalreporter.line(f"{test}: {spent} of {allowed} queries")
        terminalreporter.line("pytest --sqllogs-update-budget lowers them.")
