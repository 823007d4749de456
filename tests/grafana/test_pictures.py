"""A dashboard, drawn with Grafana's own components from a running site, shows what it should.

Needs node and npm, which tests/install.py installs like the browser: a missing one is a failure.
"""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.grafana import promql
from tests.grafana.drawing.pictures import draw, job
from tests.grafana.drawing.report import cut_cells, faults, hidden_columns, links, open_gauges, wrong_colors
from tests.grafana.infinity import ALL, Infinity, dashboards, defaults, targets
from tests.monitored import monitored

UIDS = ("django-sql-logs",)
"""One, because each takes a minute of a browser; `make dashboard-pictures` draws all."""
MAY_BE_EMPTY = {"Failed queries by error"}
"""Rates need two scrapes with an error between them."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A running site, and the reports of dashboards by uid."""
    folder = tmp_path_factory.mktemp("drawn")
    with monitored(folder) as site:
        found = draw(site, [job(uid) for uid in UIDS], folder)
        assert (folder / "django-sql-logs-dark.png").read_bytes().startswith(b"\x89PNG")
        yield site, dict(zip(UIDS, found, strict=True))


@pytest.fixture(params=UIDS)
def report(request, drawn):
    return drawn[1][request.param]


def test_every_panel_shows_data_without_an_error(report):
    assert list(faults(report, MAY_BE_EMPTY)) == []


def test_gauges_have_fixed_ends(report):
    assert list(open_gauges(report)) == []


def test_columns_are_seen_without_scrolling(report):
    assert list(hidden_columns(report)) == []


def test_text_of_a_cell_is_seen_whole(report):
    """But for SQL where as many records as fit are to be seen."""
    assert {*cut_cells(report)} <= {"django-sql-logs, Records, newest first: SQL"}


def test_statuses_have_the_colors_of_their_meaning(report):
    assert list(wrong_colors(report)) == []


def test_every_link_leads_to_a_page_or_dashboard_with_data(report, drawn):
    site, _ = drawn
    found = list(links(report))
    assert found
    assert [(title, href) for title, href in found if not _leads_to_data(href, site)] == []


def _leads_to_data(href, site):
    """Follow a link of a value; those into Tempo and Loki are followed in test_links.py."""
    address = urlsplit(href)
    asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    if address.path == "/explore":
        return "${" not in href and json.loads(asked["panes"])
    if address.path.startswith("/d/"):
        chosen = {
            name.removeprefix("var-"): value for name, value in asked.items() if name.startswith("var-")
        }
        return _has_data(address.path.removeprefix("/d/"), chosen, site)
    url = site.server.url + address.path
    headers = {"Authorization": f"Bearer {site.token}"}
    answer = requests.get(url, asked, headers=headers, timeout=60)
    return answer.ok and answer.json().get("count") != 0


def _has_data(uid, chosen, site):
    """Return whether the dashboard has these variables, and queries with an answer for their values."""
    dashboard = dashboards()[f"{uid}.json"]
    known = defaults(dashboard)
    assert chosen.keys() <= known.keys(), chosen
    everything = {name for name, value in chosen.items() if value == ALL}
    values = {name: value for name, value in chosen.items() if name not in everything}
    infinity = Infinity.provisioned(site.server.url, site.token)
    asked = dict(targets(dashboard))
    if uid == "django-sql-logs":
        shown = ("Statements by load A", "Slowest requests A")
        return any(next(iter(infinity.frame(asked[title], known | values).values())) for title in shown)
    expressions = dict(promql.expressions(dashboard))
    return bool(site.prometheus.query(promql.filled(expressions["Requests A"], dashboard, **values)))


PANEL = {
    "title": "P",
    "errors": [],
    "missing": [],
    "isEmpty": False,
    "series": [],
    "values": [],
    "columns": [],
    "cut": [],
    "gauges": [],
}


@pytest.mark.parametrize(
    ("spoiled", "find", "words"),
    [
        ({"isEmpty": True}, faults, "empty"),
        ({"errors": ["400"]}, faults, "400"),
        ({"missing": ["${x}"]}, faults, "no variable"),
        ({"series": [{}] * 100}, faults, "100 lines"),
        ({"columns": [{"name": "c", "visible": False}]}, hidden_columns, "c"),
        ({"cut": ["Call site"]}, cut_cells, "Call site"),
        ({"gauges": [{"name": "load"}]}, open_gauges, "load"),
        ({"series": [{"name": "5xx", "color": "#73BF69"}]}, wrong_colors, "5xx"),
        ({"values": [{"name": "404", "color": "#F2495C"}]}, wrong_colors, "404"),
    ],
)
def test_fault_of_a_picture_is_found(spoiled, find, words):
    (found,) = find({"uid": "u", "errors": [], "panels": [PANEL | spoiled]})
    assert words in found
