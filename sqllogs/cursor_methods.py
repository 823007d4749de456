"""What a watched cursor's methods do round Django's and the driver's own.

Called in the caller's thread. What is fetched is added to the `Fetch` that goes
with the query in the buffer; callproc, COPY and streams are sent through the
execute wrapper, which Django does not do. `self` is a `sqllogs.cursors.WatchedCursor`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from time import perf_counter_ns
from typing import Any

from sqllogs import guard
from sqllogs.record import Fetch
from sqllogs.statement import text_of

Method = Callable[..., Any]

_END = object()


def _fetching(count: Callable[[Any], int], *, last: bool = False) -> Callable[[Method], Method]:
    """Watch what fetches; `count` tells the rows of its result."""

    def around(call: Method) -> Method:
        def fetching(self: Any, *args: Any, **kwargs: Any) -> Any:
            fetch = self.sqllogs_fetch
            if fetch is None:
                return call(self, *args, **kwargs)
            started_ns = perf_counter_ns()
            try:
                found = call(self, *args, **kwargs)
            except BaseException as exc:
                fetch.fail(perf_counter_ns() - started_ns, exc)
                raise
            fetch_ns = perf_counter_ns() - started_ns
            try:
                fetch.add(fetch_ns, count(found))
                fetch.done = fetch.done or last
            except Exception as exc:
                guard.fault("fetch", exc)
            return found

        return fetching

    return around


def _close(call: Method) -> Method:
    def close(self: Any) -> Any:
        fetch = self.sqllogs_fetch
        if fetch is None or fetch.done:
            return call(self)
        started_ns = perf_counter_ns()
        try:
            return call(self)
        finally:
            if fetch.rows >= 0:  # of a server-side cursor it is a statement, CLOSE
                fetch.add(perf_counter_ns() - started_ns, 0)
            fetch.done = True

    return close


def _iterate(call: Method) -> Method:
    def iterate(self: Any) -> Iterator[Any]:
        fetch = self.sqllogs_fetch
        return call(self) if fetch is None else _timed(call(self), fetch)

    return iterate


def _timed(rows: Iterator[Any], fetch: Fetch) -> Iterator[Any]:
    """Pass rows on; the time from each one's demand to its arrival is fetch time."""
    clock = perf_counter_ns
    fetch.add(0, 0)
    started_ns = clock()
    try:
        for row in rows:
            fetch.fetch_ns += clock() - started_ns
            fetch.rows += 1
            yield row
            started_ns = clock()
    except GeneratorExit:
        raise
    except BaseException as exc:
        fetch.fail(clock() - started_ns, exc)
        raise
    fetch.add(clock() - started_ns, 0)
    fetch.done = True


def _stream(call: Method) -> Method:
    """psycopg 3: the statement is sent when its first row is asked for."""

    def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        rows = call(self, query, *args, **kwargs)
        first = self.sqllogs_send(query, lambda: next(rows, _END))
        found: Iterator[Any] = iter(()) if first is _END else chain((first,), rows)
        fetch = self.sqllogs_fetch
        yield from found if fetch is None else _timed(found, fetch)

    return stream


def _copy(call: Method) -> Method:
    """psycopg 3: a COPY lasts as long as its block, for the server too."""

    @contextmanager
    def copy(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with ExitStack() as stack:
            copying = call(self, statement, *args, **kwargs)

            def begin() -> tuple[Any, int]:
                # The clock is read in here: the server's goes on while the wrapper notes the statement.
                return stack.enter_context(copying), perf_counter_ns()

            begun, started_ns = self.sqllogs_send(statement, begin)
            fetch = self.sqllogs_fetch or Fetch()
            try:
                yield begun
                stack.close()
            except BaseException as exc:
                fetch.fail(perf_counter_ns() - started_ns, exc)
                raise
            fetch.add(perf_counter_ns() - started_ns, self.cursor.rowcount)
            fetch.done = True

    return copy


def _copy_expert(call: Method) -> Method:
    def copy_expert(self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        return self.sqllogs_send(sql, partial(call, self, sql, *args, **kwargs))

    return copy_expert


def _copying(direction: str, columns_at: int) -> Callable[[Method], Method]:
    """psycopg 2: copy_from() and copy_to() write their statement themselves."""

    def around(call: Method) -> Method:
        def copying(self: Any, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
            columns = args[columns_at] if len(args) > columns_at else kwargs.get("columns")
            names = f"({', '.join(map(str, columns))})" if isinstance(columns, (list, tuple)) else ""
            sql = f'COPY "{table}"{names} {direction} WITH DELIMITER AS %s NULL AS %s'
            return self.sqllogs_send(sql, partial(call, self, file, table, *args, **kwargs))

        return copying

    return around


def _callproc(call: Method) -> Method:
    def callproc(self: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        verb = "SELECT * FROM" if self.db.vendor == "postgresql" else "CALL"
        quotes = isinstance(name, str) and self.db.Database.__name__ == "psycopg"
        quoted = self.db.ops.quote_name(name) if quotes else text_of(name)
        params = args[0] if args else kwargs.get("params")
        places = ", ".join(["%s"] * len(params)) if isinstance(params, (list, tuple)) else ""
        return self.sqllogs_send(f"{verb} {quoted}({places})", partial(call, self, name, *args, **kwargs))

    return callproc


METHODS: dict[str, Callable[[Method], Method]] = {
    "fetchone": _fetching(lambda row: row is not None),
    "fetchmany": _fetching(len),
    "fetchall": _fetching(len, last=True),
    "scroll": _fetching(lambda _: 0),
    "close": _close,
    "__iter__": _iterate,
    "callproc": _callproc,
    "copy": _copy,
    "copy_expert": _copy_expert,
    "copy_from": _copying("FROM stdin", 3),
    "copy_to": _copying("TO stdout", 2),
    "stream": _stream,
}
"""By the names of Django and the drivers; each makes a method out of the one that it calls."""
