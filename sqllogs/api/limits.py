"""Limit the load of readers on the application: time per read, concurrent long reads, requests per reader.

Used by `sqllogs.api.base_view` around every read except health, in the reader's thread. A read beyond a limit
is answered at once with 503 or 429 and Retry-After; it never waits for another read.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from hashlib import blake2b
from threading import Lock

from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from sqllogs import conf
from sqllogs.api.authentication import Reader
from sqllogs.api.errors import UnavailableError
from sqllogs.models import SQLLog
from sqllogs.read.scope import Scope, Source
from sqllogs.record import error_code

LONG_RANGE = timedelta(days=1)
LONG_RING_ROWS = 200_000
"""Shorter reads take a fraction of a second, so a dashboard may send a dozen at once."""

PROGRESS_INSTRUCTIONS = 10_000
"""SQLite checks the time limit this often: about every 0.2 ms, without a measurable cost."""

_SQLITE_INTERRUPTED = sqlite3.SQLITE_INTERRUPT
_POSTGRESQL_CANCELED = "57014"
_MYSQL_TIMEOUTS = frozenset({1969, 3024})
"""Error codes of MariaDB and MySQL."""


class ReadTimeoutError(UnavailableError):
    """A read took longer than READ_TIMEOUT_S."""

    default_code = "read_timeout"
    default_detail = _("Reading took too long and was stopped. Choose a shorter time range or more filters.")
    wait = 10


class TooManyReadersError(UnavailableError):
    """READERS_MAX long reads are running in this process."""

    default_code = "too_many_readers"
    default_detail = _("Too many long reads of the SQL log are running. Try again shortly.")
    wait = 2


class ReaderThrottle(SimpleRateThrottle):
    """READ_RATE, per token or user, counted in each process."""

    scope = "reader"
    # Not the host's cache, which may be a database or unavailable: every read would depend on it.
    cache = LocMemCache("sqllogs.api.limits", {})

    def get_rate(self) -> str | None:
        return conf.load().read_rate or None

    def get_cache_key(self, request: Request, view: APIView) -> str:
        reader: Reader = request.auth  # type: ignore[assignment]
        return blake2b(reader.name.encode(), digest_size=16).hexdigest()


class _LongReads:
    """Counts the long reads in progress; never blocks."""

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        self._lock = Lock()
        self._running = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            if self._running >= conf.load().readers_max:
                raise TooManyReadersError
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1


_long_reads = _LongReads()
os.register_at_fork(after_in_child=_long_reads.reset_after_fork)


def long_read() -> AbstractContextManager[None]:
    """Count a long read while it runs; raise TooManyReadersError on entry."""
    return _long_reads.running()


def is_long(scope: Scope, source: Source) -> bool:
    """Return whether a read may take seconds of CPU."""
    if source == "ring":
        return min(scope.ring.seq, scope.ring.capacity) > LONG_RING_ROWS
    since, until = scope.filters["from"], scope.filters["to"] or scope.now
    return since is None or until - since > LONG_RANGE


@contextmanager
def time_limit() -> Iterator[None]:
    """Stop the queries of a block after READ_TIMEOUT_S; raise ReadTimeoutError."""
    connection = connections[SQLLog.objects.db]
    limit = _TIME_LIMITS.get(connection.vendor)
    try:
        if limit is None:
            yield
        else:
            with limit(connection, conf.load().read_timeout_s):
                yield
    except DatabaseError as exc:
        if _is_timeout(exc.__cause__ or exc):
            raise ReadTimeoutError from exc
        raise


def _is_timeout(cause: BaseException) -> bool:
    """Return whether a driver's exception says that a time limit has stopped a query."""
    return (
        getattr(cause, "sqlite_errorcode", None) == _SQLITE_INTERRUPTED
        or error_code(cause) == _POSTGRESQL_CANCELED
        or (bool(cause.args) and cause.args[0] in _MYSQL_TIMEOUTS)
    )


@contextmanager
def _limit_sqlite(connection: BaseDatabaseWrapper, timeout_s: float) -> Iterator[None]:
    # The limit applies to the whole read, including the time in which Python adds up rows between steps.
    deadline_s = time.monotonic() + timeout_s
    connection.ensure_connection()
    driver = connection.connection
    driver.set_progress_handler(lambda: time.monotonic() > deadline_s, PROGRESS_INSTRUCTIONS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


@contextmanager
def _limit_postgresql(connection: BaseDatabaseWrapper, timeout_s: float) -> Iterator[None]:
    # Local to a transaction: with PgBouncer a setting of the session would reach other clients.
    is_nested = connection.in_atomic_block
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_SET_STATEMENT_TIMEOUT, [timeout_s, f"{timeout_s * 1000:.0f}ms"])
        former, _set = cursor.fetchone()
        yield
        if is_nested:  # with ATOMIC_REQUESTS the transaction continues after the read
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [former])


# Keeps a shorter limit of the role or the database.
_SET_STATEMENT_TIMEOUT = """
    SELECT former, set_config('statement_timeout', CASE
        WHEN former::interval BETWEEN interval '1 ms' AND make_interval(secs => %s) THEN former
        ELSE %s END, true)
    FROM (SELECT current_setting('statement_timeout') AS former) AS settings
"""


@contextmanager
def _limit_mysql(connection: BaseDatabaseWrapper, timeout_s: float) -> Iterator[None]:
    is_mariadb = getattr(connection, "mysql_is_mariadb", False)
    # MariaDB's limit is in seconds, MySQL's in milliseconds.
    name = "max_statement_time" if is_mariadb else "max_execution_time"
    timeout = timeout_s if is_mariadb else round(timeout_s * 1000)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT @@SESSION.{name}")
        former = cursor.fetchone()[0]
        cursor.execute(f"SET SESSION {name} = %s", [min(former or timeout, timeout)])
    try:
        yield
    finally:
        with suppress(DatabaseError), connection.cursor() as cursor:  # the connection may be lost
            cursor.execute(f"SET SESSION {name} = %s", [former])


_TIME_LIMITS: dict[str, Callable[[BaseDatabaseWrapper, float], AbstractContextManager[None]]] = {
    "sqlite": _limit_sqlite,
    "postgresql": _limit_postgresql,
    "mysql": _limit_mysql,
}
