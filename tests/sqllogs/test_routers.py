"""The ring's tables stay in the ring's database, the application's out of it, permissions with the users."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection
from django.db.models.query import RawQuerySet

from sqllogs.models import SQLLog, Statement
from sqllogs.routers import SQLLogsRouter, create_permissions, missing_permissions, permissions_of

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


def test_model_that_is_none_is_not_ours():
    assert router.db_for_read(None) is router.db_for_write(None) is None
    assert router.allow_relation(None, SQLLog()) is False
    assert router.allow_relation(None, None) is None


def test_raw_query_set_without_a_model_has_a_repr():
    assert repr(RawQuerySet("SELECT 1")) == "<RawQuerySet: SELECT 1>"


@pytest.mark.django_db(databases=["default"])
def test_makemigrations_leaves_the_store_alone():
    # In a TestCase Django forbids every database that the test does not name.
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


CODENAMES = {"view_sqllog", "view_sqllog_text", "explain_sqllog", "review_sqllog"}


def codenames():
    return set(
        Permission.objects.filter(content_type__app_label="sqllogs").values_list("codename", flat=True)
    )


def missing_in_checks(*databases):
    return [
        message
        for message in run_checks(tags=[Tags.database], databases=databases)
        if message.id == "sqllogs.W011"
    ]


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_migrating_the_store_creates_the_permissions():
    Permission.objects.filter(content_type__app_label="sqllogs").delete()
    assert set(missing_permissions("default")) == CODENAMES
    call_command("migrate", database="sqllogs", verbosity=0)
    assert codenames() == CODENAMES
    assert missing_permissions("default") == []


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_check_of_the_database_names_missing_permissions():
    assert missing_in_checks("default", "sqllogs") == []
    Permission.objects.filter(codename="view_sqllog_text").delete()
    (message,) = missing_in_checks("default")
    assert "view_sqllog_text" in message.msg
    assert "migrate --database sqllogs" in message.hint
    assert missing_in_checks("sqllogs") == missing_in_checks() == []


@pytest.mark.django_db(databases=["default"])
def test_permissions_are_left_alone_where_there_are_no_users_yet():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_permission RENAME TO elsewhere")
    assert missing_permissions("default") == []
    assert missing_in_checks("default") == []
    create_permissions(using="sqllogs")


@pytest.mark.django_db(databases=["sqllogs"])
def test_database_that_a_test_forbids_is_no_fault_of_migrate():
    call_command("migrate", database="sqllogs", verbosity=0)


def test_names_are_those_of_the_models():
    assert {codename for _, codename in permissions_of(apps.get_app_config("sqllogs"))} == CODENAMES
