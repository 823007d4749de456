"""Two projects that write to one log are kept apart by their service."""

import time
from dataclasses import replace

import pytest

from sqllogs import conf
from sqllogs.checks.host import warn_of_projects_without_a_name
from sqllogs.models import Event, Process, SQLLog
from sqllogs.pipeline.resolver import Resolver
from sqllogs.read import statistics
from sqllogs.read.statistics_rows import Where
from sqllogs.storage.ring import Ring
from tests.sqllogs.factories import reader
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.storage.test_ring import PARTS, TALLIES


def write_as(service, count, settings, **changes):
    """Write as another project does; both have views of the same name."""
    settings.SQLLOGS = {**settings.SQLLOGS, "SERVICE": service, **changes}
    ring = Ring(conf.load())
    written = replace(
        Resolver(conf.load()).batch([captured(sql="SELECT 1", time_ns=time.time_ns())] * count),
        part=next(PARTS),
    )
    ring.write(ring.reserve(count), written, TALLIES)
    ring.close()


@pytest.fixture
def two_projects(ring_alias, settings):
    write_as("shop", 3, settings, RELEASE="1.0")
    write_as("blog", 5, settings, RELEASE="1.0")
    return ring_alias


def test_records_and_statistics_are_kept_apart(two_projects):
    services = SQLLog.objects.using(two_projects).values_list("service", flat=True)
    assert sorted(services) == ["blog"] * 5 + ["shop"] * 3
    groups = {found.group: found.calls for found in statistics.aggregate(Where(), "service").groups}
    assert groups == {"shop": 3, "blog": 5}
    (only,) = statistics.aggregate(Where(service=("shop",))).groups
    assert only.calls == 3
    assert set(Process.objects.using(two_projects).values_list("service", flat=True)) == {"shop", "blog"}


def test_api_filters_and_groups_by_service(two_projects):
    client = reader()
    assert client.get("/sql-logs/?service=shop").json()["count"] == 3
    for source in ("ring", "statistics"):
        rows = client.get(f"/sql-logs/stats/?group_by=service&source={source}").json()["results"]
        assert {row["group"]: row["calls"] for row in rows} == {"shop": 3, "blog": 5}, source


def test_deploys_of_the_same_release_are_two_events(two_projects):
    titles = Event.objects.using(two_projects).filter(kind="deploy").values_list("title", flat=True)
    assert sorted(titles) == ["Deploy blog 1.0", "Deploy shop 1.0"]


def test_setting_wins_over_the_variable_of_opentelemetry(ring_alias, settings, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-otel")
    write_as("", 1, settings)
    write_as("shop", 1, settings)
    stored = SQLLog.objects.using(ring_alias).order_by("seq").values_list("service", flat=True)
    assert list(stored) == ["from-otel", "shop"]


def test_check_warns_of_a_second_project_without_a_name(ring_alias, settings, monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    write_as("", 1, settings)
    assert warn_of_projects_without_a_name(None, [ring_alias]) == []
    Process.objects.using(ring_alias).update(urlconf="blog.urls")
    (warning,) = warn_of_projects_without_a_name(None, [ring_alias])
    assert warning.id == "sqllogs.W051"
    assert "blog.urls" in warning.msg
    settings.SQLLOGS = {**settings.SQLLOGS, "SERVICE": "shop"}
    assert warn_of_projects_without_a_name(None, [ring_alias]) == []
    assert warn_of_projects_without_a_name(None, None) == []
