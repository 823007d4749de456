"""Add the ring up by statement, view, alias or what else records have in common.

One scan for the figures, a short one of the newest records for the repeats.
Runs in the reader's thread.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqllogs.queries.figures import Figures, Part, Records, parts
from sqllogs.queries.records import Ring, live, statements
from sqllogs.rows import StatementRow

GROUPS = ("fingerprint", "route", "view", "alias", "kind", "operation", "table", "release", "host")
"""What can be grouped by."""

OF_STATEMENT = ("operation", "table")
"""These stand with the statement's text, so records are added up by fingerprint first."""

Value = str | None


@dataclass(slots=True, kw_only=True)
class Group(Figures):
    """All matching records with one value of what is grouped by."""

    group: Value
    routes: Counter[str] = field(default_factory=Counter)
    """Calls by route."""
    call_sites: Counter[str] = field(default_factory=Counter)
    """Calls by call site."""

    @property
    def top_route(self) -> str | None:
        return next((route for route, _ in self.routes.most_common(1)), None)


def column(group_by: str) -> str:
    """Return the ring's column that stands for a group."""
    return "fingerprint" if group_by in OF_STATEMENT else group_by


def groups(filtered: Records, ring: Ring, group_by: str) -> tuple[list[Group], float]:
    """Add all matching records up, in no particular order; return their total time beside."""
    keys = dict.fromkeys((column(group_by), "route", "call_site"))
    found = list(parts(live(filtered, ring), *keys))
    value_of = Values(group_by, {part.keys[0] for part in found})
    made: dict[Value, Group] = {}
    for part in found:
        for value in value_of[part.keys[0]]:
            group = made.get(value) or made.setdefault(value, Group(group=value))
            _add(group, part)
    return list(made.values()), sum(part.total_ms for part in found)


def _add(group: Group, part: Part) -> None:
    group.add(part)
    # Grouped by route, the route itself is the first key.
    route, call_site = part.keys[-2:]
    if route:
        group.routes[route] += part.calls
    if call_site:
        group.call_sites[call_site] += part.calls


class Values:
    """The values of a group that a column's value belongs to: a statement can name several tables."""

    def __init__(self, group_by: str, found: Iterable[Any]) -> None:
        self._of_statement = group_by in OF_STATEMENT
        self._several = group_by == "table"
        self._statements: Mapping[str, StatementRow] = statements(found) if self._of_statement else {}

    def __getitem__(self, key: Any) -> tuple[Value, ...]:
        if not self._of_statement:
            return (key,)
        statement = self._statements.get(key)
        if statement is None:
            return (None,)
        if not self._several:
            return (statement.operation,)
        return tuple(statement.tables.split(",")) if statement.tables else (None,)
