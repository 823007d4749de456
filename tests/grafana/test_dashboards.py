"""The dashboards are what their code writes, and each panel has what a reader needs."""

import json
import re

import pytest

from grafana import build
from sqllogs.models import Finding
from tests.grafana.infinity import DASHBOARDS, ROOT, TYPE, dashboards, datasources, panels

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
    rows = [panel for panel in ALL[name]["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in (*rows, *panels(ALL[name]))]
    assert len(ids) == len(set(ids))


def test_uids_and_titles_differ():
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in ALL.values()}) == len(ALL) == 5


@pytest.mark.parametrize("name", ALL)
def test_no_panel_lies_on_another(name):
    taken = {}
    for panel in ALL[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


@pytest.mark.parametrize("name", ALL)
def test_every_variable_that_is_asked_for_exists(name):
    asked = set(re.findall(r"\$(?:\{)?([a-z]\w*)", json.dumps([one["targets"] for one in panels(ALL[name])])))
    known = {variable["name"] for variable in ALL[name]["templating"]["list"]}
    assert asked - known <= set(), name
    filters = {"app", "namespace", "job", "datasource"}
    assert filters <= known


OFTEN_EMPTY = ("Connections of the pools", "Idle transactions", "a week ago")


@pytest.mark.parametrize("panel", PANELS)
def test_panel_without_data_says_so(panel):
    """But for time series, whose tooltips would list every gap with these words; some are often empty."""
    says_so = panel["type"] != "timeseries" or any(map(panel["title"].__contains__, OFTEN_EMPTY))
    assert bool(panel["fieldConfig"]["defaults"].get("noValue")) == says_so


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "table"])
def test_cell_without_a_value_does_not_say_that_the_table_is_empty(panel):
    """Grafana shows a panel's noValue in each such cell, unless the column has its own."""
    own = {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        if any(one["id"] == "noValue" for one in override["properties"])
    }
    (names,) = (
        step["options"]["renameByName"] for step in panel["transformations"] if step["id"] == "organize"
    )
    figures = {name for original, name in names.items() if original.startswith("Value")}
    assert "/.*/" in own or (figures and figures <= own)


@pytest.mark.parametrize("panel", PANELS)
def test_targets_of_a_panel_have_names_of_their_own(panel):
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))


@pytest.mark.parametrize("panel", PANELS)
def test_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    if panel["type"] not in NO_UNIT:
        assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("name", ALL)
def test_every_datasource_is_provisioned(name):
    provisioned = {one["uid"]: one["type"] for one in datasources()}
    for variable in ALL[name]["templating"]["list"]:
        if variable["type"] == "datasource":
            assert provisioned[variable["current"]["value"]] == variable["query"]
            provisioned[f"${{{variable['name']}}}"] = variable["query"]
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


def test_variables_of_one_name_mean_the_same():
    """The menu carries them from one dashboard to the next."""
    meanings = {}
    for dashboard in ALL.values():
        for variable in dashboard["templating"]["list"]:
            meaning = (variable["label"], variable["description"])
            assert meanings.setdefault(variable["name"], meaning) == meaning


FILTERS = re.compile(r', (view|method|alias|model)=~"\$\w+"')


def test_figure_of_one_name_is_the_same_on_every_dashboard():
    """But for the filters that a dashboard has."""
    found = {}
    for panel in (one for dashboard in ALL.values() for one in panels(dashboard)):
        if panel["targets"][0]["datasource"]["type"] == "prometheus":
            asked = [FILTERS.sub("", target["expr"]) for target in panel["targets"]]
            figure = (asked, panel["fieldConfig"]["defaults"]["unit"])
            assert found.setdefault((panel["title"], panel["type"]), figure) == figure, panel["title"]


FIGURES = {"stat", "gauge", "bargauge", "table", "piechart"}


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] in FIGURES])
def test_figure_is_that_of_the_end_of_the_range(panel):
    """The last step of a range query is older, by the width of the panel: another value on each dashboard."""
    for target in panel["targets"]:
        if target["datasource"]["type"] == "prometheus":
            assert (target.get("instant"), target.get("range", False)) == (True, False)


