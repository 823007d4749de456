"""The two shapes of a query on its way: as captured, and as stored.

Both are named tuples, not dataclasses: `Captured` is made as a plain tuple in
the caller's thread, and a `Record` is handed to executemany and COPY as it is.
What comes after a query is captured, its rows, is added to its `Fetch`.
"""

from datetime import datetime
from types import CodeType
from typing import Any, NamedTuple

from sqllogs.context import UnitOfWork


class Fetch:
    """What is known of a query's rows so far; its cursor adds to it, the writer reads it late.

    It holds neither cursor nor connection. Only the cursor's thread writes to it.
    """

    __slots__ = ("done", "error", "fetch_ns", "rows")

    def __init__(self) -> None:
        self.fetch_ns = 0
        """Time in the driver's fetches, nanoseconds."""
        self.rows = -1
        """Rows fetched; -1 before the first attempt."""
        self.error: tuple[type[BaseException], str | None] | None = None
        """Class and SQLSTATE of what a fetch has raised."""
        self.done = False
        """The cursor is closed, has sent another statement, or is gone."""

    def add(self, fetch_ns: int, rows: int) -> None:
        self.fetch_ns += fetch_ns
        self.rows = rows if self.rows < 0 else self.rows + rows

    def fail(self, fetch_ns: int, error: BaseException) -> None:
        self.add(fetch_ns, 0)
        self.error = type(error), sqlstate(error)
        self.done = True


class Captured(NamedTuple):
    """What the execute wrapper leaves in the buffer; nothing in it is resolved yet."""

    time_ns: int
    """Wall time at which the statement was sent, nanoseconds since the epoch."""
    execute_ns: int
    """Time in execute, nanoseconds."""
    sql: str
    """The statement, cut to 64 KiB; bytes and psycopg's Composables are text by now."""
    sql_length: int
    """Characters before the cut; -1 where nothing was cut."""
    sql_hash: str | None
    """BLAKE2b of beginning, end and length, 16 hex digits, when it was cut."""
    alias: str
    vendor: str
    many: bool
    in_transaction: bool
    rowcount: int
    """The driver's rowcount; negative when it does not tell."""
    error: type[BaseException] | None
    sqlstate: str | None
    unit: UnitOfWork | None
    span: Any
    """The OpenTelemetry span current at the time, or None."""
    code: CodeType | None
    """Code object of the calling application function."""
    lasti: int
    """Index of the calling instruction in `code`."""
    fetch: Fetch | None
    """Where the cursor notes what it fetches; None where nothing is watched."""


class Record(NamedTuple):
    """A stored query: the columns of `SQLLog` but slot and seq, in the table's order."""

    time: datetime
    duration_ms: float
    execute_ms: float
    fetch_ms: float | None
    rows: int | None
    fingerprint: str
    sql_length: int
    sql_hash: str | None
    alias: str
    vendor: str
    many: bool
    in_transaction: bool
    error: str | None
    sqlstate: str | None
    trace_id: str | None
    span_id: str | None
    unit_id: str | None
    sampled: bool
    request_id: str | None
    kind: str
    route: str | None
    view: str | None
    method: str | None
    status: int | None
    repeats_allowed: bool
    call_site: str | None
    release: str | None
    host: str
    pid: int


def sqlstate(error: BaseException) -> str | None:
    """Return the driver's SQLSTATE: psycopg 3 has `sqlstate`, psycopg 2 `pgcode`, SQLite none."""
    cause = error.__cause__ or error
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
