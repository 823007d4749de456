"""The wrapper leaves the right tuple behind and the caller alone."""

import gc
import weakref
from _thread import start_new_thread
from queue import SimpleQueue

import pytest
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from sqllogs import guard
from sqllogs.capture import Captured, error_code
from sqllogs.capture import wrapper as capture_wrapper
from sqllogs.context import muted, unit_of_work
from sqllogs.sql.text import TEXT_MAX_CHARACTERS
from sqllogs.storage.database import close_connection


class Connection:
    alias, vendor, in_atomic_block = "default", "sqlite", True

    def __init__(self):
        self.execute_wrappers = []


class Cursor:
    class cursor:
        rowcount = 7


def run(sql="SELECT 1", execute=lambda *args: "result", many=False, *, call_site=True, cursor=Cursor):
    """Send a statement through a wrapper; return the result and what was captured."""
    kept = []
    wrapper = capture_wrapper.execute_wrapper(kept.append, call_site=call_site)
    context = {"connection": Connection(), "cursor": cursor}
    result = wrapper(execute, sql, None, many, context)
    return result, [Captured(*item) for item in kept]


def test_result_is_passed_on_and_the_query_captured():
    result, [captured] = run("SELECT 2", many=True)
    assert result == "result"
    assert captured.sql == "SELECT 2"
    assert (captured.alias, captured.vendor, captured.many, captured.in_transaction) == (
        "default",
        "sqlite",
        True,
        True,
    )
    assert captured.rowcount == 7
    assert captured.error is None
    assert captured.execute_ns > 0


@pytest.fixture
def in_memory(django_db_blocker):
    """A connection to a database of its own."""
    connection = DatabaseWrapper({**connections["default"].settings_dict, "NAME": ":memory:"})
    with django_db_blocker.unblock():
        yield connection
    close_connection(connection)


def ask(connection):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n integer)")
        cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])


@pytest.mark.parametrize(("call_site", "code"), [(True, ask.__code__), (False, None)])
def test_call_site_is_the_nearest_application_frame(in_memory, call_site, code):
    kept = []
    capture_wrapper.install(capture_wrapper.execute_wrapper(kept.append, call_site=call_site), in_memory)
    ask(in_memory)
    assert [Captured(*item).code for item in kept] == [code, code]


def test_cursor_that_a_thread_begins_with_has_no_call_site(in_memory):
    kept = SimpleQueue()
    in_memory.inc_thread_sharing()
    capture_wrapper.install(capture_wrapper.execute_wrapper(kept.put, call_site=True), in_memory)
    start_new_thread(in_memory.cursor().execute, ("SELECT 1",))
    assert Captured(*kept.get(timeout=10)).code is None


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_of_the_query_is_captured_and_raised_unchanged(exception):
    kept = []
    raised = exception("theirs")

    def execute(*args):
        raise raised

    wrapper = capture_wrapper.execute_wrapper(kept.append, call_site=True)
    with pytest.raises(exception) as caught:
        wrapper(execute, "SELECT 1", None, False, {"connection": Connection(), "cursor": Cursor})
    assert caught.value is raised
    assert Captured(*kept[0]).error is exception


def test_values_are_compared_if_no_method_of_the_application_hashes_them():
    class Number(int):
        """As psycopg's Int4, in which Django wraps integers."""

    class Own(int):
        def __hash__(self):
            raise AssertionError

    hash_values = capture_wrapper.hash_values
    assert hash_values((Number(1),)) == hash_values((1,)) is not None
    assert hash_values((Number(2),)) != hash_values((1,))
    assert hash_values((Own(1),)) is None


def test_sqlstate_comes_from_the_cause_as_both_psycopgs_name_it():
    class DriverError(Exception):
        sqlstate = "23505"

    class OldDriverError(Exception):
        pgcode = "40001"

    for cause, expected in ((DriverError(), "23505"), (OldDriverError(), "40001"), (ValueError(), None)):
        error = RuntimeError()
        error.__cause__ = cause
        assert error_code(error) == expected


def test_fault_of_ours_does_not_reach_the_caller(caplog):
    def broken(item):
        raise RuntimeError("ours")

    before = guard.faults["capture"]
    wrapper = capture_wrapper.execute_wrapper(broken, call_site=True)
    context = {"connection": Connection(), "cursor": Cursor}
    assert wrapper(lambda *args: 42, "SELECT 1", None, False, context) == 42
    assert guard.faults["capture"] == before + 1


def test_fault_of_ours_does_not_hide_the_exception_of_the_query():
    def broken(item):
        raise RuntimeError("ours")

    def execute(*args):
        raise LookupError("theirs")

    wrapper = capture_wrapper.execute_wrapper(broken, call_site=True)
    with pytest.raises(LookupError, match="theirs"):
        wrapper(execute, "SELECT 1", None, False, {"connection": Connection(), "cursor": Cursor})


def test_muted_query_is_not_captured():
    with muted():
        _, captured = run()
    assert captured == []


def test_query_knows_its_unit_of_work():
    with unit_of_work("task", "send_mails") as unit:
        _, [captured] = run()
    assert captured.unit is unit


def test_long_statement_is_cut_with_its_length_and_hash():
    sql = "SELECT '" + "x" * 5_000_000 + "'"
    _, [captured] = run(sql)
    assert len(captured.sql) == TEXT_MAX_CHARACTERS
    assert captured.sql_length == len(sql)
    assert len(captured.sql_hash) == 16


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 1",  # psycopg takes bytes
        type("Text", (str,), {})("SELECT 1"),  # like SafeString
    ],
)
def test_statement_of_another_type_is_text_when_captured(sql):
    _, [captured] = run(sql)
    assert type(captured.sql) is str
    assert captured.sql == "SELECT 1"


def test_parameters_are_not_looked_at():
    class Explosive:
        def __getattribute__(self, name):
            raise AssertionError(name)

    kept = []
    wrapper = capture_wrapper.execute_wrapper(kept.append, call_site=True)
    wrapper(lambda *args: 1, "SELECT %s", Explosive(), True, {"connection": Connection(), "cursor": Cursor})
    assert len(kept) == 1


def test_wrapper_is_installed_once_and_first():
    connection = Connection()
    wrapper = capture_wrapper.execute_wrapper(print, call_site=True)
    connection.execute_wrappers.append("another")
    capture_wrapper.install(wrapper, connection)
    capture_wrapper.install(wrapper, connection)
    assert connection.execute_wrappers == [wrapper, "another"]


def test_wrapper_comes_first_again_after_another_pushed_in():
    connection = Connection()
    wrapper = capture_wrapper.execute_wrapper(print, call_site=True)
    capture_wrapper.install(wrapper, connection)
    connection.execute_wrappers.insert(0, "another")
    capture_wrapper.install(wrapper, connection)
    assert connection.execute_wrappers == [wrapper, "another"]


def test_failing_query_leaves_no_reference_cycle():
    class Traced(Exception):
        pass

    def execute(*args):
        raise Traced

    wrapper = capture_wrapper.execute_wrapper(lambda item: None, call_site=True)
    gc.disable()
    try:
        reference = None
        try:
            wrapper(execute, "SELECT 1", None, False, {"connection": Connection(), "cursor": Cursor})
        except Traced as exc:
            reference = weakref.ref(exc)
        assert reference() is None
    finally:
        gc.enable()
