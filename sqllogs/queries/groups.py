"""Add the ring up by statement, view, alias or what else records have in common.

One scan for the figures, short ones of the newest records for where they come from
and for repeats: sorting the whole ring by these as well would double the time.
Runs in the reader's thread.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count

from sqllogs.queries.figures import Figures, Records, fetch, parts
from sqllogs.queries.places import VARIABLES_MAX, Ring, live, since
from sqllogs.queries.records import statements
from sqllogs.rows import StatementRow

GROUPS = ("fingerprint", "route", "view", "alias", "kind", "operation", "table", "release", "host")
"""What can be grouped by."""

OF_STATEMENT = ("operation", "table")
"""These stand with the statement's text, so records are added up by fingerprint first."""

NEWEST_ROWS = 10_000
"""Records that are looked at beside a scan of the whole ring."""

Value = str | None


@dataclass(slots=True, kw_only=True)
class Group(Figures):
    """All matching records with one value of what is grouped by."""

    group: Value


@dataclass(slots=True, kw_only=True)
class Origins:
    """Where the records of a group lately came from, by number of calls."""

    routes: Counter[str] = field(default_factory=Counter)
    call_sites: Counter[str] = field(default_factory=Counter)


def column(group_by: str) -> str:
    """Return the ring's column that stands for a group."""
    return "fingerprint" if group_by in OF_STATEMENT else group_by


def groups(filtered: Records, ring: Ring, group_by: str) -> tuple[list[Group], float]:
    """Add all matching records up, in no particular order; return their total time beside."""
    found = list(parts(live(filtered, ring), column(group_by)))
    value_of = Values(group_by, {part.keys[0] for part in found})
    made: dict[Value, Group] = {}
    for part in found:
        for value in value_of[part.keys[0]]:
            (made.get(value) or made.setdefault(value, Group(group=value))).add(part)
    return list(made.values()), sum(part.total_ms for part in found)


def newest(filtered: Records, ring: Ring) -> Records:
    return since(filtered, ring, ring.seq - NEWEST_ROWS + 1)


def origins(filtered: Records, ring: Ring, group_by: str, wanted: Collection[Value]) -> dict[Value, Origins]:
    """Tell where groups come from: by the newest records, or by all where these have none of a group."""
    key = column(group_by)
    found = _origins(newest(filtered, ring), key, group_by)
    missing = sorted(value for value in wanted if value is not None and value not in found)[:VARIABLES_MAX]
    if missing and group_by not in OF_STATEMENT:
        found |= _origins(live(filtered, ring).filter(**{f"{key}__in": missing}), key, group_by)
    return found


def _origins(records: Records, key: str, group_by: str) -> dict[Value, Origins]:
    keys = dict.fromkeys((key, "route", "call_site"))
    counted = records.order_by().values(*keys).annotate(calls=Count("slot"))
    rows = list(fetch(counted.values_list(key, "route", "call_site", "calls")))
    value_of = Values(group_by, {row[0] for row in rows})
    made: dict[Value, Origins] = {}
    for found, route, call_site, calls in rows:
        for value in value_of[found]:
            one = made.get(value) or made.setdefault(value, Origins())
            if route:
                one.routes[route] += calls
            if call_site:
                one.call_sites[call_site] += calls
    return made


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
