"""The places of a captured query's fields have names, and the drivers' errors codes."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sqllogs import capture
from sqllogs.capture import LOCK_TIMEOUT, Captured, error_code


@pytest.mark.parametrize("name", ["execute_ns", "sql", "vendor", "unit", "span", "code", "lasti", "fetch"])
def test_place_of_a_field_is_the_one_it_has_in_a_captured_query(name):
    assert getattr(capture, name.upper()) == Captured._fields.index(name)


def test_locked_database_of_sqlite_is_a_lock_timeout(tmp_path):
    def connect():
        return closing(sqlite3.connect(tmp_path / "a.sqlite3", timeout=0, isolation_level=None))

    with connect() as one, connect() as other:
        one.execute("PRAGMA journal_mode = WAL")
        one.execute("CREATE TABLE a (b)")
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked") as locked:
            other.execute("INSERT INTO a VALUES (1)")
        one.execute("ROLLBACK")
        other.execute("BEGIN")
        other.execute("SELECT * FROM a")
        one.execute("INSERT INTO a VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="locked") as outdated:
            other.execute("INSERT INTO a VALUES (2)")
        with pytest.raises(sqlite3.OperationalError) as missing:
            one.execute("SELECT * FROM b")
    assert outdated.value.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT
    codes = [error_code(one.value) for one in (locked, outdated, missing)]
    assert codes == [LOCK_TIMEOUT, LOCK_TIMEOUT, None]


def test_numbers_of_mariadb_are_the_codes_of_lock_timeout_and_deadlock(mariadb):
    import pymysql  # its classes by these names: Django's backend loads `pymysql.err` again, as MySQLdb's

    mariadb.create_database("codes")
    mariadb.execute("CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1), (2)", database="codes")
    reached = threading.Barrier(2)

    def connect():
        options = {"host": mariadb.host, "port": mariadb.port, "user": mariadb.user, "database": "codes"}
        return closing(pymysql.connect(**options, ssl_disabled=True))

    def lock(first, second):
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM a WHERE id = %s FOR UPDATE", [first])
            reached.wait(20)
            cursor.execute("SELECT * FROM a WHERE id = %s FOR UPDATE", [second])

    with ThreadPoolExecutor(2) as pool:
        failures = [one.exception(20) for one in [pool.submit(lock, 1, 2), pool.submit(lock, 2, 1)]]
    (deadlock,) = filter(None, failures)
    assert (deadlock.args[0], error_code(deadlock)) == (1213, "40001")
    with connect() as one, connect() as other:
        one.cursor().execute("SELECT * FROM a WHERE id = 1 FOR UPDATE")
        cursor = other.cursor()
        cursor.execute("SET innodb_lock_wait_timeout = 1")
        with pytest.raises(pymysql.OperationalError) as timeout:
            cursor.execute("SELECT * FROM a WHERE id = 1 FOR UPDATE")
        with pytest.raises(pymysql.IntegrityError) as taken:
            cursor.execute("INSERT INTO a VALUES (2)")
    assert (timeout.value.args[0], error_code(timeout.value)) == (1205, LOCK_TIMEOUT)
    assert error_code(taken.value) == "23000"
