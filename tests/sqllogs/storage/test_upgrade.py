"""During a rolling upgrade, processes of two releases write to one store, and none fails or loses a count.

Records of the previous release go to its own table, which nothing reads any more; its statistics are kept.

previous_release.json has the statements of the release before, as its writer sends them.
"""

import json
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections

from sqllogs import conf, models
from sqllogs.errors import StoreUnreadyError
from sqllogs.models import Process, Statement, Statistic, StatisticKey
from sqllogs.storage import store
from sqllogs.storage.ring import Ring
from tests.pgbouncer import address_of
from tests.sqllogs.rings import on_indexed_stores, seqs
from tests.sqllogs.storage.test_ring import TALLIES, batch, write

PREVIOUS = json.loads(Path(__file__).with_name("previous_release.json").read_text())
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
VALUES = {
    "time": NOW, "duration_ms": 1.0, "execute_ms": 1.0, "fingerprint": "f" * 16, "sql_length": 8,
    "alias": "default", "vendor": "sqlite", "many": False, "in_transaction": False, "sampled": False,
    "kind": "request", "repeats_allowed": False, "host": "web-1", "pid": 1,
}  # fmt: skip
PROCESS = ("0" * 32, "web-1", 1, NOW, NOW, 10, 10, 0, "{}", "{}", 0, 1.0, 1)
KEY = (7, "f" * 16, "default", "sqlite", "request", None, None, None, None, 3600)
MINUTE = (60, 1_769_860_800, 7, 1, 0, 1, 5, 5, 1_769_860_801, b"")


OURS = [*range(1, 11), *range(21, 31), *range(41, 51)]
"""Of two processes that write ten records in turn, the numbers of the first."""


def previous_rows(first_seq, count, capacity=100):
    columns = PREVIOUS["columns"]
    for seq in range(first_seq, first_seq + count):
        yield [({"slot": seq % capacity, "seq": seq} | VALUES).get(column) for column in columns]


@contextmanager
def previous_connection(ring_database):
    if "sqlite" in ring_database["ENGINE"]:
        with closing(sqlite3.connect(ring_database["NAME"])) as connection, connection:
            connection.create_function("sqllogs_merged", 2, lambda one, other: one + other)
            yield connection
    else:
        with psycopg.connect(address_of(ring_database), prepare_threshold=None) as connection:
            yield connection


def write_as_before(ring_database, first_seq, count):
    """Write records as the previous release does, in one transaction."""
    vendor = "sqlite" if "sqlite" in ring_database["ENGINE"] else "postgresql"
    statements = PREVIOUS[vendor]
    with previous_connection(ring_database) as connection:
        if vendor == "sqlite":
            texts = [str(NOW)[:-6]] * 2
            adapt = [
                [str(value)[:-6] if value == NOW else value for value in row]
                for row in (*previous_rows(first_seq, count), PROCESS)
            ]
            *rows, process = adapt
            connection.executemany(statements["LOG_UPSERT"], rows)
        else:
            texts, process = [NOW] * 2, PROCESS
            connection.execute(statements["CREATE_BATCH"])
            with connection.cursor().copy(statements["COPY"].replace(" (FORMAT BINARY)", "")) as copy:
                for row in previous_rows(first_seq, count):
                    copy.write_row(row)
            connection.execute(statements["LOG_UPSERT"])
            connection.execute(statements["CREATE_COUNTS"])
        connection.execute(statements["STATEMENT_UPSERT"], ("f" * 16, "SELECT 1", "SELECT", "", *texts))
        connection.execute(statements["PROCESS_UPSERT_ONCE"], process)
        connection.execute(statements["KEY_UPSERT"], KEY)
        if vendor == "sqlite":
            connection.execute(statements["STATISTIC_UPSERT"], MINUTE)
        else:
            with connection.cursor().copy(statements["COPY_COUNTS"].replace(" (FORMAT BINARY)", "")) as copy:
                copy.write_row(MINUTE)
            connection.execute(statements["STATISTIC_UPSERT"])


@pytest.fixture
def ring(ring_alias):
    made = Ring(conf.load())
    yield made
    made.close()


@on_indexed_stores
def test_both_releases_write_to_one_store(ring, ring_alias, ring_database):
    for _ in range(3):
        write(ring, 10)
        write_as_before(ring_database, ring.reserve(10), 10)
    assert seqs(ring_alias) == OURS
    assert Process.objects.using(ring_alias).count() == 2
    assert StatisticKey.objects.using(ring_alias).filter(id=KEY[0]).exists()


