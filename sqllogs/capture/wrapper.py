"""Capture every query of a connection with an execute wrapper, always the first, and four overridden methods.

Django calls the wrapper in the caller's thread; it feeds `sqllogs.pipeline.buffer`. Line numbers, ids, names
and fingerprints are left to the writer's thread. The overrides create cursors and end transactions; the
wrapper works without them too. They are set on the connection object, because a custom database backend would
conflict with other packages that set ENGINE.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter_ns, time_ns
from types import FrameType, SimpleNamespace
from typing import Any
from weakref import ref

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from sqllogs import guard
from sqllogs.capture import Fetch, error_code
from sqllogs.capture.askers import COUNTED_MAX, LOOK_UP_AT, SIZED, Askers, hash_values
from sqllogs.capture.call_site import FrameFinder
from sqllogs.capture.cursors import EXECUTE, CursorWatcher, WatchedCursor, is_unpatched
from sqllogs.context import LOOKED_UP, UNCOUNTED, UnitOfWork, current, span_getter
from sqllogs.sql.text import TEXT_MAX_CHARACTERS, excerpt

ExecuteWrapper = Callable[..., Any]

FRAMES_BELOW = 2
"""Frames between the wrapper and the cursor's caller: two of Django, or two of `cursor_methods`."""

TRANSACTION_IDLE = 0
"""libpq's transaction status outside a transaction, the same number in psycopg 2 and 3."""

ENDING = "_sqllogs_ending"
"""Attribute of a connection during COMMIT or ROLLBACK, so that nested overrides record it once."""

MAKE_CURSOR = BaseDatabaseWrapper.make_cursor

# COMMIT and ROLLBACK have no cursor, but `capture` reads a row count.
NO_CURSOR = SimpleNamespace(cursor=SimpleNamespace(rowcount=-1))


def execute_wrapper(
    put: Callable[[Any], None],
    *,
    call_site: bool,
    application: Sequence[str] = (),
    look_up_at: int = LOOK_UP_AT,
    counted: dict[int, Any] = UNCOUNTED,
    compare_values: bool = True,
) -> ExecuteWrapper:
    """Return a wrapper that passes each query to `put`.

    At repetition `look_up_at` of a statement, the stack is searched for the ORM code that sends it. `counted`
    counts repetitions outside units of work.

    One function serves all connections and references none of them: a cycle through
    `connection.execute_wrappers` would keep a dead thread's connection open until the next garbage
    collection. Its attribute `execute` becomes a method of plain cursors.
    """
    get_unit = current.get
    finder = FrameFinder(application)
    find_frame = finder.find if call_site else _no_frame
    hashed = hash_values if compare_values else _no_hash
    capture = _make_capture(put, find_frame, Askers(finder.source, look_up_at), hashed, counted)

    def sqllogs_wrapper(execute: Any, sql: Any, params: Any, many: int, context: dict[str, Any]) -> Any:
        unit = get_unit()
        if (unit is not None and unit.muted) or runs_again(sqllogs_wrapper, execute):
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
            capture(sql, params, many, connection, context["cursor"], before, execute_ns, error, FRAMES_BELOW)
            error = None  # otherwise a reference cycle with this frame

    sqllogs_wrapper.execute = _direct_execute(capture)  # type: ignore[attr-defined]
    return sqllogs_wrapper


def runs_again(wrapper: ExecuteWrapper, execute: Any) -> bool:
    """Return True if `execute` will call the wrapper again, because the host has put it back twice.

    Django passes each wrapper the next one as a `partial`, so the chain can be followed without calling it.
    """
    while type(execute) is partial and execute.func is not wrapper:
        execute = execute.args and execute.args[0]
    return type(execute) is partial


def _direct_execute(capture: Callable[..., None]) -> Callable[..., Any]:
    """Return the method `execute` of plain cursors.

    If ours is the only wrapper, it does in one call what takes five in Django; otherwise it calls Django,
    and puts ours back first if the host has replaced or cleared the list.
    """
    get_unit = current.get

    def execute(self: Any, sql: Any, params: Any = None) -> Any:
        connection = self.db
        wrappers = connection.execute_wrappers
        # Checked at each call, because a cursor may live longer than the list of wrappers or a patch of
        # Django.
        is_alone = len(wrappers) == 1 and wrappers[0] is self.sqllogs_direct
        if not is_alone or CursorWrapper.execute is not EXECUTE:
            self.sqllogs_restore(connection)
            return CursorWrapper.execute(self, sql, params)
        unit = get_unit()
        if (unit is not None and unit.muted) or connection.needs_rollback or not apps.ready:
            return CursorWrapper.execute(self, sql, params)  # raises or warns, if it has to
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
            capture(sql, params, False, connection, self, before, execute_ns, error, 0)
            error = None  # otherwise a reference cycle with this frame

    execute.__qualname__ = EXECUTE.__qualname__  # shown in the TypeError for wrong arguments
    return execute


