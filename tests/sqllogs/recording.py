"""Record a test's own queries by the real way, from the wrapper to a ring.

Under pytest the recorder is off; these blocks switch one on and off again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from sqllogs.conf import Conf
from sqllogs.models import SQLLog, Statement
from sqllogs.record import ProcessCounts
from sqllogs.recorder import Recorder

TIMEOUT_S = 120.0
"""What is waited for takes less on the busiest machine; it only ends a test that hangs."""


@contextmanager
def recording(ring_alias: str, **changes: Any) -> Iterator[Recorder]:
    """Record the queries of a block; `changes` are settings of `Conf`."""
    recorder = Recorder(Conf(database=ring_alias, **changes))
    recorder.install()
    try:
        yield recorder
    finally:
        recorder.uninstall()
        recorder.writer.stop(TIMEOUT_S)


class _Cursor:
    class cursor:
        rowcount = 1


class _Connection:
    alias, vendor, in_atomic_block = "default", "sqlite", False


def send_one(recorder: Recorder) -> None:
    """Send a statement past the wrapper that no database sees."""
    context = {"connection": _Connection, "cursor": _Cursor}
    recorder.wrapper(lambda *_: None, "SELECT 1", None, False, context)


def stored(recorder: Recorder, ring_alias: str) -> list[SQLLog]:
    """Flush, and return the records of the ring, oldest first."""
    assert recorder.writer.flush(TIMEOUT_S)
    return list(SQLLog.objects.using(ring_alias).order_by("seq"))


def texts(recorder: Recorder, ring_alias: str) -> list[str]:
    """Flush, and return the statements of the ring as they are kept, oldest first."""
    rows = stored(recorder, ring_alias)
    kept = dict(Statement.objects.using(ring_alias).values_list("fingerprint", "sql"))
    return [kept[row.fingerprint] for row in rows]


def is_balanced(counts: ProcessCounts) -> bool:
    accounted = counts.stored + counts.sampled_out + sum(counts.dropped.values()) + counts.queued
    return counts.captured == accounted


def forget_connection() -> None:
    """Close this thread's connection; `close` alone leaves one to a database in memory open."""
    connection.connection.close()
    connection.connection = None
