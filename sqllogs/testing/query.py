"""The queries of a `QueryLog`, and groups of them.

Made by `sqllogs.testing.log`, read by its assertions and messages in the test's thread.
"""

from dataclasses import dataclass
from datetime import datetime

from sqllogs.context import UnitOfWork
from sqllogs.sql.n_plus_one import Repetition


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query, after it was executed."""

    sql: str
    """The normalized statement, as it would be stored: every literal and placeholder is a `?`."""
    fingerprint: str
    operation: str
    """SELECT, INSERT, ..."""
    tables: tuple[str, ...]
    alias: str
    time: datetime
    """Time at which it was sent, UTC."""
    duration_ms: float
    rows: int | None
    sql_length: int
    """Length of the statement as sent, characters."""
    many: bool
    """Sent by executemany."""
    error: str | None
    """Name of the class of the exception raised."""
    call_site: str | None
    """`path/file.py:line function` of the application or the test."""
    unit: UnitOfWork | None
    """The request, command or task that it belongs to."""

    @property
    def summary(self) -> str:
        """Operation and tables, as in `SELECT shop_book, shop_author`: the key of the budget file."""
        return f"{self.operation} {', '.join(self.tables)}".strip()

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
        """The facts that the N+1 rules decide on."""
        return Repetition(times=self.times, first=self.first, last=self.queries[-1])

    @property
    def total_ms(self) -> float:
        return sum(query.duration_ms for query in self.queries)
