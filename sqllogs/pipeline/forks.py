"""Notice that this process is a fork of the one that started the writer, and what uWSGI does differently.

`os.register_at_fork` does not run where a server forks in C, as uWSGI does after loading; it may run no
threads either. The recorder looks at the mark for every record, in the caller's thread.
"""

import mmap
import os
import sys
from typing import Any, Protocol

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

    A page that the kernel clears in a fork: reading it takes 35 ns, os.getpid() 50 to 400 ns.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):
        return _Pid()
    page[0] = 1
    return page


def _uwsgi() -> Any:
    """Return the module that exists only within uWSGI, else None."""
    return sys.modules.get("uwsgi")


def threads_run() -> bool:
    """Return False without --enable-threads: there threads get no time between requests."""
    if (uwsgi := _uwsgi()) is None:
        return True
    names = {name.decode() if isinstance(name, bytes) else name for name in uwsgi.opt}
    return not names.isdisjoint({"enable-threads", "threads", "gevent"})


def is_loading() -> bool:
    """Return True in the master, which loads the application and then only forks.

    A connection that it opened would be inherited by all workers: nothing runs before that fork.
    """
    uwsgi = _uwsgi()
    return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.masterpid() in (0, os.getpid())


def is_first_worker() -> bool:
    """Return True in the one worker that stores what was captured while the application was loaded."""
    uwsgi = _uwsgi()
    return uwsgi is not None and uwsgi.worker_id() == 1 and uwsgi.workers()[0]["respawn_count"] <= 1
