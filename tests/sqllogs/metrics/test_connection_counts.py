"""Attempts to connect are counted, and a failed one wakes the writer."""

import pytest
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from sqllogs import guard
from sqllogs.metrics import instruments
from sqllogs.metrics.families import DB_CONNECTION_ERRORS, DB_CONNECTIONS
from tests.sqllogs.rings import database

TRIED = (DB_CONNECTIONS.name, "counted", "sqlite")
FAILED = (DB_CONNECTION_ERRORS.name, "counted", "sqlite")


@pytest.fixture
def woken(monkeypatch):
    calls = []
    monkeypatch.setattr(BaseDatabaseWrapper, "connect", BaseDatabaseWrapper.connect)
    monkeypatch.setattr(instruments, "_tallies", {})
    instruments.install_connection_counts(lambda: calls.append("wake"))
    return calls


def test_connection_is_counted(woken, tmp_path, django_db_blocker):
    # In a file: Django never closes a database in memory.
    somewhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "x.sqlite3"}
    with django_db_blocker.unblock(), database("counted", somewhere):
        connections["counted"].ensure_connection()
    assert instruments.counts() == {TRIED: 1}
    assert woken == []


def test_waking_the_writer_that_fails_does_not_reach_the_application(
    monkeypatch, tmp_path, django_db_blocker
):
    def broken():
        raise ImportError("broken")

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", BaseDatabaseWrapper.connect)
    instruments.install_connection_counts(broken)
    nowhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "nowhere" / "x.sqlite3"}
    before = guard.faults["connections"]
    with django_db_blocker.unblock(), database("counted", nowhere), pytest.raises(OperationalError):
        connections["counted"].ensure_connection()
    assert guard.faults["connections"] == before + 1


def test_failure_is_counted_wakes_the_writer_and_is_raised(woken, tmp_path, django_db_blocker):
    nowhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "nowhere" / "x.sqlite3"}
    with django_db_blocker.unblock(), database("counted", nowhere), pytest.raises(OperationalError):
        connections["counted"].ensure_connection()
    assert instruments.counts() == {TRIED: 1, FAILED: 1}
    assert woken == ["wake"]


def test_wrapper_is_installed_once(woken):
    once = BaseDatabaseWrapper.connect
    instruments.install_connection_counts(lambda: None)
    assert BaseDatabaseWrapper.connect is once


@pytest.mark.parametrize(
    ("engine", "is_installed", "ours"),
    [
        ("django.db.backends.sqlite3", True, True),
        ("django_prometheus.db.backends.sqlite3", True, False),
        ("django.db.backends.sqlite3", False, False),
    ],
)
def test_names_of_django_prometheus_are_ours_unless_its_engine_uses_them(
    engine, is_installed, ours, monkeypatch, settings
):
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", engine)
    monkeypatch.setattr(instruments.apps, "is_installed", lambda name: is_installed)
    assert instruments.exports_django_db() is ours
