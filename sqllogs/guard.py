"""The one place where this package's own faults end.

Called in any thread, the caller's included: a fault is counted, logged at most
once a minute per place, and never raised.
"""

import logging
import time
from collections import Counter

from sqllogs.errors import SQLLogsError

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0

faults: Counter[str] = Counter()
"""Faults by place since the process started."""

_logged_at_s: dict[str, float] = {}


def fault(place: str, exc: BaseException, *, level: int = logging.WARNING) -> None:
    """Count a fault of ours and log it, once a minute per place; with traceback unless it is foreseen."""
    faults[place] += 1
    now_s = time.monotonic()
    if now_s - _logged_at_s.get(place, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
        return
    _logged_at_s[place] = now_s
    try:
        foreseen = isinstance(exc, SQLLogsError)
        logger.log(level, "%s: %s (%s so far)", place, exc, faults[place], exc_info=None if foreseen else exc)
    except Exception:  # noqa: S110  (a host's broken log handler must not reach the host through us)
        pass
