"""Each part of the demo has a status: up, down or off."""

import socket
from datetime import timedelta

import pytest
from django.utils import timezone

from home import status
from tests.ports import free_port
from tests.sqllogs.factories import put
from transactions.generator import generate

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def test_parts_are_in_the_order_of_the_data_flow():
    assert [part.name for part in status.parts()] == [
        "Database",
        "SQL log",
        "Metrics",
        "Prometheus",
        "Grafana",
    ]


def test_every_part_says_what_it_is_for():
    assert all(part.about.endswith(".") for part in status.parts())


def test_empty_database_is_up_and_says_how_to_fill_it():
    part = status.database()
    assert part.state == "up"
    assert part.detail.endswith("it is empty: run manage.py generate_transactions")


def test_filled_database_shows_how_long_it_took():
    list(generate(1, seed=1))
    assert status.database().detail.endswith(" ms")


def test_ring_without_a_record_is_up():
    assert status.ring() == status.Part(
        name="SQL log", state="up", detail="nothing recorded yet", url="/sql-logs/"
    )


def test_ring_shows_how_full_it_is_and_how_old_its_newest_record():
    put({}, {"time": timezone.now()}, capacity=1000)
    detail = status.ring().detail
    assert detail.startswith("2 of 1,000 rows, the newest ")
    assert detail.endswith(" s old")


def test_age_of_an_old_record_is_in_words():
    put({"time": timezone.now() - timedelta(hours=3)})
    assert status.ring().detail.endswith("the newest 3\xa0hours old")


def test_service_that_listens_is_up_with_a_link():
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        port = listening.getsockname()[1]
        part = status.service("Grafana", port, "/d/x")
    assert (part.state, part.url) == ("up", f"http://localhost:{port}/d/x")


def test_service_that_does_not_listen_is_off_without_a_link():
    part = status.service("Grafana", free_port(), "/d/x")
    assert (part.state, part.url) == ("off", "")


def test_service_without_a_port_is_disabled():
    assert status.service("Metrics", 0, "/metrics").detail == "disabled"


def test_services_are_the_ones_that_are_provisioned():
    from tests.grafana.infinity import dashboards, datasources

    port, path = status.SERVICES["Grafana"]
    assert f"{path.removeprefix('/d/')}.json" in dashboards()
    port, _ = status.SERVICES["Prometheus"]
    assert f"http://localhost:{port}" in [one["url"] for one in datasources()]
