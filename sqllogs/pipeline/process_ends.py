"""Store what a process has captured when it ends or before somebody else ends it.

Installed by `sqllogs.recorder`; runs in the main thread of the process that ends. multiprocessing
children skip atexit, and the children of a Pool are killed when its `with` block ends.
"""

import atexit
import multiprocessing
import multiprocessing.util
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

POOL_FLUSH_TIMEOUT_S = 1.0
"""A task of a Pool waits at most this long for the store before its result is sent."""
POOL_RETRY_S = 15.0
"""After a store did not answer, tasks do not wait for it for this long."""


class _FlushFirst:
    """The lock of a pool's results: taken before each result is sent, after the queries are stored."""

    def __init__(self, lock: Any, flush: Callable[[float], object]) -> None:
        self._lock = lock
        self._flush = flush
        self._skip_until_s = 0.0

    def __enter__(self) -> Any:
        if time.monotonic() >= self._skip_until_s and not self._flush(POOL_FLUSH_TIMEOUT_S):
            self._skip_until_s = time.monotonic() + POOL_RETRY_S
        return self._lock.__enter__()

    def __exit__(self, *exc_info: object) -> Any:
        return self._lock.__exit__(*exc_info)


class ProcessEnds:
    """`close` is called at the end of this process and of each multiprocessing child."""

    def __init__(self, close: Callable[[], None], flush: Callable[[float], object]) -> None:
        self._close = close
        self._flush = flush

    def install(self) -> None:
        atexit.register(self._close)
        is_spawning = getattr(multiprocessing.current_process(), "_inheriting", False)
        if multiprocessing.parent_process() is not None or is_spawning:
            self._install_in_child()
        multiprocessing.util.register_after_fork(self, ProcessEnds._install_in_child)

    def _install_in_child(self) -> None:
        multiprocessing.util.Finalize(None, self._close, exitpriority=10)
        process: Any = multiprocessing.current_process()
        if not hasattr(process, "_target"):
            self._wrap_worker()
        elif (pool := sys.modules.get("multiprocessing.pool")) and process._target is pool.worker:
            self._flush_before_results(process._args[1])

    def _wrap_worker(self) -> None:
        """Prepare a spawned child, which imports its program before it learns what it is to run."""
        from multiprocessing import pool

        run: Callable[..., Any] = pool.worker  # type: ignore[attr-defined]

        @wraps(run)
        def worker(inqueue: Any, outqueue: Any, *args: Any, **kwargs: Any) -> Any:
            self._flush_before_results(outqueue)
            return run(inqueue, outqueue, *args, **kwargs)

        pool.worker = worker  # type: ignore[attr-defined]

    def _flush_before_results(self, results: Any) -> None:
        # Not its `put`: the pool's worker holds that by now if Django is set up in an initializer.
        if getattr(results, "_wlock", None) is not None:
            results._wlock = _FlushFirst(results._wlock, self._flush)
