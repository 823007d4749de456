"""Promtool accepts rules and alerts; each alert has a test that fires it, and a runbook."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from docs.conf import HOME
from grafana import promql
from tests.programs import PROMTOOL, find

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "grafana" / "prometheus"
RUNBOOKS = (ROOT / "docs/reference/runbooks.md").read_text()
RULES = [
    rule
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
CASES = [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]
EXPECTED = [
    (one["expr"], sample["labels"])
    for case in CASES
    for one in case.get("promql_expr_test", ())
    for sample in one["exp_samples"]
]
FIRED = {
    *(found[1] for _, labels in EXPECTED if (found := re.match(r'ALERTS\{alertname="(\w+)"', labels))),
    *(found[1] for expr, _ in EXPECTED if (found := re.search(r'\(ALERTS\{alertname="(\w+)"', expr))),
    *(one["alertname"] for case in CASES for one in case.get("alert_rule_test", ()) if one["exp_alerts"]),
}
"""Alerts that a case expects to fire, not those that it expects to be quiet."""


def promtool(*arguments):
    done = subprocess.run([find(PROMTOOL), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_configuration_and_its_rules_are_valid():
    assert promtool("check", "config", PROMETHEUS / "prometheus.yml").count("SUCCESS") == 4


def test_series_in_alerts_out():
    assert "SUCCESS" in promtool("test", "rules", *TESTS)


def test_promtool_fails_on_an_alert_that_is_expected_and_does_not_fire(tmp_path):
    """The tests above can fail."""
    wrong = yaml.safe_load(TESTS[0].read_text())
    wrong["rule_files"] = [str(path) for path in (PROMETHEUS / "rules").glob("*.yml")]
    wrong["tests"] = [test for test in wrong["tests"] if test["name"] == "DjangoMigrationsUnapplied"]
    wrong["tests"][0]["input_series"][0]["values"] = "0x30"
    path = tmp_path / "wrong.yml"
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(AssertionError, match="DjangoMigrationsUnapplied"):
        promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_is_described_tested_and_has_a_runbook(alert):
    name = alert["alert"]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert (
        alert["annotations"]["runbook_url"] == f"{HOME}/blob/main/docs/reference/runbooks.md#{name.lower()}"
    )
    assert f"\n## {name}\n" in RUNBOOKS
    assert name in FIRED


def test_monitoring_means_the_same_to_rules_and_dashboards():
    left_out = [name for rule in RULES for name in re.findall(r'view!~"([^"]*)"', rule["expr"])]
    assert len(left_out) > 10
    assert set(left_out) == {promql._MONITORING}


RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}


def test_every_record_is_used():
    """Each costs an evaluation four times a minute."""
    dashboards = [path.read_text() for path in (ROOT / "grafana/dashboards").glob("*.json")]
    readers = "\n".join([RUNBOOKS, *dashboards, *(rule["expr"] for rule in RULES)])
    assert [name for name in RECORDED if name not in readers] == []


def test_rules_that_read_days_of_raw_series_are_evaluated_rarely():
    """But at least every five minutes, after which a recorded value is too old for a query."""
    rare, often = {}, {}
    for path in (PROMETHEUS / "rules").glob("*.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                reads_days = re.search(r"(django|sqllogs)_\w+({[^}]*})?\[\d+d\]", rule["expr"])
                (rare if reads_days else often)[rule.get("alert") or rule["record"]] = group.get("interval")
    assert set(rare.values()) == {"3m"}
    assert set(often.values()) == {None}


def metrics(expression):
    """Return the metrics that an expression reads, through recording rules too."""
    names = set(re.findall(r"[a-zA-Z_][\w:]*", expression))
    read = {name for name in names if re.match(r"(django|sqllogs|db_client)_(?!.*pool_name)|up$", name)}
    return read.union(*(metrics(RECORDED[name]) for name in names & RECORDED.keys()))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_is_quiet_on_a_healthy_site_that_has_its_metrics(alert):
    healthy = yaml.safe_load(TESTS[0].read_text())["tests"][0]
    assert healthy["promql_expr_test"][0]["expr"] == "ALERTS"
    assert not healthy["promql_expr_test"][0].get("exp_samples")
    has = {re.match(r"\w+", one["series"])[0] for one in healthy["input_series"]}
    assert metrics(alert["expr"])
    assert metrics(alert["expr"]) <= has


def test_runbooks_are_of_alerts_that_exist():
    assert sorted(re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)) == sorted(one["alert"] for one in ALERTS)
