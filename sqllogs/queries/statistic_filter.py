"""Choose statistics by the filters of the API that they can answer.

Fed by the readers with what `sqllogs.filters` has cleaned, narrows the queries
of `sqllogs.queries.statistics`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat

from sqllogs.models import Statement, Statistic, StatisticKey

SUPPORTED = frozenset(
    {
        "from", "to", "alias", "vendor", "kind", "method", "route", "view", "release", "fingerprint",
        "operation", "table", "search",
    }
)  # fmt: skip
"""The filters that statistics answer; any other needs the ring."""

_OF_KEY = ("alias", "vendor", "kind", "method", "route", "view", "release", "fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is asked for; of several values, any."""

    since: datetime | None = None
    until: datetime | None = None
    alias: tuple[str, ...] = ()
    vendor: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    fingerprint: tuple[str, ...] = ()
    operation: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    search: str = ""

    @classmethod
    def of(cls, cleaned: Mapping[str, Any]) -> "Where":
        """Take the cleaned parameters of a `SQLLogFilter`; see `unsupported` first."""
        values = {name: tuple(cleaned.get(name) or ()) for name in (*_OF_KEY, "operation", "table")}
        since, until = cleaned.get("from"), cleaned.get("to")
        return cls(since=since, until=until, search=cleaned.get("search") or "", **values)

    def narrow(self, statistics: QuerySet[Statistic], keys: Q | None = None) -> QuerySet[Statistic]:
        """Leave what is not asked for out, but for the time, which is a matter of resolution.

        Keys are chosen first: to look each row's key up takes twice as long as all the rest.
        """
        wanted = keys or Q()
        for name in _OF_KEY:
            if values := getattr(self, name):
                wanted &= Q(**{f"{name}__in": values})
        if self.operation or self.table or self.search:
            wanted &= Q(fingerprint__in=self._statements().using(statistics.db).values("fingerprint"))
        if not wanted:
            return statistics
        return statistics.filter(key__in=StatisticKey.objects.using(statistics.db).filter(wanted))

    def _statements(self) -> QuerySet[Statement]:
        statements = Statement.objects.alias(listed=Concat(Value(","), "tables", Value(",")))
        if self.operation:
            statements = statements.filter(operation__in=self.operation)
        if self.search:
            statements = statements.filter(sql__icontains=self.search)
        tables = Q()
        for table in self.table:
            tables |= Q(listed__icontains=f",{table},")
        return statements.filter(tables)


def unsupported(cleaned: Mapping[str, Any]) -> list[str]:
    """Name the filters in use that need the ring."""
    return sorted(
        name
        for name, value in cleaned.items()
        if name not in SUPPORTED and value is not None and value != [] and value != ""
    )
