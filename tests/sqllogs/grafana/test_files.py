"""What --output writes."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from django.test import override_settings

from tests.programs import PROMTOOL, find

GRAFANA = Path(__file__).parents[3] / "grafana"
CHOSEN = {
    "--url": "http://localhost:9090/logs",  # which looks like another value's original
    "--browser-url": "https://shop.example/sql-logs/",
    "--token-variable": "SHOP_TOKEN",
    "--app": "yes",  # a word that YAML would take for true
    "--namespace": "eu-1",
    "--job": "shop/web",
    "--metrics-target": "shop.example:9111",
    "--prometheus-url": "http://prometheus:9090",
    "--loki-url": "http://loki:3100",
    "--tempo-url": "http://tempo:3200",
    "--dashboards-path": "/srv/my dashboards",
}
FILES = {
    "dashboards/django-models.json",
    "dashboards/django-overview.json",
    "dashboards/django-requests-by-view.json",
    "dashboards/django-requests-overview.json",
    "dashboards/django-sql-logs.json",
    "prometheus/prometheus.yml",
    "prometheus/rules/alerts.yml",
    "prometheus/rules/recording.yml",
    "provisioning/dashboards/django.yml",
    "provisioning/datasources/django.yml",
}


@pytest.fixture
def written(provision, tmp_path):
    def write(options):
        provision("--output", str(tmp_path), *(part for option in options.items() for part in option))
        return tmp_path

    return write


def load(path):
    return yaml.safe_load(path.read_text())


def datasources(folder):
    return {one["uid"]: one for one in load(folder / "provisioning/datasources/django.yml")["datasources"]}


def test_everything_is_written(written):
    folder = written({})
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == FILES


def test_values_of_the_demo_site_give_its_own_files(written):
    folder = written({"--app": "somesite"})
    for name in FILES:
        read = json.loads if name.endswith("json") else yaml.safe_load
        assert read((folder / name).read_text()) == read((GRAFANA / name).read_text())


def test_every_value_arrives_where_it_belongs(written):
    folder = written(CHOSEN)
    found = datasources(folder)
    infinity = found["django-db-logs"]
    assert infinity["url"] == "http://localhost:9090/logs/"
    assert infinity["jsonData"]["allowedHosts"] == ["http://localhost:9090/logs/"]
    assert infinity["secureJsonData"] == {"bearerToken": "$SHOP_TOKEN"}
    assert {name: found[f"django-{name}"]["url"] for name in ("prometheus", "loki", "tempo")} == {
        name: CHOSEN[f"--{name}-url"] for name in ("prometheus", "loki", "tempo")
    }
    (provider,) = load(folder / "provisioning/dashboards/django.yml")["providers"]
    assert provider["options"]["path"] == "/srv/my dashboards"
    assert (provider["folder"], provider["folderUid"]) == ("Django", "django")
    (job,) = load(folder / "prometheus/prometheus.yml")["scrape_configs"]
    assert job == {
        "job_name": "shop/web",
        "static_configs": [{"targets": ["shop.example:9111"], "labels": {"app": "yes", "namespace": "eu-1"}}],
    }


def test_rules_select_the_job_that_is_chosen(written):
    text = "\n".join(path.read_text() for path in (written(CHOSEN) / "prometheus/rules").iterdir())
    assert set(re.findall(r'job=~?"([^"]*)"', text)) == {"shop/web"}


def test_nothing_of_the_demo_site_is_left(written):
    folder = written(CHOSEN)
    text = "\n".join((folder / name).read_text() for name in FILES)
    for value in ("localhost:8000", "localhost:9110", "localhost:3100", "somesite", "SQLLOGS_TOKEN"):
        assert value not in text


def test_links_of_dashboards_go_where_the_browser_finds_the_log(written):
    dashboard = json.loads((written(CHOSEN) / "dashboards/django-sql-logs.json").read_text())
    (site,) = (one for one in dashboard["templating"]["list"] if one["name"] == "site")
    assert site["query"] == "https://shop.example/sql-logs/"


def test_links_of_alerts_go_where_the_browser_finds_the_log(written):
    folder = written(CHOSEN)
    texts = [path.read_text() for path in (folder / "prometheus/rules").iterdir()]
    links = {link for text in texts for link in re.findall(r"\S*findings/\?", text)}
    assert links == {"https://shop.example/sql-logs/findings/?"}


def test_datasource_that_grafana_has_is_left_out_and_referred_to(written):
    folder = written({"--loki-uid": "mine", "--prometheus-uid": "theirs"})
    found = datasources(folder)
    assert set(found) == {"django-db-logs", "django-tempo"}
    assert found["django-tempo"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "mine"
    texts = "\n".join(path.read_text() for path in (folder / "dashboards").iterdir())
    assert "%22mine%22" in texts
    assert '"theirs"' in texts
    assert '"django-loki"' not in texts
    assert '"django-prometheus"' not in texts  # the uid of the datasource; descriptions may name the package


def test_address_is_that_of_the_projects_own_urls(written):
    with override_settings(ROOT_URLCONF="tests.sqllogs.grafana.urls"):
        folder = written({})
    assert datasources(folder)["django-db-logs"]["url"] == "http://localhost:8000/ops/queries/"


def test_prometheus_takes_it(written):
    path = written(CHOSEN) / "prometheus/prometheus.yml"
    done = subprocess.run(
        [find(PROMTOOL), "check", "config", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_second_time_nothing_is_written(provision, tmp_path):
    provision("--output", str(tmp_path))
    path = tmp_path / "dashboards/django-models.json"
    path.write_text("{}")
    said = {line.split()[2]: line.split()[0] for line in provision("--output", str(tmp_path))}
    assert said.pop(str(path)) == "updated"
    assert set(said.values()) == {"unchanged"}


def test_file_that_cannot_be_written_is_reported(provision, tmp_path):
    (tmp_path / "dashboards").write_text("in the way")
    lines = provision("--output", str(tmp_path))
    assert [line.split()[0] for line in lines] == ["created"] * 2 + ["failed"] * 5 + ["created"] * 3 + [
        "CommandError:"
    ]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--url", "localhost:8000", "--url 'localhost:8000/' is invalid: it must be an address"),
        ("--url", "http://me:x@host/", "without user, password or query"),
        ("--browser-url", 'http://host/"}', "--browser-url"),
        ("--loki-url", "http://host/?a=$b", "--loki-url"),
        ("--app", "a b", "--app 'a b' is invalid"),
        ("--job", "", "--job '' is invalid"),
        ("--metrics-target", "9110", "host:port"),
        ("--metrics-target", "host:65536", "host:port"),
        ("--dashboards-path", "", "--dashboards-path '' is invalid: it must be a folder."),
        ("--tempo-uid", "a/b", "--tempo-uid"),
    ],
)
def test_invalid_value_is_an_error(option, value, message, provision, tmp_path):
    (line,) = provision("--output", str(tmp_path), option, value)
    assert message in line
    assert not list(tmp_path.iterdir())


def test_token_given_for_its_variable_is_not_repeated(provision, tmp_path):
    (line,) = provision("--output", str(tmp_path), "--token-variable", "the-token-canary")
    assert "not the token itself" in line
    assert "canary" not in line


@pytest.mark.parametrize("arguments", [(), ("--output", "")])
def test_output_or_push_is_required(provision, arguments):
    """An empty folder is that of an unset variable, not the current one."""
    assert provision(*arguments) == ["CommandError: Set --output DIR, --push URL, or both."]


REQUIRED = {
    "ServiceMonitor": {"selector", "endpoints"},
    "PrometheusRule": {"groups"},
}
"""Keys that the operator's custom resource definitions require of `spec`."""


