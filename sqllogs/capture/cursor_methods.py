"""The methods of a watched cursor, which wrap those of Django's cursor or of the driver.

Run in the caller's thread. Fetches update the query's `Fetch`, which the writer reads later. Callproc, COPY
and streams are passed to the execute wrapper, since Django does not. `self` is a
`sqllogs.capture.cursors.WatchedCursor`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import chain
from time import perf_counter_ns
from typing import Any, NamedTuple, NoReturn

from sqllogs import guard
from sqllogs.capture import Fetch
from sqllogs.sql.text import text_of

Method = Callable[..., Any]

# Not None, which is a valid size for fetchmany().
_END = object()


class Original(NamedTuple):
    """How a watched method finds the method that it wraps.

    Not a function that passes its arguments on, because packing and unpacking them once more takes as
    long as fetching a row.
    """

    method: Callable[[Any], Method]
    """Returns the method of a cursor; looked up at each call, because classes are patched at run time."""
    errors: Callable[[Any], AbstractContextManager[Any]]
    """Returns the context manager in which Django runs a fetch."""


def _fetching(count: Callable[[Any], int], *, last: bool = False) -> Callable[[Original], Method]:
    """Watch a method that fetches; `count` returns the number of rows in a result."""

    def around(original: Original) -> Method:
        method, errors = original

        def fetching(self: Any, *args: Any, **kwargs: Any) -> Any:
            fetch = self.sqllogs_fetch
            started_ns = perf_counter_ns()
            try:
                with errors(self):
                    result = method(self)(*args, **kwargs)
            except BaseException as exc:  # not only driver errors: a task's time limit may end a fetch too
                if fetch is not None:
                    fetch.fail(perf_counter_ns() - started_ns, exc)
                raise
            if fetch is None:
                return result
            fetch_ns = perf_counter_ns() - started_ns
            try:
                fetch.add(fetch_ns, count(result))
                # No rows come after fetchall(), so the writer need not wait until the cursor is closed.
                fetch.done = fetch.done or last
            except Exception as exc:
                if guard.must_propagate(exc):
                    raise
                guard.fault("fetch", exc)
            return result

        return fetching

    return around


def _close(original: Original) -> Method:
    def close(self: Any) -> Any:
        fetch = self.sqllogs_fetch
        if fetch is None or fetch.done:
            return original.method(self)()
        started_ns = perf_counter_ns()
        try:
            return original.method(self)()
        finally:
            if fetch.rows >= 0:  # closing a server-side cursor sends a CLOSE statement
                fetch.add(perf_counter_ns() - started_ns, 0)
            fetch.done = True

    return close


def _iterate(original: Original) -> Method:
    def iterate(self: Any) -> Iterator[Any]:
        fetch = self.sqllogs_fetch
        rows = original.method(self)()
        return rows if fetch is None else _timed(rows, fetch)

    return iterate


def _timed(rows: Iterator[Any], fetch: Fetch) -> Iterator[Any]:
    """Yield the rows and time the driver alone; reading the clock twice per row takes 0.11 us."""
    clock = perf_counter_ns
    fetch.add(0, 0)
    started_ns = clock()
    try:
        for row in rows:
            fetch.fetch_ns += clock() - started_ns
            fetch.rows += 1
            yield row
            started_ns = clock()
    except GeneratorExit:  # the caller reads no further, which is no failure of the query
        raise
    except BaseException as exc:
        fetch.fail(clock() - started_ns, exc)
        raise
    fetch.add(clock() - started_ns, 0)
    fetch.done = True


def _stream(original: Original) -> Method:
    """Watch `stream` of psycopg 3, which sends the statement when the first row is read."""

    def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        rows = original.method(self)(query, *args, **kwargs)
        first = self.sqllogs_send(query, lambda: next(rows, _END))
        stream_rows: Iterator[Any] = iter(()) if first is _END else chain((first,), rows)
        fetch = self.sqllogs_fetch
        yield from stream_rows if fetch is None else _timed(stream_rows, fetch)

    return stream


def _copy(original: Original) -> Method:
    """Watch `copy` of psycopg 3. A COPY lasts as long as its block, as in the server's log.

    Timing each row would take longer than writing it.
    """

    @contextmanager
    def copy(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with ExitStack() as stack:
            copying = original.method(self)(statement, *args, **kwargs)

            def begin() -> tuple[Any, int]:
                # Read the clock here: the COPY is already running while the wrapper records the statement.
                return stack.enter_context(copying), perf_counter_ns()

            copy_object, started_ns = self.sqllogs_send(statement, begin)
            fetch = self.sqllogs_fetch or Fetch()  # one that nobody reads, if the statement is not captured
            try:
                yield copy_object
                stack.close()
            except BaseException as exc:
                fetch.fail(perf_counter_ns() - started_ns, exc)
                raise
            fetch.add(perf_counter_ns() - started_ns, self.cursor.rowcount)
            fetch.done = True

    return copy


def _copy_expert(original: Original) -> Method:
    def copy_expert(self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        return self.sqllogs_send(sql, partial(original.method(self), sql, *args, **kwargs))

    return copy_expert


def _copying(direction: str, columns_at: int) -> Callable[[Original], Method]:
    """Watch `copy_from` and `copy_to` of psycopg 2, which generate the statement themselves.

    `columns_at` is the position of the argument `columns` after the file and the table.
    """

    def around(original: Original) -> Method:
        def copying(self: Any, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
            columns = args[columns_at] if len(args) > columns_at else kwargs.get("columns")
            names = f"({', '.join(map(str, columns))})" if isinstance(columns, (list, tuple)) else ""
            sql = f'COPY "{table}"{names} {direction} WITH DELIMITER AS %s NULL AS %s'
            return self.sqllogs_send(sql, partial(original.method(self), file, table, *args, **kwargs))

        return copying

    return around


def _callproc(original: Original) -> Method:
    def callproc(self: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        verb = "SELECT * FROM" if self.db.vendor == "postgresql" else "CALL"
        # As it is sent: Django's cursor for psycopg 3 quotes the name, psycopg 2 does not.
        quotes = isinstance(name, str) and self.db.Database.__name__ == "psycopg"
        quoted = self.db.ops.quote_name(name) if quotes else text_of(name)
        params = args[0] if args else kwargs.get("params")
        placeholders = ", ".join(["%s"] * len(params)) if isinstance(params, (list, tuple)) else ""
        return self.sqllogs_send(
            f"{verb} {quoted}({placeholders})", partial(original.method(self), name, *args, **kwargs)
        )

    return callproc


METHODS: dict[str, Callable[[Original], Method]] = {
    "fetchone": _fetching(lambda row: row is not None),
    "fetchmany": _fetching(len),
    "fetchall": _fetching(len, last=True),
    "scroll": _fetching(lambda _: 0),  # returns no row, but a server-side cursor sends MOVE
    "close": _close,
    "__iter__": _iterate,
    "callproc": _callproc,
    "copy": _copy,
    "copy_expert": _copy_expert,
    "copy_from": _copying("FROM stdin", 3),
    "copy_to": _copying("TO stdout", 2),
    "stream": _stream,
}
"""By name in Django or the drivers: the function that makes a watched method from the original."""


def _raise(cursor: Any, fetch: Fetch | None, started_ns: int) -> NoReturn:
    """Re-raise the current exception of a fetch as Django's own, and record it."""
    # Entered only for errors. Django enters it for each fetch, which is what makes its own way slow.
    try:
        with cursor.db.wrap_database_errors:
            raise
    except BaseException as exc:
        if fetch is not None:
            fetch.fail(perf_counter_ns() - started_ns, exc)
        raise


