"""Choose which records are kept: whole traces by a share, and every slow or failing one.

Used by `sqllogs.delivery` and `sqllogs.otlp` in the writer's thread. All
processes choose alike, for it is the trace id that decides.
"""

import random
from typing import NamedTuple

from sqllogs.record import Record


class Sample(NamedTuple):
    """A share of traces, and all that is slow or fails."""

    share: float
    slow_ms: float

    def has(self, record: Record) -> bool:
        if self.share >= 1 or record.error is not None or record.duration_ms >= self.slow_ms:
            return True
        if record.trace_id is None:
            return random.random() < self.share  # noqa: S311
        # Its lower half, as OpenTelemetry's own sampler has it.
        return int(record.trace_id[16:], 16) < self.share * 2**64

    def split(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        """Return the records to keep and those only to count."""
        if self.share >= 1:
            return records, []
        kept: list[Record] = []
        left: list[Record] = []
        for record in records:
            (kept if self.has(record) else left).append(record)
        return kept, left


ALL = Sample(1.0, 0.0)
