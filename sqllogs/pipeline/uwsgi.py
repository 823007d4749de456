"""What is different in a process of uWSGI, which loads the application, forks in C and may run no threads.

Asked by `sqllogs.recorder` when it starts a writer and after a fork, in the caller's thread.
"""

import os
import sys
from typing import Any


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
