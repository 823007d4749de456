"""The ring's tables stay in the ring's database, and the application's out of it."""

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from sqllogs.models import SQLLog, Statement
from sqllogs.routers import SQLLogsRouter

router = SQLLogsRouter()


def test_ring_is_read_and_written_where_the_settings_say(settings):
    settings.SQLLOGS = {"DATABASE": "logs"}
    assert router.db_for_read(SQLLog) == router.db_for_write(SQLLog) == "logs"
    assert router.db_for_read(User) is None


@pytest.mark.parametrize(
    ("ring", "database", "app", "allowed"),
    [
        ("sqllogs", "sqllogs", "sqllogs", True),  # its own file
        ("sqllogs", "default", "sqllogs", False),  # never in the application's
        ("sqllogs", "sqllogs", "auth", False),  # nothing else in its file
        ("sqllogs", "default", "auth", None),  # not our business
        ("default", "default", "sqllogs", True),  # shared database
        ("default", "default", "auth", None),  # which is still the application's
    ],
)
def test_migrations_go_where_they_belong(ring, database, app, allowed, settings):
    settings.SQLLOGS = {"DATABASE": ring}
    assert router.allow_migrate(database, app) is allowed


def test_relations_stay_on_their_side():
    assert router.allow_relation(SQLLog(), Statement()) is True
    assert router.allow_relation(SQLLog(), User()) is False
    assert router.allow_relation(User(), User()) is None


@pytest.mark.django_db  # of the default database only, as in the tests of most projects
def test_makemigrations_does_not_query_the_database_of_the_ring():
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
