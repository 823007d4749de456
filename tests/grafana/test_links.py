"""From an exemplar to its trace, to exactly its log lines and its SQL, by the provisioned links' own texts.

A site answers requests under load, and what it sends is put as Loki, Tempo and
Prometheus would hold it; then each link is filled in and followed.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, reduce
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from grafana import sql_logs
from sqllogs import conf
from tests.core.traffic import LOGGED, ask, make_site
from tests.grafana import logql
from tests.grafana.infinity import DASHBOARDS, DATASOURCES, panels
from tests.ports import free_port
from tests.receiver import receiving
from tests.servers import ROOT, Server

GRAFANA = ROOT / "grafana"
REQUESTS = 1_000
FOLLOWED = 60
"""Traces whose SQL is asked of the site; log lines are found for all."""
TIMEOUT_S = 120.0
SERVER = 2
"""Kind of a span: it answers a request."""


@lru_cache
def provisioned():
    """Return the datasources by uid, as Grafana reads them: `$$` is a dollar."""
    text = (DATASOURCES / "django.yml").read_text().replace("$$", "$")
    return {one["uid"]: one for one in yaml.safe_load(text)["datasources"]}


def fill(template, **variables):
    """Fill in a link; a variable that is not there is a fault."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: variables[found[1]], template)


@dataclass(frozen=True, slots=True)
class Site:
    """A running site, and what it has sent."""

    url: str
    token: str
    answers: list
    receiver: object
    metrics: str
    log_file: object

    @property
    def spans(self):
        return {span.trace_id: span for span in self.receiver.spans if span.kind == SERVER}

    def sql(self, link):
        """Follow a link into the SQL log; this site listens elsewhere than the provisioned one."""
        address = link.replace("http://localhost:8000", self.url)
        assert address.startswith(self.url), link
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.get(address, headers=headers, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory, django_db_blocker):
    folder, port = tmp_path_factory.mktemp("linked"), free_port()
    with django_db_blocker.unblock():
        make_site(folder)
    with receiving() as receiver:
        environment = os.environ | {
            "DATA_DIR": str(folder),
            "DJANGO_DEBUG": "0",
            "DJANGO_HTTPS": "0",
            "DJANGO_SECRET_KEY": "x" * 50,
            "DJANGO_SETTINGS_MODULE": "core.settings",
            "METRICS_PORT": str(port),
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        }
        command = [sys.executable, "manage.py", "sqllogs", "token", "create", "grafana"]
        without = environment | {"OTEL_SDK_DISABLED": "true"}
        done = subprocess.run(command, cwd=ROOT, env=without, capture_output=True, text=True, check=True)
        gunicorn = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=2", "--threads=4")
        server = Server(gunicorn, environment, folder / "output.txt")
        try:
            server.wait("/healthz")
            answers = ask(server.url, REQUESTS, 8)
            wanted = {answer.trace_id for answer in answers}
            logged = sum(answer.path in LOGGED for answer in answers)
            assert receiver.until(
                lambda: (
                    wanted <= {span.trace_id for span in receiver.spans}
                    and sum(log.scope == "django.request" for log in receiver.logs) >= logged
                )
            )
            time.sleep(1.5)  # the flush interval, and the metrics' own
            metrics = requests.get(
                f"http://127.0.0.1:{port}/metrics",
                headers={"Accept": "application/openmetrics-text; version=1.0.0"},
                timeout=TIMEOUT_S,
            ).text
            yield Site(server.url, done.stdout.strip(), answers, receiver, metrics, folder / "webapp.log")
        finally:
            server.stop()


@pytest.fixture(scope="module")
def loki(site):
    """The log records that arrived, as Loki's configuration has them kept."""
    config = yaml.safe_load((GRAFANA / "loki/loki.yml").read_text())["limits_config"]["otlp_config"]
    assert config["resource_attributes"]["ignore_defaults"]
    actions = {one["action"]: one["attributes"] for one in config["resource_attributes"]["attributes_config"]}
    (dropped,) = (re.compile(one["regex"]) for one in config["log_attributes"] if one["action"] == "drop")

    def kept(log):
        names = (*actions["index_label"], *actions["structured_metadata"])
        labels = {name: log.resource[name] for name in names if name in log.resource}
        labels |= {name: value for name, value in log.attributes.items() if not dropped.fullmatch(name)}
        named = {name.replace(".", "_"): str(value) for name, value in labels.items()}
        own = {"trace_id": log.trace_id, "span_id": log.span_id, "logger": log.scope}
        return logql.Record(log.body, named | own)

    return [kept(log) for log in site.receiver.logs]