COLORED = {"stat", "gauge", "bargauge", "table", "state-timeline", "status-history"}
"""Kinds of panel whose values have the colour of their threshold, unless they say otherwise."""


@pytest.mark.parametrize("panel", PANELS)
def test_no_color_comes_from_the_thresholds_of_grafana(panel):
    """By those a load of 85 % is red and a p95 of 79 s is green."""
    config = panel["fieldConfig"]["defaults"]
    mode = config.get("color", {}).get("mode", "thresholds" if panel["type"] in COLORED else "palette")
    style = config.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off")
    assert config.get("thresholds") or (mode != "thresholds" and style == "off")


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "table"])
def test_gauge_in_a_table_has_colors_of_its_own(panel):
    """Those of the table are of its text."""
    for override in panel["fieldConfig"]["overrides"]:
        asked = {one["id"]: one["value"] for one in override["properties"]}
        if asked.get("custom.cellOptions", {}).get("type") == "gauge":
            assert {"thresholds", "min", "max"} <= asked.keys()


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "stat"])
def test_figure_without_a_value_is_neither_good_nor_bad(panel):
    """Without the mapping it has the colour of the lowest threshold: red for a share of successes."""
    config = panel["fieldConfig"]["defaults"]
    result = {"text": config["noValue"], "color": "text"}
    assert config["mappings"] == [{"type": "special", "options": {"match": "null+nan", "result": result}}]


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_is_zero_without_metrics(panel):
    assert "vector(" not in json.dumps(panel["targets"])


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "timeseries"])
def test_percentiles_up_to_p999_have_a_logarithmic_axis(panel):
    """On a linear one p50 and p95 are the axis itself."""
    has_tail = any(target.get("legendFormat") == "p99.9" for target in panel["targets"])
    config = panel["fieldConfig"]["defaults"]
    scale = config["custom"].get("scaleDistribution", {}).get("type", "linear")
    assert (scale, "min" in config) == (("log", False) if has_tail else ("linear", "min" in config))


NARROWEST_PX = {"locale": 95, "ms": 90}
"""Room for 999,999,999 and 10.0 hours: of a number that is aligned right, the first digits are cut off."""


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "table"])
def test_columns_have_room_for_large_numbers(panel):
    for override in panel["fieldConfig"]["overrides"]:
        asked = {one["id"]: one["value"] for one in override["properties"]}
        if asked.get("unit") in NARROWEST_PX:
            assert asked["custom.width"] >= NARROWEST_PX[asked["unit"]], override["matcher"]


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "timeseries"])
def test_chart_by_a_label_of_many_values_has_the_largest_only(panel):
    for target in panel["targets"]:
        if "topk(" not in target.get("expr", "topk("):
            assert not re.search(r"by \((?!le\))[^)]*\b(view|route|model|name)\b", target["expr"])


def _figures(panel):
    """Yield expression and name of each figure: those of a table are its columns."""
    (names,) = (
        step["options"]["renameByName"]
        for step in panel.get("transformations", [{"id": "organize", "options": {"renameByName": {}}}])
        if step["id"] == "organize"
    )
    for target in panel["targets"]:
        expression = target["expr"].partition(" and on (")[0]
        column = names.get(f"Value #{target['refId']}") or names.get("Value") or panel["title"]
        yield re.sub(r"^topk\(\d+, (.*) > 0\)$|^\((.*)\)$", r"\1\2", FILTERS.sub("", expression)), column


def test_figure_has_the_same_name_on_every_dashboard():
    found = {}
    for panel in (one for dashboard in ALL.values() for one in panels(dashboard)):
        kind = "column" if panel["type"] == "table" else panel["type"]
        if panel["type"] in FIGURES and panel["targets"][0]["datasource"]["type"] == "prometheus":
            for expression, name in _figures(panel):
                assert found.setdefault((kind, expression), name) == name, panel["title"]
    assert len(found) > 40


