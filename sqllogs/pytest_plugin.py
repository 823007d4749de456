"""The pytest plugin of `sqllogs.testing`: fixture `sql_log`, marker `query_budget`, options of the budget.

pytest loads it in every project of the environment, even without Django, so it imports nothing of the package
before a test needs it. Runs in the tests' process, with pytest-xdist also in the controller.
"""

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqllogs.testing import QueryLog


_LOG = pytest.StashKey["QueryLog"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sqllogs", "queries of a test")
    group.addoption(
        "--sqllogs-update-budget",
        action="store_true",
        help="write the queries of tests with a query budget to the budget file, instead of checking them",
    )
    for name, format in (("sarif", "SARIF 2.1.0"), ("junit", "JUnit XML")):
        group.addoption(
            f"--sqllogs-{name}",
            metavar="PATH",
            help=f"write the N+1 queries of all tests to a file, as {format}; no test fails because of them",
        )
    parser.addini(
        "sqllogs_budget_file", "budget file, relative to the root directory (query_budget.json)", default=""
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "query_budget(limit=None): fail if the test sends more queries than the limit or its budget",
    )
    config.pluginmanager.register(_UnusedBudgets(), "sqllogs-unused-budgets")
    if any(_report_paths(config).values()):
        config.pluginmanager.register(_Reports(config), "sqllogs-reports")
    # Through the environment, which works without pytest too: the decorator has no access to `config`.
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
    """The queries of the test's body, in all threads; those of its fixtures are not counted."""
    from sqllogs.testing import record_queries

    with record_queries() as log:
        yield log


def pytest_runtestloop(session: pytest.Session) -> None:
    """Install the wrapper before the first test that needs it, because threads may keep older connections."""
    if any(_report_paths(session.config).values()) or any(_records_queries(item) for item in session.items):
        from sqllogs.testing import log

        log.connect()


def _records_queries(item: pytest.Item) -> bool:
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
        from sqllogs.testing.budget import enforce

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
    """Add the unused part of a test's budget to its report."""
    report = yield
    if report.when == "call" and (budget := sys.modules.get("sqllogs.testing.budget")):
        # pytest-xdist sends the attributes of a report to the controller.
        report.sqllogs_unused = budget.unused.pop(item.nodeid, None)  # type: ignore[attr-defined]
    return report


def _report_paths(config: pytest.Config) -> dict[str, str | None]:
    return {name: config.getoption(f"sqllogs_{name}") for name in ("sarif", "junit")}


def _checkout(root: Path) -> Path:
    """Return the root of the repository, to which GitHub and GitLab take paths to be relative."""
    return next((one for one in (root, *root.parents) if (one / ".git").exists()), root)


class _Reports:
    """Records the queries of every test, and writes the N+1 queries of the run to files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._checkout = _checkout(config.rootpath)
        self._found: list[Any] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        from sqllogs.testing import record_queries

        with record_queries() as log:
            try:
                return (yield)
            finally:
                item.stash[_LOG] = log

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: Any
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        log = item.stash.get(_LOG, None)
        if report.when == "call" and log is not None:
            from sqllogs.testing.queries import reported_queries

            del item.stash[_LOG]
            found = reported_queries(
                log.repeats(), log.groups(), item.nodeid, self._config.rootpath, self._checkout
            )
            report.sqllogs_findings = found  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._found += getattr(report, "sqllogs_findings", ())

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workerinput"):
            return  # the controller of pytest-xdist gets the reports of all workers
        from sqllogs.testing import queries

        findings = [queries.ReportedQuery(*one) for one in self._found]
        for name, path in _report_paths(self._config).items():
            if path:
                file = self._config.invocation_params.dir / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(getattr(queries, name)(findings), encoding="utf-8")


class _UnusedBudgets:
    """Lists the tests that sent fewer queries than their budget, at the end of the run."""

    def __init__(self) -> None:
        self._tests: dict[str, tuple[int, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and (unused := getattr(report, "sqllogs_unused", None)):
            self._tests[report.nodeid] = unused

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._tests:
            return
        terminalreporter.section("query budgets that can be lowered")
        for test, (sent, allowed) in sorted(self._tests.items()):
            terminalreporter.line(f"{test}: {sent} of {allowed} queries")
        terminalreporter.line("pytest --sqllogs-update-budget lowers them.")
