"""Servers of the tests answer before a test goes on, and are gone after it."""

import signal

import pytest
import requests

GUNICORN = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=2")


@pytest.mark.parametrize(
    "command",
    [
        GUNICORN,
        ("-m", "uvicorn", "core.asgi:application", "--port={port}"),
        ("manage.py", "runserver", "{address}"),
    ],
    ids=["gunicorn", "uvicorn", "runserver"],
)
def test_server_answers_until_it_is_stopped(command, server):
    one = server(*command)
    requests.get(one.url, timeout=60)
    one.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(one.url, timeout=60)


def test_output_and_code_of_a_stopped_server_are_returned(server):
    one = server(*GUNICORN)
    assert "Handling signal: int" in one.stop(signal.SIGINT)
    assert one.process.returncode == 0


def test_environment_of_one_server_can_be_changed(server, site, tmp_path):
    with pytest.raises(pytest.fail.Exception, match="DJANGO_SECRET_KEY"):
        server(*GUNICORN, DJANGO_DEBUG="0", DJANGO_SECRET_KEY="")


def test_killed_server_leaves_no_worker(server):
    one = server(*GUNICORN)
    one.stop(signal.SIGKILL)
    with pytest.raises(requests.ConnectionError):
        requests.get(one.url, timeout=60)


def test_command_works_on_databases_of_the_test(manage, tmp_path):
    manage("migrate", "--database=sqllogs")
    assert (tmp_path / "sqllogs.sqlite3").exists()


def test_output_of_a_failed_command_is_shown(manage):
    with pytest.raises(pytest.fail.Exception, match="Unknown command: 'no-such-command'"):
        manage("no-such-command")
