"""Record queries where they are sent, in the caller's thread: what is captured of one, and its `Fetch`.

`sqllogs.capture.wrapper` makes a plain tuple of each query, which `sqllogs.pipeline.buffer` takes.
`Captured` names its fields; it is no dataclass, because making one costs the caller more.
"""

from types import CodeType
from typing import Any, Final, NamedTuple
from weakref import ref

from sqllogs.context import UnitOfWork

LOCK_TIMEOUT = "HYT00"
"""What ODBC calls it; given to lock timeouts of SQLite and MySQL, whose drivers have no SQLSTATE."""
_CODES = {1213: "40001", 1205: LOCK_TIMEOUT}
"""Deadlock and lock timeout by MySQL's number."""
_SQLITE_LOCKED = frozenset({5, 6})


def error_code(error: BaseException) -> str | None:
    """Return the driver's SQLSTATE: psycopg 3 has `sqlstate`, psycopg 2 `pgcode`, others only numbers."""
    cause = error.__cause__ or error
    # First, because PyMySQL has a SQLSTATE too, and that of 1205 says nothing.
    if cause.args and type(cause.args[0]) is int and cause.args[0] in _CODES:
        return _CODES[cause.args[0]]
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if code is None and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED:
        return LOCK_TIMEOUT
    return code


class Fetch:
    """A query's fetched rows so far: its cursor adds to it, the writer reads it when it stores.

    It holds neither cursor nor connection. Only the cursor's thread writes to it.
    """

    __slots__ = ("_cursor", "done", "error", "fetch_ns", "rows")

    def __init__(self, cursor: object = None) -> None:
        # Not a `__del__` of the cursor: what a signal handler raises in one never reaches the caller.
        self._cursor = None if cursor is None else ref(cursor)
        self.fetch_ns = 0
        """Time in the driver's fetches, nanoseconds."""
        self.rows = -1
        """Rows fetched; -1 before the first attempt."""
        self.error: tuple[type[BaseException], str | None] | None = None
        """Class and SQLSTATE of what a fetch has raised."""
        self.done = False
        """The cursor is closed, or has sent another statement."""

    @property
    def is_complete(self) -> bool:
        """Return True if nothing will be added; Django never closes some cursors, as for SQLite's BEGIN."""
        return self.done or (self._cursor is not None and self._cursor() is None)

    def add(self, fetch_ns: int, rows: int) -> None:
        self.fetch_ns += fetch_ns
        self.rows = rows if self.rows < 0 else self.rows + rows

    def fail(self, fetch_ns: int, error: BaseException) -> None:
        self.add(fetch_ns, 0)
        self.error = type(error), error_code(error)
        self.done = True


class Captured(NamedTuple):
    """A query as the execute wrapper puts it into the buffer, not resolved yet."""

    time_ns: int
    """Wall time at which the statement was sent, nanoseconds since the epoch."""
    execute_ns: int
    """Time in execute, nanoseconds."""
    sql: str
    """The statement, cut to 64 KiB; bytes and psycopg's Composables are text by now."""
    sql_length: int
    """Characters before the cut; -1 if nothing was cut."""
    sql_hash: str | None
    """BLAKE2b of beginning, end and length, 16 hex digits, if it was cut."""
    alias: str
    vendor: str
    many: int
    """False, or the number of parameter sets of an executemany; True if that is unknown."""
    in_transaction: bool
    rowcount: int
    """The driver's rowcount; negative if unknown."""
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
    """Filled by the cursor as it fetches; None if the cursor is not watched."""
    asked_by: str | None
    """What of Django's ORM asks for a repeated statement, see `sqllogs.capture.askers`; None if unknown."""
    rendering: str | None = None
    """What was being rendered, see `rendered_by`."""
    values: int | None = None
    """Its values as a hash that only this process can compare; None if unknown."""


# Indexes of a captured query, which is a plain tuple: making a named one costs the caller twice as much.
TIME_NS: Final = 0
EXECUTE_NS: Final = 1
SQL: Final = 2
ALIAS: Final = 5
VENDOR: Final = 6
MANY: Final = 7
UNIT: Final = 12
SPAN: Final = 13
CODE: Final = 14
LASTI: Final = 15
FETCH: Final = 16
RENDERING: Final = 18
VALUES: Final = 19
