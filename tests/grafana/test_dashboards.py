"""The dashboards are what their code writes, and each panel has what a reader needs."""

import re

import pytest

from grafana import build
from tests.grafana.infinity import DASHBOARDS, TYPE, dashboards, datasources, panels

ALL = dashboards()
GRAFANA_ITSELF = {"-- Grafana --", "-- Dashboard --", "-- Mixed --"}
NO_UNIT = {"row", "text", "logs", "dashlist", "traces"}
"""Kinds of panel that show no number."""


PANELS = [
    pytest.param(panel, id=f"{name}: {panel.get('title')}")
    for name, dashboard in ALL.items()
    for panel in panels(dashboard)
]


def test_files_are_what_the_code_writes():
    written = {path.name: path.read_text() for path in DASHBOARDS.iterdir()}
    assert written == build.dashboards(), "run `python -m grafana.build`"


def test_uid_is_the_name_of_the_file():
    assert {name: f"{dashboard['uid']}.json" for name, dashboard in ALL.items()} == {
        name: name for name in ALL
    }


@pytest.mark.parametrize("name", ALL)
def test_ids_of_panels_differ(name):
    ids = [panel["id"] for panel in panels(ALL[name])]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("panel", PANELS)
def test_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    if panel["type"] not in NO_UNIT:
        assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("name", ALL)
def test_every_datasource_is_provisioned(name):
    provisioned = {one["uid"]: one["type"] for one in datasources()}
    for where in _datasources(ALL[name]):
        if where["uid"] not in GRAFANA_ITSELF:
            assert where.get("type") == provisioned.get(where["uid"]), where


def _datasources(value):
    """Return every reference to a datasource, however deep."""
    if isinstance(value, dict):
        if isinstance(found := value.get("datasource"), dict):
            yield found
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _datasources(one)


@pytest.mark.parametrize("name", ALL)
def test_links_lead_to_dashboards_and_variables_that_exist(name):
    text = (DASHBOARDS / name).read_text()
    for uid, query in re.findall(r'"/d/([\w-]+)[^"?]*\??([^"]*)"', text):
        target = ALL[f"{uid}.json"]
        known = {variable["name"] for variable in target["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)", query)) <= known, query


@pytest.mark.parametrize("panel", PANELS)
def test_override_is_for_a_column_that_the_panel_has(panel):
    asked = panel.get("targets", [])
    if not asked or any(target["datasource"]["type"] != TYPE for target in asked):
        return
    names = {column["text"] for target in asked for column in target["columns"]}
    for step in panel.get("transformations", ()):
        names |= set(step["options"].get("renameByName", {}).values())
        assert set(step["options"].get("indexByName", {})) <= names
    overrides = panel["fieldConfig"].get("overrides", ())
    wanted = {one["matcher"]["options"] for one in overrides if one["matcher"]["id"] == "byName"}
    assert wanted <= names
