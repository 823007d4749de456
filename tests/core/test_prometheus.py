"""The whole way: traffic to gunicorn with three workers, scraped by a real Prometheus with our rules."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.grafana.infinity import dashboards, panels
from tests.grafana.promql import expressions, filled
from tests.monitored import monitored, workers
from tests.prometheus import CONFIGURATION
from tests.servers import ROOT

GROUPS = [
    group
    for path in sorted((CONFIGURATION / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
]
RULES = [rule for group in GROUPS for rule in group["rules"] if "record" in rule]
NEED_DAYS = {rule["record"] for rule in RULES if " offset 1410m" in rule["expr"]}
"""What is usual at this hour, from earlier days; rules/tests have a week for them."""
RECORDED = {rule["record"] for rule in RULES} - NEED_DAYS
DASHBOARDS = dashboards()
NO_CAUSE = {
    # Queries to which this site gives no cause.
    "django-overview.json": {
        "Reads of the cache C",  # failures
        "Time to get a connection B",  # no pool
        "Connections of the pools A",
        "Connections of the pools B",
        "Connections of the pools C",
    },
    "django-requests-overview.json": set(),
    "django-requests-by-view.json": {
        "Requests by view, a week ago A",
        "${percentile:text} of time to answer, a week ago A",
    },
    "django-models.json": set(),
    "django-sql-logs.json": set(),
}
METRIC = re.compile(r"\b(?:django|sqllogs)_\w+")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with monitored(tmp_path_factory.mktemp("site")) as found:
        yield found


def test_target_is_up_under_our_labels(site):
    [(labels, value)] = site.prometheus.query("up")
    assert value == 1
    assert labels.items() >= {"job": "django", "app": "somesite", "namespace": "default"}.items()


def test_every_request_to_every_worker_is_counted_once(site):
    assert site.wait_for_counts() == site.expected()
    assert site.prometheus.wait(lambda: site.prometheus.by(None, "sqllogs_processes") == {None: 3})


def test_every_statement_of_every_worker_is_counted_once(site):
    """As the ring has it, where each process stores its own counts."""

    def accounts():
        processes = [one for one in site.read_log("health/")["processes"] if one["pid"] not in site.earlier]
        names = ("captured", "stored")
        ring = {name: sum(process[name] for process in processes) for name in names}
        return ring, {name: site.prometheus.by(None, f"sum(sqllogs_{name}_total)")[None] for name in names}

    def agree():
        ring, metrics = accounts()
        return ring == metrics and ring["stored"] > 100

    assert site.prometheus.wait(agree), accounts()


@pytest.mark.parametrize("record", sorted(RECORDED))
def test_recording_rule_has_data(record, site):
    assert site.prometheus.wait(lambda: site.prometheus.query(record)), record


def test_every_rule_is_well_and_evaluated(site):
    rules = [rule for group in site.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in GROUPS)
    assert {rule["health"] for rule in rules} == {"ok"}


def test_every_metric_that_an_alert_asks_for_is_there(site):
    asked = {
        name
        for group in GROUPS
        for rule in group["rules"]
        if "alert" in rule
        for name in METRIC.findall(rule["expr"])
        if f":{name}:" not in rule["expr"] and f":{name}" not in rule["expr"]
    }
    assert asked
    assert [name for name in sorted(asked) if not site.prometheus.query(f"count({name})")] == []


def test_every_documented_metric_is_there_or_has_had_no_cause(site):
    text = (Path(ROOT) / "docs" / "reference" / "metrics.md").read_text()
    named = re.findall(r"^\| `(\w+)` \| (\w+)", text, re.MULTILINE)
    series = {name: f"{name}_count" if kind == "histogram" else name for name, kind in named}
    absent = {name for name, one in series.items() if not site.prometheus.query(f"count({one})")}
    assert absent == {
        "db_client_connection_count",  # the demo has no pool
        "db_client_connection_max",
        "db_client_connection_pending_requests",
        "db_client_connection_timeouts_total",
        "db_client_connection_wait_time_seconds",
        "django_cache_get_fail_total",
        "django_db_execute_many_total",
        "django_db_new_connection_errors_total",
        "sqllogs_exported_total",
        "sqllogs_faults_total",
        "sqllogs_sampled_out_total",
    }


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_has_data_for_every_query(name, site):
    """And is understood: an expression that Prometheus cannot parse fails in `query`."""
    asked = {who: filled(expression, DASHBOARDS[name]) for who, expression in expressions(DASHBOARDS[name])}

    def empty():
        return {who for who, expression in asked.items() if not site.prometheus.query(expression)}

    assert asked
    site.prometheus.wait(lambda: empty() == NO_CAUSE[name], timeout_s=20)
    assert empty() == NO_CAUSE[name]


def test_figure_of_one_name_has_one_value(site):
    """On every dashboard, as it is opened: at one moment, so that the traffic does not matter."""
    now = time.time()
    figures = {}
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                if panel["type"] == "stat" and "expr" in target:
                    (found,) = site.prometheus.get(
                        "query", query=filled(target["expr"], dashboard), time=now
                    )["result"] or [{"value": (now, None)}]
                    figures.setdefault(panel["title"], []).append(found["value"][1])
    shared = {title: values for title, values in figures.items() if len(values) > 1}
    assert {"Requests", "Server errors", "p95 of requests"} <= shared.keys()
    assert {title: values for title, values in shared.items() if len(set(values)) > 1} == {}


@pytest.mark.parametrize(
    ("label", "metric"), [("alias", "sqllogs_query_duration_seconds"), ("route", "sqllogs_request_queries")]
)
def test_variable_of_metrics_means_the_same_in_the_log(label, metric, site):
    """A link carries it from a panel of metrics to the SQL log."""
    counted = f"count by ({label}) ({metric}_count)"
    of_metrics = site.prometheus.wait(lambda: site.prometheus.by(label, counted).keys() - {"", None})
    of_log = {row["group"] for row in site.read_log(f"stats/?group_by={label}&limit=1000")["results"]}
    assert of_metrics
    assert of_metrics <= of_log


def test_view_that_fails_and_statement_that_fails_are_alerts(site):
    def active():
        found = site.prometheus.get("alerts")["alerts"]
        return {(one["labels"]["alertname"], one["labels"].get("view")) for one in found}

    expected = {("DjangoServerErrors", "transactions:crashing"), ("DjangoDatabaseExceptions", None)}
    assert site.prometheus.wait(lambda: expected <= active()), active()
    assert not {name for name, _ in active()} & {"DjangoTargetDown", "DjangoDatabaseDown", "SQLLogsDropping"}


@pytest.mark.parametrize(
    "metric", ["sqllogs_query_duration_seconds", "sqllogs_request_queries", "sqllogs_request_sql_seconds"]
)
def test_exemplar_leads_to_the_statements_of_its_trace(metric, site):
    now = time.time()
    found = site.prometheus.wait(
        lambda: site.prometheus.get(
            "query_exemplars", query=f"{metric}_bucket", start=now - 600, end=now + 60
        )
    )
    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    assert exemplars
    for exemplar in exemplars[:5]:
        records = site.read_log(f"?trace_id={exemplar['labels']['trace_id']}")["results"]
        assert records
        assert all(record["trace_id"] == exemplar["labels"]["trace_id"] for record in records)


def test_no_count_is_lost_when_a_worker_is_killed(site):
    site.wait_for_counts()
    killed = workers(site.server.process.pid)[0]
    os.kill(killed, signal.SIGKILL)
    site.prometheus.wait(lambda: killed not in workers(site.server.process.pid))
    for _ in range(30):
        assert site.ask("GET", "/transactions/fast/").status_code == 200
    assert site.wait_for_counts() == site.expected()