def _flat_init(self: Any, cursor: Any, db: Any) -> None:
    self.cursor = cursor
    self.db = db
    self.sqllogs_fetch = None


def _flat_fetchone(self: Any) -> Any:
    fetch = self.sqllogs_fetch
    started_ns = perf_counter_ns()
    try:
        row = self.cursor.fetchone()
    except BaseException:
        _raise(self, fetch, started_ns)
    # No `try`: only integers of ours. `_flat_fetchmany` calls len() of what a driver returns, which may
    # raise.
    if fetch is not None:
        fetch.fetch_ns += perf_counter_ns() - started_ns
        before = fetch.rows
        fetched = 0 if row is None else 1
        fetch.rows = fetched if before < 0 else before + fetched
    return row


def _flat_fetchmany(self: Any, size: Any = _END) -> Any:
    fetch = self.sqllogs_fetch
    started_ns = perf_counter_ns()
    try:
        rows = self.cursor.fetchmany() if size is _END else self.cursor.fetchmany(size)
    except BaseException:
        _raise(self, fetch, started_ns)
    if fetch is not None:
        try:
            fetch.fetch_ns += perf_counter_ns() - started_ns
            before = fetch.rows
            fetch.rows = len(rows) if before < 0 else before + len(rows)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("fetch", exc)
    return rows


def _flat_close(self: Any) -> Any:
    fetch = self.sqllogs_fetch
    if fetch is None or fetch.done:
        return self.cursor.close()
    started_ns = perf_counter_ns()
    try:
        return self.cursor.close()
    finally:
        if fetch.rows >= 0:
            fetch.fetch_ns += perf_counter_ns() - started_ns
        fetch.done = True


FLAT_METHODS: dict[str, Method] = {
    "__init__": _flat_init,
    "fetchone": _flat_fetchone,
    "fetchmany": _flat_fetchmany,
    "close": _flat_close,
}
"""Methods of a plain cursor that call the driver directly: the ones that every small query needs."""
