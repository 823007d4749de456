"""The Infinity datasource as its backend was seen to work: a target becomes a request, the answer a frame.

What Grafana would quietly show as an empty panel is an error here: a selector
that finds nothing, a value of another type, a variable that no dashboard has.

    infinity = Infinity.provisioned(site.url, token)
    frame = infinity.frame(target, variables=defaults(dashboard))
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "grafana/dashboards"
DATASOURCES = ROOT / "grafana/provisioning/datasources"
TYPE = "yesoreyeram-infinity-datasource"
ALL = "$__all"

_REFERENCE = re.compile(r"\$\{(?P<braced>\w+)(?::(?P<format>[\w:]+))?\}|\$(?P<plain>\w+)")
_PATH = re.compile(r"\w+(\.\w+)*", re.ASCII)
_INTERVAL_MS = 30_000


class UnresolvedError(AssertionError):
    """A target asks for something that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The time range of a dashboard."""

    begin: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=15))
    end: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(minutes=1))

    def macros(self):
        found = {"__interval": f"{_INTERVAL_MS // 1000}s", "__interval_ms": str(_INTERVAL_MS)}
        for name, time in (("From", self.begin), ("To", self.end)):
            epoch_ms = str(int(time.timestamp() * 1000))
            found |= {f"__time{name}": epoch_ms, f"__{name.lower()}": epoch_ms}
            # Without fractions of a second, as Infinity writes it.
            found[f"__time{name}:date:iso"] = f"{time:%Y-%m-%dT%H:%M:%SZ}"
        return found


@dataclass(frozen=True, slots=True)
class Infinity:
    """A provisioned datasource, at a site that runs elsewhere than at the provisioned address."""

    url: str
    token: str
    allowed: tuple[str, ...]
    health_path: str

    @classmethod
    def provisioned(cls, site_url, token, uid="django-db-logs"):
        """Take the datasource from the provisioning files, its scheme, host and port from `site_url`."""
        (found,) = (one for one in datasources() if one["uid"] == uid)

        def moved(url):
            return re.sub(r"^https?://[^/]+", site_url, url)

        data = found["jsonData"]
        allowed = tuple(map(moved, data["allowedHosts"]))
        return cls(moved(found["url"]), token, allowed, data["customHealthCheckUrl"])

    def health(self):
        """Check the datasource as its settings page does: without any Accept header."""
        # None takes the default header of requests away.
        return requests.get(self.url + self.health_path, headers=self._headers(None), timeout=60)

    def frame(self, target, variables=None, time_range=None):
        """Send a target's request and return the columns of the answer by name; raise UnresolvedError."""
        values = (variables or {}) | (time_range or Range()).macros()
        answer = self.get(target, values)
        if not answer.ok:
            # All that Infinity shows of a failed request; `raise_for_status` would be a page of text.
            raise UnresolvedError(f"{answer.url} answered {answer.status_code} {answer.reason}")
        rows = _rows(answer.json(), target["root_selector"])
        columns = {_name(column): _values(rows, column) for column in target["columns"]}
        if len(columns) != len(target["columns"]) or not columns:
            raise UnresolvedError(f"Columns have to be declared, each once: {target['columns']}")
        if target.get("summarizeBy") and target["summarizeBy"] not in columns:
            raise UnresolvedError(f"There is no column {target['summarizeBy']!r} to summarize by.")
        return columns

    def get(self, target, values):
        """Send the request of a target."""
        if (target["type"], target["source"], target["parser"]) != ("json", "url", "backend"):
            raise UnresolvedError(f"Not read by Grafana's backend, so no alert can use it: {target}")
        # The parts are joined as they are: no slash is added or taken away.
        url = self.url + interpolated(target["url"], values)
        if not url.startswith(self.allowed):
            raise UnresolvedError(f"{url} is not below one of the allowed {self.allowed}.")
        options = target["url_options"]
        params = [(one["key"], interpolated(one["value"], values)) for one in options.get("params", ())]
        headers = self._headers("application/json;q=0.9,text/plain")
        return requests.request(options["method"], url, params=params, headers=headers, timeout=60)

    def _headers(self, accept):
        return {"Accept": accept, "Accept-Encoding": "gzip", "Authorization": f"Bearer {self.token}"}


