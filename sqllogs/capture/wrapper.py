"""Capture every query with one execute wrapper, the first on every connection.

Called by Django in the caller's thread, feeds `sqllogs.pipeline.buffer`. Line numbers, ids, names and
fingerprints are left to the writer's thread.
"""

import sys
from collections.abc import Callable, Sequence
from time import perf_counter_ns, time_ns
from typing import Any

from django.apps import apps
from django.db.backends.utils import CursorWrapper

from sqllogs import guard
from sqllogs.capture.call_site import FrameFinder
from sqllogs.capture.cursors import EXECUTE, WatchedCursor
from sqllogs.context import UnitOfWork, current, span_getter
from sqllogs.record import Fetch, error_code
from sqllogs.sql.text import TEXT_MAX_CHARACTERS, excerpt

ExecuteWrapper = Callable[..., Any]

SIZED = frozenset({list, tuple})
"""Parameters of an executemany that are counted: no method of the application is called for it."""
FRAMES_BELOW = 2
"""Frames between the wrapper and the cursor's caller: two of Django, or two of `cursor_methods`."""


def execute_wrapper(
    put: Callable[[Any], None], *, call_site: bool, application: Sequence[str] = ()
) -> ExecuteWrapper:
    """Return a wrapper that passes each query to `put`.

    One function serves all connections and refers to none: a reference cycle through
    `connection.execute_wrappers` would keep a dead thread's connection open until the next
    garbage collection. Its attribute `execute` is a method of plain cursors.
    """
    get_unit = current.get
    keep = _keeper(put, call_site=call_site, application=application)

    def sqllogs_wrapper(execute: Any, sql: Any, params: Any, many: int, context: dict[str, Any]) -> Any:
        unit = get_unit()
        if unit is not None and unit.muted:
            return execute(sql, params, many, context)
        connection = context["connection"]
        error = None
        before = time_ns(), connection.in_atomic_block, unit
        started_ns = perf_counter_ns()
        try:
            return execute(sql, params, many, context)
        except BaseException as exc:
            error = exc
            raise
        finally:
            execute_ns = perf_counter_ns() - started_ns
            if many:
                many = len(params) if type(params) in SIZED else True
            keep(sql, many, connection, context["cursor"], before, execute_ns, error, FRAMES_BELOW)
            error = None  # otherwise a reference cycle with this frame

    sqllogs_wrapper.execute = _direct_execute(keep)  # type: ignore[attr-defined]
    return sqllogs_wrapper


def _direct_execute(keep: Callable[..., None]) -> Callable[..., Any]:
    """Return the method `execute` of plain cursors.

    Where ours is the only wrapper, it does in one call what takes Django five, and otherwise calls Django.
    """
    get_unit = current.get

    def execute(self: Any, sql: Any, params: Any = None) -> Any:
        connection = self.db
        wrappers = connection.execute_wrappers
        is_alone = len(wrappers) == 1 and wrappers[0] is self.sqllogs_direct
        if not is_alone or CursorWrapper.execute is not EXECUTE:
            return CursorWrapper.execute(self, sql, params)
        unit = get_unit()
        if (unit is not None and unit.muted) or connection.needs_rollback or not apps.ready:
            return CursorWrapper.execute(self, sql, params)  # which refuses it, or warns
        error = None
        before = time_ns(), connection.in_atomic_block, unit
        started_ns = perf_counter_ns()
        try:
            return self.cursor.execute(sql) if params is None else self.cursor.execute(sql, params)
        except BaseException:
            try:
                with connection.wrap_database_errors:
                    raise
            except BaseException as exc:
                error = exc
                raise
        finally:
            execute_ns = perf_counter_ns() - started_ns
            keep(sql, False, connection, self, before, execute_ns, error, 0)
            error = None  # otherwise a reference cycle with this frame

    return execute


def _keeper(
    put: Callable[[Any], None], *, call_site: bool, application: Sequence[str]
) -> Callable[..., None]:
    """Return a function that describes a query which has just run, and raises nothing."""
    # Names of this function, not attributes: it runs for every query, with a budget of microseconds.
    find_frame = FrameFinder(application).find
    modules = sys.modules
    get_span: Callable[[], Any] | None = None

    def keep(
        sql: Any,
        many: int,
        connection: Any,
        cursor: Any,
        before: tuple[int, bool, UnitOfWork | None],
        execute_ns: int,
        error: BaseException | None,
        frames: int,
    ) -> None:
        nonlocal get_span
        try:
            frame = find_frame(frames) if call_site else None
            sql_length, sql_hash = -1, None
            # It may be bytes, a Composed of psycopg or any object: neither hashable nor bounded for sure.
            if type(sql) is not str or len(sql) > TEXT_MAX_CHARACTERS:
                sql, sql_length, sql_hash = excerpt(sql, getattr(connection, "connection", None))
            fetch = None
            if isinstance(cursor, WatchedCursor):
                fetch = Fetch(cursor) if error is None else None
                # As sqllogs_begin(), whose call would take longer.
                if cursor.sqllogs_fetch is not None:
                    cursor.sqllogs_fetch.done = True
                cursor.sqllogs_fetch = fetch
            # Only if the host has imported it: importing OpenTelemetry is a cost to those who do not use it.
            if get_span is None and "opentelemetry.trace" in modules:
                get_span = span_getter()
            sent_ns, in_transaction, unit = before
            put(
                (
                    sent_ns,
                    execute_ns,
                    sql,
                    sql_length,
                    sql_hash,
                    connection.alias,
                    connection.vendor,
                    many,
                    in_transaction,
                    -1 if error is not None else cursor.cursor.rowcount,
                    # The class only: messages of drivers quote values, and the exception itself keeps frames.
                    None if error is None else type(error),
                    None if error is None else error_code(error),
                    unit,
                    None if get_span is None else get_span(),
                    # The code object and an offset; the line is looked up by the writer, once per call site.
                    None if frame is None else frame.f_code,
                    0 if frame is None else frame.f_lasti,
                    fetch,
                )
            )
        except Exception as exc:
            if guard.is_foreign(exc):
                raise
            guard.fault("capture", exc)

    return keep


def install(wrapper: ExecuteWrapper, connection: Any) -> None:
    """Add the wrapper to a connection, as the first one; a second call does nothing.

    Not as the last one: Django's `with connection.execute_wrapper(x)` removes the last wrapper at
    its end, which must be x.
    """
    wrappers = connection.execute_wrappers
    if wrappers and wrappers[0] is wrapper:
        return
    uninstall(wrapper, connection)
    wrappers.insert(0, wrapper)


def uninstall(wrapper: ExecuteWrapper, connection: Any) -> None:
    """Remove the wrapper from a connection."""
    while wrapper in connection.execute_wrappers:
        connection.execute_wrappers.remove(wrapper)
