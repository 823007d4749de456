"""Write a line for a slow or failing query, at WARNING of logger `sqllogs.slow`.

A sink, in the writer's thread. A statement has one line a minute; what was left
out is counted, and told with its slowest. The line's trace is the query's.
"""

import logging
import time
from dataclasses import dataclass

from sqllogs.conf import Conf
from sqllogs.record import Batch, Record, WriterStatus
from sqllogs.sql.normalize import ScannedStatement

logger = logging.getLogger("sqllogs.slow")

INTERVAL_S = 60.0
STATEMENTS_MAX = 1_000
"""Statements told apart within an interval; all further ones share a line."""
SQL_MAX_CHARACTERS = 2_000

_Key = tuple[str, str | None]
_FURTHER: _Key = ("", None)


@dataclass(slots=True)
class _Interval:
    """What has happened to a statement since its line."""

    until_s: float
    left_out: int = 0
    slowest: Record | None = None
    sql: str = ""


class SlowLog:
    """For one thread at a time."""

    def __init__(self, slow_ms: float) -> None:
        self._slow_ms = slow_ms
        self._intervals: dict[_Key, _Interval] = {}
        """In the order in which they end."""

    def add(self, batch: Batch) -> None:
        now_s = time.monotonic()
        self._end_intervals(now_s)
        for record in batch.records:
            if record.duration_ms >= self._slow_ms or record.error is not None:
                self._note(record, batch.statements[record.fingerprint], now_s)

    def set_status(self, status: WriterStatus) -> None:
        """Tell what was left out though nothing came since."""
        self._end_intervals(time.monotonic())

    def close(self, timeout_s: float) -> None:
        self._end_intervals(float("inf"))

    def _note(self, record: Record, statement: ScannedStatement, now_s: float) -> None:
        sql = statement.sql[:SQL_MAX_CHARACTERS]
        key = (record.fingerprint, record.error)
        if key not in self._intervals and len(self._intervals) >= STATEMENTS_MAX:
            key = _FURTHER
        interval = self._intervals.get(key)
        if interval is None:
            self._intervals[key] = _Interval(now_s + INTERVAL_S)
            _write(record, sql)
            return
        interval.left_out += 1
        if interval.slowest is None or record.duration_ms > interval.slowest.duration_ms:
            interval.slowest, interval.sql = record, sql

    def _end_intervals(self, now_s: float) -> None:
        while self._intervals:
            key, interval = next(iter(self._intervals.items()))
            if interval.until_s > now_s:
                return
            del self._intervals[key]
            if interval.slowest is not None:
                whose = "of further statements" if key == _FURTHER else "like it"
                count = interval.left_out - 1
                _write(interval.slowest, interval.sql, f" ({count} {whose} left out)" if count else "")


def make(conf: Conf) -> SlowLog:
    return SlowLog(conf.slow_ms)


def _write(record: Record, sql: str, left_out: str = "") -> None:
    failed = f" failed with {record.error}" if record.error is not None else ""
    trace_id = record.trace_id or "0"
    fields = {
        "trace_id": trace_id,  # the formatters' and exporters' word, instead of this thread's
        "span_id": record.span_id or "0",
        "sampled": record.sampled,
        "fingerprint": record.fingerprint,
        "duration_ms": record.duration_ms,
        "alias": record.alias,
        "view": record.view or "",
    }
    logger.warning(
        "%.1f ms%s at %s: %s trace_id=%s%s",
        record.duration_ms,
        failed,
        record.call_site or record.view or record.kind,
        sql,
        trace_id,
        left_out,
        extra=fields,
    )
