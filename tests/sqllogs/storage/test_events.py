"""Deploys are noted once over all processes, migrations by migrate itself."""

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.models.signals import post_migrate

from sqllogs.models import Event, SQLLog
from sqllogs.storage import events
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.recording import TIMEOUT_S, recording


def run(alias, release, **settings):
    """Let one process of a release write."""
    with recording(alias, release=release, **settings) as process:
        process.buffer.put(captured())
        assert process.writer.flush(TIMEOUT_S)


def test_deploy_is_noted_once_over_all_processes(ring_alias):
    for release in ("1.0", "1.0", "1.1", "1.0"):
        run(ring_alias, release, deployed_by=f"Ada of {release}" if release == "1.1" else None)
    found = Event.objects.using(ring_alias).order_by("id").values_list("kind", "title", "tags", "author")
    assert list(found) == [
        ("deploy", "Deploy 1.0", ["deploy", "1.0"], None),
        ("deploy", "Deploy 1.1", ["deploy", "1.1"], "Ada of 1.1"),
    ]


def test_events_are_bounded_and_the_oldest_go(ring_alias, monkeypatch):
    monkeypatch.setattr(events, "EVENTS_MAX", 3)
    for number in range(6):
        events.store_event(events.deploy_event(str(number)), ring_alias)
    assert sorted(Event.objects.using(ring_alias).values_list("text", flat=True)) == ["3", "4", "5"]


@pytest.fixture
def recorded_migrations():
    """Connect the receiver as `apps.py` does where capture is enabled."""
    sender = apps.get_app_config("sqllogs")
    post_migrate.connect(events.record_migrations, sender=sender, dispatch_uid="sqllogs")
    yield
    post_migrate.disconnect(sender=sender, dispatch_uid="sqllogs")


def test_migrate_records_what_it_has_done(ring_alias, recorded_migrations, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "DEPLOYED_BY": "Grace"}
    call_command("migrate", "sqllogs", "0001", database=ring_alias, verbosity=0)
    call_command("migrate", database=ring_alias, verbosity=0)
    call_command("migrate", database=ring_alias, verbosity=0)  # nothing left to do
    event = Event.objects.using(ring_alias).get()
    assert (event.kind, event.author) == ("migration", "Grace")
    assert event.title.startswith("sqllogs.0002_fillfactor and ")
    assert event.title.endswith(f" on {ring_alias}")
    assert "sqllogs.0003_statistics" in event.text.splitlines()


def test_events_that_cannot_be_stored_stop_nobody(ring_alias):
    with connections[ring_alias].cursor() as cursor:
        cursor.execute("DROP TABLE sqllogs_event")
    run(ring_alias, "1.0")
    assert SQLLog.objects.using(ring_alias).count() == 1
    events.record_migrations("default", [(type("M", (), {"app_label": "shop", "name": "0001"}), False)])


@pytest.mark.parametrize("release", ["", "x" * 300, "v1 \N{SNOWMAN}"])
def test_any_release_makes_a_sound_event(release):
    event = events.deploy_event(release)
    assert len(event.title) <= 200
    assert len(event.key) <= 128
