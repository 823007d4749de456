"""A dashboard, drawn with Grafana's own components from a running site, shows what it should.

Needs node and npm, which tests/install.py installs like the browser: a missing one is a failure.
"""

import pytest

from tests.grafana.drawing.pictures import draw, job
from tests.grafana.drawing.report import faults, hidden_columns, open_gauges
from tests.monitored import monitored

MAY_BE_EMPTY = {"Errors, from Prometheus"}
"""Rates need two scrapes with an error between them."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    with monitored(folder) as site:
        (found,) = draw(site, [job("django-sql-logs")], folder)
    assert (folder / "django-sql-logs-dark.png").read_bytes().startswith(b"\x89PNG")
    return found


def test_every_panel_shows_data_without_an_error(report):
    assert list(faults(report, MAY_BE_EMPTY)) == []


def test_gauges_have_fixed_ends(report):
    assert list(open_gauges(report)) == []


def test_columns_are_seen_without_scrolling(report):
    assert list(hidden_columns(report)) == []


def test_every_column_with_links_leads_somewhere(report):
    links = [link for panel in report["panels"] for link in panel["links"]]
    assert links
    assert all(link["href"].startswith(("/", "http")) and "${" not in link["href"] for link in links)


PANEL = {
    "title": "P",
    "errors": [],
    "missing": [],
    "isEmpty": False,
    "series": [],
    "columns": [],
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
        ({"gauges": [{"name": "load"}]}, open_gauges, "load"),
    ],
)
def test_fault_of_a_picture_is_found(spoiled, find, words):
    (found,) = find({"uid": "u", "errors": [], "panels": [PANEL | spoiled]})
    assert words in found
