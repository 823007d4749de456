"""Threads, locks and queues of the operating system, even if gevent or eventlet has patched Python's.

With monkey-patching a thread is a greenlet, and a single wait in SQLite's busy timeout would stop every
request of the worker: 9.9 s were measured. The writer and the OTLP sink run in threads started here. `Tally`
counts in any thread.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from itertools import count
from queue import Empty
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from _thread import RLock as _RLock
    from queue import SimpleQueue as SimpleQueue

POLL_S = 0.005
"""A waiting greenlet polls this often, and lets others run in between."""
POLL_FORK_S = 0.0005
"""Polling interval of a thread that waits for a fork, or to fork; it may be one of the application."""

Result = TypeVar("Result")


def _original(module: str, name: str) -> Any:
    """Return what a name of the standard library was before monkey-patching."""
    if (monkey := sys.modules.get("gevent.monkey")) is not None:
        return monkey.get_original(module, name)
    if (patcher := sys.modules.get("eventlet.patcher")) is not None:
        return getattr(patcher.original(module), name)
    return getattr(import_module(module), name)


# At import: a later patch replaces the modules' attributes, not these.
Lock: Callable[[], Any] = _original("_thread", "allocate_lock")
"""To be taken once, or by one thread and released by another. For `with` there is `RLock`."""
get_ident: Callable[[], int] = _original("_thread", "get_ident")
_start_new_thread = _original("_thread", "start_new_thread")
sleep: Callable[[float], None] = _original("time", "sleep")
if not TYPE_CHECKING:
    SimpleQueue = _original("queue", "SimpleQueue")
    _RLock = _original("_thread", "RLock")


class RLock(_RLock):  # type: ignore[misc]  # final only for type checkers
    """The lock for `with` in this package: `with` releases it whatever a signal handler raises.

    With Python's own locks, Python 3.14 may run a signal handler after the lock is taken and before the block
    begins; if it raises, the lock stays taken (python/cpython#148874). The same may happen after
    `lock.acquire()` in any Python. No handler runs between `map()` taking the lock and the return to the
    caller. `__exit__` is inherited, because a handler may run at the start of a function written in Python.
    """

    __slots__ = ()

    def __enter__(self, blocking: bool = True, timeout: float = -1) -> bool:
        for is_held in map(self.acquire, (blocking,), (timeout,)):
            return is_held
        raise AssertionError("a loop of one step")


class Tally:
    """A counter that many threads increment without a lock."""

    __slots__ = ("_count", "_lock", "_reads", "add")

    def __init__(self) -> None:
        # next() of a count is a single call into C, which no other thread interrupts; `+= 1` loses updates.
        self._count = count()
        self._reads = 0
        self._lock = RLock()
        self.add: Callable[[], int] = self._count.__next__

    @property
    def value(self) -> int:
        with self._lock:
            self._reads += 1  # reading the counter increments it, so reads are subtracted
            return next(self._count) - self._reads + 1


FORK_MAX_S = 2.0
"""Longest time between the hooks before and after a fork, which includes the hooks of other packages."""

IS_FORKING = object()
"""Returned instead of a result while another thread forks; the call is tried again."""


class SerialCalls:
    """Let one thread at a time make calls, and none while another thread forks: from `pause` to `resume`.

    `pause` holds no lock but sets a deadline: an exception that a signal handler raises in a fork's hook ends
    the hook, and `resume` may never run. A lock would then stay taken.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget the calls and forks of the parent, whose threads the child does not have."""
        self._lock = RLock()
        self._calls: dict[object, int] = {}
        """The thread of each call; calls of one thread may be nested, or be those of several greenlets."""
        self._forks: dict[int, float] = {}

    @property
    def _owner(self) -> int:
        return next(iter(self._calls.copy().values()), 0)

    @property
    def is_busy(self) -> bool:
        return bool(self._calls)

    @property
    def is_own(self) -> bool:
        """Return True within a call of this thread."""
        return self._owner == get_ident()

    def call(self, function: Callable[[], Result]) -> Result:
        """Call the function, after other threads' calls and forks."""
        while (result := self._try_to_call(function)) is IS_FORKING:
            sleep(POLL_FORK_S)
        return cast(Result, result)

    def _try_to_call(self, function: Callable[[], Result]) -> Result | object:
        call = object()
        with self._lock:
            try:
                self._calls[call] = get_ident()
                return IS_FORKING if self._is_forking() else function()
            finally:
                # Each by itself, because greenlets of one thread may end theirs in any order.
                self._calls.pop(call, None)

    def wait(self, timeout_s: float) -> bool:
        """Wait until no other thread is making a call; return False if one still is after this time."""
        until_s = time.monotonic() + timeout_s
        while self._owner not in (0, get_ident()) and time.monotonic() < until_s:
            sleep(POLL_FORK_S)
        return not self._owner

    def pause(self, timeout_s: float) -> bool:
        """Block other threads' calls until `resume`; return False if one is still running after this time."""
        self._forks[get_ident()] = time.monotonic() + timeout_s + FORK_MAX_S
        is_free = self.wait(timeout_s)
        self._forks[get_ident()] = time.monotonic() + FORK_MAX_S
        return is_free

    def resume(self) -> None:
        self._forks.pop(get_ident(), None)

    def _is_forking(self) -> bool:
        now_s, own = time.monotonic(), get_ident()
        return any(now_s < until_s and thread != own for thread, until_s in self._forks.copy().items())


def is_patched() -> bool:
    """Return True if gevent or eventlet has replaced threads by greenlets."""
    return import_module("_thread").start_new_thread is not _start_new_thread


def is_fork_of_thread() -> bool:
    """Return True in the fork of a thread other than the main one.

    Such a process does not exit: it ends with its last thread, which must not be one of ours.
    """
    return not isinstance(threading.main_thread(), threading._MainThread)  # type: ignore[attr-defined]


def has_forker_ended() -> bool:
    """Return True in the fork of a thread that has ended since."""
    # Not `is_alive()`, which joins an ended thread: with glibc 2.43, a join of the first thread of a fork
    # never returns.
    return is_fork_of_thread() and threading.main_thread() not in threading.enumerate()


class RunningThread(Protocol):
    def is_alive(self) -> bool: ...
    def join(self, timeout: float | None = None) -> None: ...


def start(target: Callable[[], None], name: str) -> RunningThread:
    """Start a daemon thread; raise RuntimeError if none can be started any more."""
    if is_patched():
        return _NativeThread(target, name)
    thread = threading.Thread(target=target, name=name)
    thread.daemon = True  # not as an argument, because packages replace the constructor
    thread.start()
    return thread


class _NativeThread:
    """A thread of the operating system in a process whose threads are greenlets."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._name = name
        # A lock of the operating system, because `threading.Event` would be that of greenlets.
        self._running = Lock()
        self._running.acquire()
        _start_new_thread(self._run, ())

    def is_alive(self) -> bool:
        return bool(self._running.locked())

    def join(self, timeout: float | None = None) -> None:
        until_s = time.monotonic() + (timeout or 0.0)
        while self.is_alive() and time.monotonic() < until_s:
            time.sleep(POLL_S)  # the patched one, which lets other greenlets run

    def _run(self) -> None:
        try:
            threading.current_thread().name = self._name  # for log lines
            self._target()
        finally:
            self._running.release()


def join(thread: RunningThread, timeout_s: float) -> None:
    """Wait for a thread at the end of the process; no greenlet runs in the meantime."""
    until_s = time.monotonic() + timeout_s
    while thread.is_alive() and time.monotonic() < until_s:
        sleep(POLL_S) if is_patched() else thread.join(timeout_s)


def get(queue: "SimpleQueue[Any]", timeout_s: float, *, blocking: bool = False) -> Any:
    """Return the next item; raise Empty. Other greenlets run in the meantime, unless `blocking`."""
    if blocking or not is_patched():
        return queue.get(timeout=timeout_s)
    until_s = time.monotonic() + timeout_s
    while True:
        with suppress(Empty):
            return queue.get_nowait()
        if time.monotonic() >= until_s:
            raise Empty
        time.sleep(POLL_S)
