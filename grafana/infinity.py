"""A request of the Infinity datasource to the SQL log API, as a Grafana query.

Fed by the dashboard modules, becomes a panel's `targets` or a variable's query.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

DATASOURCE = DataSourceRef(type_val="yesoreyeram-infinity-datasource", uid="django-db-logs")

# Without declared columns Infinity makes text of times and puts the columns in alphabetical order.
_NUMBERS = {
    "calls", "count", "duplicates", "errors", "id", "occurrences", "queries", "repeats", "requests", "rows",
    "status", "times_max", "times_per_request", "worst_repeat",
}  # fmt: skip
_NUMBER_UNITS = ("_ms", "_percent", "_per_s")
_TIMES = {"time", "first_seen", "last_seen"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One value of each result: its selector, its type in Grafana, its name there."""

    selector: str
    type: str = ""
    text: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the column as Infinity expects it; a field of the record has a known type."""
        return {
            "selector": self.selector,
            "text": self.text or self.selector,
            "type": self.type or self._type,
        }

    @property
    def _type(self) -> str:
        if self.selector in _TIMES:
            return "timestamp"
        is_number = self.selector in _NUMBERS or self.selector.endswith(_NUMBER_UNITS)
        return "number" if is_number else "string"


@dataclass(kw_only=True)
class Shared(Builder[Dataquery], Dataquery):
    """The answer to another panel's request: several panels need it to be sent once."""

    title: str
    """Of that panel."""
    panel_id: int = 0
    """Its id, which `grafana.build` fills in."""

    def build(self) -> Dataquery:
        """Return self, as the library's interface requires."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the query in the form of Grafana's datasource "-- Dashboard --"."""
        source = DataSourceRef(type_val="datasource", uid="-- Dashboard --")
        return {"refId": "A", "datasource": source, "panelId": self.panel_id, "withTransforms": False}


@dataclass(frozen=True, kw_only=True)
class Query(Builder[Dataquery], Dataquery):
    """One GET below the datasource's base URL, parsed in Grafana's backend, so that alerts can use it."""

    columns: tuple[Column, ...]
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    root: str = "results"
    summarize: str = ""
    """An aggregate of the rows, such as `count(view)`; empty for none."""
    summarize_by: str = ""

    def build(self) -> Dataquery:
        """Return self, as the library's interface requires; it is complete."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the query in the form of Infinity 3."""
        params = dict(self.params)
        if self.root == "results":  # a list sends only what the panel shows
            selected = dict.fromkeys(column.selector.partition(".")[0] for column in self.columns)
            params["fields"] = ",".join(selected)
        query: dict[str, object] = {
            "refId": "A",
            "datasource": DATASOURCE,
            "type": "json",
            "parser": "backend",
            "source": "url",
            "format": "table",
            "url": self.path,
            "url_options": {
                "method": "GET",
                "data": "",
                "params": [{"key": key, "value": value} for key, value in params.items()],
            },
            "root_selector": self.root,
            "columns": list(self.columns),
            "filters": [],
        }
        if self.summarize:
            query |= {
                "summarizeExpression": self.summarize,
                "summarizeBy": self.summarize_by,
                "summarizeAlias": "records",
            }
        return query


def columns(*names: str) -> tuple[Column, ...]:
    """Return the columns of these fields of the record."""
    return tuple(Column(selector=name) for name in names)
