"""Measure the memory of a full buffer as a ratio of its limit."""

import gc
import tracemalloc
from types import SimpleNamespace
from typing import Any

import django

django.setup()

from django.db.backends.utils import CursorWrapper  # noqa: E402

from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.samples import QUERIES_PER_UNIT  # noqa: E402
from sqllogs.capture.cursors import CursorWatcher  # noqa: E402
from sqllogs.capture.wrapper import execute_wrapper  # noqa: E402
from sqllogs.conf import Conf  # noqa: E402
from sqllogs.context import UnitOfWork, current  # noqa: E402
from sqllogs.pipeline.buffer import Buffer  # noqa: E402

CASES = (
    ("100 characters", "x", 100),
    ("500 characters", "x", 500),
    ("500 characters of 4 bytes", "\N{GRINNING FACE}", 500),
    ("2,000 characters", "x", 2_000),
    ("60,000 characters", "x", 60_000),
)


def main() -> None:
    conf = Conf()
    table(
        f"Memory of a buffer at its bound of {conf.buffer_rows:,} rows and {conf.buffer_bytes:,} bytes",
        ("every statement", "rows held", "bound", "counted MB", "measured MB", "of the bytes", "goal"),
        [_measured(*case) for case in CASES],
    )


def _measured(name: str, letter: str, characters: int) -> tuple[object, ...]:
    conf = Conf()
    buffer = Buffer(rows_max=conf.buffer_rows, bytes_max=conf.buffer_bytes)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    _fill(buffer, letter, characters)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    bound = next(reason for reason, tally in buffer.dropped.items() if tally.value)
    share = held / conf.buffer_bytes
    return name, len(buffer), bound, buffer.held_bytes / 1e6, held / 1e6, share, at_most(share, 1)


def _fill(buffer: Buffer, letter: str, characters: int) -> None:
    """Capture, by the real wrapper, until a record is dropped; no two texts are one object."""
    wrapper = execute_wrapper(buffer.put, call_site=True)
    cursor = CursorWatcher(wrapper, bool).watch(CursorWrapper(SimpleNamespace(rowcount=-1), None))
    context: dict[str, Any] = {
        "connection": SimpleNamespace(in_atomic_block=False, alias="default", vendor="sqlite"),
        "cursor": cursor,
    }
    number = 0
    while not any(tally.value for tally in buffer.dropped.values()):
        if number % QUERIES_PER_UNIT == 0:
            current.set(UnitOfWork("request", method="GET", request_id=f"request-{number}"))
        wrapper(_execute, f"{number:010}".ljust(characters, letter), (), False, context)
        cursor.sqllogs_fetch.add(1_000_000 + number, 1)
        number += 1
    current.set(None)


def _execute(sql: Any, params: Any, many: bool, context: Any) -> None:
    return None


if __name__ == "__main__":
    main()
