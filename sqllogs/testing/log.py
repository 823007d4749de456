"""Record the queries of a block or a test in memory, and check them at its end.

The execute wrapper of `sqllogs.capture.wrapper` feeds each open log in the thread of the query, without
buffer or writer: a test counts what production records. The assertions run in the test's thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.signals import connection_created

from sqllogs import conf
from sqllogs.capture import UNIT, Captured, wrapper
from sqllogs.capture.call_site import CallSites
from sqllogs.sql.n_plus_one import Rules, can_be_n_plus_one
from sqllogs.sql.normalize import StatementInfo, StatementScanner
from sqllogs.testing import queries
from sqllogs.testing.queries import Query, QueryGroup

REPEATS_MIN = 3
"""From this number on, the same statement from the same line is a repeat. Tests have few rows, so the five of
production would miss most loops; two are often a coincidence."""
LOOK_UP_AT = 2
"""The origin is looked up at the first repetition already, because a log may allow none."""

TRANSACTION_CONTROL = frozenset(
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT"]
)
"""Not counted, because a TestCase uses savepoints where a TransactionTestCase uses transactions."""


class QueryLog:
    """The queries of all threads since the log was opened or cleared."""

    def __init__(self) -> None:
        self._captured: list[Captured] = []
        self._statements = StatementScanner()
        self._call_sites = CallSites(conf.load())

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def queries(self) -> list[Query]:
        """All queries in order, except those that begin and end transactions."""
        return [query for query in self._all() if query.operation not in TRANSACTION_CONTROL]

    def groups(self) -> list[QueryGroup]:
        """The queries grouped by statement, database and line, the most frequent first."""
        return _grouped(self.queries, per_unit=False)

    def repeats(self, times: int = REPEATS_MIN) -> list[QueryGroup]:
        """The groups of at least `times` queries in one unit of work, except for intended loops."""
        rules = Rules(replace(conf.load(), n_plus_one_threshold=times))
        possible = [query for query in self.queries if can_be_n_plus_one(query)]
        return [group for group in _grouped(possible, per_unit=True) if _is_suspect(rules, group)]

    def receive(self, captured: Captured) -> None:
        """Add a query, in the thread that sent it."""
        self._captured.append(captured)

    def clear(self) -> None:
        """Remove all queries so far."""
        self._captured.clear()
        _counted.clear()

    def assert_max_queries(self, limit: int) -> None:
        """Fail with a list of the queries if there are more than `limit`."""
        __tracebackhide__ = True
        if len(self) > limit:
            raise AssertionError(queries.too_many(self.groups(), limit))

    def assert_no_repeats(self, times: int = REPEATS_MIN) -> None:
        """Fail if a line sent the same statement `times` times or more in one unit of work."""
        __tracebackhide__ = True
        if repeats := self.repeats(times):
            raise AssertionError(queries.repeated(repeats, self.groups()))

    def _all(self) -> Iterator[Query]:
        for captured in self._captured.copy():  # other threads may still add queries
            if captured[UNIT] is None or not captured[UNIT].muted:  # muted: the log's own queries
                yield self._query(Captured._make(captured))

    def _query(self, captured: Captured) -> Query:
        statement = self._statements.scan(captured.sql, captured.vendor)
        code = captured.code
        return Query(
            sql=statement.sql,
            fingerprint=statement.fingerprint,
            operation=statement.operation,
            tables=statement.tables,
            alias=captured.alias,
            time=datetime.fromtimestamp(captured.time_ns / 1e9, UTC),
            duration_ms=captured.execute_ns // 1000 / 1000,  # without fetching, which a wrapper does not see
            rows=captured.rowcount if captured.rowcount >= 0 else None,
            sql_length=captured.sql_length if captured.sql_length >= 0 else len(captured.sql),
            many=captured.many is not False,
            error=None if captured.error is None else captured.error.__name__,
            call_site=None if code is None else self._call_sites.name(code, captured.lasti),
            unit=captured.unit,
            asked_by=captured.asked_by,
        )


def _is_suspect(rules: Rules, group: QueryGroup) -> bool:
    first = group.first
    statement = StatementInfo(first.fingerprint, first.sql, first.operation, ",".join(first.tables))
    return rules.is_suspect(statement, first.call_site, group.repetition)


def _grouped(found: list[Query], *, per_unit: bool) -> list[QueryGroup]:
    groups: dict[tuple[object, ...], list[Query]] = {}
    for query in found:
        # By id(): the queries keep their unit alive, so no other unit gets the same.
        key = (query.fingerprint, query.alias, query.call_site, id(query.unit) if per_unit else None)
        groups.setdefault(key, []).append(query)
    return sorted(
        (QueryGroup(queries=tuple(members)) for members in groups.values()), key=lambda group: -group.times
    )


class Recording:
    """A block whose queries are recorded, and checked at its end unless it raised an exception."""

    def __init__(self, check: Callable[[QueryLog], None] | None = None) -> None:
        self._check = check
        self._log = QueryLog()

    def __enter__(self) -> QueryLog:
        subscribe(self._log.receive)
        return self._log

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        # Not a @contextmanager: pytest would show a line of contextlib instead of the test's.
        __tracebackhide__ = True
        unsubscribe(self._log.receive)
        if raised is None and self._check is not None:
            self._check(self._log)


def record_queries() -> Recording:
    """Record the queries of a block, in all threads; nothing is asserted."""
    return Recording()


def assert_max_queries(limit: int) -> Recording:
    """Fail with a list of the block's queries if there are more than `limit`."""

    def check(log: QueryLog) -> None:
        __tracebackhide__ = True
        log.assert_max_queries(limit)

    return Recording(check)