def datasources():
    """Return all provisioned datasources."""
    files = sorted(DATASOURCES.glob("*.yml"))
    return [one for path in files for one in yaml.safe_load(path.read_text())["datasources"]]


def dashboards():
    """Return the committed dashboards by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard) -> Iterator[dict]:
    """Return the panels of a dashboard and those inside its rows, without the rows themselves."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


SHARED = "-- Dashboard --"


def sources(panel, dashboard) -> list[dict]:
    """Return the requests of a panel, or those of the panel whose answer it shares."""
    (target, *others) = panel["targets"]
    if target["datasource"]["uid"] != SHARED:
        return [target, *others]
    (source,) = (one for one in panels(dashboard) if one["id"] == target["panelId"])
    return sources(source, dashboard)


def targets(dashboard) -> Iterator[tuple[str, dict]]:
    """Return all requests of a dashboard with the name of its sender: panels, variables, annotations."""
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == TYPE:
                yield f"{panel['title']} {target['refId']}", target
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["type"] == TYPE:
            yield f"${variable['name']}", variable["query"]["infinityQuery"]
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"]["type"] == TYPE:
            yield annotation["name"], annotation["target"]


def defaults(dashboard):
    """Return the value of each variable as the dashboard is opened."""
    return {one["name"]: _default(one) for one in dashboard["templating"]["list"]}


def _default(variable):
    if variable["type"] in ("constant", "textbox"):
        return variable["query"]
    value = variable.get("current", {}).get("value", "")
    if value in (ALL, [ALL]):
        return variable.get("allValue", ALL)
    return value


def interpolated(text, values):
    """Fill in a dashboard's variables and Infinity's macros; several values are a list."""

    def filled(match):
        name, form = match["braced"] or match["plain"], match["format"]
        if name.isdecimal():  # a group of a regular expression
            return match[0]
        if name in values:
            return _formatted(values[name], form)
        if form and f"{name}:{form}" in values:
            return values[f"{name}:{form}"]
        raise UnresolvedError(f"{text!r}: there is no variable {match[0]}.")

    return _REFERENCE.sub(filled, text)


def _formatted(value, form):
    if isinstance(value, str):
        return value
    if form == "csv":
        return ",".join(value)
    if len(value) == 1 and form in (None, "raw"):
        return value[0]
    raise UnresolvedError(f"Several values as {form or 'glob'} are nothing that the API reads; use csv.")


def _rows(payload, root):
    found = _at(payload, root) if root else payload
    return found if isinstance(found, list) else [found]


def _at(value, selector):
    if not _PATH.fullmatch(selector):
        raise UnresolvedError(f"{selector!r} is more than a path; teach it to tests/grafana/infinity.py.")
    for name in selector.split("."):
        if value is None:  # what has no value has no parts
            return None
        if not isinstance(value, dict) or name not in value:
            raise UnresolvedError(f"{selector!r} finds nothing in {json.dumps(value)[:300]}")
        value = value[name]
    return value


def _name(column):
    return column["text"] or column["selector"]


def _values(rows, column):
    values = [_at(row, column["selector"]) for row in rows]
    for value in values:
        if value is not None and not _fits(value, column["type"]):
            raise UnresolvedError(
                f"{column['selector']}: {value!r} is no {column['type'] or 'declared type'}."
            )
    return values


def _fits(value, type_name):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match type_name:
        case "timestamp":
            return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
        case "number" | "timestamp_epoch":
            return is_number
        case "string":  # a list arrives as JSON text
            return isinstance(value, str | list)
        case "boolean":
            return isinstance(value, bool)
    return False
