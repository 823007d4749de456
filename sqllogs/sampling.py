"""Choose which records are kept: whole traces by a share, and every slow or failing one.

Used by `sqllogs.delivery` and `sqllogs.otlp` in the writer's thread. All
processes choose alike, for it is the trace id that decides.
"""

import random

from sqllogs.record import Record


def is_chosen(record: Record, share: float, slow_ms: float) -> bool:
    if share >= 1 or record.error is not None or record.duration_ms >= slow_ms:
        return True
    if record.trace_id is None:
        return random.random() < share  # noqa: S311
    # Its lower half, as OpenTelemetry's own sampler has it.
    return int(record.trace_id[16:], 16) < share * 2**64


def split(records: list[Record], share: float, slow_ms: float) -> tuple[list[Record], list[Record]]:
    """Return the records to keep and those only to count."""
    if share >= 1:
        return records, []
    kept: list[Record] = []
    left: list[Record] = []
    for record in records:
        (kept if is_chosen(record, share, slow_ms) else left).append(record)
    return kept, left
