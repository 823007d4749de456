"""What Grafana and Prometheus are started with is complete, and fits together and to the site."""

import re
import subprocess
from urllib.parse import urlsplit

import pytest
import yaml
from django.urls import resolve

from tests.grafana.infinity import ROOT, TYPE, dashboards, datasources
from tests.programs import PROMTOOL, find

GRAFANA = ROOT / "grafana"
FILES = sorted(GRAFANA.rglob("*.yml"))


def read(path):
    return yaml.safe_load((GRAFANA / path).read_text())


@pytest.fixture
def infinity():
    (found,) = (one for one in datasources() if one["type"] == TYPE)
    return found


@pytest.fixture
def compose():
    return read("docker-compose.yml")["services"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GRAFANA)))
def test_file_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_names_and_uids_of_datasources_differ_and_none_can_be_edited():
    found = datasources()
    assert len({one["uid"] for one in found}) == len({one["name"] for one in found}) == len(found)
    assert all(one["access"] == "proxy" and one["editable"] is False for one in found)


def test_infinity_asks_the_sql_log(infinity):
    assert infinity["name"] == "Django DB Logs"
    assert infinity["url"].endswith("/")  # a query's address is joined on as it is
    assert resolve(urlsplit(infinity["url"]).path).view_name == "sqllogs:list"
    data = infinity["jsonData"]
    assert (
        resolve(urlsplit(infinity["url"]).path + data["customHealthCheckUrl"]).view_name == "sqllogs:health"
    )
    assert data["customHealthCheckEnabled"] is True


def test_token_comes_from_the_environment_and_goes_to_the_sql_log_alone(infinity, compose):
    assert infinity["jsonData"]["auth_method"] == "bearerToken"
    assert infinity["jsonData"]["allowedHosts"] == [infinity["url"]]
    assert infinity["secureJsonData"] == {"bearerToken": "$SQLLOGS_TOKEN"}
    assert "SQLLOGS_TOKEN" in compose["grafana"]["environment"]


def test_prometheus_is_asked_where_compose_starts_it(compose):
    (prometheus,) = (one for one in datasources() if one["type"] == "prometheus")
    (option,) = (one for one in compose["prometheus"]["command"] if one.startswith("--web.listen-address="))
    assert urlsplit(prometheus["url"]).port == int(option.rpartition(":")[2])


def test_prometheus_scrapes_the_site():
    (job,) = (
        one for one in read("prometheus/prometheus.yml")["scrape_configs"] if one["job_name"] == "django"
    )
    (targets,) = job["static_configs"]
    assert targets["targets"] == ["localhost:9110"]
    assert targets["labels"]["app"] == "somesite"


def test_prometheus_takes_its_configuration():
    command = [find(PROMTOOL), "check", "config", GRAFANA / "prometheus/prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_looked_for_where_compose_puts_them(compose):
    (provider,) = read("provisioning/dashboards/django.yml")["providers"]
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]  # the files are the source
    assert f"./dashboards:{provider['options']['path']}:ro" in compose["grafana"]["volumes"]


def test_what_compose_mounts_is_there(compose):
    mounts = [volume.split(":")[0] for service in compose.values() for volume in service["volumes"]]
    assert [mount for mount in mounts if mount.startswith(".") and not (GRAFANA / mount).exists()] == []


def test_plugin_is_installed_before_grafana_starts(compose):
    plugins = compose["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
    assert TYPE in re.split(r"[,@]", plugins)


def test_images_have_a_version(compose):
    assert all(re.search(r":v?\d+\.\d+", service["image"]) for service in compose.values())


def test_services_listen_on_the_loopback_address_alone(compose):
    options = {name: " ".join(service.get("command", ())) for name, service in compose.items()}
    assert all("ports" not in service for service in compose.values())
    assert "--web.listen-address=127.0.0.1:" in options["prometheus"]
    assert "--server.http.listen-addr=127.0.0.1:" in "".join(compose["alloy"]["command"])
    assert compose["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    for name in ("loki", "tempo"):
        server = read(f"{name}/{name}.yml")["server"]
        assert {server["http_listen_address"], server["grpc_listen_address"]} == {"127.0.0.1"}
    protocols = read("tempo/tempo.yml")["distributor"]["receivers"]["otlp"]["protocols"]
    assert all(one["endpoint"].startswith("127.0.0.1:") for one in protocols.values())


def test_services_have_limits(compose):
    for service in compose.values():
        assert service["cpus"] <= 1
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
        assert service["pids_limit"]


def test_no_dashboard_waits_for_an_input():
    # ${DS_...} is filled in by an import in the browser only, never by provisioning.
    assert not any(
        "${DS_" in str(dashboard) or "__inputs" in dashboard for dashboard in dashboards().values()
    )


def test_guide_copies_the_rules_beside_prometheus_own_file():
    """Where its rule_files look for them: by a path relative to it."""
    text = (ROOT / "docs/how-to/grafana.md").read_text()
    copies = [line for line in text.splitlines() if "grafana/prometheus/prometheus.yml" in line]
    assert len(copies) == 2  # Debian and Homebrew
    assert all("cp -r" in line and "grafana/prometheus/rules" in line for line in copies)
    assert text.count("--enable-feature=exemplar-storage") == 2
    assert read("prometheus/prometheus.yml")["rule_files"] == ["rules/*.yml"]
