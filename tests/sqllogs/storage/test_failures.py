"""A message names the real cause of a failure and advises what helps against it."""

import re

import psycopg
import pytest
from django.db import connections

from sqllogs import conf
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.storage import failures
from sqllogs.storage.ring import Ring
from tests.sqllogs.rings import ALIAS, database

on_postgresql = pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)


def message():
    """Try to reserve a number; return the class and the text of what is raised."""
    ring = Ring(conf.load())
    with pytest.raises(StoreUnavailableError) as raised:
        ring.reserve(1)
    return type(raised.value), str(raised.value)


@on_postgresql
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"NAME": "nowhere"}, "'ring' does not exist"),
        ({"USER": "nobody_here"}, "refuses the user"),
        ({"PORT": 1}, "cannot be reached"),
    ],
    ids=repr,
)
def test_connection_that_fails_has_its_own_message(changes, problem, ring_database, postgresql, settings):
    settings.SQLLOGS = {"DATABASE": ALIAS}
    with database(ALIAS, ring_database | changes):
        kind, text = message()
    assert kind is StoreUnavailableError
    assert problem in text


@on_postgresql
def test_missing_permission_is_not_taken_for_a_missing_table(ring_alias, postgresql):
    postgresql.execute("DROP ROLE IF EXISTS reader")
    postgresql.execute("CREATE ROLE reader LOGIN")
    connections.settings[ring_alias]["USER"] = "reader"
    kind, text = message()
    assert kind is StoreUnavailableError
    assert "lacks permissions" in text


@on_postgresql
def test_read_only_database_is_named(ring_alias, postgresql):
    postgresql.execute("ALTER DATABASE ring SET default_transaction_read_only = on")
    kind, text = message()
    assert kind is StoreUnavailableError
    assert "is read-only" in text


def test_missing_column_is_named_as_an_older_table(ring_alias):
    with connections[ring_alias].cursor() as cursor:
        cursor.execute("ALTER TABLE sqllogs_ringhead DROP COLUMN epoch")
    kind, text = message()
    assert kind is StoreUnreadyError
    assert "older than this release" in text
    assert "migrate --database ring" in text


# What other drivers say, which no test here can provoke, and the class it has.
SAYINGS = [
    ("(1146, \"Table 'shop.sqllogs_ringhead' doesn't exist\")", StoreUnreadyError, "tables .* missing"),
    ("(1054, \"Unknown column 'epoch' in 'field list'\")", StoreUnreadyError, "older than"),
    ("The connection 'ring' doesn't exist.", StoreUnreadyError, "DATABASES has no .* `manage.py check`"),
    ("(1049, \"Unknown database 'shop'\")", StoreUnavailableError, "does not exist"),
    ("(1045, \"Access denied for user 'a'@'b'\")", StoreUnavailableError, "refuses the user"),
    ("(2013, 'Lost connection to MySQL server')", StoreUnavailableError, "cannot be reached"),
    ("database is locked", StoreUnavailableError, "did not answer in time"),
    ("something else", StoreUnavailableError, "cannot be written"),
]


@pytest.mark.parametrize(("text", "kind", "problem"), SAYINGS, ids=repr)
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_message_of_another_driver_is_understood(text, kind, problem, ring_alias):
    found = failures.unavailable(ring_alias, RuntimeError(text))
    assert type(found) is kind
    assert re.search(problem, str(found))


def test_closed_connection_does_not_reject_a_value():
    assert not failures.is_rejection(psycopg.InterfaceError("connection already closed"))
    assert failures.is_rejection(psycopg.DataError("value too long"))
