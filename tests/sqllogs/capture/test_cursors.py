"""A watched cursor reports what it fetches, and behaves as before for everyone else."""

import gc
import sys
import weakref

import pytest
from django.db import DatabaseError, connections, models
from django.db.backends.utils import CursorWrapper
from psycopg import _compat, sql

from sqllogs import guard
from sqllogs.capture.cursors import CursorWatcher, WatchedCursor
from sqllogs.context import muted
from tests.sqllogs import psycopg2_process
from tests.sqllogs.rings import database
from tests.sqllogs.watching import watching

ALIAS = "application"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n"
PICKY = f"SELECT picky(i) FROM ({NUMBERS})"
"""It fails at the third row; SQLite reads the first one while it executes."""


class Thing(models.Model):
    class Meta:
        app_label = "application"

    def __str__(self):
        return str(self.pk)


def picky(number):
    return number if number < 3 else 1 / 0


@pytest.fixture
def connection(tmp_path, django_db_blocker):
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with django_db_blocker.unblock(), database(ALIAS, settings_dict):
        connections[ALIAS].ensure_connection()
        connections[ALIAS].connection.create_function("picky", 1, picky)
        yield connections[ALIAS]


@pytest.fixture
def on_postgresql(postgresql, django_db_blocker):
    with django_db_blocker.unblock(), database(ALIAS, postgresql.create_database(ALIAS)):
        yield connections[ALIAS]


@pytest.fixture
def kept(connection):
    with watching(connection) as kept:
        yield kept


@pytest.mark.parametrize(
    ("fetch", "rows"),
    [
        (lambda cursor: cursor.fetchone(), 1),
        (lambda cursor: cursor.fetchmany(2), 2),
        (lambda cursor: [cursor.fetchmany(2), cursor.fetchmany(2), cursor.fetchone()], 5),
        (lambda cursor: [cursor.fetchmany(5), cursor.fetchone(), cursor.fetchmany(5)], 5),
        (lambda cursor: cursor.fetchall(), 5),
        (lambda cursor: list(cursor), 5),
        (lambda cursor: [cursor.fetchone(), *cursor], 5),
        (lambda cursor: next(iter(cursor)), 1),
        (lambda cursor: [cursor.fetchall(), cursor.fetchall()], 5),
    ],
)
def test_rows_and_time_of_each_way_to_fetch_are_added_up(connection, kept, fetch, rows):
    with connection.cursor() as cursor:
        cursor.execute(NUMBERS)
        assert kept[0].fetch.rows == -1
        fetch(cursor)
    assert kept[0].fetch.rows == rows
    assert kept[0].fetch.fetch_ns > 0


def test_statement_of_which_nothing_is_fetched_has_no_fetch_time(connection, kept):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n int)")
    assert (kept[0].fetch.rows, kept[0].fetch.fetch_ns) == (-1, 0)


def test_what_the_application_does_between_two_rows_is_no_fetch_time(connection, kept):
    clock = iter(range(0, 10**12, 10**6))  # each look at it is a millisecond later
    with pytest.MonkeyPatch.context() as patch, connection.cursor() as cursor:
        cursor.execute(NUMBERS)
        patch.setattr("sqllogs.capture.cursor_methods.perf_counter_ns", lambda: next(clock))
        for _ in cursor:
            next(clock)  # the application's own millisecond
    assert kept[0].fetch.fetch_ns == 6 * 10**6  # five rows, and the end


def test_rows_belong_to_the_statement_that_was_sent_last(connection, kept):
    with connection.cursor() as cursor:
        cursor.execute(NUMBERS)
        cursor.fetchall()
        cursor.execute("SELECT 1")
        cursor.fetchall()
    assert [captured.fetch.rows for captured in kept] == [5, 1]


def test_error_while_fetching_is_noted_and_raised(connection, kept):
    with connection.cursor() as cursor:
        cursor.execute(PICKY)
        with pytest.raises(DatabaseError):
            cursor.fetchall()
    assert kept[0].error is None
    error, sqlstate = kept[0].fetch.error
    assert issubclass(error, DatabaseError)
    assert sqlstate is None