def _no_frame(frames: int) -> tuple[None, None]:
    return None, None


def _no_hash(values: Any) -> None:
    return None


def _make_capture(  # noqa: C901 - a call costs more
    put: Callable[[Any], None],
    find_frame: Callable[[int], tuple[FrameType | None, str | None]],
    askers: Askers,
    hashed: Callable[[Any], int | None],
    counted: dict[int, Any],
) -> Callable[..., None]:
    """Return a function that records a query which has just run, and never raises."""
    # Local names instead of attributes: it runs for every query, with a budget of microseconds.
    repeated = askers.repeated
    modules = sys.modules
    new_fetch = ref.__new__
    get_span: Callable[[], Any] | None = None

    def capture(
        sql: Any,
        params: Any,
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
            frame, rendering = find_frame(frames)
            sent_ns, in_transaction, unit = before
            sql_length, sql_hash = -1, None
            compared = sql
            # It may be bytes, psycopg's Composed or any object, neither hashable nor of bounded size.
            if type(sql) is not str or len(sql) > TEXT_MAX_CHARACTERS:
                sql, sql_length, sql_hash = excerpt(sql, getattr(connection, "connection", None))
                compared = None
            fetch = None
            if isinstance(cursor, WatchedCursor):
                if error is None:
                    # The bodies of Fetch() and sqllogs_begin(), because calls cost more.
                    fetch = new_fetch(Fetch, cursor)
                    fetch.fetch_ns, fetch.rows, fetch.error, fetch.done = 0, -1, None, False
                if cursor.sqllogs_fetch is not None:
                    cursor.sqllogs_fetch.done = True
                cursor.sqllogs_fetch = fetch
            # Looked up only once the host has imported it: projects without OpenTelemetry should not pay for
            # the import.
            if get_span is None and "opentelemetry.trace" in modules:
                get_span = span_getter()
            asked_by = values = None
            # The code object and an offset; the line is looked up by the writer, once per call site.
            code, lasti = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
            repeats = counted if unit is None else unit.repeats
            # The id of the code object is as good as its line, and faster to hash.
            times = LOOKED_UP if repeats is UNCOUNTED else repeats.get(key := hash(sql) ^ id(code) + lasti)
            if times is not LOOKED_UP:
                values = None if compared is None else hashed(params)
                if times is None and len(repeats) < COUNTED_MAX:
                    repeats[key] = values or 0  # no call, because most statements are sent once
                else:
                    asked_by = repeated(repeats, key, params, values)
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
                    # Only the class: drivers quote values in messages, and an exception keeps its frames.
                    None if error is None else type(error),
                    None if error is None else error_code(error),
                    unit,
                    None if get_span is None else get_span(),
                    code,
                    lasti,
                    fetch,
                    asked_by,
                    rendering or None,
                    values,
                )
            )
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("capture", exc)

    return capture


def install(wrapper: ExecuteWrapper, connection: Any) -> None:
    """Insert the wrapper as the first one of a connection; a second call does nothing.

    Never as the last one: Django's `with connection.execute_wrapper(x)` pops the last wrapper when it
    exits, and that must be x.
    """
    wrappers = connection.execute_wrappers
    if wrappers and wrappers[0] is wrapper:
        return
    if not isinstance(wrappers, list):  # Django reads any sequence
        wrappers = connection.execute_wrappers = list(wrappers)
    uninstall(wrapper, connection)
    wrappers.insert(0, wrapper)


def uninstall(wrapper: ExecuteWrapper, connection: Any) -> None:
    """Remove the wrapper from a connection."""
    # A loop, because the host may have added it twice.
    while wrapper in connection.execute_wrappers:
        connection.execute_wrappers.remove(wrapper)


