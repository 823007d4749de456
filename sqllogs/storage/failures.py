"""Find out why the store could not be written, and what to do about it; repeat transactions after a conflict.

Called by `sqllogs.storage.ring` in the writer's thread with a driver's exception. The writer logs the result.
"""

import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from sqllogs import threads
from sqllogs.capture import error_code
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.storage.database import find_problem, path_of

# Raised if the driver or the server rejects a value. By name, because each driver has its own classes;
# subclasses are included. Any other exception means that the store is unavailable, not migrated, full or
# busy.
_REJECTIONS = frozenset(
    ["DataError", "IntegrityError", "InterfaceError", "ValueError", "TypeError", "OverflowError"]
)

CONFLICTS = frozenset(["40001", "40P01"])
"""SQLSTATEs of a transaction rolled back in favour of another one, including deadlocks on MySQL."""
CONFLICTS_MAX = 5
"""Repetitions before the exception reaches the writer, which keeps the batch and tries again later."""
CONFLICT_PAUSE_S = (0.02, 0.1)
"""Shortest and longest pause before a repetition."""

Result = TypeVar("Result")


class _Cause(NamedTuple):
    pattern: str
    """Searched in `SQLSTATE: message`; a failed connection attempt has no SQLSTATE."""
    error: type[StoreUnavailableError]
    problem: str
    advice: str


_MIGRATE = "Run `manage.py migrate --database {alias}`."
# The first pattern that matches decides.
_CAUSES = (
    _Cause(
        r"^42P01|no such table|Table '.*' doesn't exist",
        StoreUnreadyError,
        "The tables of the SQL log are missing in database {alias!r}",
        _MIGRATE,
    ),
    _Cause(
        r"^(42703|42883)|no such column|has no column named|Unknown column",
        StoreUnreadyError,
        "The tables of the SQL log in database {alias!r} are older than this release",
        _MIGRATE,
    ),
    _Cause(
        r"The connection '.*' doesn't exist",
        StoreUnreadyError,
        "DATABASES has no {alias!r} for the SQL log",
        "`manage.py check` prints the line to add.",
    ),
    _Cause(
        r"^3D000|database \"[^\"]*\" does not exist|Unknown database",
        StoreUnavailableError,
        "The SQL log's database {alias!r} does not exist",
        "Create it and run `manage.py migrate --database {alias}`.",
    ),
    _Cause(
        r"^28|authentication failed|Access denied|role \"[^\"]*\" does not exist|no pg_hba.conf entry",
        StoreUnavailableError,
        "The SQL log's database {alias!r} refuses the user",
        "Check USER and PASSWORD of DATABASES['{alias}'].",
    ),
    _Cause(
        r"^42501|permission denied|command denied",
        StoreUnavailableError,
        "The user of the SQL log's database {alias!r} lacks permissions",
        "Grant SELECT, INSERT, UPDATE and DELETE on its tables, and TEMPORARY on PostgreSQL's database.",
    ),
    _Cause(
        r"^25006|read-only|readonly|1290",
        StoreUnavailableError,
        "The SQL log's database {alias!r} is read-only",
        "Name the primary server in DATABASES['{alias}'], not a replica.",
    ),
    _Cause(
        r"^53300|too many (clients|connections)|no more connections",
        StoreUnavailableError,
        "The server of the SQL log's database {alias!r} has no connection left",
        "Each process needs one; raise the server's limit or use pgbouncer.",
    ),
    _Cause(
        r"^53100|disk is full|No space left|The table '.*' is full",
        StoreUnavailableError,
        "The disk of the SQL log's database {alias!r} is full",
        "Free space, or make the ring smaller with `manage.py sqllogs resize`.",
    ),
    _Cause(
        r"not a database|malformed",
        StoreUnavailableError,
        "The SQL log's database {alias!r} is not a SQLite file, or is corrupt",
        "Move it away and run `manage.py migrate --database {alias}`.",
    ),
    _Cause(
        r"^(57014|55P03)|is locked|timeout|timed out",
        StoreUnavailableError,
        "The SQL log's database {alias!r} did not answer in time",
        "Nothing needs to be done if it was busy for a moment.",
    ),
    _Cause(
        r"refused|could not translate|[Cc]an't connect|closed the connection|gone away|Lost connection",
        StoreUnavailableError,
        "The SQL log's database {alias!r} cannot be reached",
        "Check HOST and PORT of DATABASES['{alias}'], and that its server runs.",
    ),
)
_OTHER = _Cause(
    "",
    StoreUnavailableError,
    "The SQL log's database {alias!r} cannot be written",
    "See the exception for the reason.",
)


def unavailable(alias: str, exc: Exception) -> StoreUnavailableError:
    """Return an exception with the cause of a driver's exception and the remedy."""
    text = f"{error_code(exc) or ''}: {exc}"
    cause = next((cause for cause in _CAUSES if re.search(cause.pattern, text)), _OTHER)
    problem, advice = cause.problem.format(alias=alias), cause.advice.format(alias=alias)
    # SQLite has the same message for every reason why a file cannot be opened.
    path = path_of(alias)
    if path is not None and cause.error is not StoreUnreadyError and (found := find_problem(path)):
        problem, advice = f"The SQL log's database {alias!r} cannot be written: {found.problem}", found.advice
    message = f"{type(exc).__name__}: {exc}".strip().replace("\n", " ")
    return cause.error(f"{problem.rstrip('.')} ({message}). {advice} Records are kept for a retry.")


def repeat_conflicts(transaction: Callable[[], Result]) -> Result:
    """Run a transaction; repeat it if the database rolls it back in favour of another one."""
    for _ in range(CONFLICTS_MAX):
        try:
            return transaction()
        except Exception as exc:
            _wait_after_conflict(exc)
    return transaction()


def repeat_steps(transaction: Callable[[], Iterator[Result]]) -> Iterator[Result]:
    """Like `repeat_conflicts` for a transaction that yields its progress, which starts over."""
    for _ in range(CONFLICTS_MAX):
        try:
            return (yield from transaction())
        except Exception as exc:
            _wait_after_conflict(exc)
    yield from transaction()


def _wait_after_conflict(exc: Exception) -> None:
    """Pause after a conflict, so that the other transaction can finish; re-raise any other exception."""
    if error_code(exc) not in CONFLICTS:
        raise exc
    threads.sleep(random.uniform(*CONFLICT_PAUSE_S))  # noqa: S311


def is_rejection(exc: Exception) -> bool:
    """Return True if the database works and only rejects a value."""
    names = {kind.__name__ for kind in type(exc).__mro__}
    # Drivers raise these for a closed connection too: PyMySQL InterfaceError(0, ""), sqlite3
    # ProgrammingError.
    if not error_code(exc) and ("closed" in str(exc) or exc.args[:1] == (0,)):
        return False
    # A ProgrammingError without a SQLSTATE is about a value that the driver cannot send, one with a SQLSTATE
    # about tables or permissions.
    unsendable = "ProgrammingError" in names and not error_code(exc)
    return unsendable or not names.isdisjoint(_REJECTIONS)
