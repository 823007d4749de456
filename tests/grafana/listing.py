"""`make panels`: every panel of every dashboard as text, with what a running site makes it show.

A site, traffic and Prometheus are started for it. Made to be read by a person before a release:
titles, units, legends and values side by side, as Grafana would put them together.
"""

import os
import re
import tempfile
from itertools import islice
from pathlib import Path

import django

from tests.grafana.infinity import Infinity, dashboards, defaults, interpolated, sources
from tests.grafana.promql import WINDOW, filled
from tests.grafana.units import shown
from tests.monitored import monitored

TRAFFIC_S = 20
SAVED = "sum(increase(django_model_inserts_total[5m]))"
ROWS = 5
"""Of a table or of the lines of a graph; the others are counted."""


def lines(dashboard, prometheus, infinity):
    """Yield the lines about a dashboard."""
    yield from ("", dashboard["title"], "=" * len(dashboard["title"]), dashboard["description"])
    for variable in dashboard["templating"]["list"]:
        yield f"  ${variable['name']}: {variable.get('label')} = {defaults(dashboard)[variable['name']]!r}"
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from ("", f"--- {panel['title']}")
        else:
            yield from _panel(panel, dashboard, prometheus, infinity)


def _panel(panel, dashboard, prometheus, infinity):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    title = interpolated(panel["title"], defaults(dashboard))
    yield from ("", f"{title}  [{panel['type']}, {unit}]", f"  {panel['description']}")
    if panel["targets"][0]["datasource"]["type"] != "prometheus":
        for target in sources(panel, dashboard):
            yield from _of_infinity(panel, target, dashboard, infinity)
    else:
        yield from _of_prometheus(panel, dashboard, prometheus)


def _of_prometheus(panel, dashboard, prometheus):
    found = []
    for target in panel["targets"]:
        expression = filled(target["expr"], dashboard)
        yield f"  {target['refId']}  {_short(expression)}"
        found.append((target, prometheus.query(expression)))
    if panel["type"] == "table":
        yield from _table(panel, _merged(panel, found))
        return
    series = [(_legend(target, labels), value) for target, rows in found for labels, value in rows]
    if not series:
        yield f"      (empty: {panel['fieldConfig']['defaults'].get('noValue', 'No data')})"
    for legend, value in islice(series, ROWS):
        yield f"      {legend!r} = {_cell(panel, legend, value)}"
    yield from _others(series)


def _legend(target, labels):
    """Return the name of a line; a label that is not there is empty, as in Grafana."""
    form = target["legendFormat"]
    if form == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items()) or "Value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form)


def _merged(panel, found):
    """Return the rows that "merge" makes of several instant queries: those with the same labels are one."""
    rows = {}
    for target, series in found:
        name = "Value" if len(found) == 1 else f"Value #{target['refId']}"
        for labels, value in series:
            row = rows.setdefault(tuple(sorted(labels.items())), dict(labels))
            row[name] = value
    return list(rows.values())


def _of_infinity(panel, target, dashboard, infinity):
    params = {one["key"]: one["value"] for one in target["url_options"]["params"]}
    asked = {key: interpolated(value, defaults(dashboard) | WINDOW | _RANGE) for key, value in params.items()}
    sent = "&".join(f"{key}={value}" for key, value in asked.items() if value not in ("", "All"))
    yield f"  {target['refId']}  /sql-logs/{target['url']}?{_short(sent)}"
    frame = infinity.frame(target, defaults(dashboard))
    rows = [dict(zip(frame, values, strict=True)) for values in zip(*frame.values(), strict=True)]
    name = panel["fieldConfig"]["defaults"].get("displayName")
    yield f"      {len(rows)} rows, format {target['format']}" + (f", each line named {name}" if name else "")
    yield from _table(panel, rows)


_RANGE = {"__timeFrom": "FROM", "__timeTo": "TO", "__interval": "30s", "__interval_ms": "30000"}


def _table(panel, rows):
    """Yield the rows as the panel's transformations leave them."""
    for step in panel.get("transformations", ()):
        options = step["options"]
        if step["id"] == "organize":
            rows = [_organized(row, options) for row in rows]
        elif step["id"] == "sortBy":
            (by,) = options["sort"]
            rows = sorted(
                rows,
                key=lambda row: (by["field"] in row, row.get(by["field"])),
                reverse=by.get("desc", False),
            )
    if not rows:
        yield f"      (empty: {panel['fieldConfig']['defaults']['noValue']})"
    for row in islice(rows, ROWS):
        yield "      " + " | ".join(f"{name}: {_cell(panel, name, value)}" for name, value in row.items())
    yield from _others(rows)


def _organized(row, options):
    places, names = options.get("indexByName", {}), options.get("renameByName", {})
    kept = [name for name in row if not options.get("excludeByName", {}).get(name)]
    return {names.get(name, name): row[name] for name in sorted(kept, key=lambda name: places.get(name, 99))}


def _cell(panel, name, value):
    """Return a value in its unit; one that is not there as the word that the panel has for it."""
    if value is None or value == "":
        return _setting(panel, name, "noValue") if panel["type"] == "table" else "-"
    return shown(value, _setting(panel, name, "unit"))


def _setting(panel, name, key):
    """Return what holds for a field: the last override that fits, else the panel's own."""
    found = panel["fieldConfig"]["defaults"][key]
    for override in panel["fieldConfig"]["overrides"]:
        matcher, wanted = override["matcher"]["id"], override["matcher"]["options"]
        fits = wanted == name if matcher == "byName" else re.search(wanted.strip("/"), name)
        for one in override["properties"]:
            if fits and one["id"] == key:
                found = one["value"]
    return found


def _short(text, length=230):
    return text if len(text) <= length else f"{text[:length]} ..."


def _others(rows):
    if len(rows) > ROWS:
        yield f"      ... and {len(rows) - ROWS} more"


def main():
    """Print the list."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    django.setup()  # for the addresses of the site
    with tempfile.TemporaryDirectory() as folder, monitored(Path(folder), TRAFFIC_S) as site:
        # The last thing that has been done; after it all else is counted too.
        site.prometheus.wait(lambda: site.prometheus.by(None, SAVED).get(None))
        infinity = Infinity.provisioned(site.server.url, site.token)
        for dashboard in dashboards().values():
            for line in lines(dashboard, site.prometheus, infinity):
                print(line)


if __name__ == "__main__":
    main()
