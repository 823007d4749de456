"""Handle this package's own errors: count them, log each place at most once a minute, raise nothing.

Called from every stage, in any thread, including the application's. `faults` feeds the metrics.
"""

import logging
import time
from collections import Counter

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
    except Exception:  # noqa: S110  (a broken log handler of the site must not break its queries through us)
        pass
