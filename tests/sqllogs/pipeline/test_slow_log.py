"""A slow or failing query is one line of the log, with the query's own trace, and a flood of them is not."""

import logging
import sys
from types import ModuleType

import pytest

from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.log_lines import TraceFormatter
from sqllogs.pipeline import slow_log
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.slow_log import INTERVAL_S, STATEMENTS_MAX
from tests.sqllogs.pipeline.test_resolver import captured


@pytest.fixture(autouse=True)
def test_run(monkeypatch):
    """Log as outside of a test run; pytest-django has set one up."""
    monkeypatch.setattr(slow_log, "is_test_environment", lambda: False)
    return monkeypatch.undo


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the log believes to have passed."""

    class Clock:
        now_s = 0.0

        def monotonic(self):
            return self.now_s

    one = Clock()
    monkeypatch.setattr(slow_log, "time", one)
    return one


@pytest.fixture
def log(clock):
    return slow_log.make(Conf())


@pytest.fixture
def give(log):
    """Hand queries to the log, each of a number of milliseconds and further fields."""
    resolver = Resolver(Conf())

    def give(*durations_ms, **changes):
        log.add(resolver.batch([captured(execute_ns=int(ms * 1e6), **changes) for ms in durations_ms]))

    return give


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "sqllogs.slow"]


def test_threshold_parts_the_slow_from_the_rest(give, caplog):
    give(499.999)
    assert lines(caplog) == []
    give(500.0)
    assert lines(caplog) == ["500.0 ms at thread: SELECT ?"]
    assert caplog.records[0].levelno == logging.WARNING


def test_line_of_a_failed_query_names_the_error_and_the_place(give, caplog):
    give(1.0, error=ValueError, code=give.__code__, lasti=0)
    [line] = lines(caplog)
    assert line.startswith("1.0 ms failed with ValueError at tests/sqllogs/pipeline/test_slow_log.py:")
    assert "SELECT ?" in line


def test_line_has_the_trace_of_the_query_wherever_it_is_written(give, caplog):
    give(600.0, unit=UnitOfWork("request", trace_id=0xABC, span_id=0xDEF))
    [record] = caplog.records
    shown = TraceFormatter().format(record)
    assert f"[trace_id={0xABC:032x} span_id={0xDEF:016x}]" in shown
    assert shown.endswith(f"trace_id={0xABC:032x}")


def test_line_has_no_values_and_a_bounded_text(give, caplog):
    give(600.0, sql="SELECT 'secret', " + ", ".join(f"column_{number}" for number in range(1000)))
    [line] = lines(caplog)
    assert "secret" not in line
    assert len(line) < slow_log.SQL_MAX_CHARACTERS + 200


def test_statement_has_one_line_an_interval_and_then_its_slowest_with_a_count(give, log, clock, caplog):
    give(600.0, 700.0, 900.0, 800.0)
    assert [line.split(" at ")[0] for line in lines(caplog)] == ["600.0 ms"]
    clock.now_s = INTERVAL_S
    log.set_status(None)  # told though no further query comes
    assert lines(caplog)[1:] == ["900.0 ms at thread: SELECT ? (2 like it not logged)"]
    give(650.0)
    assert lines(caplog)[2].startswith("650.0 ms")


def test_one_that_was_left_out_is_told_without_a_count(give, log, caplog):
    give(600.0, 700.0)
    log.close(1.0)
    assert lines(caplog)[1] == "700.0 ms at thread: SELECT ?"


def test_errors_and_statements_are_limited_apart(give, caplog):
    for _ in range(3):
        give(600.0)
        give(600.0, sql="SELECT a FROM b")
        give(600.0, error=ValueError)
        give(600.0, error=KeyError)
    assert len(lines(caplog)) == 4


def test_flood_of_different_statements_is_bounded_and_counted(give, log, caplog):
    for number in range(STATEMENTS_MAX + 10):
        give(600.0 + number, sql=f"SELECT column_{number}")
    assert len(lines(caplog)) == STATEMENTS_MAX + 1
    log.close(1.0)
    assert lines(caplog)[-1].endswith("(8 of other statements not logged)")
    assert f"column_{STATEMENTS_MAX + 9} " in lines(caplog)[-1]


def test_threshold_is_a_setting(caplog):
    batch = Resolver(Conf()).batch([captured(execute_ns=2_000_000)])
    slow_log.make(Conf(slow_ms=2.0)).add(batch)
    slow_log.make(Conf(slow_ms=2.1)).add(batch)
    assert lines(caplog) == ["2.0 ms at thread: SELECT ?"]


def test_error_that_a_test_expects_prints_nothing(test_run, caplog):
    test_run()
    batch = Resolver(Conf()).batch([captured(error=ValueError)])
    slow_log.make(Conf()).add(batch)
    assert lines(caplog) == []


def test_module_that_another_thread_is_importing_is_no_test_run(test_run, monkeypatch):
    test_run()
    monkeypatch.setitem(sys.modules, "django.test.utils", ModuleType("django.test.utils"))
    assert not slow_log.is_test_environment()
