"""What a watched cursor's methods do round Django's and the driver's own.

Called in the caller's thread. What is fetched is added to the `Fetch` that goes
with the query in the buffer; callproc, COPY and streams are sent through the
execute wrapper, which Django does not do. `self` is a `sqllogs.capture.cursors.WatchedCursor`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import chain
from time import perf_counter_ns
from typing import Any, NamedTuple

from sqllogs import guard
from sqllogs.record import Fetch
from sqllogs.sql.text import text_of

Method = Callable[..., Any]

_END = object()


class Beneath(NamedTuple):
    """What a watched method calls, found anew at each call.

    Not a function that passes its arguments on: to pack and unpack them once more takes as
    long as a fetch of one row.
    """

    method: Callable[[Any], Method]
    """By the cursor."""
    errors: Callable[[Any], AbstractContextManager[Any]]
    """By the cursor, what Django runs a fetch in."""


def _fetching(count: Callable[[Any], int], *, last: bool = False) -> Callable[[Beneath], Method]:
    """Watch what fetches; `count` tells the rows of its result."""

    def around(beneath: Beneath) -> Method:
        method, errors = beneath

        def fetching(self: Any, *args: Any, **kwargs: Any) -> Any:
            fetch = self.sqllogs_fetch
            started_ns = perf_counter_ns()
            try:
                with errors(self):
                    found = method(self)(*args, **kwargs)
            except BaseException as exc:
                if fetch is not None:
                    fetch.fail(perf_counter_ns() - started_ns, exc)
                raise
            if fetch is None:
                return found
            fetch_ns = perf_counter_ns() - started_ns
            try:
                fetch.add(fetch_ns, count(found))
                fetch.done = fetch.done or last
            except Exception as exc:
                guard.fault("fetch", exc)
            return found

        return fetching

    return around


def _close(beneath: Beneath) -> Method:
    def close(self: Any) -> Any:
        fetch = self.sqllogs_fetch
        if fetch is None or fetch.done:
            return beneath.method(self)()
        started_ns = perf_counter_ns()
        try:
            return beneath.method(self)()
        finally:
            if fetch.rows >= 0:  # of a server-side cursor it is a statement, CLOSE
                fetch.add(perf_counter_ns() - started_ns, 0)
            fetch.done = True

    return close


def _iterate(beneath: Beneath) -> Method:
    def iterate(self: Any) -> Iterator[Any]:
        fetch = self.sqllogs_fetch
        rows = beneath.method(self)()
        return rows if fetch is None else _timed(rows, fetch)

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


def _stream(beneath: Beneath) -> Method:
    """psycopg 3: the statement is sent when its first row is asked for."""

    def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        rows = beneath.method(self)(query, *args, **kwargs)
        first = self.sqllogs_send(query, lambda: next(rows, _END))
        found: Iterator[Any] = iter(()) if first is _END else chain((first,), rows)
        fetch = self.sqllogs_fetch
        yield from found if fetch is None else _timed(found, fetch)

    return stream


def _copy(beneath: Beneath) -> Method:
    """psycopg 3: a COPY lasts as long as its block, for the server too."""

    @contextmanager
    def copy(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with ExitStack() as stack:
            copying = beneath.method(self)(statement, *args, **kwargs)

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


def _copy_expert(beneath: Beneath) -> Method:
    def copy_expert(self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        return self.sqllogs_send(sql, partial(beneath.method(self), sql, *args, **kwargs))

    return copy_expert


def _copying(direction: str, columns_at: int) -> Callable[[Beneath], Method]:
    """psycopg 2: copy_from() and copy_to() write their statement themselves."""

    def around(beneath: Beneath) -> Method:
        def copying(self: Any, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
            columns = args[columns_at] if len(args) > columns_at else kwargs.get("columns")
            names = f"({', '.join(map(str, columns))})" if isinstance(columns, (list, tuple)) else ""
            sql = f'COPY "{table}"{names} {direction} WITH DELIMITER AS %s NULL AS %s'
            return self.sqllogs_send(sql, partial(beneath.method(self), file, table, *args, **kwargs))

        return copying

    return around


def _callproc(beneath: Beneath) -> Method:
    def callproc(self: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        verb = "SELECT * FROM" if self.db.vendor == "postgresql" else "CALL"
        quotes = isinstance(name, str) and self.db.Database.__name__ == "psycopg"
        quoted = self.db.ops.quote_name(name) if quotes else text_of(name)
        params = args[0] if args else kwargs.get("params")
        places = ", ".join(["%s"] * len(params)) if isinstance(params, (list, tuple)) else ""
        return self.sqllogs_send(
            f"{verb} {quoted}({places})", partial(beneath.method(self), name, *args, **kwargs)
        )

    return callproc


METHODS: dict[str, Callable[[Beneath], Method]] = {
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
"""By the names of Django and the drivers; each makes a method out of the one beneath it."""
