"""Handle this package's own errors: count them, log each place at most once a minute, raise nothing.

Called from every stage, in any thread, including the application's. `faults` feeds the metrics.
`must_propagate` recognizes exceptions that only interrupted our code and must be re-raised.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from inspect import CO_VARARGS
from itertools import pairwise
from opcode import opmap
from types import FrameType, TracebackType

from sqllogs.errors import SQLLogsError

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0

RAISE = opmap["RAISE_VARARGS"]
"""The instruction of `raise` and `assert`."""
EMPTY_CODE_BYTES = 6
"""Length of the code that CPython makes for frames of Cython, which run no instruction."""

faults: Counter[str] = Counter()
"""Number of faults by place since the process started."""

# Used without a lock: at worst, two threads log the same place at once.
_logged_at_s: dict[str, float] = {}


def fault(place: str, exc: BaseException) -> None:
    """Count an error of ours and log it, at most once a minute per place.

    A `SQLLogsError` is expected and logged without a traceback, any other exception with one.
    """
    faults[place] += 1
    now_s = time.monotonic()
    if now_s - _logged_at_s.get(place, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
        return
    _logged_at_s[place] = now_s
    try:
        expected = isinstance(exc, SQLLogsError)
        # Only a warning: handlers for errors send mails and events, but the application did nothing wrong.
        logger.warning("%s: %s (%s so far)", place, exc, faults[place], exc_info=None if expected else exc)
    except (Exception, SystemExit) as error:  # a broken log handler of the site must not break its queries
        if must_propagate(error):
            raise


def must_propagate(exc: BaseException) -> bool:
    """Return True if this exception is not a fault of our code, but interrupted it from outside.

    Call it in each `except` that runs in the application's threads, and re-raise if it returns True:

        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            guard.fault("capture", exc)

    Python runs signal handlers between any two instructions, and another thread may set an exception
    (`PyThreadState_SetAsyncExc`); task queues and test runners implement time limits with both. The
    traceback shows them: a signal handler or trace function is called with the frame that it
    interrupts, and an exception set by another thread is of a class that the code cannot raise, or
    appears where it raises nothing.

    Not a context manager, which would cost something without an exception too.
    """
    if is_interruption(exc):
        return True
    *_, last = (None, *_tracebacks(exc))
    # CPython raises these without a message anywhere, also in our frames.
    if last is None or isinstance(exc, (MemoryError, StopIteration)):
        return False
    package, raised = _package(last.tb_frame.f_globals.get("__name__")), _package(type(exc).__module__)
    if raised in ("builtins", "sqllogs", package):
        # One set by another thread has no message, and no `raise`: Django's code may be interrupted that
        # capture calls, as that of MySQL's cursor. The interpreter's own exceptions have a message.
        code = last.tb_frame.f_code.co_code
        return not exc.args and len(code) > EMPTY_CODE_BYTES and code[last.tb_lasti] != RAISE
    return True


def is_interruption(exc: BaseException) -> bool:
    """Return True if a signal handler or trace function has raised this exception.

    For calls of code that is not ours and may raise anything: `must_propagate` would mistake an exception of
    the application that Django raises, such as DoesNotExist, for one set by another thread.
    """
    frames = (traceback.tb_frame for traceback in _tracebacks(exc))
    return any(_is_called_back(frame, before) for before, frame in pairwise(frames))


def _tracebacks(exc: BaseException) -> Iterator[TracebackType]:
    traceback = exc.__traceback__
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_called_back(frame: FrameType, before: FrameType) -> bool:
    """Return True for a function that got its caller's frame as an argument, which none of ours does."""
    # Not only the previous frame of the traceback: Python removes the frames of its import system, which
    # a signal may interrupt too.
    callers = {id(before), id(frame.f_back)}
    code = frame.f_code
    count = code.co_argcount + bool(code.co_flags & CO_VARARGS)
    arguments = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
    frames = [x for one in arguments for x in (one if type(one) is tuple else (one,)) if type(x) is FrameType]
    return any(id(one) in callers for one in frames)


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]
