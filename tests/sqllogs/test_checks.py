"""`manage.py check` names what is missing and prints the line to add."""

from pathlib import Path

import django
import pytest
from django.core.checks import run_checks
from django.test import override_settings
from django.urls import set_script_prefix

from sqllogs.checks import host
from sqllogs.checks import settings as settings_checks
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.routers import SQLLogsRouter
from tests.sqllogs import layout_urls

# Since Django 6.1 some checks ask a database what it can do.
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def found(prefix="sqllogs."):
    return {message.id: message for message in run_checks() if message.id.startswith(prefix)}


def test_complete_set_up_has_nothing_to_report():
    assert found() == {}


@pytest.mark.parametrize(
    ("changes", "identifier", "says"),
    [
        ({"SQLLOGS": []}, "E001", "SQLLOGS = {"),  # not a dict
        ({"SQLLOGS": {"CAPACITY_ROWS": 0}}, "E002", "Must be at least 1"),  # a bad value
        ({"SQLLOGS": {"NOPE": 0}}, "E002", "Unknown setting"),  # an unknown key
        ({"SQLLOGS": {"DATABASE": "nowhere"}}, "E003", 'DATABASES["nowhere"] = '),  # no such alias
        ({"DATABASE_ROUTERS": []}, "E004", 'get("DATABASE_ROUTERS", [])]'),  # no router
        ({"MIDDLEWARE": []}, "W010", "MIDDLEWARE = ["),  # no middleware
        ({"MIDDLEWARE": [CSRF]}, "W010", ", *MIDDLEWARE]"),  # others
        ({"ROOT_URLCONF": "home.urls"}, "E006", 'include("sqllogs.urls")'),  # no URLs
        ({"SQLLOGS": {"ANONYMOUS_LOOPBACK": True}, "DEBUG": False}, "E007", "token create"),  # open door
        (
            {"SQLLOGS": {"DATABASE": "default"}},
            "W001",
            "Use a separate file",
        ),  # the application's SQLite file
        ({"SQLLOGS": {"BUFFER_BYTES": 1 << 30}}, "W002", "32 MiB"),  # memory
        ({"SQLLOGS": {"APPLICATION": ["no_such_package"]}}, "W060", "package that can be imported"),
    ],
)
def test_each_gap_has_an_id_and_a_remedy(changes, identifier, says):
    with override_settings(**changes):
        message = found()[f"sqllogs.{identifier}"]
    assert says in message.hint


@pytest.mark.parametrize(
    ("folder", "expression"),
    [
        ("Path('/srv/shop')", 'BASE_DIR / "sqllogs.sqlite3"'),
        ("'/srv/shop'", 'BASE_DIR + "/sqllogs.sqlite3"'),
        # Of an installed package whose settings the project extends: the next environment has another folder.
        ("Path(django.__path__[0])", 'Path(__file__).resolve().parent / "sqllogs.sqlite3"'),
        ("django.__path__[0]", 'Path(__file__).resolve().parent / "sqllogs.sqlite3"'),
        ("None", 'Path(__file__).resolve().parent / "sqllogs.sqlite3"'),
    ],
)
def test_file_of_the_store_is_in_a_folder_of_the_project(folder, expression):
    folder = eval(folder, {"Path": Path, "django": django})
    with override_settings(SQLLOGS={"DATABASE": "nowhere"}, BASE_DIR=folder):
        assert f'"NAME": {expression}}}' in found()["sqllogs.E003"].lines


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINDINGS_WEBHOOK", "hooks.example.com/c4n4ry"),  # without its scheme
        ("FINDINGS_WEBHOK", "https://hooks.example.com/c4n4ry"),
        ("OTLP", "grpc://user:c4n4ry@host/?key=c4n4ry"),
        ("OTLP", ["https://user:c4n4ry@host/"]),
        ("OTLP", {"url": "https://host/", "headers": {"Authorization": "Bearer c4n4ry"}}),
        ("DATABASE", {"ENGINE": "django.db.backends.postgresql", "PASSWORD": "c4n4ry"}),
        ("TRACE_URL", ["https://user:c4n@c4n4ry@host/"]),
    ],
)
def test_invalid_value_is_not_shown_where_it_may_be_secret(name, value):
    with override_settings(SQLLOGS={name: value}):
        messages = found()
    assert messages
    assert "c4n4ry" not in repr(messages)


