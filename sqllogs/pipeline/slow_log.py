"""Log slow and failing queries at WARNING to logger `sqllogs.slow`.

A sink in the writer's thread that gets every batch. It logs at most one line per statement and minute; the
next line has the number of queries not logged in between, and the slowest of them. Each line has its query's
trace id.
"""

import logging
import time
from dataclasses import dataclass
from itertools import chain

from sqllogs.conf import Conf, is_test_environment
from sqllogs.record import Batch, Record, WriterStatus

logger = logging.getLogger("sqllogs.slow")

INTERVAL_S = 60.0
STATEMENTS_MAX = 1_000
"""Maximum statements with separate lines in an interval; all others share one."""
SQL_MAX_CHARACTERS = 2_000

_Key = tuple[str, str | None]
_OTHERS: _Key = ("", None)


@dataclass(slots=True)
class _Interval:
    """The queries of a statement since its last line."""

    until_s: float
    skipped: int = 0
    slowest: Record | None = None


class SlowLog:
    """For one thread at a time."""

    def __init__(self, slow_ms: float) -> None:
        self._slow_us = slow_ms * 1000
        self._intervals: dict[_Key, _Interval] = {}
        """Ordered by their end."""

    def add(self, batch: Batch) -> None:
        # Tests expect their errors. Not `conf.why_disabled`: tests that enable capture must not print either.
        if is_test_environment():
            return
        now_s = time.monotonic()
        self._end_intervals(now_s)
        slow_us = self._slow_us
        for record in chain(batch.records, [group.record for group in batch.groups]):
            if record.duration_us >= slow_us or record.form.error is not None:
                self._note(record, now_s)

    def count(self, batch: Batch) -> None:
        self.add(batch)

    def set_status(self, status: WriterStatus) -> None:
        """End intervals even if there was no new query."""
        self._end_intervals(time.monotonic())

    def close(self, timeout_s: float) -> None:
        self._end_intervals(float("inf"))

    def _note(self, record: Record, now_s: float) -> None:
        # By error too, so that slow queries do not suppress the line of a failure of the same statement.
        key = (record.fingerprint, record.error)
        if key not in self._intervals and len(self._intervals) >= STATEMENTS_MAX:
            # So a database that rejects every statement causes 1,001 lines a minute and not a full disk.
            key = _OTHERS
        interval = self._intervals.get(key)
        if interval is None:
            self._intervals[key] = _Interval(now_s + INTERVAL_S)
            _write(record)
            return
        interval.skipped += 1
        if interval.slowest is None or record.duration_ms > interval.slowest.duration_ms:
            interval.slowest = record

    def _end_intervals(self, now_s: float) -> None:
        while self._intervals:
            key, interval = next(iter(self._intervals.items()))
            if interval.until_s > now_s:
                return
            del self._intervals[key]
            if interval.slowest is not None:
                whose = "of other statements" if key == _OTHERS else "like it"
                count = interval.skipped - 1  # the slowest of them has this line
                _write(interval.slowest, f" ({count} {whose} not logged)" if count else "")


def make(conf: Conf) -> SlowLog:
    return SlowLog(conf.slow_ms)


def _write(record: Record, skipped: str = "") -> None:
    failed = f" failed with {record.error}" if record.error is not None else ""
    # In the message too: the log format of most projects does not show `extra`.
    trace = f" trace_id={record.trace_id}" if record.trace_id else ""
    fields = {
        "trace_id": record.trace_id or "0",  # formatters and exporters use it instead of the current trace
        "span_id": record.span_id or "0",
        "sampled": record.sampled,
        "fingerprint": record.fingerprint,
        "duration_ms": record.duration_ms,
        "alias": record.alias,
        "view": record.view or "",
    }
    logger.warning(
        "%.1f ms%s at %s: %s%s%s",
        record.duration_ms,
        failed,
        record.call_site or record.view or record.kind,
        record.form.statement.sql[:SQL_MAX_CHARACTERS],
        trace,
        skipped,
        extra=fields,
    )
