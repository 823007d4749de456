"""Ends of transactions are recorded once; the overrides come off again, whatever else is on a connection."""

import copy
import gc
import weakref
from contextlib import suppress

import pytest
from django.db import IntegrityError, connections, transaction
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper

from sqllogs import guard
from sqllogs.capture import wrapper as capture_wrapper
from sqllogs.capture.cursors import WatchedCursor
from sqllogs.capture.wrapper import OVERRIDES, Overrides
from sqllogs.context import muted, unit_of_work
from sqllogs.testing import record_queries
from tests.sqllogs.recording import recording, stored, texts
from tests.sqllogs.rings import database
from tests.sqllogs.watching import Kept, watching

ALIAS = "application"


@pytest.fixture
def connection(tmp_path, django_db_blocker):
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with django_db_blocker.unblock(), database(ALIAS, settings_dict):
        yield connections[ALIAS]


@pytest.fixture
def on_postgresql(postgresql, django_db_blocker):
    with django_db_blocker.unblock(), database(ALIAS, postgresql.create_database(ALIAS)):
        yield connections[ALIAS]


def execute(connection, statement="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else None


def transact(connection):
    with transaction.atomic(using=ALIAS):
        execute(connection)


def test_commit_has_unit_call_site_and_time(connection):
    with watching(connection) as kept, unit_of_work("task", "pay") as unit:
        transact(connection)
    commit = kept[-1]
    assert kept.texts == ["BEGIN", "SELECT 1", "COMMIT"]
    assert commit.unit is unit
    assert commit.code is transact.__code__
    assert commit.in_transaction
    assert commit.execute_ns > 0
    assert (commit.alias, commit.vendor, commit.rowcount, commit.fetch) == (ALIAS, "sqlite", -1, None)


def test_rollback_is_recorded_and_the_exception_goes_on(connection):
    with watching(connection) as kept, pytest.raises(LookupError), transaction.atomic(using=ALIAS):
        raise LookupError
    assert kept.texts == ["BEGIN", "ROLLBACK"]
    assert kept[-1].error is None


def test_commit_that_fails_has_error_and_sqlstate(on_postgresql):
    execute(on_postgresql, "CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with watching(on_postgresql) as kept, pytest.raises(IntegrityError), transaction.atomic(using=ALIAS):
        execute(on_postgresql, "INSERT INTO t VALUES (1), (1)")
    assert [(captured.sql, captured.error, captured.sqlstate) for captured in kept[1:]] == [
        ("COMMIT", IntegrityError, "23505")
    ]


def test_end_of_a_muted_transaction_is_not_recorded(connection):
    with watching(connection) as kept, muted():
        transact(connection)
    assert kept == []


def test_connection_that_is_lost_rolls_back_as_before(on_postgresql):
    with watching(on_postgresql) as kept, suppress(LookupError), transaction.atomic(using=ALIAS):
        execute(on_postgresql)
        on_postgresql.connection.close()
        raise LookupError
    assert kept.texts == ["SELECT 1", "ROLLBACK"]
    assert kept[-1].error is not None


def test_installing_again_and_reconnecting_change_nothing(ring_alias, connection):
    with recording(ring_alias) as recorder:
        for _ in range(3):
            recorder.on_connection_created(connection)
            connection.close()
            transact(connection)
        rows = stored(recorder, ring_alias)
    assert len(rows) == 9  # BEGIN, SELECT and COMMIT of each
    assert [row.rows for row in rows if row.fetch_ms is not None] == [1, 1, 1]


def test_uninstalling_leaves_nothing(connection):
    transact(connection)
    before = dict(vars(connection))
    with watching(connection):
        assert set(vars(connection)) - set(before) == set(OVERRIDES)
    assert dict(vars(connection)) == before


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_setting_leaves_the_wrapper_alone(ring_alias, connection):
    with recording(ring_alias, capture_fetch=False) as recorder:
        recorder.on_connection_created(connection)
        assert not set(vars(connection)) & set(OVERRIDES)
        transact(connection)
        rows = stored(recorder, ring_alias)
    assert [(row.fetch_ms, row.rows) for row in rows] == [(None, None)] * 2


def test_override_that_was_there_before_is_called_and_put_back(connection):
    calls = []

    def theirs(cursor):
        calls.append(cursor)
        return type(connection).make_cursor(connection, cursor)

    connection.make_cursor = theirs
    with watching(connection) as kept:
        execute(connection)
        assert len(calls) == 1
        assert kept[0].fetch.rows == 1
    assert vars(connection)["make_cursor"] is theirs
    del connection.make_cursor


def test_override_that_came_on_top_stays_and_ours_falls_silent(connection):
    def theirs():
        calls.append("theirs")
        return ours()

    calls = []
    with watching(connection) as kept:
        ours = connection._commit
        connection._commit = theirs
        transact(connection)
        assert kept.texts == ["BEGIN", "SELECT 1", "COMMIT"]
    transact(connection)
    assert len(kept) == 3
    assert calls == ["theirs"] * 2
    assert vars(connection)["_commit"] is theirs
    del connection._commit


def test_override_between_two_of_ours_does_not_double_the_commit(connection):
    kept = []
    wrapper = capture_wrapper.execute_wrapper(kept.append, call_site=False)
    overrides = Overrides(wrapper)
    capture_wrapper.install(wrapper, connection)
    overrides.install(connection)
    ours = connection._commit
    connection._commit = lambda: ours()
    overrides.install(connection)
    transact(connection)
    assert [captured[2] for captured in kept] == ["BEGIN", "SELECT 1", "COMMIT"]
    overrides.uninstall(connection)
    capture_wrapper.uninstall(wrapper, connection)
    for name in OVERRIDES:
        vars(connection).pop(name, None)


def test_method_that_is_patched_later_is_called(connection, monkeypatch):
    calls = []
    kind = type(connection)
    original = kind._commit
    with watching(connection) as kept:
        monkeypatch.setattr(kind, "_commit", lambda self: (calls.append(self), original(self))[1])
        transact(connection)
    assert calls == [connection]
    assert kept.texts[-1] == "COMMIT"


class Connection:
    """Without the references to itself that Django's has."""

    alias, vendor, connection, autocommit = "default", "mysql", object(), False

    __hash__ = None

    def __init__(self):
        self.execute_wrappers = []

    def make_cursor(self, cursor):
        return CursorWrapper(cursor, self)

    def _commit(self):
        return "committed"


def test_connection_is_freed_without_the_garbage_collector():
    connection, kept = Connection(), Kept()
    wrapper = capture_wrapper.execute_wrapper(kept.put, call_site=False)
    gc.disable()
    try:
        capture_wrapper.install(wrapper, connection)
        Overrides(wrapper).install(connection)
        assert isinstance(connection.make_cursor(None), WatchedCursor)
        assert connection._commit() == "committed"
        gone = weakref.ref(connection)
        del connection
        assert gone() is None
    finally:
        gc.enable()
    assert kept.texts == ["COMMIT"]


def test_other_databases_are_asked_by_djangos_autocommit():
    connection = Connection()
    with watching(connection) as kept:
        connection.autocommit = True
        connection._commit()
        assert kept == []
        connection.autocommit = False
        connection._commit()
        connection.connection = None
        connection._commit()
    assert [(captured.sql, captured.vendor) for captured in kept] == [("COMMIT", "mysql")]


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_pool_gives_each_statement_one_record(ring_alias, postgresql, django_db_blocker):
    settings_dict = postgresql.create_database(ALIAS) | {"OPTIONS": {"pool": {"min_size": 1, "max_size": 2}}}
    with database(ALIAS, settings_dict), recording(ring_alias) as recorder:
        connection = connections[ALIAS]
        for _ in range(3):
            transact(connection)
            connection.close()
        rows = stored(recorder, ring_alias)
        connection.close_pool()
    assert len(rows) == 6
    assert [row.rows for row in rows if row.fetch_ms is not None] == [1, 1, 1]


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["sqlite3", "postgresql"])
def test_django_prometheus_counts_and_all_is_recorded(kind, request, ring_alias, tmp_path):
    settings_dict = {"NAME": tmp_path / "application.sqlite3"}
    if kind == "postgresql":
        settings_dict = request.getfixturevalue("postgresql").create_database(ALIAS)
    settings_dict["ENGINE"] = f"django_prometheus.db.backends.{kind}"
    with database(ALIAS, settings_dict), recording(ring_alias) as recorder:
        connection = connections[ALIAS]
        transact(connection)
        with transaction.atomic(using=ALIAS), connection.chunked_cursor() as cursor:
            cursor.execute("SELECT 1")
            assert list(cursor) == [(1,)]
        rows = stored(recorder, ring_alias)
        connection.force_debug_cursor = True
        transact(connection)
    assert [row.rows for row in rows if row.fetch_ms is not None] == [1, 1]
    assert len(rows) == (6 if kind == "sqlite3" else 4)  # SQLite's BEGIN is a statement


class Logger:
    """Receives the queries of debug-toolbar's cursors."""

    def __init__(self):
        self.recorded = []

    def record(self, **query):
        self.recorded.append(query["sql"])


@pytest.mark.parametrize("toolbar_first", [True, False])
def test_debug_toolbar_and_we_both_see_each_query(connection, toolbar_first):
    from debug_toolbar.panels.sql.tracking import SQLQueryTriggered, allow_sql, wrap_cursor

    if toolbar_first:
        wrap_cursor(connection)
    with watching(connection) as kept:
        wrap_cursor(connection)
        connection._djdt_logger = logger = Logger()
        transact(connection)
        with connection.chunked_cursor() as cursor:
            cursor.execute("SELECT 2")
            assert list(cursor) == [(2,)]
        assert logger.recorded == ["BEGIN", "SELECT 1", "SELECT 2"]
        assert kept.texts == ["BEGIN", "SELECT 1", "COMMIT", "SELECT 2"]
        assert [captured.fetch.rows for captured in kept if captured.fetch] == [-1, 1, 1]
        # While it looks at templates, a query must fail in its hands.
        token = allow_sql.set(False)
        with pytest.raises(SQLQueryTriggered):
            execute(connection)
        allow_sql.reset(token)
    for name in ("_djdt_cursor", "_djdt_chunked_cursor", "_djdt_logger", "cursor", "chunked_cursor"):
        vars(connection).pop(name)
    transact(connection)
    assert len(kept) == 5


def test_signal_of_something_that_is_no_connection_of_django_does_no_harm(ring_alias):
    """Packages send Django's signal for connections to what is no database of Django's."""
    with recording(ring_alias), record_queries():  # each has a receiver
        before = guard.faults["connection"]
        connection_created.send(sender=object, connection=object())
        assert guard.faults["connection"] == before + 1


def test_copy_of_a_connection_that_connects_again_has_its_own_overrides(ring_alias, connection):
    with recording(ring_alias) as recorder:
        execute(connection, "CREATE TABLE item (name text)")
        copied = copy.copy(connection)
        copied.connection = None
        copied.connect()
        try:
            with copied.cursor() as cursor:
                assert cursor.db is copied
            copied.set_autocommit(False)
            execute(copied, "INSERT INTO item VALUES ('a')")
            copied.commit()
        finally:
            copied.connection.close()
        assert execute(connection, "SELECT name FROM item") == [("a",)]
        commits = [text for text in texts(recorder, ring_alias) if text == "COMMIT"]
        assert commits == ["COMMIT"]


def cleared(connection):
    connection.execute_wrappers.clear()


def replaced(connection):
    connection.execute_wrappers = []


def replaced_by_a_tuple(connection):
    connection.execute_wrappers = (pass_on,)


def popped(connection):
    with connection.execute_wrapper(pass_on):
        connection.execute_wrappers.clear()
        connection.execute_wrappers.append(pass_on)


def pass_on(execute, *args):
    return execute(*args)


LOSSES = [cleared, replaced, replaced_by_a_tuple, popped]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("lose", LOSSES)
def test_list_of_wrappers_that_the_host_replaces_gets_ours_back(connection, lose, debug):
    execute(connection)
    before = connection.execute_wrappers
    try:
        with watching(connection) as kept:
            connection.force_debug_cursor = debug
            lose(connection)
            transact(connection)
            lose(connection)
            execute(connection, "SELECT 2")
            assert kept.texts == ["BEGIN", "SELECT 1", "COMMIT", "SELECT 2"]
            assert [captured.fetch.rows for captured in kept if captured.fetch] == [-1, 1, 1]
    finally:
        connection.force_debug_cursor = False
        connection.execute_wrappers = before


def test_cursor_and_transaction_that_outlive_their_wrapper_are_recorded(connection):
    with watching(connection) as kept, connection.cursor() as cursor:
        with transaction.atomic(using=ALIAS):
            cursor.execute("SELECT 1")
            cleared(connection)
            cursor.execute("SELECT 2")
            cleared(connection)
        cleared(connection)
        cursor.execute("SELECT 3")
    assert kept.texts == ["BEGIN", "SELECT 1", "SELECT 2", "COMMIT", "SELECT 3"]


@pytest.mark.parametrize("debug", [False, True])
def test_wrappers_saved_and_put_back_in_any_way_record_once(connection, debug):
    execute(connection)
    before = connection.execute_wrappers
    try:
        with watching(connection) as kept:
            connection.force_debug_cursor = debug
            saved = connection.execute_wrappers[:]
            connection.execute_wrappers.clear()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                connection.execute_wrappers += [pass_on, *saved]
                cursor.execute("SELECT 2")
            with connection.execute_wrapper(pass_on):
                execute(connection, "SELECT 3")
            assert connection.execute_wrappers[1:] == [pass_on, *saved]
            assert kept.texts == ["SELECT 1", "SELECT 2", "SELECT 3"]
    finally:
        connection.force_debug_cursor = False
        connection.execute_wrappers = before


def test_wrapper_that_was_uninstalled_does_not_come_back(connection):
    with watching(connection) as kept:
        held, ours, commit = connection.cursor(), connection.make_cursor, connection._commit
        connection.make_cursor = lambda cursor: ours(cursor)
        connection._commit = lambda: commit()
    for _ in range(2):
        transact(connection)
        held.execute("SELECT 1")
    held.close()
    assert kept == []
    del connection.make_cursor, connection._commit


def test_only_living_connections_are_remembered_as_uninstalled(connection):
    overrides = Overrides(capture_wrapper.execute_wrapper(print, call_site=False))
    for _ in range(100):
        overrides.uninstall(Connection())
    assert len(overrides._uninstalled) <= 2
