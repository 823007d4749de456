"""Receivers of the host that listen to every model, such as an audit log's, never run for what we write."""

from datetime import timedelta

import pytest
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from sqllogs import conf
from sqllogs.context import UnitOfWork
from sqllogs.findings import causes, detection
from sqllogs.models import Event, Finding, IgnoreRule, StoredPlan
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.read import plans
from sqllogs.read.explain import Plan
from sqllogs.storage import events
from sqllogs.storage.resize import resize
from sqllogs.storage.ring import Ring
from tests.sqllogs.factories import BEGINNING
from tests.sqllogs.findings.test_causes import seen
from tests.sqllogs.pipeline.test_resolver import captured

SIGNALS = (pre_save, post_save, pre_delete, post_delete, m2m_changed)
STATEMENTS = 20


@pytest.fixture
def heard():
    """The models whose rows the host's receivers were called for."""
    called = []

    def audit(sender, **kwargs):
        called.append(sender.__name__)
        raise ZeroDivisionError("an audit log that cannot write")

    for signal in SIGNALS:
        signal.connect(audit)
    yield called
    for signal in SIGNALS:
        signal.disconnect(audit)


@pytest.mark.parametrize("ring_database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_writer_and_cleanups_call_no_receiver(ring_alias, settings, heard):
    settings.SQLLOGS = {**settings.SQLLOGS, "CAPACITY_ROWS": 1_000}
    ring = Ring(conf.load())
    buffer = Buffer(rows_max=10_000, bytes_max=1 << 30)
    delivery = Delivery(buffer, ring, lambda: Resolver(conf.load()), Sinks([]))
    try:
        for number in range(STATEMENTS):
            buffer.put(captured(unit=UnitOfWork("request"), sql=f"SELECT a{number}"))
        delivery.write_all()
        store = ring._store
        store.evict_statements(STATEMENTS // 3)
        store.evict_sources()
        store.limit_processes()
        store.roll_up(1 << 40)
        store.delete_statistics(60, 1 << 40)
        store.delete_keys(1)
    finally:
        ring.close()
    list(resize(2_000))
    assert heard == []


def test_events_call_no_receiver(ring_alias, monkeypatch, heard):
    monkeypatch.setattr(events, "EVENTS_MAX", 2)
    for number in range(5):
        event = Event(key=f"deploy:{number}", time=BEGINNING, kind="deploy", title="a", text="a")
        events.store_event(event, ring_alias)
    assert (heard, Event.objects.using(ring_alias).count()) == ([], 2)


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_search_calls_no_receiver(ring_alias, monkeypatch, heard):
    monkeypatch.setattr(causes, "FINDINGS_MAX", 3)
    monkeypatch.setattr(causes, "RULES_MAX", 1)
    assert detection.take_turn(BEGINNING, 60) is not None
    assert detection.take_turn(BEGINNING, 60) is None
    found = [seen(call_site=f"a.py:1 f{line}") for line in range(5)]
    assert len(causes.merge(found, BEGINNING)) == 5
    assert causes.merge(found, BEGINNING + timedelta(hours=1)) != []  # those beyond the limit are new again
    rules = causes.rules_of_text("n_plus_one|2030-01-01|code a.py:1|b\nslower|2030-01-01|code a.py:2|c")
    causes.find_stale(dict.fromkeys(rules, 1), set(), BEGINNING)
    assert heard == []
    assert (Finding.objects.count(), IgnoreRule.objects.count()) == (3, 1)


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_kept_plans_call_no_receiver(ring_alias, monkeypatch, heard):
    monkeypatch.setattr(plans, "PLANS_PER_STATEMENT", 2)
    for line in ("SCAN a", "SCAN a", "SCAN b", "SCAN c"):
        plan = Plan(fingerprint="f" * 16, sql="", alias="default", vendor="sqlite", lines=(line,), notes=())
        kept = plans.store_plan(plan)
        assert kept.pk is not None
    assert (heard, StoredPlan.objects.count()) == ([], 2)