@pytest.fixture(scope="module")
def alloy(site):
    """The lines of webapp.log, as Alloy's stages make records of them."""
    text = (GRAFANA / "alloy/config.alloy").read_text()
    (first,) = re.findall(r'firstline\s*= "(.*)"', text)
    (expression,) = re.findall(r'expression = "(.*)"', text)
    first, expression = (re.compile(json.loads(f'"{found}"')) for found in (first, expression))
    blocks = []
    for line in site.log_file.read_text().splitlines():
        if first.search(line):
            blocks.append([])
        blocks[-1].append(line)
    records = []
    for block in blocks:
        found = expression.search("\n".join(block))
        assert found, block[0]
        labels = {name: found[name] for name in ("trace_id", "span_id", "level", "logger")}
        records.append(logql.Record("\n".join(block), labels | {"service_name": "somesite"}))
    return records


def trace_to_logs(span):
    """Return the LogQL that the button "Logs for this span" asks."""
    links = provisioned()["django-tempo"]["jsonData"]["tracesToLogsV2"]
    assert links["datasourceUid"] in provisioned()
    tags = ", ".join(f'{tag["value"]}="{span.resource[tag["key"]]}"' for tag in links["tags"])
    # As Tempo does it, without leading zeros.
    return fill(links["query"], **{"__tags": tags, "__trace.traceId": span.trace_id.lstrip("0")})


@pytest.mark.parametrize("way", ["loki", "alloy"])
def test_trace_leads_to_exactly_its_log_lines(way, site, request):
    records = request.getfixturevalue(way)
    for answer in site.answers:
        lines = logql.matching(trace_to_logs(site.spans[answer.trace_id]), records)
        django = [record for record in lines if record.labels["logger"] == "django.request"]
        assert len(django) == (answer.path in LOGGED)
        assert all(LOGGED[answer.path] in record.line for record in django)
        assert {record.labels["trace_id"] for record in lines} <= {answer.trace_id}


def derived_links(record):
    """Return value and address of each link that Grafana shows at a log line."""
    for one in provisioned()["django-loki"]["jsonData"]["derivedFields"]:
        if one["matcherType"] == "label":
            named = (name for name in record.labels if re.search(one["matcherRegex"], name))
            value = record.labels.get(next(named, ""))
        else:
            value = (found := re.search(one["matcherRegex"], record.line)) and found[1]
        if value:
            yield one.get("datasourceUid"), value, fill(one["url"], **{"__value.raw": value})


