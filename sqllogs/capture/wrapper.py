"""Capture every query with one execute wrapper, the first on every connection.

Called by Django in the caller's thread, feeds `sqllogs.pipeline.buffer`. Line numbers, ids, names and
fingerprints are left to the writer's thread.
"""

from collections.abc import Callable, Sequence
from time import perf_counter_ns, time_ns
from typing import Any

from sqllogs import guard
from sqllogs.capture.call_site import FrameFinder
from sqllogs.capture.cursors import WatchedCursor
from sqllogs.context import current
from sqllogs.record import Fetch, error_code
from sqllogs.sql.text import TEXT_MAX_CHARACTERS, excerpt

ExecuteWrapper = Callable[..., Any]

try:
    from opentelemetry.trace import get_current_span
except ImportError:
    get_current_span = None  # type: ignore[assignment]


def execute_wrapper(
    put: Callable[[Any], None], *, call_site: bool, application: Sequence[str] = ()
) -> ExecuteWrapper:
    """Return a wrapper that passes each query to `put`.

    One function serves all connections and refers to none: a reference cycle through
    `connection.execute_wrappers` would keep a dead thread's connection open until the next
    garbage collection.
    """
    get_unit = current.get
    find_frame = FrameFinder(application).find

    def sqllogs_wrapper(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        unit = get_unit()
        if unit is not None and unit.muted:
            return execute(sql, params, many, context)
        connection = context["connection"]
        in_transaction = connection.in_atomic_block
        error = frame = None
        sent_ns = time_ns()
        started_ns = perf_counter_ns()
        try:
            return execute(sql, params, many, context)
        except BaseException as exc:
            error = exc
            raise
        finally:
            execute_ns = perf_counter_ns() - started_ns
            try:
                frame = find_frame() if call_site else None
                sql_length, sql_hash = -1, None
                if type(sql) is not str or len(sql) > TEXT_MAX_CHARACTERS:
                    sql, sql_length, sql_hash = excerpt(sql, getattr(connection, "connection", None))
                cursor = context["cursor"]
                fetch = None
                if isinstance(cursor, WatchedCursor):
                    fetch = Fetch(cursor) if error is None else None
                    cursor.sqllogs_begin(fetch)
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
                        None if error is None else type(error),
                        None if error is None else error_code(error),
                        unit,
                        get_current_span() if get_current_span is not None else None,
                        None if frame is None else frame.f_code,
                        0 if frame is None else frame.f_lasti,
                        fetch,
                    )
                )
            except Exception as exc:
                if guard.is_foreign(exc):
                    raise
                guard.fault("capture", exc)
            error = frame = None  # otherwise a reference cycle with this frame

    return sqllogs_wrapper


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
