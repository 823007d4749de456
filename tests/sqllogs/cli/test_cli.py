"""`manage.py sqllogs`: tokens, resize and clear."""

import json
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connections
from django.test import Client

from sqllogs.capture import wrapper
from sqllogs.models import RingHead, SQLLog, Token
from tests.sqllogs.factories import fill
from tests.sqllogs.recording import recording, stored

GIVEN = "a-token-of-the-environment"


class Terminal(StringIO):
    def isatty(self):
        return True


def run(*arguments, stderr=None):
    """Run the command; return what it has put out."""
    stdout = StringIO()
    call_command("sqllogs", *map(str, arguments), stdout=stdout, stderr=stderr or StringIO())
    return stdout.getvalue()


def test_create_prints_only_the_token_and_the_api_accepts_it(ring_alias):
    token = run("token", "create", "grafana").removesuffix("\n")
    assert Client(headers={"Authorization": f"Bearer {token}"}).get("/sql-logs/").status_code == 200


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_note_for_a_person_goes_to_stderr():
    stderr = Terminal()
    assert len(run("token", "create", "grafana", stderr=stderr).split()) == 1
    assert "cannot be shown again" in stderr.getvalue()


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_given_token_can_be_created_again(monkeypatch):
    monkeypatch.setenv("READER_TOKEN", GIVEN)
    for options in ([], [], ["--replace"]):
        given = run("token", "create", "grafana", "--token-variable", "READER_TOKEN", *options)
        assert given == f"{GIVEN}\n"
    assert Token.objects.count() == 1


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_token_is_read_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO(f"{GIVEN}\n"))
    assert run("token", "create", "grafana", "--token-stdin") == f"{GIVEN}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--token", GIVEN], "Use --token-stdin"),  # it would be in the list of processes
        (["--token-variable", "NOT_SET"], "'NOT_SET' is not set"),
        (["--token-variable", "READER_TOKEN", "--token-stdin"], "not allowed with"),
    ],
)
def test_invalid_way_to_pass_a_token_is_an_error(options, message):
    with pytest.raises(CommandError, match=message):
        run("token", "create", "grafana", *options)


def test_checks_before_a_subcommand_leave_no_record(ring_alias, monkeypatch):
    # As `check --database` does, and a project's command may: JSON fields ask each SQLite for its JSON.
    monkeypatch.setattr(BaseCommand, "get_check_kwargs", lambda *_: {"databases": list(connections)})
    for connection in connections.all():
        connection.features.__dict__.pop("supports_json_field", None)  # asked once for a connection
    with recording(ring_alias) as recorder:
        wrapper.install(recorder.wrapper, connections[ring_alias])  # as where the ring is in `default`
        with suppress(CommandError, SystemExit):
            call_command("sqllogs", "health", skip_checks=False, stdout=StringIO(), stderr=StringIO())
        wrapper.uninstall(recorder.wrapper, connections[ring_alias])
        assert stored(recorder, ring_alias) == []


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_third_active_token_is_an_error_with_the_remedy():
    run("token", "create", "grafana")
    run("token", "create", "grafana")
    with pytest.raises(CommandError, match="revoke one with"):
        run("token", "create", "grafana")


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_tokens_are_listed_in_columns_and_as_json():
    token = run("token", "create", "grafana").strip()
    run("token", "create", "a-longer-name")
    run("token", "revoke", "grafana")
    header, first, second = run("token", "list").splitlines()
    assert header.split() == ["name", "created", "last", "used", "revoked", "digest"]
    assert first.index("20") == second.index("20") == header.index("created")
    (_, listed) = json.loads(run("token", "list", "--json"))
    assert (listed["name"], listed["last_used_at"]) == ("grafana", None)
    assert listed["revoked_at"].endswith("Z")
    assert Token.objects.get(name="grafana").digest.startswith(listed["digest"])
    assert token not in run("token", "list")


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_revoking_says_how_many():
    run("token", "create", "grafana")
    assert run("token", "revoke", "grafana") == "1 token revoked.\n"
    with pytest.raises(CommandError, match="No such token"):
        run("token", "revoke", "grafana", "--digest", "00")


def test_resize_keeps_the_newest(ring_alias):
    fill(100)
    assert "40 records were kept" in run("resize", 40)
    assert RingHead.objects.get().capacity == SQLLog.objects.count() == 40


@pytest.mark.parametrize("rows", [0, -5, 2**31])
def test_invalid_capacity_is_an_error(rows):
    with pytest.raises(CommandError, match="from 1 to"):
        run("resize", "--", rows)


def test_clear_asks_first(ring_alias, monkeypatch):
    fill(100)
    monkeypatch.setattr("sys.stdin", StringIO())
    with pytest.raises(CommandError, match="--yes"):
        run("clear")
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    with pytest.raises(CommandError, match="Nothing was deleted"):
        run("clear")
    assert SQLLog.objects.count() == 100
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    run("clear")
    assert SQLLog.objects.count() == 0


def test_progress_bar_is_only_drawn_on_a_terminal(ring_alias):
    fill(100)
    terminal, pipe = Terminal(), StringIO()
    assert "100 records were deleted" in run("clear", "--yes", stderr=terminal)
    assert terminal.getvalue().endswith(f"\r[{'#' * 30}] 100 of 100 rows\n")
    run("clear", "--yes", stderr=pipe)
    assert pipe.getvalue() == ""


def test_command_leaves_no_record(ring_alias):
    with recording(ring_alias) as recorder:
        wrapper.install(recorder.wrapper, connections[ring_alias])  # as where the ring is in `default`
        run("token", "create", "grafana")
        run("token", "list")
        wrapper.uninstall(recorder.wrapper, connections[ring_alias])
        assert stored(recorder, ring_alias) == []


def test_missing_tables_are_named_with_the_remedy(settings, empty_ring_database, django_db_blocker):
    from tests.sqllogs.rings import database

    settings.SQLLOGS = {"DATABASE": "bare"}
    with (
        django_db_blocker.unblock(),
        database("bare", empty_ring_database),
        pytest.raises(CommandError, match=r"manage\.py migrate --database bare"),
    ):
        run("token", "list")


def test_command_alone_names_its_subcommands():
    with pytest.raises(CommandError, match=r"Choose a subcommand: setup, top, .*, clear\."):
        run()
