"""A plain cursor calls the driver directly, and does all else that Django's own does."""

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.db.transaction import TransactionManagementError

from sqllogs.capture import cursors
from sqllogs.context import muted
from tests.sqllogs.rings import database
from tests.sqllogs.watching import watching

ALIAS = "application"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n"


def picky(number):
    return number if number < 3 else 1 / 0


@pytest.fixture
def connection(tmp_path, django_db_blocker):
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with django_db_blocker.unblock(), database(ALIAS, settings_dict):
        connections[ALIAS].ensure_connection()
        connections[ALIAS].connection.create_function("picky", 1, picky)
        connections[ALIAS].execute_wrappers.clear()  # other tests let `sqllogs.testing` watch each connection
        yield connections[ALIAS]


@pytest.fixture
def kept(connection):
    with watching(connection) as kept:
        yield kept


@pytest.fixture
def calls(monkeypatch):
    """The methods of Django's class that run, by name."""
    names = []
    for name in ("execute", "_execute_with_wrappers", "_execute"):
        original = getattr(CursorWrapper, name)

        def noted(self, *args, name=name, original=original, **kwargs):
            names.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(CursorWrapper, name, noted)
    return names


def test_wrong_arguments_are_refused_in_djangos_words(connection, kept):
    cursor = CursorWrapper(None, connection)
    with pytest.raises(TypeError) as theirs:
        cursor.execute("SELECT 1", binary=True)
    with connection.cursor() as watched, pytest.raises(TypeError) as ours:
        watched.execute("SELECT 1", binary=True)
    assert str(ours.value) == str(theirs.value)
    assert kept == []


def test_methods_of_this_django_are_known():
    assert cursors.HAS_KNOWN_METHODS


def test_plain_cursor_calls_the_driver_directly(connection, kept, monkeypatch):
    for name in ("_execute_with_wrappers", "_execute", "__getattr__"):
        monkeypatch.setattr(cursors.WatchedCursor, name, None)  # would fail
    with connection.cursor() as cursor:
        assert cursor.execute(sql=NUMBERS, params=None) is cursor.cursor
        assert cursor.fetchone() == (1,)
        assert cursor.fetchmany(size=2) == [(2,), (3,)]
        assert cursor.fetchmany() == [(4,)]
    assert [(captured.sql, captured.fetch.rows, captured.error) for captured in kept] == [(NUMBERS, 4, None)]


def test_methods_that_another_package_has_replaced_are_called(connection, kept, calls):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
    assert calls == ["execute", "_execute_with_wrappers", "_execute"]
    assert [captured.fetch.rows for captured in kept] == [1]


def test_method_that_is_replaced_while_a_cursor_is_open_is_called(connection, kept, request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        calls = request.getfixturevalue("calls")
        cursor.execute("SELECT 2")
    assert calls == ["execute", "_execute_with_wrappers", "_execute"]
    assert kept.texts == ["SELECT 1", "SELECT 2"]


def test_subclass_of_a_plain_cursors_class_executes_in_its_own_way(connection, kept):
    calls = []
    plain = connection.cursor()

    class Own(type(plain)):
        def execute(self, sql, params=None):
            return super().execute(sql, params)

        def _execute(self, sql, params, *ignored):
            calls.append(sql)
            return super()._execute(sql, params, *ignored)

    with Own(plain.cursor, connection) as cursor:
        cursor.execute("SELECT 1")
    assert calls == kept.texts == ["SELECT 1"]


def test_other_wrappers_are_called_within_ours(connection, kept):
    def upper(execute, sql, params, many, context):
        assert kept == []  # ours is the outer one
        return execute(sql.upper(), params, many, context)

    with connection.execute_wrapper(upper), connection.cursor() as cursor:
        cursor.execute("select 'a'")
        assert cursor.fetchone() == ("A",)
    assert kept.texts == ["select 'a'"]


def test_error_of_a_plain_cursor_is_djangos(connection, kept):
    with connection.cursor() as cursor:
        with pytest.raises(OperationalError) as raised:
            cursor.execute("SELECT nothing_such")
        assert isinstance(raised.value.__cause__, connection.Database.OperationalError)
        assert connection.errors_occurred
        connection.errors_occurred = False
        cursor.execute("SELECT picky(i) FROM (SELECT 1 AS i UNION ALL SELECT 4)")
        with pytest.raises(OperationalError) as raised:
            [cursor.fetchone(), cursor.fetchone()]
        assert isinstance(raised.value.__cause__, connection.Database.OperationalError)
    assert [captured.error for captured in kept] == [OperationalError, None]
    assert (kept[0].fetch, kept[1].fetch.error) == (None, (OperationalError, None))


def test_query_in_a_broken_transaction_is_refused_and_recorded(connection, kept):
    with transaction.atomic(using=ALIAS), connection.cursor() as cursor:
        transaction.set_rollback(True, using=ALIAS)
        with pytest.raises(TransactionManagementError):
            cursor.execute("SELECT 1")
    assert [captured.error for captured in kept] == [None, TransactionManagementError, None]


def test_query_before_the_apps_are_ready_is_warned_of(connection, kept, monkeypatch):
    monkeypatch.setattr("django.apps.apps.ready", False)
    with connection.cursor() as cursor, pytest.warns(RuntimeWarning, match="app initialization"):
        cursor.execute("SELECT 1")
    assert kept.texts == ["SELECT 1"]


def test_plain_cursor_of_a_muted_block_is_not_recorded(connection, kept):
    with muted(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert kept == []


def ask(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])


def test_call_site_is_the_same_by_each_way(connection, kept):
    connection.connection.execute("CREATE TABLE t (n int)")
    ask(connection)
    with connection.execute_wrapper(lambda execute, *args: execute(*args)):
        ask(connection)
    assert [captured.code for captured in kept] == [ask.__code__] * 4
    assert [captured.many for captured in kept] == [False, 2] * 2
