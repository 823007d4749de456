"""`manage.py check` names what is missing and prints the line to add."""

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from sqllogs import checks

# Since Django 6.1 some checks ask a database what it can do.
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def found(prefix="sqllogs."):
    return {message.id: message for message in run_checks() if message.id.startswith(prefix)}


def test_complete_set_up_has_nothing_to_report():
    assert found() == {}


@pytest.mark.parametrize(
    ("changes", "identifier", "says"),
    [
        ({"SQLLOGS": []}, "E001", "SQLLOGS = {"),  # not a dict
        ({"SQLLOGS": {"CAPACITY_ROWS": 0}}, "E002", "The least is 1"),  # a bad value
        ({"SQLLOGS": {"NOPE": 0}}, "E002", "There is no such key"),  # an unknown key
        ({"SQLLOGS": {"DATABASE": "nowhere"}}, "E003", 'DATABASES["nowhere"] = '),  # no such alias
        ({"DATABASE_ROUTERS": []}, "E004", "DATABASE_ROUTERS = ["),  # no router
        ({"MIDDLEWARE": []}, "E005", "MIDDLEWARE.insert(0, "),  # no middleware
        ({"ROOT_URLCONF": "home.urls"}, "E006", 'include("sqllogs.urls")'),  # no URLs
        ({"SQLLOGS": {"ANONYMOUS_LOOPBACK": True}, "DEBUG": False}, "E007", "token create"),  # open door
        ({"SQLLOGS": {"DATABASE": "default"}}, "W001", "file of its own"),  # the application's SQLite file
        ({"SQLLOGS": {"BUFFER_BYTES": 1 << 30}}, "W002", "32 MiB"),  # memory
    ],
)
def test_each_gap_has_an_id_and_a_remedy(changes, identifier, says):
    with override_settings(**changes):
        message = found()[f"sqllogs.{identifier}"]
    assert says in message.hint


ASGI = f"{__name__}.bare_asgi"


async def bare_asgi(scope, receive, send):
    """An ASGI application without the flush."""


@pytest.mark.parametrize(
    ("path", "identifiers"),
    [(ASGI, {"sqllogs.W003"}), ("core.asgi.application", set()), ("not.there", set()), (None, set())],
)
def test_asgi_application_without_the_flush_is_told_before_a_deployment(path, identifiers):
    with override_settings(ASGI_APPLICATION=path):
        messages = {message.id for message in run_checks(include_deployment_checks=True)}
        assert messages & {"sqllogs.W003"} == identifiers
        assert "sqllogs.W003" not in found()


def test_every_check_runs():
    named = {value for name, value in vars(checks).items() if name.startswith("check_")}
    assert named == set(checks.CHECKS)