MODELS = [getattr(models, name) for name in ("SQLLog", "Statement", "Process", "StatisticKey", "Statistic")]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_column_that_the_previous_release_does_not_write_has_a_default(model, ring_database):
    statements = " ".join(PREVIOUS["sqlite"].values())
    for field in model._meta.concrete_fields:
        if field.column is not None and f"INTO {model._meta.db_table} (" in statements:
            inserted = statements.split(f"INTO {model._meta.db_table} (")[1].split(")")[0]
            written = {name.strip().strip('"') for name in inserted.split(",")}
            assert field.column in written or field.null or field.has_db_default(), field


TABLES = (store.LOG_TABLE, store.STATEMENT_TABLE, store.PROCESS_TABLE, store.KEY_TABLE, store.STATISTIC_TABLE,
          store.HEAD_TABLE, store.ROLL_UP_TABLE, store.BLOCK_TABLE)  # fmt: skip


def test_store_that_is_migrated_ahead_is_written(ring_alias):
    with connections[ring_alias].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} ADD COLUMN later integer NOT NULL DEFAULT 5")
    ring = Ring(conf.load())
    write(ring, 10)
    ring.close()
    assert seqs(ring_alias) == list(range(1, 11))


def test_records_wait_for_a_store_that_is_behind(ring, ring_alias):
    first_seq = ring.reserve(10)
    with connections[ring_alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {store.PROCESS_TABLE} DROP COLUMN service")
    with pytest.raises(StoreUnreadyError, match="older than this release"):
        ring.write(first_seq, waiting := batch(10), TALLIES)
    with connections[ring_alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {store.PROCESS_TABLE} ADD COLUMN service varchar(100)")
    ring.write(first_seq, waiting, TALLIES)
    assert seqs(ring_alias) == list(range(1, 11))


@pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)
def test_pgbouncer_may_give_a_session_of_another_release(ring_alias, ring_database, pgbouncer):
    """All clients share one session, with the temporary tables that each of them leaves."""
    pooled = ring_database | pgbouncer
    connections.settings[ring_alias].update(pgbouncer)
    with previous_connection(pooled) as connection:
        # What a release before the newest column of both tables has left.
        connection.execute("CREATE TEMPORARY TABLE sqllogs_batch (slot integer, seq bigint)")
        connection.execute("CREATE TEMPORARY TABLE sqllogs_counts (resolution_s integer)")
    ring = Ring(conf.load())
    for _ in range(3):
        write(ring, 10)
    ring.close()
    connections[ring_alias].close()
    assert seqs(ring_alias) == list(range(1, 31))


@pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)
def test_both_releases_share_a_session_of_pgbouncer(ring_alias, ring_database, pgbouncer):
    pooled = ring_database | pgbouncer
    connections.settings[ring_alias].update(pgbouncer)
    ring = Ring(conf.load())
    for _ in range(3):
        write(ring, 10)
        write_as_before(pooled, ring.reserve(10), 10)
    ring.close()
    assert seqs(ring_alias) == OURS


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_migration_empties_the_ring_and_keeps_the_rest(ring_alias, ring_database):
    call_command("migrate", "sqllogs", "0009", database=ring_alias, verbosity=0)
    write_as_before(ring_database, 1, 10)
    call_command("migrate", database=ring_alias, verbosity=0)
    assert seqs(ring_alias) == []
    assert Statement.objects.using(ring_alias).count() == 1
    assert Statistic.objects.using(ring_alias).count() == 1


@pytest.mark.parametrize(("alias", "sent"), [("sqllogs", 1), ("default", 0)])
def test_default_of_a_json_field_is_sent_to_mysql_in_brackets_where_there_is_a_log(alias, sent):
    operation = import_module("sqllogs.migrations.0010_db_defaults").Migration.operations[1]
    statements = []
    connection = SimpleNamespace(vendor="mysql", mysql_is_mariadb=False, alias=alias)
    editor = SimpleNamespace(connection=connection, execute=statements.append)
    state = SimpleNamespace(apps=apps)
    operation.database_forwards("sqllogs", editor, state, state)
    assert statements == [
        "ALTER TABLE sqllogs_process MODIFY exported json NOT NULL DEFAULT ('{}')" for _ in range(sent)
    ]