def test_error_while_iterating_is_noted_and_a_break_is_none(connection, kept):
    with connection.cursor() as cursor:
        cursor.execute(NUMBERS)
        for _ in cursor:
            break
    with connection.cursor() as cursor:  # the break has closed the other, by Django's own iteration
        cursor.execute(PICKY)
        with pytest.raises(DatabaseError):
            list(cursor)
    assert [captured.fetch.error is None for captured in kept] == [True, False]


def test_fetch_is_done_when_the_cursor_is_closed_reused_or_gone(connection, kept):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'closed'")
        cursor.fetchone()
        assert not kept[-1].fetch.is_complete
    assert kept[-1].fetch.is_complete
    cursor = connection.cursor()
    cursor.execute("SELECT 'reused'")
    cursor.execute("SELECT 'gone'")
    assert [captured.fetch.is_complete for captured in kept] == [True, True, False]
    del cursor
    assert kept[-1].fetch.is_complete


def test_fetch_is_done_with_the_last_row_though_the_cursor_stays_open(connection, kept):
    cursor = connection.cursor()
    cursor.execute(NUMBERS)
    cursor.fetchall()
    other = connection.cursor()
    other.execute(NUMBERS)
    list(other)
    assert [captured.fetch.is_complete for captured in kept] == [True, True]


def test_cursor_is_freed_without_the_garbage_collector(connection, kept):
    gc.disable()
    try:
        cursor = connection.cursor()
        cursor.execute(NUMBERS)
        cursor.fetchone()
        gone = [weakref.ref(cursor), weakref.ref(cursor.cursor)]
        del cursor
        assert [reference() for reference in gone] == [None, None]
        assert kept[0].fetch.rows == 1
    finally:
        gc.enable()


def test_watched_cursor_looks_like_the_original(connection, kept):
    with connection.cursor() as cursor:
        assert isinstance(cursor, CursorWrapper)
        assert type(cursor).__name__ == "CursorWrapper"
        assert type(cursor.cursor) is type(connection.create_cursor())
        assert cursor.execute(NUMBERS) is cursor.cursor
        assert cursor.description[0][0] == "i"
        assert cursor.arraysize == 1
        assert not hasattr(cursor, "copy")
        with pytest.raises(AttributeError, match="nothing_such"):
            cursor.nothing_such  # noqa: B018


def test_psycopg_accepts_the_watched_cursor(on_postgresql):
    with watching(on_postgresql), on_postgresql.cursor() as cursor:
        assert sql.Literal("it's").as_string(cursor.cursor) == "'it''s'"
        assert cursor.connection is on_postgresql.connection
        assert cursor.mogrify("SELECT %s", [1]) == "SELECT 1"
        cursor.execute("SELECT 1; SELECT 2")
        assert cursor.fetchone() == (1,)
        assert cursor.nextset()
        assert cursor.fetchone() == (2,)


def test_psycopg2_accepts_the_watched_cursor(postgresql, tmp_path):
    used = psycopg2_process.call(
        "tests.sqllogs.psycopg2_uses",
        "use",
        postgresql.create_database(ALIAS),
        postgresql.log_path,
        tmp_path / "ring.sqlite3",
    )
    assert used == [
        ["INSERT INTO part (item_id) VALUES (1),(2)", 2, None],
        ['SELECT "item_id" FROM part', 2, None],
        ["COPY item (name) FROM nowhere", -1, "42601"],
    ]


