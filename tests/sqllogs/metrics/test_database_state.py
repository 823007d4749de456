"""Gauges show the current state, and a database that is down or hangs does not take the target down."""

import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from sqllogs.metrics import collector as metrics_collector
from sqllogs.metrics.collector import APPLIED, UNAPPLIED, DatabaseState, _findings
from sqllogs.models import Finding
from tests.sqllogs.rings import database


class OwnConnections:
    """The databases a test has added; the tests' databases in memory stay open, which a thread must close."""

    def __iter__(self):
        return (alias for alias in connections if alias in ("ring", "away"))

    def __getattr__(self, name):
        return getattr(connections, name)

    def __getitem__(self, alias):
        return connections[alias]


@pytest.fixture
def state_of(monkeypatch, django_db_blocker):
    """Query each time; return the values of one alias by metric."""
    monkeypatch.setattr(metrics_collector, "connections", OwnConnections())
    monkeypatch.setattr(metrics_collector, "AGE_MAX_S", 0.0)
    monkeypatch.setattr(metrics_collector, "WAIT_S", 60.0)
    collector = DatabaseState()

    def values(alias):
        found = {}
        for metric in collector.collect():
            for sample in metric.samples:
                if not sample.labels or alias in sample.labels.values():
                    found[metric.name] = sample.value
        return found

    with django_db_blocker.unblock():
        yield values


def test_migrations_are_counted_as_they_are_now(state_of, ring_alias):
    before = state_of(ring_alias)
    assert before[UNAPPLIED] == 0
    assert before[APPLIED] > 0
    call_command("migrate", "sqllogs", "zero", database=ring_alias, verbosity=0)
    after = state_of(ring_alias)
    assert after[UNAPPLIED] > 0
    assert after[APPLIED] == before[APPLIED] - after[UNAPPLIED]


def test_ring_has_gauges(state_of, ring_alias):
    assert state_of(ring_alias)["sqllogs_ring_rows"] == 0
    assert "sqllogs_ring_oldest_age_seconds" not in state_of(ring_alias)


def test_findings_are_counted_by_kind_and_state_with_a_bounded_number_of_series(state_of, ring_alias):
    now = datetime.now(UTC)
    times = {"first_seen": now, "last_seen": now, "started_at": now, "occurrences": 1}
    kinds = ("slower", "slower", "deadlock", "unknown")
    for number, kind in enumerate(kinds):  # the last is of another release
        Finding.objects.using(ring_alias).create(key=str(number), kind=kind, state="reopened", **times)
    samples = [sample for metric in _findings() for sample in metric.samples]
    assert len(samples) == len(Finding.Kind) * len(Finding.State)
    counts = {tuple(one.labels.values()): one.value for one in samples if one.value}
    assert counts == {("slower", "reopened"): 2, ("deadlock", "reopened"): 1}
    assert "sqllogs_findings" in state_of("slower")


def test_unavailable_database_is_down_and_the_others_are_reported(state_of, ring_alias, tmp_path):
    nowhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "nowhere" / "x.sqlite3"}
    with database("away", nowhere):
        assert state_of("away")["sqllogs_database_up"] == 0
        assert UNAPPLIED not in state_of("away")
        assert state_of(ring_alias)["sqllogs_database_up"] == 1


def test_ring_without_tables_has_no_gauges_and_the_rest_is_reported(state_of, ring_alias):
    call_command("migrate", "sqllogs", "zero", database=ring_alias, verbosity=0)
    found = state_of(ring_alias)
    assert "sqllogs_ring_rows" not in found
    assert "sqllogs_findings" not in state_of("slower")
    assert found["sqllogs_database_up"] == 1


def test_scrape_does_not_wait_for_a_database_that_hangs(monkeypatch):
    hanging, answer = threading.Event(), threading.Event()

    def databases():
        hanging.set()
        answer.wait(60)
        return iter(())

    monkeypatch.setattr(metrics_collector, "_databases", databases)
    monkeypatch.setattr(metrics_collector, "_ring", lambda: iter(()))
    monkeypatch.setattr(metrics_collector, "_findings", lambda: iter(()))
    monkeypatch.setattr(metrics_collector, "WAIT_S", 0.01)
    collector = DatabaseState()
    assert list(collector.collect()) == []
    assert hanging.is_set()
    asking = collector._query_thread
    assert list(collector.collect()) == []
    assert collector._query_thread is asking  # one thread waits, however often Prometheus asks
    answer.set()
    asking.join(60)


def test_state_is_cached_for_some_seconds_and_left_out_when_it_is_old(monkeypatch):
    asked = []
    monkeypatch.setattr(metrics_collector, "_databases", lambda: iter(asked.append(1) or ["fact"]))
    monkeypatch.setattr(metrics_collector, "_ring", lambda: iter(()))
    monkeypatch.setattr(metrics_collector, "_findings", lambda: iter(()))
    monkeypatch.setattr(metrics_collector, "WAIT_S", 60.0)
    collector = DatabaseState()
    assert [list(collector.collect()) for _ in range(3)] == [["fact"]] * 3
    assert len(asked) == 1

    def failing():
        raise ZeroDivisionError

    monkeypatch.setattr(metrics_collector, "_databases", failing)
    collector._queried_at_s -= metrics_collector.STALE_S
    assert list(collector.collect()) == []


def test_thread_closes_what_it_has_opened_in_memory_too(monkeypatch, db):
    opened, open_file = [], DatabaseWrapper.get_new_connection

    def connect(self, parameters):
        opened.append(open_file(self, parameters))
        return opened[-1]

    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", connect)
    list(DatabaseState().collect())
    assert opened
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
