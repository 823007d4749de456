"""Decide who may read, and limit the load that readers cause.

Used by `sqllogs.api.base_view` around every read except health, in the reader's thread. A reader is a token,
a staff session, or loopback in development. `django.contrib.auth` is not needed: the user of a session is
whatever the host's middleware sets on the request. A read beyond a limit (time per read, concurrent long
reads, requests per reader) is answered at once with 503 or 429 and Retry-After; it never waits for another
one.
"""

import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from inspect import signature
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from sqllogs import conf
from sqllogs.api import tokens
from sqllogs.api.responses import UnavailableError
from sqllogs.capture import error_code
from sqllogs.models import VIEW, VIEW_TEXT, SQLLog
from sqllogs.read.scope import Scope, Source
from sqllogs.threads import RLock

OWNER_MAX_CHARACTERS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What an authenticated reader may see. It is `request.auth` in every view of the API."""

    name: str
    may_read: bool
    """All fields except the SQL text."""
    may_read_text: bool
    """The SQL text too."""
    owner: str = ""
    """The owner of saved views: the user's primary key; empty for tokens and anonymous readers."""


class ReaderRequest(Request):
    """A request that keeps `request.user` as the host set it; the reader is in `request.auth`."""

    def _not_authenticated(self) -> None:
        self._authenticator = None
        self._user = getattr(self._request, "user", None)
        self._auth = None

    @property
    def known_reader(self) -> Reader | None:
        """The reader, if already authenticated and allowed to read; runs no authentication."""
        reader = getattr(self, "_auth", None)
        return reader if isinstance(reader, Reader) and reader.may_read else None


class ReaderAuthentication(BaseAuthentication):
    """Base of the three ways to authenticate."""

    def authenticate(self, request: Request) -> tuple[Any, Reader] | None:
        reader = self.reader(request)
        # Only the second value is ours: another user would change `request.user` for the host.
        return (getattr(request._request, "user", None), reader) if reader else None

    def reader(self, request: Request) -> Reader | None:
        raise NotImplementedError

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenAuthentication(ReaderAuthentication):
    """`Authorization: Bearer TOKEN`. Only as a header: query strings end up in access logs."""

    def reader(self, request: Request) -> Reader | None:
        scheme, _space, value = get_authorization_header(request).strip().partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        # Not even OPTIONS: tokens are for reading, and a leaked one must be of no other use.
        if request.method not in ("GET", "HEAD"):
            raise exceptions.MethodNotAllowed(str(request.method), _("Tokens allow only GET and HEAD."))
        token = tokens.verify(value.strip())
        if token is None:
            raise exceptions.AuthenticationFailed(_("The token is invalid or has been revoked."))
        return Reader(name=f"token {token.name}", may_read=True, may_read_text=True)


class SessionAuthentication(ReaderAuthentication):
    """The host's login session. Views that read need no CSRF check; saved views check it themselves."""

    def reader(self, request: Request) -> Reader | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated or not user.is_active:
            return None
        is_staff = getattr(user, "is_staff", False) or getattr(user, "is_superuser", False)
        may_read = bool(is_staff) and _has_permission(user, VIEW)
        may_read_text = may_read and _has_permission(user, VIEW_TEXT)
        # The primary key may be of any type: its text, or a hash if that is too long for the column.
        key = str(user.pk)
        owner = key if len(key) <= OWNER_MAX_CHARACTERS else blake2b(key.encode(), digest_size=32).hexdigest()
        return Reader(name=f"user {user.pk}", may_read=may_read, may_read_text=may_read_text, owner=owner)


def _has_permission(user: Any, name: str) -> bool:
    """Ask any user model: one without permissions has no `has_perm()`, pretalx's requires an object."""
    has_perm = getattr(user, "has_perm", None)
    if has_perm is None:
        return False
    try:
        signature(has_perm).bind(name)
    except TypeError:
        return bool(has_perm(name, None))
    return bool(has_perm(name))


class LoopbackAuthentication(ReaderAuthentication):
    """Anyone on this machine, if both DEBUG and ANONYMOUS_LOOPBACK are set."""

    def reader(self, request: Request) -> Reader | None:
        if not (settings.DEBUG and conf.load().anonymous_loopback and _is_local(request.META)):
            return None
        return Reader(name="loopback", may_read=True, may_read_text=True)


def _is_local(meta: dict[str, Any]) -> bool:
    """Return whether the client itself is on this machine."""
    # Behind a proxy on this machine every client has a loopback address, so any proxy header disqualifies.
    if any(name in ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA") for name in meta):
        return False
    if any(name.startswith("HTTP_X_FORWARDED") for name in meta):
        return False
    try:
        return ip_address(meta.get("REMOTE_ADDR") or "").is_loopback
    except ValueError:
        return False


class MayRead(BasePermission):
    """Required by every view. An anonymous client gets 401, an authenticated one without permission 403."""

    message = format_lazy(
        gettext_lazy("Reading the SQL log requires staff status and the permission {permission}."),
        permission=VIEW,
    )

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Reader) and request.auth.may_read


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
    default_detail = gettext_lazy(
        "Reading took too long and was stopped. Choose a shorter time range or more filters."
    )
    wait = 10