class Overrides:
    """The overridden methods that belong to one execute wrapper, for any number of connections."""

    def __init__(self, wrapper: Callable[..., Any]) -> None:
        self.wrapper = wrapper
        watcher = CursorWatcher(wrapper, self.restore)
        self.watch = watcher.watch
        self.flat = watcher.flat
        self._uninstalled: list[ref[Any]] = []
        """Connections on which the host may still hold a cursor or an override of ours."""

    def restore(self, connection: Any) -> bool:
        """Install the wrapper again where the host has replaced or cleared the list of wrappers.

        Return whether it is installed. Called by overrides and cursors when they see that it is missing. They
        may still be called after `uninstall`, if another package has wrapped them.
        """
        try:
            if self.wrapper in connection.execute_wrappers:
                return True
            if any(one() is connection for one in self._uninstalled):
                return False
            install(self.wrapper, connection)
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("connection", exc)
            return False
        return True

    def install(self, connection: Any) -> None:
        """Add missing overrides, on top of those of other packages."""
        self._uninstalled = self._uninstalled_without(connection)
        for name, call in OVERRIDES.items():
            found = self._ours(connection, name)
            if found is not None and found.connection() is connection:
                continue
            # copy.copy() of a connection copies our overrides too, and those would commit the original.
            original = vars(connection).get(name) if found is None else found.original
            override = _Override(self, ref(connection), name, original, _context(connection))
            setattr(connection, name, partial(call, override))

    def uninstall(self, connection: Any) -> None:
        """Remove our overrides. One that another package has wrapped stays, but only passes calls on."""
        self._uninstalled = [*self._uninstalled_without(connection), ref(connection)]
        for name in OVERRIDES:
            override = self._ours(connection, name)
            if override is None:
                continue
            if override.original is None:
                delattr(connection, name)
            else:
                setattr(connection, name, override.original)

    def _uninstalled_without(self, connection: Any) -> "list[ref[Any]]":
        # No WeakSet: its callbacks swallow what a signal handler raises, and a connection may have no hash.
        living = ((one, one()) for one in self._uninstalled)
        return [one for one, known in living if known is not None and known is not connection]

    def _ours(self, connection: Any, name: str) -> "_Override | None":
        method = vars(connection).get(name)
        override = method.args[0] if isinstance(method, partial) and method.args else None
        return override if isinstance(override, _Override) and override.owner is self else None


class _Override:
    """State of an override. The override itself is a `partial` of a function with this as first argument.

    A class with `__call__` would take 700 more instructions per call.
    """

    __slots__ = ("connection", "context", "name", "original", "owner")

    def __init__(
        self,
        owner: Overrides,
        connection: Callable[[], Any],
        name: str,
        original: Callable[..., Any] | None,
        context: dict[str, Any],
    ) -> None:
        self.owner = owner
        self.connection = connection
        """A weak reference, because a cycle would keep a dead thread's connection open."""
        self.name = name
        self.original = original
        """Another package's override; None for the method of the class, which may be patched later."""
        self.context = context
        """The execute wrapper's context for COMMIT and ROLLBACK."""


def _make_cursor(override: _Override, cursor: Any) -> Any:
    connection = override.connection()
    if override.original is None:
        # Only for Django's own make_cursor: one of another package must run.
        flat = override.owner.flat
        if flat is not None and type(connection).make_cursor is MAKE_CURSOR and is_unpatched():
            return flat(cursor, connection)
    return _make_watched_cursor(override, cursor)


def _make_watched_cursor(override: _Override, cursor: Any) -> Any:
    connection = override.connection()
    override.owner.restore(connection)
    if override.original is None:
        return override.owner.watch(getattr(type(connection), override.name)(connection, cursor))
    return override.owner.watch(override.original(cursor))


def _end_transaction(override: _Override) -> Any:
    connection = override.connection()
    end = override.original or partial(getattr(type(connection), override.name), connection)
    state = vars(connection)
    wrapper = override.owner.wrapper
    # An atomic block without queries, or commit() in autocommit mode, sends nothing.
    if ENDING in state or not override.owner.restore(connection) or not has_transaction(connection):
        return end()
    try:
        state[ENDING] = True
        return wrapper(lambda *args: end(), ENDINGS[override.name], None, False, override.context)
    finally:
        state.pop(ENDING, None)


OVERRIDES: dict[str, Callable[..., Any]] = {
    "make_cursor": _make_cursor,
    "make_debug_cursor": _make_watched_cursor,
    "_commit": _end_transaction,
    "_rollback": _end_transaction,
}
# Texts for records: Django calls the driver's commit() and rollback(), which send their own.
ENDINGS = {"_commit": "COMMIT", "_rollback": "ROLLBACK"}


def _context(connection: Any) -> dict[str, Any]:
    """Return the execute wrapper's context for COMMIT and ROLLBACK.

    Django has left the atomic block by then, so `in_atomic_block` is set here.
    """
    within = SimpleNamespace(alias=connection.alias, vendor=connection.vendor, in_atomic_block=True)
    return {"connection": within, "cursor": NO_CURSOR}


def has_transaction(connection: Any) -> bool:
    """Return whether the driver has an open transaction; without one it sends no COMMIT."""
    driver = connection.connection
    try:
        if driver is None:
            return False
        if connection.vendor == "sqlite":
            # Asked of the driver, because Django has already left its atomic block.
            return bool(driver.in_transaction)
        if connection.vendor == "postgresql":
            return bool(driver.info.transaction_status != TRANSACTION_IDLE)
        return not connection.autocommit
    except Exception as exc:
        if guard.must_propagate(exc) and not isinstance(exc, connection.Database.Error):
            raise
        return True  # the connection is broken, and COMMIT itself will raise
