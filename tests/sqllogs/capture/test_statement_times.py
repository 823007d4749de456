"""A recorded time lies between what the database says itself and what a stopwatch round the call says."""

from time import perf_counter, sleep

import pytest
from django.db import connections

from tests.sqllogs import psycopg2_process
from tests.sqllogs.rings import database
from tests.sqllogs.statement_kinds import ALIAS
from tests.sqllogs.statement_matrix import application, postgresql_log
from tests.sqllogs.statement_times import KINDS, Times, measure
from tests.sqllogs.watching import watching

ROUNDING_MS = 0.02
"""Of up to ten times added up: the server rounds each to a microsecond, we cut it."""

ROWS = {
    "execute": 1,
    "insert_in_transaction": 1,
    "server_side_cursor": 6,
    "server_side_iteration": 6,
    "procedure": 1,
    "copy_out": 6,
    "copy_in": 1,
}


def agree(times):
    assert [each.kind for each in times] == [kind.__name__ for kind in KINDS]
    for each in times:
        assert 50 <= each.by_server <= each.recorded + ROUNDING_MS, each
        assert each.recorded <= each.by_stopwatch, each
        assert each.rows == ROWS[each.kind], each
    fetched = {each.kind: each.fetched for each in times}
    # What is fetched from a server-side cursor is made while it is fetched, not before.
    assert fetched["server_side_cursor"] >= 50 <= fetched["server_side_iteration"]


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_times_agree_with_postgresqls_own_by_psycopg(ring_alias, postgresql):
    log_path = postgresql.log_path
    sent = postgresql_log(log_path, ALIAS)
    with application("psycopg", postgresql.create_database(ALIAS), sent) as app:
        agree(measure(app, ring_alias, log_path))


def test_times_agree_with_postgresqls_own_by_psycopg2(postgresql, tmp_path):
    found = psycopg2_process.call(
        "tests.sqllogs.statement_times",
        "measure",
        postgresql.create_database(ALIAS),
        postgresql.log_path,
        tmp_path / "ring.sqlite3",
    )
    agree([Times(*each) for each in found])


def test_sqlite_works_while_rows_are_fetched(tmp_path, django_db_blocker):
    def slow(number):
        sleep(0.01)
        return number

    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with django_db_blocker.unblock(), database(ALIAS, settings_dict):
        connections[ALIAS].ensure_connection()
        connections[ALIAS].connection.create_function("slow", 1, slow)
        with watching(connections[ALIAS]) as kept, connections[ALIAS].cursor() as cursor:
            started_s = perf_counter()
            cursor.execute("SELECT slow(1) UNION ALL SELECT slow(2) UNION ALL SELECT slow(3)")
            assert cursor.fetchmany(2) == [(1,), (2,)]
            assert cursor.fetchone() == (3,)
            stopwatch_ns = (perf_counter() - started_s) * 1e9
    assert kept[0].execute_ns >= 10_000_000  # the first row comes with execute
    assert kept[0].fetch.fetch_ns >= 20_000_000
    assert kept[0].execute_ns + kept[0].fetch.fetch_ns <= stopwatch_ns
