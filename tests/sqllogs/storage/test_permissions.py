"""Permissions of the app are where users are, though its tables are elsewhere."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection

from sqllogs.storage import permissions

CODENAMES = {"view_sqllog", "view_sqllog_text", "explain_sqllog", "review_sqllog"}


def codenames():
    return set(
        Permission.objects.filter(content_type__app_label="sqllogs").values_list("codename", flat=True)
    )


def found(*databases):
    return [
        message
        for message in run_checks(tags=[Tags.database], databases=databases)
        if message.id == "sqllogs.W011"
    ]


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_migrating_the_store_creates_the_permissions():
    Permission.objects.filter(content_type__app_label="sqllogs").delete()
    assert set(permissions.missing("default")) == CODENAMES
    call_command("migrate", database="sqllogs", verbosity=0)
    assert codenames() == CODENAMES
    assert permissions.missing("default") == []


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_check_of_the_database_names_missing_permissions():
    assert found("default", "sqllogs") == []
    Permission.objects.filter(codename="view_sqllog_text").delete()
    (message,) = found("default")
    assert "view_sqllog_text" in message.msg
    assert "migrate --database sqllogs" in message.hint
    assert found("sqllogs") == found() == []


@pytest.mark.django_db(databases=["default"])
def test_permissions_are_left_alone_where_there_are_no_users_yet():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_permission RENAME TO elsewhere")
    assert permissions.missing("default") == []
    assert found("default") == []
    permissions.create(using="sqllogs")


@pytest.mark.django_db(databases=["sqllogs"])
def test_database_that_a_test_forbids_is_no_fault_of_migrate():
    call_command("migrate", database="sqllogs", verbosity=0)


def test_names_are_those_of_the_models():
    assert {codename for _, codename in permissions.wanted(apps.get_app_config("sqllogs"))} == CODENAMES