def test_query_is_no_statement():
    """A statement is what many queries share; a count of one is no count of the other."""
    counted = [
        panel.values[0] for panel in PANELS if panel.values[0]["fieldConfig"]["defaults"]["unit"] != "none"
    ]
    assert [one["title"] for one in counted if "statement" in one["title"].lower()] == []


def test_kinds_and_states_of_findings_are_words():
    (panel,) = (one for one in panels(ALL["django-sql-logs.json"]) if one["title"] == "Findings")
    for column, choices in (("kind", Finding.Kind.choices), ("state", Finding.State.choices)):
        (mapped,) = (
            one["value"][0]["options"]
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["options"] == column
            for one in override["properties"]
            if one["id"] == "mappings"
        )
        assert {key: one["text"] for key, one in mapped.items()} == {key: str(text) for key, text in choices}


def test_no_title_is_a_key_of_the_api():
    """Those of variables are chosen by their words."""
    for dashboard in ALL.values():
        shown = [panel["title"] for panel in dashboard["panels"]]
        shown += [one["label"] for one in dashboard["templating"]["list"]]
        shown += [
            choice.partition(" : ")[0]
            for one in dashboard["templating"]["list"]
            if one["type"] == "custom"
            for choice in one["query"].split(",")
        ]
        assert [text for text in shown if "_" in text or re.search(r"\$\{\w+\}", text)] == []


@pytest.mark.parametrize("panel", [one for one in PANELS if one.values[0]["type"] == "timeseries"])
def test_legend_leaves_out_what_did_not_happen(panel):
    """A counter has a series for each reason from the start, and for each view since its first request."""
    rates = panel["fieldConfig"]["defaults"]["unit"] in ("cps", "ops", "reqps")
    hidden = [one for one in panel["fieldConfig"].get("overrides", ()) if one["matcher"]["id"] == "byValue"]
    assert bool(hidden) == rates
    for override in hidden:
        assert override["matcher"]["options"]["reducer"] == "allIsZero"
        assert override["properties"][0]["value"]["legend"] is True


OF_VIEWS = re.compile(r"(?:django_http_\w+_(?:by_)?view\w*|sqllogs_request\w+)\{([^}]*)\}")


@pytest.mark.parametrize("panel", PANELS)
def test_requests_of_monitoring_are_left_out(panel):
    for target in panel["targets"]:
        for labels in OF_VIEWS.findall(target.get("expr", "")):
            assert 'view!~"$excluded"' in labels


@pytest.mark.parametrize("panel", PANELS)
def test_exemplars_are_asked_for_once_and_only_where_they_exist(panel):
    asked = [target["expr"] for target in panel["targets"] if target.get("exemplar")]
    assert len(asked) <= 1
    assert all("sqllogs_" in expression and "_bucket" in expression for expression in asked)


@pytest.mark.parametrize("panel", PANELS)
def test_rates_are_per_second(panel):
    """A count of a graph would grow with its step, and so with the range."""
    if panel["type"] == "timeseries":
        assert not any("increase(" in _without_top(target.get("expr", "")) for target in panel["targets"])


def _without_top(expression):
    return re.sub(r"topk\(\d+, sum by \([\w, ]+\) \(increase\(.*", "", expression)


def test_counterparts_of_the_docs_are_panels_that_exist():
    text = (ROOT / "docs/reference/dashboards.md").read_text()
    rows = re.findall(r"^\| .+ \| .+ \| ([\w ]+): (.+) \| .+ \|$", text, re.MULTILINE)
    assert len(rows) > 40
    titles = {
        dashboard["title"].removeprefix("Django "): {panel["title"] for panel in panels(dashboard)}
        for dashboard in ALL.values()
    }
    for board, named in rows:
        wanted = {one.replace("p95 of time", "${percentile:text} of time") for one in named.split("; ")}
        assert {one for one in wanted if not one.startswith("Percentile ")} <= titles[board]
