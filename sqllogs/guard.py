"""Handle this package's own errors: count them, log each place at most once a minute, raise nothing.

Called from every stage, in any thread, including the application's. `faults` feeds the metrics.
`is_foreign` recognizes an exception that is not ours although our code was running: it must go on.
"""

import logging
import time
from collections import Counter
from inspect import CO_VARARGS
from types import FrameType

from sqllogs.errors import SQLLogsError

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0

faults: Counter[str] = Counter()
"""Number of faults by place since the process started."""

_logged_at_s: dict[str, float] = {}


def fault(place: str, exc: BaseException, *, level: int = logging.WARNING) -> None:
    """Count an error of ours and log it, at most once a minute per place.

    A `SQLLogsError` is expected, its message is enough; any other exception is logged with its traceback.
    """
    faults[place] += 1
    now_s = time.monotonic()
    if now_s - _logged_at_s.get(place, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
        return
    _logged_at_s[place] = now_s
    try:
        expected = isinstance(exc, SQLLogsError)
        logger.log(level, "%s: %s (%s so far)", place, exc, faults[place], exc_info=None if expected else exc)
    except Exception as error:  # a broken log handler of the site must not break its queries through us
        if is_foreign(error):
            raise


def is_foreign(exc: BaseException) -> bool:
    """Return True if something outside interrupted our code with this exception.

    Call it in each `except` that runs in the application's threads, and re-raise what is foreign:

        except Exception as exc:
            if guard.is_foreign(exc):
                raise
            guard.fault("capture", exc)

    Python runs signal handlers between any two instructions, and another thread may set an exception
    (`PyThreadState_SetAsyncExc`); task queues and test runners implement time limits with both. The
    traceback shows them: a signal handler or trace function is called with the frame that it
    interrupts, and an exception set by another thread is of a class that the code cannot raise.
    Costs nothing until there is an exception.
    """
    traceback, frame = exc.__traceback__, None
    while traceback is not None:
        if frame is not None and _is_interruption(traceback.tb_frame, frame):
            return True
        frame, traceback = traceback.tb_frame, traceback.tb_next
    if frame is None or isinstance(exc, MemoryError):
        return False
    package, raised = _package(frame.f_globals.get("__name__")), _package(type(exc).__module__)
    if raised == "builtins":  # the interpreter's own exceptions have a message
        return package == "sqllogs" and not exc.args
    return raised not in ("sqllogs", package)


def _is_interruption(frame: FrameType, caller: FrameType) -> bool:
    """Return True for a function with its caller's frame among its arguments, as none of ours has."""
    code = frame.f_code
    count = code.co_argcount + bool(code.co_flags & CO_VARARGS)
    arguments = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
    return any(one is caller or (type(one) is tuple and any(x is caller for x in one)) for one in arguments)


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]