@pytest.mark.parametrize("way", ["loki", "alloy"])
def test_log_line_leads_to_its_trace_and_its_sql(way, site, request):
    records = [one for one in request.getfixturevalue(way) if "Internal Server Error" in one.line]
    assert len(records) == sum(answer.path == "/transactions/crashing/" for answer in site.answers)
    for number, record in enumerate(records):
        links = list(derived_links(record))
        assert {value for _, value, _ in links} == {record.labels["trace_id"]}
        assert {"django-tempo", None} == {uid for uid, _, _ in links}
        assert all(link in site.spans for uid, _, link in links if uid == "django-tempo")
        for uid, value, link in links[: 3 if number < FOLLOWED // 6 else 0]:
            if uid is None:
                assert_leads_to_sql(link, value, site)


def assert_leads_to_sql(link, trace_id, site):
    """A link leads to the trace in the SQL log, or in the dashboard that asks for it."""
    if link.startswith("/d/"):
        path, query = urlsplit(link).path, parse_qs(urlsplit(link).query)
        dashboard = json.loads((DASHBOARDS / f"{path.rpartition('/')[2]}.json").read_text())
        assert "trace_id" in {variable["name"] for variable in dashboard["templating"]["list"]}
        assert query["var-trace_id"] == [trace_id]
        return
    answer = site.sql(link)
    assert answer.status_code == 200, (link, answer.text)
    found = answer.json()["results"]
    assert found
    assert {row.get("trace_id", row.get("traceID")) for row in found} == {trace_id}


def correlations(span):
    for one in provisioned()["django-tempo"]["correlations"]:
        assert one["type"] == "external"  # at the root: inside config it is not read
        assert one["label"]
        assert one["description"]
        assert one["config"]["field"] == "traceID"
        yield fill(one["config"]["target"]["url"], traceID=span.trace_id)


def test_span_leads_to_the_sql_of_its_trace(site):
    with_sql = [answer for answer in site.answers if answer.path != "/no-such-page/"]
    for answer in with_sql[:: len(with_sql) // FOLLOWED]:
        span = site.spans[answer.trace_id]
        links = list(correlations(span))
        assert len(links) == 2
        for link in links:
            assert_leads_to_sql(link, answer.trace_id, site)


def test_sql_of_a_trace_is_all_of_it_and_nothing_else(site):
    counts = Counter()
    with_sql = [answer for answer in site.answers if answer.path != "/no-such-page/"]
    for answer in with_sql[:: len(with_sql) // FOLLOWED]:
        span = site.spans[answer.trace_id]
        found = site.sql(next(correlations(span))).json()["results"]
        if answer.path != "/transactions/streaming/":  # its span has ended before its queries
            assert len(found) == span.attributes["sqllogs.queries"]
        counts[answer.path] += len(found)
    assert len(counts) == 5


def test_query_in_the_dashboard_leads_to_its_trace_and_its_log_lines(site, loki):
    """Back again: the links of the column trace_id, as Explore reads them."""
    dashboard = json.loads((DASHBOARDS / "django-sql-logs.json").read_text())
    links = {
        link["title"]: link["url"]
        for panel in panels(dashboard)
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == "trace_id"
        for one in override["properties"]
        if one["id"] == "links"
        for link in one["value"]
    }
    answer = next(one for one in site.answers if one.path == "/transactions/crashing/")
    for title, kind in (("Trace", "tempo"), ("Log lines of this trace", "loki")):
        url = links[title].replace("${__value.raw}", answer.trace_id)
        (pane,) = json.loads(parse_qs(urlsplit(url).query)["panes"][0]).values()
        assert provisioned()[pane["datasource"]]["type"] == kind
        (query,) = pane["queries"]
        if kind == "tempo":
            assert query["query"] in site.spans
        else:
            lines = logql.matching(query["expr"], loki)
            assert {one.labels["trace_id"] for one in lines} == {answer.trace_id}
            assert any(LOGGED[answer.path] in one.line for one in lines)


def test_exemplar_leads_to_its_trace_its_sql_and_its_log_lines(site, loki):
    destinations = provisioned()["django-prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert {one["name"] for one in destinations} == {"trace_id", "traceID"}
    exemplars = [
        sample.exemplar.labels
        for family in text_string_to_metric_families(site.metrics)
        for sample in family.samples
        if sample.exemplar
    ]
    asked = {answer.trace_id: answer for answer in site.answers}
    followed = [labels for labels in exemplars if labels["trace_id"] in asked]
    assert followed
    for labels in followed:
        trace_id = labels["trace_id"]
        for one in destinations:
            if one["name"] not in labels:
                continue
            if "datasourceUid" in one:
                assert provisioned()[one["datasourceUid"]]["type"] == "tempo"
                assert trace_id in site.spans
            elif asked[trace_id].path != "/no-such-page/":  # without SQL
                assert_leads_to_sql(fill(one["url"], **{"__value.raw": trace_id}), trace_id, site)
        lines = logql.matching(trace_to_logs(site.spans[trace_id]), loki)
        logged = LOGGED.get(asked[trace_id].path)
        django = [one.line for one in lines if one.labels["logger"] == "django.request"]
        assert django == ([logged] if logged else [])


def test_settings_in_the_documentation_open_what_the_dashboard_opens():
    text = (ROOT / "docs/explanation/observability.md").read_text()
    (fence,) = re.findall(r"(?ms)^```python\n(from json.*?)^```", text)
    found = {}
    exec(fence, found)
    assert not [key for key, value in found["SQLLOGS"].items() if conf.find_problem(key, value)]
    values = {"{trace_id}": "ab" * 16, "{from_ms}": "1000", "{to_ms}": "2000"}
    links = [
        reduce(lambda url, one: url.replace(*one), values.items(), url) for url in found["SQLLOGS"].values()
    ]
    pasted = [
        one["url"].replace("${__value.raw}", "ab" * 16)
        for one in sql_logs._TRACE_LINKS
        if one["url"].startswith("/explore")
    ]
    shown, wanted = (
        [json.loads(parse_qs(urlsplit(url).query)["panes"][0])["one"] for url in urls]
        for urls in (links, pasted)
    )
    assert [one.pop("range") for one in shown] == [{"from": "1000", "to": "2000"}] * 2
    assert [one | {"range": None} for one in shown] == [one | {"range": None} for one in wanted]