class TooManyReadersError(UnavailableError):
    """READERS_MAX long reads are running in this process."""

    default_code = "too_many_readers"
    default_detail = gettext_lazy("Too many long reads of the SQL log are running. Try again shortly.")
    wait = 2


class ReaderThrottle(SimpleRateThrottle):
    """READ_RATE, per token or user, counted in each process."""

    scope = "reader"
    # Not the host's cache, which may be a database or unavailable, and would be needed for every read.
    cache = LocMemCache("sqllogs.api.access", {})

    def get_rate(self) -> str | None:
        return conf.load().read_rate or None

    def get_cache_key(self, request: Request, view: APIView) -> str:
        reader: Reader = request.auth  # type: ignore[assignment]
        return blake2b(reader.name.encode(), digest_size=16).hexdigest()


class _LongReads:
    """Count the long reads in progress; never blocks."""

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        # A fork copies a lock held by another thread, and the count of reads that only the parent runs.
        self._lock = RLock()
        self._running: set[object] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        read = object()
        try:
            with self._lock:
                if len(self._running) >= conf.load().readers_max:
                    raise TooManyReadersError
                self._running.add(read)
            yield
        finally:
            # One call into C, not a lock and a count: a signal handler that raises between them would leave
            # a read that never ends.
            self._running.discard(read)


_long_reads = _LongReads()
os.register_at_fork(after_in_child=_long_reads.reset_after_fork)


def long_read() -> AbstractContextManager[None]:
    """Count a long read while it runs; raise TooManyReadersError on entry."""
    return _long_reads.running()


def is_long(scope: Scope, source: Source) -> bool:
    """Return whether a read may take seconds of CPU."""
    # The cost grows with the rows of the ring or, for statistics, with the length of the range.
    if source == "ring":
        return min(scope.ring.seq, scope.ring.capacity) > LONG_RING_ROWS
    since, until = scope.filters["from"], scope.filters["to"] or scope.now
    return since is None or until - since > LONG_RANGE


@contextmanager
def time_limit() -> Iterator[None]:
    """Stop the queries of a block after READ_TIMEOUT_S; raise ReadTimeoutError."""
    connection = connections[SQLLog.objects.db]
    # Other vendors, such as Oracle, are read without a limit: refusing would make the log useless there.
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
    # The limit applies to the whole read, including the time that Python takes between steps.
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
    # Local to a transaction, because with PgBouncer a session's settings would affect other clients.
    is_nested = connection.in_atomic_block
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_SET_STATEMENT_TIMEOUT, [timeout_s, f"{timeout_s * 1000:.0f}ms"])
        former, _set = cursor.fetchone()
        yield
        # With ATOMIC_REQUESTS the transaction continues after the read. After an exception the savepoint is
        # rolled back, which restores the former limit.
        if is_nested:
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


# An answer is only good for requests sent together with the first, as a dashboard's panels are.
KEPT_S = 1.0
KEPT_MAX = 64
KEPT_MAX_BYTES = 4_000_000
KEPT_ANSWER_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """A rendered answer, as it was sent."""

    content: bytes
    headers: dict[str, str]
    until_s: float
    """Monotonic time until which it may be used."""

    def response(self) -> HttpResponse:
        return HttpResponse(self.content, headers=self.headers)


class RecentAnswers:
    """The newest answers of this process, since several panels often send the same request.

    The key includes the state of the log, so an answer found here is never out of date.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove all answers; also run in a forked child."""
        self._lock = RLock()
        self._kept: OrderedDict[str, KeptAnswer] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> KeptAnswer | None:
        kept = self._kept.get(key)
        return kept if kept is not None and time.monotonic() < kept.until_s else None

    def put(self, key: str, response: HttpResponse) -> None:
        """Keep an answer unless it is too large; drop the oldest ones beyond the bounds."""
        headers = {name: value for name, value in response.items() if name != "Server-Timing"}
        until_s = time.monotonic() + KEPT_S
        kept = KeptAnswer(content=response.content, headers=headers, until_s=until_s)
        if len(kept.content) > KEPT_ANSWER_MAX_BYTES:
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = kept
            self.size_bytes += len(kept.content)
            while len(self._kept) > KEPT_MAX or self.size_bytes > KEPT_MAX_BYTES:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        size_bytes = 0 if kept is None else len(kept.content)
        # Zero if empty, as in `read.ring`: a signal handler may raise in between.
        self.size_bytes = self.size_bytes - size_bytes if self._kept else 0


recent = RecentAnswers()
os.register_at_fork(after_in_child=recent.clear)
