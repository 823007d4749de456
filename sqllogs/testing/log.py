"""The queries of a block or a test, in memory.

Fed by `sqllogs.testing.tap` in the threads that query; read by the assertions
in the test's own.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from sqllogs.call_site import CallSites
from sqllogs.conf import load
from sqllogs.record import Captured
from sqllogs.repeats import Rules, is_judged
from sqllogs.rows import StatementRow
from sqllogs.statement import Statements
from sqllogs.testing import messages, tap
from sqllogs.testing.query import Group, Query

REPEATS_FROM = 3
"""The same statement from the same line this often is a repeat. Tests have few rows: five would miss
most loops; two are often chance."""

TRANSACTION_CONTROL = frozenset(
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT"]
)
"""Not counted: a TestCase has savepoints where a TransactionTestCase has transactions."""


class QueryLog:
    """What has been queried since it was opened, or cleared; in all threads."""

    def __init__(self) -> None:
        self._captured: list[Captured] = []
        self._statements = Statements()
        self._call_sites = CallSites(load())

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def queries(self) -> list[Query]:
        """All in order, but those that only begin and end transactions."""
        return [query for query in self._all() if query.operation not in TRANSACTION_CONTROL]

    def groups(self) -> list[Group]:
        """The queries by statement, database and line, those that came most often first."""
        return _grouped(self.queries, per_unit=False)

    def repeats(self, times: int = REPEATS_FROM) -> list[Group]:
        """The groups of at least `times` queries within one unit of work, but for loops that are meant."""
        rules = Rules(replace(load(), n_plus_one_threshold=times))
        judged = [query for query in self.queries if is_judged(query)]
        return [group for group in _grouped(judged, per_unit=True) if _is_suspect(rules, group)]

    def take(self, captured: Captured) -> None:
        """Keep a query, in the thread that has sent it."""
        self._captured.append(captured)

    def clear(self) -> None:
        """Begin anew."""
        self._captured.clear()

    def assert_max_queries(self, limit: int) -> None:
        """Fail with a list of the queries if there are more than `limit`."""
        __tracebackhide__ = True
        if len(self) > limit:
            raise AssertionError(messages.too_many(self.groups(), limit))

    def assert_no_repeats(self, times: int = REPEATS_FROM) -> None:
        """Fail if a line has sent the same statement `times` times or more in one unit of work."""
        __tracebackhide__ = True
        if repeats := self.repeats(times):
            raise AssertionError(messages.repeated(repeats, self.groups()))

    def _all(self) -> Iterator[Query]:
        for captured in self._captured.copy():
            if captured[12] is None or not captured[12].muted:
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
            duration_ms=captured.execute_ns // 1000 / 1000,
            rows=captured.rowcount if captured.rowcount >= 0 else None,
            sql_length=captured.sql_length if captured.sql_length >= 0 else len(captured.sql),
            many=captured.many,
            error=None if captured.error is None else captured.error.__name__,
            call_site=None if code is None else self._call_sites.name(code, captured.lasti),
            unit=captured.unit,
        )


def _is_suspect(rules: Rules, group: Group) -> bool:
    first = group.first
    statement = StatementRow(first.fingerprint, first.sql, first.operation, ",".join(first.tables))
    return rules.is_suspect(statement, first.call_site, group.repetition)


def _grouped(queries: list[Query], *, per_unit: bool) -> list[Group]:
    groups: dict[tuple[object, ...], list[Query]] = {}
    for query in queries:
        key = (query.fingerprint, query.alias, query.call_site, id(query.unit) if per_unit else None)
        groups.setdefault(key, []).append(query)
    found = [Group(queries=tuple(members)) for members in groups.values()]
    return sorted(found, key=lambda group: -group.times)


class Recording:
    """A block whose queries are kept; at its end they are checked, unless it has raised something itself."""

    def __init__(self, check: Callable[[QueryLog], None] | None = None) -> None:
        self._check = check
        self._log = QueryLog()

    def __enter__(self) -> QueryLog:
        tap.open_to(self._log.take)
        return self._log

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        # No @contextmanager: pytest would show a line of contextlib in place of the test's own.
        __tracebackhide__ = True
        tap.close_to(self._log.take)
        if raised is None and self._check is not None:
            self._check(self._log)


def record_queries() -> Recording:
    """Keep the queries of a block, of this thread and of all others; nothing is asserted."""
    return Recording()