class FirstComeRouter:
    """A project's own router, which has an answer for every model."""

    def db_for_read(self, model, **hints):
        return "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return True


class WriterRouter:
    """Answers for writes alone."""

    def db_for_write(self, model, **hints):
        return "default"


class PermissiveRouter:
    """Lets every app's tables into every database."""

    def allow_migrate(self, db, app_label, **hints):
        return True


class OwnRouter(SQLLogsRouter):
    """A subclass under another name."""


OURS = "sqllogs.routers.SQLLogsRouter"


@pytest.mark.parametrize(
    ("routers", "identifiers"),
    [
        ([FirstComeRouter(), OURS], {"E004"}),  # answers before ours is asked
        ([WriterRouter(), OURS], {"E004"}),  # for a part
        ([PermissiveRouter(), OURS], {"W012"}),  # the tables would be made twice
        ([OURS, FirstComeRouter()], set()),  # ours first
        (("tests.sqllogs.test_checks.OwnRouter",), set()),  # another name, a tuple
        ([OwnRouter()], set()),  # an instance
    ],
)
def test_router_check_asks_where_the_tables_go(routers, identifiers):
    with override_settings(DATABASE_ROUTERS=routers):
        assert set(found()) == {f"sqllogs.{one}" for one in identifiers}


def test_hint_extends_the_routers_of_the_project():
    with override_settings(DATABASE_ROUTERS=[FirstComeRouter()]):
        message = found()["sqllogs.E004"]
    assert message.msg.endswith("written to 'default'.")
    assert f'DATABASE_ROUTERS = ["{OURS}", *globals().get("DATABASE_ROUTERS", [])]' in message.hint


class OwnMiddleware(SQLLogsMiddleware):
    """A project's subclass."""


Alias = SQLLogsMiddleware


@pytest.mark.parametrize(
    ("middleware", "identifiers"),
    [
        ("tests.sqllogs.test_checks.OwnMiddleware", set()),  # a subclass
        ("tests.sqllogs.test_checks.Alias", set()),  # another name
        ("tests.sqllogs.test_checks.Nothing", {"sqllogs.W010"}),  # what cannot be imported is not ours
        ("django.middleware.common.CommonMiddleware", {"sqllogs.W010"}),
    ],
)
def test_middleware_is_found_by_its_class(middleware, identifiers):
    with override_settings(MIDDLEWARE=(middleware,)):
        assert set(found()) == identifiers


def test_missing_middleware_does_not_stop_a_command():
    with override_settings(MIDDLEWARE=[]):
        assert not found()["sqllogs.W010"].is_serious()


@pytest.mark.parametrize(
    ("urlconf", "identifier", "says"),
    [
        ("behind_a_catch_all", "E010", "/sql-logs/ is answered by page"),
        ("behind_two_parts", "E010", "<slug:shop>/stats/"),
        ("before_a_catch_all", None, ""),
        ("other_namespace", None, ""),
        ("without", "E006", ", *urlpatterns]"),
        ("catch_all_only", "E006", ", *urlpatterns]"),
    ],
)
def test_url_check_asks_which_view_answers(urlconf, identifier, says):
    with override_settings(ROOT_URLCONF=getattr(layout_urls, urlconf)):
        messages = found()
    assert set(messages) == ({f"sqllogs.{identifier}"} if identifier else set())
    assert says in "".join(f"{message.msg} {message.hint}" for message in messages.values())


def test_prefix_of_the_server_is_no_part_of_the_address():
    set_script_prefix("/shop/")
    try:
        assert found() == {}
    finally:
        set_script_prefix("/")


ASGI = f"{__name__}.bare_asgi"


async def bare_asgi(scope, receive, send):
    """An ASGI application without the flush."""


@pytest.mark.parametrize(
    ("path", "identifiers"),
    [(ASGI, {"sqllogs.W003"}), ("core.asgi.application", set()), ("not.there", set()), (None, set())],
)
def test_asgi_application_without_the_flush_is_reported_before_a_deployment(path, identifiers):
    with override_settings(ASGI_APPLICATION=path):
        messages = {message.id for message in run_checks(include_deployment_checks=True)}
        assert messages & {"sqllogs.W003"} == identifiers
        assert "sqllogs.W003" not in found()


@pytest.mark.parametrize("module", [settings_checks, host])
def test_every_check_runs(module):
    named = {value for name, value in vars(module).items() if name.startswith("check_")}
    assert named == set(module.CHECKS)
