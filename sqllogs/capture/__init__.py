"""Capture queries as they are sent, in the caller's thread: the fields of one, `Captured`, and its `Fetch`.

`sqllogs.capture.wrapper` makes a plain tuple of each query and puts it into `sqllogs.pipeline.buffer`.
`Captured` only names the fields for type checkers: creating a named tuple or dataclass would cost the caller
more.
"""

from types import CodeType
from typing import Any, Final, NamedTuple, Self
from weakref import ref

from sqllogs.context import UnitOfWork

LOCK_TIMEOUT = "HYT00"
"""ODBC's SQLSTATE for a timeout; used for lock timeouts of SQLite and MySQL, whose drivers report none."""
_CODES = {1213: "40001", 1205: LOCK_TIMEOUT}
"""SQLSTATE by MySQL's error number: deadlock and lock timeout."""
_SQLITE_LOCKED = frozenset({5, 6})
"""SQLITE_BUSY and SQLITE_LOCKED."""


def error_code(error: BaseException) -> str | None:
    """Return the driver's SQLSTATE: psycopg 3 has `sqlstate`, psycopg 2 `pgcode`, others only numbers."""
    cause = error.__cause__ or error  # Django's exception has the driver's as its cause
    # Checked first, because PyMySQL has a SQLSTATE too, but for 1205 it is the general HY000.
    if cause.args and type(cause.args[0]) is int and cause.args[0] in _CODES:
        return _CODES[cause.args[0]]
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    # The low byte is the primary code; extended ones such as SQLITE_BUSY_SNAPSHOT (517) contain it.
    if code is None and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED:
        return LOCK_TIMEOUT
    return code


class Fetch(ref[Any]):
    """Rows fetched and time spent fetching for one query: updated by its cursor, read by the writer.

    It is a weak reference to the cursor, because a second object for each query costs as much again, and more
    in the garbage collector. Only the cursor's thread writes to it.
    """

    # Not a `__del__` of the cursor: what a signal handler raises in one never reaches the caller.
    __slots__ = ("done", "error", "fetch_ns", "rows")
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    fetch_ns: int
    """Time in the driver's fetches, nanoseconds."""
    rows: int
    """Rows fetched; -1 before the first attempt."""
    error: tuple[type[BaseException], str | None] | None
    """Class and SQLSTATE of what a fetch has raised."""
    done: bool
    """The cursor is closed, or has sent another statement."""

    def __new__(cls, cursor: object = None) -> Self:
        # Without a cursor, to something that is never gone. The execute wrapper has this inlined.
        self = super().__new__(cls, cls if cursor is None else cursor)
        self.fetch_ns, self.rows, self.error, self.done = 0, -1, None, False
        return self

    def __init__(self, cursor: object = None) -> None:
        """Replace that of a reference, which requires an argument."""

    @property
    def is_complete(self) -> bool:
        """Return True if no more rows will be added.

        Also if the cursor no longer exists: Django never closes some of them, such as that of SQLite's BEGIN.
        """
        return self.done or self() is None

    def add(self, fetch_ns: int, rows: int) -> None:
        self.fetch_ns += fetch_ns
        # The first fetch replaces -1, which means unknown, even if it returned no row.
        self.rows = rows if self.rows < 0 else self.rows + rows

    def fail(self, fetch_ns: int, error: BaseException) -> None:
        self.add(fetch_ns, 0)
        self.error = type(error), error_code(error)
        self.done = True


class Captured(NamedTuple):
    """The fields of a query as the execute wrapper puts it into the buffer, before the writer resolves it."""

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
    """The part of the ORM that sends a repeated statement, see `sqllogs.capture.askers`; None if unknown."""
    rendering: str | None = None
    """The template node or serializer field that was being rendered, see `rendered_by`."""
    values: int | None = None
    """A salted hash of its parameters, comparable only within this process; None if unknown."""


# Indexes into the plain tuple. Creating a `Captured` instead would take the caller twice as long.
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
