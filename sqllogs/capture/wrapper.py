"""See every query: one execute wrapper, first in the list of every connection.

Runs in the caller's thread, fed by Django, feeds `sqllogs.pipeline.buffer`. Nothing is
resolved here: what can wait is left to `sqllogs.pipeline.writer`.
"""

import sys
from collections.abc import Callable
from time import perf_counter_ns, time_ns
from types import FrameType
from typing import Any

from sqllogs import guard
from sqllogs.capture.call_site import FILES_MAX, is_application
from sqllogs.capture.cursors import WatchedCursor
from sqllogs.context import current
from sqllogs.record import Fetch, error_code
from sqllogs.sql.text import TEXT_MAX_CHARACTERS, excerpt

FRAMES_MAX = 64
"""How far up the stack the call site is looked for."""

FRAMES_BELOW = 2
"""Between the wrapper and who asks a cursor: Django's two, or two of `sqllogs.capture.cursor_methods`."""

ExecuteWrapper = Callable[..., Any]

try:
    from opentelemetry.trace import get_current_span
except ImportError:
    get_current_span = None  # type: ignore[assignment]


def execute_wrapper(put: Callable[[Any], None], *, call_site: bool) -> ExecuteWrapper:
    """Return the wrapper that hands each query to `put`.

    One function serves all connections. It holds none of them: a cycle
    through `connection.execute_wrappers` would keep a dead thread's connection
    open until the garbage collector comes by.
    """
    get_unit = current.get
    libraries: set[str] = set()

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
                frame = _application_frame(libraries) if call_site else None
                sql_length, sql_hash = -1, None
                if type(sql) is not str or len(sql) > TEXT_MAX_CHARACTERS:
                    sql, sql_length, sql_hash = excerpt(sql, getattr(connection, "connection", None))
                cursor = context["cursor"]
                fetch = None
                if isinstance(cursor, WatchedCursor):
                    fetch = Fetch() if error is None else None
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
                guard.fault("capture", exc)
            error = frame = None  # each would otherwise hold this frame, and be held by it

    return sqllogs_wrapper


def _application_frame(libraries: set[str]) -> FrameType | None:
    """Return the nearest frame of application code, if there is one; note the libraries on the way.

    Each frame that is looked at costs as much as all else done with it: the interpreter makes an
    object of it first.
    """
    try:
        frame: FrameType | None = sys._getframe(2 + FRAMES_BELOW)
    except ValueError:  # a thread that was started in the cursor's own method
        return None
    for _ in range(FRAMES_MAX):
        if frame is None:
            return None
        filename = frame.f_code.co_filename
        if filename not in libraries:
            if is_application(filename):
                return frame
            if len(libraries) >= FILES_MAX:
                libraries.clear()
            libraries.add(filename)
        frame = frame.f_back
    return None


def install(wrapper: ExecuteWrapper, connection: Any) -> None:
    """Put the wrapper first on a connection, once, however often it has reconnected.

    First, never last: Django's `with connection.execute_wrapper(x)` pops the
    last one at its end, which must be x.
    """
    wrappers = connection.execute_wrappers
    if wrappers and wrappers[0] is wrapper:
        return
    uninstall(wrapper, connection)
    wrappers.insert(0, wrapper)


def uninstall(wrapper: ExecuteWrapper, connection: Any) -> None:
    """Take the wrapper off a connection."""
    while wrapper in connection.execute_wrappers:
        connection.execute_wrappers.remove(wrapper)
