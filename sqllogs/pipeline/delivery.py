"""Take queries out of the buffer, resolve them and hand them to the ring, batch by batch.

Called by `sqllogs.pipeline.writer` in its thread. It keeps the batch that the ring did
not take, and the account: captured == stored + sampled_out + dropped + queued.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from sqllogs import guard
from sqllogs.errors import RejectedRowsError
from sqllogs.pipeline.buffer import Buffer, OpenFetches
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.record import ALL, UNIT, Batch, ProcessCounts, Sample, WriterStatus
from sqllogs.storage.ring import Ring

BATCH_ROWS = 2_000

NOTHING = Batch(records=[], statements={})
"""Written to tell the store what this process has dropped."""


class Delivery:
    """For one thread at a time, but `counts`, which any may call."""

    def __init__(
        self,
        buffer: Buffer,
        ring: Ring,
        make_resolver: Callable[[], Resolver],
        sinks: Sinks,
        *,
        sample: Sample = ALL,
    ) -> None:
        self._buffer = buffer
        self._ring = ring
        self._make_resolver = make_resolver
        self._sinks = sinks
        self._sample = sample
        self._resolver: Resolver | None = None
        self._held: list[tuple[int | None, Batch]] = []
        """The batch under way, in parts if it was refused, each with its first number once reserved."""
        self._unfinished = OpenFetches()
        self._parts = count(1)
        self._stored = self._sampled_out = self._rejected = self._muted = 0
        self._oldest_ns = 0
        self.written_at_s = time.monotonic()

    def counts(self) -> ProcessCounts:
        """Return what this process has captured, stored, dropped and holds."""
        dropped = {reason: tally.value for reason, tally in self._buffer.dropped.items()}
        dropped["rejected"] = self._rejected
        return ProcessCounts(
            captured=self._buffer.captured.value - self._muted,
            stored=self._stored,
            sampled_out=self._sampled_out,
            dropped={reason: count for reason, count in dropped.items() if count},
            queued=len(self._buffer) + len(self._unfinished) + sum(len(batch) for _, batch in self._held),
            oldest_ns=self._oldest_ns,
            exported=self._sinks.exported(),
        )

    def write_all(self, *, wait: bool = False) -> None:
        """Write what is in the buffer at this moment; raise StoreUnavailableError.

        Queries whose cursors are still at work may be held back for a later call.
        """
        left = len(self._buffer) + len(self._unfinished)
        while self._held or left > 0:
            if not self._held:
                left -= BATCH_ROWS
                batch = self._next_batch(wait=wait)
                if len(batch):
                    self._held.append((None, batch))
                continue
            self._write_held()
            self.written_at_s = time.monotonic()

    def forget_held(self) -> None:
        """Drop the batch that a fault of ours met: it would meet it again."""
        self._rejected += sum(len(batch) for _, batch in self._held)
        self._held.clear()

    def _next_batch(self, *, wait: bool) -> Batch:
        if self._resolver is None:
            self._resolver = self._make_resolver()
        drained = self._buffer.drain(BATCH_ROWS)
        self._oldest_ns = drained[0][0] + drained[0][1] if drained else 0
        ready = self._unfinished.split_ready(drained, wait=wait)
        recorded = [captured for captured in ready if captured[UNIT] is None or not captured[UNIT].muted]
        self._muted += len(ready) - len(recorded)
        batch = self._resolver.batch(recorded)
        self._sinks.add(batch)
        kept, left = self._sample.split(batch.records)
        return replace(batch, records=kept, sampled_out=left) if left else batch

    def report_status(self, flush_s: float | None) -> None:
        """Tell the sinks how it is after a round, which took so long if it wrote anything."""
        self._sinks.set_status(
            WriterStatus(
                counts=self.counts(),
                queue_bytes=self._buffer.held_bytes,
                lag_s=self._lag_s(),
                flush_s=flush_s,
            )
        )

    def _lag_s(self) -> float:
        waiting_s = [(batch.records or batch.sampled_out)[0].time.timestamp() for _, batch in self._held]
        if (oldest_ns := self._buffer.oldest_ns) is not None:
            waiting_s.append(oldest_ns / 1e9)
        return max(0.0, time.time() - min(waiting_s)) if waiting_s else 0.0

    def close_sinks(self, timeout_s: float) -> None:
        """Have the sinks hand over what they wait, at the end of the process."""
        self._sinks.close(timeout_s)

    def _write_held(self) -> None:
        """Write the last held part; halve one that is refused until only the rows at fault are dropped."""
        first_seq, batch = self._held[-1]
        rows = len(batch.records)
        if first_seq is None:
            first_seq = self._ring.reserve(rows)
        if not batch.part:
            batch = replace(batch, part=next(self._parts))
        self._held[-1] = (first_seq, batch)
        before = self.counts()
        after = replace(
            before,
            stored=before.stored + rows,
            sampled_out=before.sampled_out + len(batch.sampled_out),
            queued=before.queued - len(batch),
        )
        try:
            self._ring.write(first_seq, batch, after)
        except RejectedRowsError as exc:
            self._held.pop()
            if len(batch) > 1:
                # Each gets its number when its turn comes: numbers are written in rising order.
                first, second = batch.halves()
                self._held += (first_seq + len(first.records), second), (first_seq, first)
            else:
                self._rejected += 1
                guard.fault("rejected record", exc)
                self._ring.write(first_seq, replace(NOTHING, part=next(self._parts)), self.counts())
            return
        self._held.pop()
        self._stored += rows
        self._sampled_out += len(batch.sampled_out)
