"""Find what is wrong in the reports of drawn dashboards; each function yields sentences, none if all is well.

Fed by the reports that src/main.tsx makes; feeds tests/grafana/test_pictures.py.
"""

import re
from collections.abc import Collection, Iterator

SERIES_MAX = 60
"""A graph with more lines is no longer read."""


def faults(report: dict, may_be_empty: Collection[str] = ()) -> Iterator[str]:
    """Yield what a reader of the dashboard would stumble over."""
    yield from (f"{report['uid']}: {error}" for error in report["errors"])
    for panel in report["panels"]:
        where = f"{report['uid']}, {panel['title']}"
        yield from (f"{where}: {error}" for error in panel["errors"])
        yield from (f"{where}: no variable {name}" for name in panel["missing"])
        if panel["isEmpty"] and panel["title"] not in may_be_empty:
            yield f"{where}: empty"
        if len(panel["series"]) > SERIES_MAX:
            yield f"{where}: {len(panel['series'])} lines"


def hidden_columns(report: dict) -> Iterator[str]:
    """Yield the columns of tables beyond the edge of their panel."""
    for panel in report["panels"]:
        for column in panel["columns"]:
            if not column["visible"]:
                yield f"{report['uid']}, {panel['title']}: {column['name']}"


def cut_cells(report: dict) -> Iterator[str]:
    """Yield the columns whose text is longer than the cell, and could be wrapped."""
    for panel in report["panels"]:
        yield from (f"{report['uid']}, {panel['title']}: {name}" for name in panel["cut"])


def open_gauges(report: dict) -> Iterator[str]:
    """Yield the gauges without fixed ends, whose length depends on the other columns."""
    for panel in report["panels"]:
        for gauge in panel["gauges"]:
            if (gauge.get("min"), gauge.get("max")) != (0, 100):
                yield f"{report['uid']}, {panel['title']}: {gauge['name']}"


# The colours of Grafana's dark theme.
_MEANINGS = {"2": "#73bf69", "3": "#5794f2", "4": "#ff9830", "5": "#f2495c"}
_STATUS = re.compile(r"([2-5])(\d\d|xx)( .*)?")


def wrong_colors(report: dict) -> Iterator[str]:
    """Yield the lines and slices of a status whose colour has another meaning."""
    for panel in report["panels"]:
        for one in (*panel["series"], *panel["values"]):
            match = _STATUS.fullmatch(one.get("name") or "")
            if match and one["color"].lower() != _MEANINGS[match[1]]:
                yield f"{report['uid']}, {panel['title']}: {one['name']} is {one['color']}"


def links(report: dict) -> Iterator[tuple[str, str]]:
    """Yield where the first value of each column, line or slice leads to, with the panel's title."""
    for panel in report["panels"]:
        for link in panel["links"]:
            yield panel["title"], link["href"]