def assert_no_repeats(times: int = REPEATS_MIN) -> Recording:
    """Fail if a line of the block sends the same statement `times` times or more in one unit of work."""

    def check(log: QueryLog) -> None:
        __tracebackhide__ = True
        log.assert_no_repeats(times)

    return Recording(check)


_subscribers: list[Callable[[Captured], None]] = []


def subscribe(receive: Callable[[Captured], None]) -> None:
    """Call `receive` with every query of any thread, until it is unsubscribed."""
    global _wrapper
    _wrapper = _wrapper_for(tuple(conf.load().application))
    connect()
    _counted.clear()
    _subscribers.append(receive)


def unsubscribe(receive: Callable[[Captured], None]) -> None:
    _subscribers.remove(receive)


def connect() -> None:
    """Install the wrapper on the connections of this thread and on all new ones.

    It is never removed, because a thread that outlives its test keeps its connection, and the next test must
    see its queries. While no log is open, the wrapper only passes calls on.
    """
    connection_created.connect(_on_connection_created, dispatch_uid="sqllogs.testing")
    for connection in connections.all(initialized_only=True):
        _on_connection_created(connection)


def _on_connection_created(connection: Any, **kwargs: Any) -> None:
    # Some packages send this signal for objects that are not Django connections and have no wrappers.
    alias = getattr(connection, "alias", None)
    # The store's connection sends only our queries, unless it is the application's too.
    if alias is not None and (alias != conf.load().database or alias == DEFAULT_DB_ALIAS):
        wrapper.install(_tap, connection)


def _put(captured: Captured) -> None:
    for receive in _subscribers.copy():  # another thread may open or close a log
        receive(captured)


_counted: dict[int, Any] = {}
"""Repetitions outside units of work, in the block opened last."""


@cache
def _wrapper_for(application: tuple[str, ...]) -> wrapper.ExecuteWrapper:
    return wrapper.execute_wrapper(
        _put, call_site=True, application=application, look_up_at=LOOK_UP_AT, counted=_counted
    )


_wrapper = _wrapper_for(())
"""The wrapper of the block opened last, since a test may override the setting."""


# Installed once and never removed, so the wrapper that it calls can change with the settings of a test.
def _tap(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    is_silent = not _subscribers or wrapper.runs_again(_tap, execute)
    return (_pass if is_silent else _wrapper)(execute, sql, params, many, context)


def _pass(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    return execute(sql, params, many, context)