def test_failing_procedure_and_copy_are_recorded_with_their_sqlstate(on_postgresql):
    with on_postgresql.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n int PRIMARY KEY)")
    with watching(on_postgresql) as kept, on_postgresql.cursor() as cursor:
        with pytest.raises(DatabaseError):
            cursor.callproc("nothing_such", [1])
        with pytest.raises(Exception, match="duplicate key"), cursor.copy("COPY t FROM STDIN") as copy:
            copy.write(b"1\n1\n")
        with cursor.copy("COPY t FROM STDIN") as copy:
            copy.write(b"1\n2\n")
    assert kept[0].sqlstate == "42883"
    assert kept[1].fetch.error[1] == "23505"
    assert (kept[2].fetch.error, kept[2].fetch.rows, kept[2].fetch.is_complete) == (None, 2, True)


if sys.version_info >= (3, 14):
    from string.templatelib import Template
else:

    class Template(_compat.Template):
        """What psycopg reads of a template string."""

        def __new__(cls, *parts):
            made = object.__new__(cls)
            made.parts = parts
            made.interpolations = tuple(part for part in parts if not isinstance(part, str))
            made.strings = tuple(part for part in parts if isinstance(part, str))
            return made

        def __iter__(self):
            return iter(self.parts)


def template(*parts):
    """Make a template string of texts and, between two of them, pairs of a value and its format."""
    made = (
        part if isinstance(part, str) else _compat.Interpolation(part[0], "", None, part[1]) for part in parts
    )
    return Template(*made)


def test_template_string_is_sent_as_before_and_captured_without_its_values(on_postgresql):
    condition = template("name <> ", ("c4n4ry", ""), " AND n < ", (9, "l"), "")
    select = template(
        "SELECT n FROM ", ("t", "i"), " WHERE ", (condition, "q"), " AND ", (sql.Identifier("n"), "i"), " > 1"
    )
    with watching(on_postgresql) as kept, on_postgresql.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t AS SELECT 2 AS n, 'a' AS name")
        cursor.execute(select)
        assert cursor.fetchall() == [(2,)]
        assert list(cursor.stream(select)) == [(2,)]
        with cursor.copy(template("COPY (", (select, "q"), ") TO STDOUT")) as copy:
            assert b"".join(copy) == b"2\n"
        with pytest.raises(DatabaseError):
            cursor.execute(template("SELECT ", ("c4n4ry", "q"), ""))
    sent = 'SELECT n FROM "t" WHERE name <> %s AND n < %s AND "n" > 1'
    assert kept.texts[1:] == [sent, sent, f"COPY ({sent}) TO STDOUT", "SELECT %s"]
    assert [captured.error for captured in kept[:4]] == [None] * 4


def copy_and_stream(cursor):
    cursor.callproc("now")
    with cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
        list(copy)
    assert list(cursor.stream("SELECT 1")) == [(1,)]


def test_call_site_of_procedure_copy_and_stream_is_who_asks_the_cursor(on_postgresql):
    with watching(on_postgresql) as kept, on_postgresql.cursor() as cursor:
        copy_and_stream(cursor)
    assert [captured.code for captured in kept] == [copy_and_stream.__code__] * 3


def test_muted_copy_adds_nothing_to_the_statement_before(on_postgresql):
    with watching(on_postgresql) as kept, on_postgresql.cursor() as cursor:
        cursor.execute("SELECT 1")
        with muted(), cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
            list(copy)
    assert kept.texts == ["SELECT 1"]
    assert (kept[0].fetch.rows, kept[0].fetch.is_complete) == (-1, True)


def test_stream_is_recorded_with_its_rows(on_postgresql):
    with watching(on_postgresql) as kept, on_postgresql.cursor() as cursor:
        rows = cursor.stream("SELECT generate_series(1, %s)", [10])
        assert kept == []  # psycopg itself sends nothing yet
        assert [next(rows) for _ in range(3)] == [(1,), (2,), (3,)]
        assert kept[0].fetch.rows == 3
        rows.close()
        cursor.execute("SELECT 1")  # the connection is free again
    assert kept.texts == ["SELECT generate_series(1, %s)", "SELECT 1"]