@pytest.fixture
def manifests(provision, tmp_path):
    options = {**CHOSEN, "--app": "My_Shop"}
    chosen = [part for option in options.items() for part in option]
    said = provision("--output", str(tmp_path), "--kubernetes", *chosen)
    assert not [line for line in said if line.startswith("CommandError")]
    return tmp_path, {path.stem: load(path) for path in sorted((tmp_path / "kubernetes").glob("*.yaml"))}


def test_manifests_have_what_kubernetes_requires(manifests):
    found = manifests[1]
    assert {one["kind"] for one in found.values()} == {"ConfigMap", *REQUIRED}
    for one in found.values():
        assert one["apiVersion"] == ("v1" if one["kind"] == "ConfigMap" else "monitoring.coreos.com/v1")
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", one["metadata"]["name"])
        if one["kind"] in REQUIRED:
            assert REQUIRED[one["kind"]] <= one["spec"].keys()
        else:
            assert sum(len(text) for text in one["data"].values()) < 1_000_000  # 1 MiB at most
    assert len({(one["kind"], one["metadata"]["name"]) for one in found.values()}) == len(found)


def test_manifests_hold_the_same_as_the_files(manifests):
    folder, found = manifests
    for path in (folder / "dashboards").glob("*.json"):
        one = found[path.stem]
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["data"] == {path.name: path.read_text()}
    assert found["datasources"]["data"] == {
        "django.yml": (folder / "provisioning/datasources/django.yml").read_text()
    }
    for path in (folder / "prometheus/rules").glob("*.yml"):
        assert found[f"rules-{path.stem}"]["spec"] == load(path)


def test_long_name_of_an_app_is_a_valid_label_value(provision, tmp_path):
    provision("--output", str(tmp_path), "--kubernetes", "--app", "long-" * 20)
    monitor = load(tmp_path / "kubernetes/servicemonitor.yaml")
    for name in (monitor["metadata"]["name"], *monitor["spec"]["selector"]["matchLabels"].values()):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)


def test_operator_gives_metrics_the_labels_of_the_dashboards(manifests):
    (endpoint,) = manifests[1]["servicemonitor"]["spec"]["endpoints"]
    given = {one["targetLabel"]: one["replacement"] for one in endpoint["relabelings"]}
    assert given == {"app": "My_Shop", "namespace": "eu-1", "job": "shop/web"}
    assert endpoint["port"] == "metrics"
    selector = manifests[1]["servicemonitor"]["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "my-shop"}


def test_manifests_need_a_folder(provision):
    (said,) = provision("--push", "http://localhost:1", "--kubernetes")
    assert said == "CommandError: --kubernetes needs --output DIR."
