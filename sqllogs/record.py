"""The two shapes of a query on its way: as captured, and as stored.

Both are named tuples, not dataclasses: `Captured` is made as a plain tuple in
the caller's thread, and a `Record` is handed to executemany and COPY as it is.
"""

from datetime import datetime
from types import CodeType
from typing import Any, NamedTuple

from sqllogs.context import UnitOfWork


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
    """BLAKE2b of the whole, 16 hex digits, when it was cut."""
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
