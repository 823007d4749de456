"""The queries of a `QueryLog`, and groups of them. Made by `sqllogs.testing.log`."""

from dataclasses import dataclass
from datetime import datetime

from sqllogs.context import UnitOfWork
from sqllogs.sql.n_plus_one import Repetition


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query as it was seen."""

    sql: str
    """The statement as it would be stored: normalised, every literal and placeholder a `?`."""
    fingerprint: str
    operation: str
    """SELECT, INSERT, ..."""
    tables: tuple[str, ...]
    alias: str
    time: datetime
    """When it was sent, UTC."""
    duration_ms: float
    rows: int | None
    sql_length: int
    """Of the statement as sent, characters."""
    many: bool
    """Sent by executemany."""
    error: str | None
    """Class of the exception raised, by name."""
    call_site: str | None
    """`path/file.py:line function` of the application, the test included."""
    unit: UnitOfWork | None
    """The request, command or task that it belongs to."""

    @property
    def repeats_allowed(self) -> bool:
        return self.unit is not None and self.unit.repeats_allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryGroup:
    """Queries with the same statement from the same line."""

    queries: tuple[Query, ...]

    @property
    def times(self) -> int:
        return len(self.queries)

    @property
    def first(self) -> Query:
        return self.queries[0]

    @property
    def repetition(self) -> Repetition:
        """What the N+1 rules look at."""
        return Repetition(times=self.times, first=self.first, last=self.queries[-1])

    @property
    def total_ms(self) -> float:
        return sum(query.duration_ms for query in self.queries)
