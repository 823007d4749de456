"""What a `QueryLog` is made of."""

from dataclasses import dataclass

from sqllogs.context import UnitOfWork
from sqllogs.repeats import Repetition


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
    time_ns: int
    """When it was sent, nanoseconds since the epoch."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
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
        """What tells an N+1 from a loop that is meant."""
        rows = [query.rows for query in self.queries if query.rows is not None]
        return Repetition(
            times=self.times,
            span_s=(self.queries[-1].time_ns - self.first.time_ns) / 1e9,
            rows_each=sum(rows) / len(rows) if rows else None,
            characters_each=sum(query.sql_length for query in self.queries) / self.times,
        )

    @property
    def total_ms(self) -> float:
        return sum(query.duration_ms for query in self.queries)
