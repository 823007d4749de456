"""Gauges of the databases are of now, and a database that is away or hangs does not take the target down."""

import threading

import pytest
from django.core.management import call_command
from django.db import connections

from sqllogs.metrics import facts
from sqllogs.metrics.facts import APPLIED, UNAPPLIED, Facts
from tests.sqllogs.rings import database


class OwnConnections:
    """Those that a test has added: the tests' databases in memory are never closed, which a thread must."""

    def __iter__(self):
        return (alias for alias in connections if alias in ("ring", "away"))

    def __getattr__(self, name):
        return getattr(connections, name)

    def __getitem__(self, alias):
        return connections[alias]


@pytest.fixture
def told(monkeypatch, django_db_blocker):
    """Ask anew each time; give the values of one alias by metric."""
    monkeypatch.setattr(facts, "connections", OwnConnections())
    monkeypatch.setattr(facts, "AGE_MAX_S", 0.0)
    monkeypatch.setattr(facts, "WAIT_S", 60.0)
    collector = Facts()

    def values(alias):
        found = {}
        for metric in collector.collect():
            for sample in metric.samples:
                if not sample.labels or alias in sample.labels.values():
                    found[metric.name] = sample.value
        return found

    with django_db_blocker.unblock():
        yield values


def test_migrations_are_told_as_they_are_now(told, ring_alias):
    before = told(ring_alias)
    assert before[UNAPPLIED] == 0
    assert before[APPLIED] > 0
    call_command("migrate", "sqllogs", "zero", database=ring_alias, verbosity=0)
    after = told(ring_alias)
    assert after[UNAPPLIED] > 0
    assert after[APPLIED] == before[APPLIED] - after[UNAPPLIED]


def test_ring_is_told(told, ring_alias):
    assert told(ring_alias)["sqllogs_ring_rows"] == 0
    assert "sqllogs_ring_oldest_age_seconds" not in told(ring_alias)


def test_database_that_is_away_is_down_and_the_others_are_told(told, ring_alias, tmp_path):
    nowhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "nowhere" / "x.sqlite3"}
    with database("away", nowhere):
        assert told("away")["sqllogs_database_up"] == 0
        assert UNAPPLIED not in told("away")
        assert told(ring_alias)["sqllogs_database_up"] == 1


def test_ring_without_tables_has_no_gauges_and_the_rest_is_told(told, ring_alias):
    call_command("migrate", "sqllogs", "zero", database=ring_alias, verbosity=0)
    found = told(ring_alias)
    assert "sqllogs_ring_rows" not in found
    assert found["sqllogs_database_up"] == 1


def test_scrape_does_not_wait_for_a_database_that_hangs(monkeypatch):
    hanging, answer = threading.Event(), threading.Event()

    def databases():
        hanging.set()
        answer.wait(60)
        return iter(())

    monkeypatch.setattr(facts, "_databases", databases)
    monkeypatch.setattr(facts, "_ring", lambda: iter(()))
    monkeypatch.setattr(facts, "WAIT_S", 0.01)
    collector = Facts()
    assert list(collector.collect()) == []
    assert hanging.is_set()
    asking = collector._asking
    assert list(collector.collect()) == []
    assert collector._asking is asking  # one thread waits, however often Prometheus asks
    answer.set()
    asking.join(60)


def test_facts_are_told_again_for_some_seconds_and_left_out_when_they_are_old(monkeypatch):
    asked = []
    monkeypatch.setattr(facts, "_databases", lambda: iter(asked.append(1) or ["fact"]))
    monkeypatch.setattr(facts, "_ring", lambda: iter(()))
    monkeypatch.setattr(facts, "WAIT_S", 60.0)
    collector = Facts()
    assert [list(collector.collect()) for _ in range(3)] == [["fact"]] * 3
    assert len(asked) == 1

    def failing():
        raise ZeroDivisionError

    monkeypatch.setattr(facts, "_databases", failing)
    collector._asked_at_s -= facts.STALE_S
    assert list(collector.collect()) == []