def test_empty_stream_and_failing_stream_are_recorded(on_postgresql):
    with watching(on_postgresql) as kept, on_postgresql.cursor() as cursor:
        assert list(cursor.stream("SELECT 1 WHERE false")) == []
        with pytest.raises(Exception, match="nothing_such"):
            list(cursor.stream("SELECT nothing_such"))
    assert [captured.sqlstate for captured in kept] == [None, "42703"]


def test_class_that_fetches_in_its_own_way_goes_on_doing_so(connection):
    class Shouting(CursorWrapper):
        def fetchall(self):
            return [(str(row[0]) + "!",) for row in self.cursor.fetchall()]

    connection.make_cursor = lambda cursor: Shouting(cursor, connection)
    with watching(connection) as kept:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'a'")
            assert cursor.fetchall() == [("a!",)]
        assert kept[0].fetch.rows == 1
    del connection.make_cursor


def test_result_that_cannot_be_counted_is_passed_on(connection):
    class Odd(CursorWrapper):
        def fetchmany(self, size=1):
            return iter([(1,)])

    before = guard.faults["fetch"]
    connection.make_cursor = lambda cursor: Odd(cursor, connection)
    with watching(connection), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert list(cursor.fetchmany()) == [(1,)]
    assert guard.faults["fetch"] == before + 1
    del connection.make_cursor


def test_object_that_is_not_djangos_cursor_is_not_changed():
    watch = CursorWatcher(print, bool)
    for thing in (object(), 5, type("Cursor", (), {})()):
        kind = type(thing)
        assert watch.watch(thing) is thing
        assert type(thing) is kind


def test_classes_made_for_each_cursor_do_not_add_up():
    watch = CursorWatcher(print, bool)
    for _ in range(1000):
        watched = watch.watch(type("Own", (CursorWrapper,), {})(None, None))
        assert isinstance(watched, WatchedCursor)
    assert len(watch) <= 64


def test_subclass_that_refuses_what_is_delegated_still_does(connection):
    class Refused(Exception):
        pass

    class Refusing:
        def __getattr__(self, name):
            raise Refused(name)

    with watching(connection):
        plain = connection.cursor()
        refusing = type("Both", (Refusing, type(plain)), {})(plain.cursor, connection)
        for name in ("fetchone", "fetchmany", "fetchall", "close"):
            with pytest.raises(Refused):
                getattr(refusing, name)()
        plain.close()


def test_class_that_delegates_and_ends_in_its_own_way_goes_on_doing_so(connection):
    class Own(CursorWrapper):
        ended = []

        def fetchall(self):
            return ["all", *self.cursor.fetchall()]

        def __getattr__(self, name):
            return lambda *args: name

        def __del__(self):
            self.ended.append(self.db.alias)

    connection.make_cursor = lambda cursor: Own(cursor, connection)
    with watching(connection) as kept:
        cursor = connection.cursor()
        cursor.execute(NUMBERS)
        assert (cursor.fetchmany(2), cursor.close()) == ("fetchmany", "close")
        assert len(cursor.fetchall()) == 6
        assert kept[0].fetch.rows == 6
        del cursor
    assert Own.ended == [ALIAS]
    del connection.make_cursor


def test_class_that_cannot_be_watched_is_not_changed_and_logged_once():
    class Final(CursorWrapper):
        def __init_subclass__(cls):
            raise TypeError("final")

    watch, before = CursorWatcher(print, bool), guard.faults["cursor"]
    for _ in range(3):
        assert type(watch.watch(Final(None, None))) is Final
    assert guard.faults["cursor"] == before + 1


def test_queryset_fetches_as_before(connection, kept):
    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    things = Thing.objects.using(ALIAS)
    things.bulk_create(Thing() for _ in range(250))
    kept.clear()
    assert len(things.all()) == 250
    assert sum(1 for _ in things.iterator(chunk_size=100)) == 250
    assert things.values_list("pk").first() == (1,)
    assert [captured.fetch.rows for captured in kept] == [250, 250, 1]
    assert all(captured.fetch.is_complete for captured in kept)
