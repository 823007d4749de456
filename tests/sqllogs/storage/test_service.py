"""Two projects that write to one log are kept apart by their service."""

import time

import pytest
from prometheus_client import REGISTRY, generate_latest

from sqllogs import conf
from sqllogs.checks.host import warn_of_projects_without_a_name
from sqllogs.context import UnitOfWork
from sqllogs.metrics import collector
from sqllogs.models import Event, Process, SQLLog
from sqllogs.otel import otlp
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.read import statistics
from sqllogs.read.statistics_rows import Where
from sqllogs.storage.ring import Ring
from tests.sqllogs.factories import reader
from tests.sqllogs.pipeline.test_resolver import captured


def write_as(service, count, settings, **changes):
    """Write as another project does; both have views of the same name."""
    settings.SQLLOGS = {**settings.SQLLOGS, "SERVICE": service, **changes}
    loaded = conf.load()
    ring, buffer = Ring(loaded), Buffer(rows_max=count, bytes_max=1 << 20)
    unit = UnitOfWork("request", trace_id=len(service) * 10 + count, span_id=1, view="items.list")
    query = captured(sql="SELECT 1", time_ns=time.time_ns(), unit=unit)
    for _ in range(count):
        buffer.put(query)
    Delivery(buffer, ring, lambda: Resolver(loaded), Sinks([])).write_all()
    ring.close()
    return Resolver(loaded).batch([query] * count)


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


@pytest.mark.parametrize("path", ["requests/", "repeats/", "traces/", "series/"])
def test_each_report_can_be_of_one_service(two_projects, path):
    client = reader()
    both, shop = (client.get(f"/sql-logs/{path}{query}").content for query in ("", "?service=shop"))
    assert both != shop


def test_requests_show_their_service_and_are_filtered_by_it(two_projects):
    client = reader()
    rows = client.get("/sql-logs/requests/").json()["results"]
    assert {(row["view"], row["service"], row["queries"]) for row in rows} == {
        ("items.list", "shop", 3),
        ("items.list", "blog", 5),
    }
    (only,) = client.get("/sql-logs/requests/?service=shop").json()["results"]
    assert (only["service"], only["queries"]) == ("shop", 3)


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_logs_over_otlp_have_the_service_in_their_resource(ring_alias, settings, receiver):
    for service, count in (("shop", 2), ("blog", 1)):
        changes = {"OTLP": f"{receiver.url}/v1/logs"}
        batch = write_as(service, count, settings, **changes)
        sink = otlp.make(conf.load())
        sink.add(batch)
        sink.close(20.0)
    assert sorted(log.resource["service.name"] for log in receiver.logs) == ["blog", "shop", "shop"]


@pytest.fixture
def scraped(monkeypatch):
    """Scrape as a new process does: the registry is made once in each."""

    def scrape():
        collector.registry.cache_clear()
        return generate_latest(collector.registry()).decode()

    monkeypatch.setattr(collector.DatabaseState, "collect", lambda self: [])
    yield scrape
    collector.registry.cache_clear()


def test_metrics_name_the_service_once(scraped, settings, monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert "target_info" not in scraped()
    for service in ("shop", "blog"):
        settings.SQLLOGS = {"SERVICE": service}
        lines = [line for line in scraped().splitlines() if line.startswith("target_info")]
        assert lines == [f'target_info{{service_name="{service}"}} 1.0']


def test_labels_of_the_application_are_kept(scraped, settings):
    settings.SQLLOGS = {"SERVICE": "shop"}
    REGISTRY.set_target_info({"service_name": "own"})
    try:
        assert scraped().count("target_info{") == 1
        assert 'target_info{service_name="own"} 1.0' in scraped()
    finally:
        REGISTRY.set_target_info(None)


def test_deploys_of_the_same_release_are_two_events(two_projects):
    services = Event.objects.using(two_projects).filter(kind="deploy").values_list("service", flat=True)
    assert set(services) == {"shop", "blog"}
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
