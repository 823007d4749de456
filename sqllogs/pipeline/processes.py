"""Detect how a process begins and ends: as a fork, under uWSGI, or as a child of multiprocessing.

`os.register_at_fork` has no effect if a server forks in C, as uWSGI does after loading, and uWSGI may run
without threads. So the recorder checks `process_mark` for every record, in the caller's thread. `ProcessEnds`
calls the recorder at each end that a process may have, in the thread that ends it.
"""

import atexit
import mmap
import multiprocessing
import multiprocessing.util
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, Protocol

from sqllogs import guard

MADV_WIPEONFORK = 18
"""Linux 4.14 and newer; Python has no name for it."""


class ProcessMark(Protocol):
    """`mark[0]` is true in the process that made it and false in its forks."""

    def __getitem__(self, index: int, /) -> int: ...


class _Pid:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return os.getpid() == self._pid


def process_mark() -> ProcessMark:
    """Return a mark of this process.

    It is a memory page that the kernel clears in a fork: reading it takes 35 ns, os.getpid() 50 to 400 ns.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError) as exc:
        if guard.is_interruption(exc):
            raise
        return _Pid()
    page[0] = 1
    return page


def _uwsgi() -> Any:
    """Return the module that uWSGI adds to its processes, else None."""
    return sys.modules.get("uwsgi")


def threads_run() -> bool:
    """Return False under uWSGI without --enable-threads, where threads do not run between requests."""
    if (uwsgi := _uwsgi()) is None:
        return True
    names = {name.decode() if isinstance(name, bytes) else name for name in uwsgi.opt}
    return not names.isdisjoint({"enable-threads", "threads", "gevent"})


def is_loading() -> bool:
    """Return True in the master of uWSGI, which loads the application and then only forks.

    All workers would inherit a connection that it opened, so the writer is not started before the fork.
    """
    uwsgi = _uwsgi()
    return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.masterpid() in (0, os.getpid())


def is_first_worker() -> bool:
    """Return True in the one worker that stores what was captured while the application was loaded."""
    uwsgi = _uwsgi()
    return uwsgi is not None and uwsgi.worker_id() == 1 and uwsgi.workers()[0]["respawn_count"] <= 1


POOL_FLUSH_TIMEOUT_S = 1.0
"""A task of a Pool waits at most this long for the store before its result is sent."""
POOL_RETRY_S = 15.0
"""If the store did not respond, tasks do not wait for it for this long."""


class _FlushFirst:
    """Wraps the lock of a pool's result queue: flushes before a result is sent."""

    def __init__(self, lock: Any, flush: Callable[[float], object]) -> None:
        self._lock = lock
        self._flush = flush
        self._skip_until_s = 0.0

    def __enter__(self) -> Any:
        # Before taking the lock: all children of the pool share it, and would wait for this one's store.
        if time.monotonic() >= self._skip_until_s and not self._flush(POOL_FLUSH_TIMEOUT_S):
            self._skip_until_s = time.monotonic() + POOL_RETRY_S
        return self._lock.__enter__()

    def __exit__(self, *exc_info: object) -> Any:
        return self._lock.__exit__(*exc_info)


def _closing_first(close: Callable[[], None], exit_now: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    """Return a function for `os._exit` that calls `close` before it."""

    @wraps(exit_now)
    def close_and_exit(*args: Any, **kwargs: Any) -> NoReturn:
        try:
            close()
        finally:
            # Even if a signal handler raised in close(): a fork must not go on to run its parent's code.
            exit_now(*args, **kwargs)

    return close_and_exit


class ProcessEnds:
    """Call `close` however this process or a child of it ends, unless it is killed:

    - atexit: a program that returns or raises SystemExit.
    - `os._exit`: a fork, such as the process of an RQ job. It skips atexit, whose functions are its parent's.
    - a finalizer: a child of multiprocessing, which skips atexit too. If forked, it calls `os._exit` then, so
      `close` is called twice.

    Children of a Pool are killed when its `with` block ends, so they flush before they send a result.
    """

    def __init__(self, close: Callable[[], None], flush: Callable[[float], object]) -> None:
        self._close = close
        self._flush = flush

    def install(self) -> None:
        atexit.register(self._close)
        os._exit = _closing_first(self._close, os._exit)
        # A spawned child imports its program before parent_process() knows that it has a parent.
        is_spawning = getattr(multiprocessing.current_process(), "_inheriting", False)
        if multiprocessing.parent_process() is not None or is_spawning:
            self._install_in_child()
        multiprocessing.util.register_after_fork(self, ProcessEnds._install_in_child)

    def _install_in_child(self) -> None:
        # Children run finalizers at their end, but not what is registered with atexit.
        # With a priority, because finalizers without one do not run at the end of a process.
        multiprocessing.util.Finalize(None, self._close, exitpriority=10)
        process: Any = multiprocessing.current_process()
        if not hasattr(process, "_target"):  # spawned, and still importing its program
            self._wrap_pool_worker()
        elif (pool := sys.modules.get("multiprocessing.pool")) and process._target is pool.worker:
            self._flush_before_results(process._args[1])

    def _wrap_pool_worker(self) -> None:
        """Flush before results if this spawned child is one of a Pool, which it learns after the import."""
        from multiprocessing import pool

        run: Callable[..., Any] = pool.worker  # type: ignore[attr-defined]

        @wraps(run)
        def worker(inqueue: Any, outqueue: Any, *args: Any, **kwargs: Any) -> Any:
            self._flush_before_results(outqueue)
            return run(inqueue, outqueue, *args, **kwargs)

        pool.worker = worker  # type: ignore[attr-defined]

    def _flush_before_results(self, results: Any) -> None:
        # The lock and not `put`: if Django is set up in an initializer, the worker has already looked up
        # `put`.
        if getattr(results, "_wlock", None) is not None:
            results._wlock = _FlushFirst(results._wlock, self._flush)
