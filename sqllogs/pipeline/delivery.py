"""Drain the buffer, resolve the queries and hand them to the sinks and the ring, batch by batch.

Called by `sqllogs.pipeline.writer` in its thread. It keeps a batch that the ring could not store
for the next attempt, and accounts for every query:
captured == stored + sampled_out + dropped + queued.
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

EMPTY_BATCH = Batch(records=[], statements={})
"""Written to update the process's row alone."""


class Delivery:
    """For one thread at a time, except `counts`, which any thread may call."""

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
        self._pending: list[tuple[int | None, Batch]] = []
        """The batch being written, in parts if it was rejected, each with its first number once reserved."""
        self._open_fetches = OpenFetches()
        self._parts = count(1)
        self._stored = self._sampled_out = self._rejected = self._muted = 0
        self._oldest_ns = 0
        self.written_at_s = time.monotonic()

    def counts(self) -> ProcessCounts:
        """Return how many records this process has captured, stored, dropped and queued."""
        dropped = {reason: tally.value for reason, tally in self._buffer.dropped.items()}
        dropped["rejected"] = self._rejected
        return ProcessCounts(
            captured=self._buffer.captured.value - self._muted,
            stored=self._stored,
            sampled_out=self._sampled_out,
            dropped={reason: count for reason, count in dropped.items() if count},
            queued=len(self._buffer) + len(self._open_fetches) + self._pending_rows(),
            oldest_ns=self._oldest_ns,
            exported=self._sinks.exported(),
        )

    def _pending_rows(self) -> int:
        return sum(len(batch) for _, batch in self._pending)

    def write_all(self, *, wait: bool = False) -> None:
        """Write what is in the buffer now; raise StoreUnavailableError.

        With `wait`, queries whose cursor is still fetching are left for a later call.
        """
        remaining = len(self._buffer) + len(self._open_fetches)
        while self._pending or remaining > 0:
            if not self._pending:
                remaining -= BATCH_ROWS
                batch = self._next_batch(wait=wait)
                if len(batch):
                    self._pending.append((None, batch))
                continue
            self._write_pending()
            self.written_at_s = time.monotonic()

    def drop_pending(self) -> None:
        """Drop and count the batch that raised a fault of ours: it would raise it again."""
        self._rejected += self._pending_rows()
        self._pending.clear()

    def _next_batch(self, *, wait: bool) -> Batch:
        if self._resolver is None:
            self._resolver = self._make_resolver()
        drained = self._buffer.drain(BATCH_ROWS)
        self._oldest_ns = drained[0][0] + drained[0][1] if drained else 0
        ready = self._open_fetches.split_ready(drained, wait=wait)
        recorded = [captured for captured in ready if captured[UNIT] is None or not captured[UNIT].muted]
        self._muted += len(ready) - len(recorded)
        batch = self._resolver.batch(recorded)
        self._sinks.add(batch)
        kept, sampled_out = self._sample.split(batch.records)
        return replace(batch, records=kept, sampled_out=sampled_out) if sampled_out else batch

    def report_status(self, flush_s: float | None) -> None:
        """Report to the sinks after a round; `flush_s` is how long it took, None if it wrote nothing."""
        self._sinks.set_status(
            WriterStatus(
                counts=self.counts(),
                queue_bytes=self._buffer.held_bytes,
                lag_s=self._lag_s(),
                flush_s=flush_s,
            )
        )

    def _lag_s(self) -> float:
        waiting_s = [(batch.records or batch.sampled_out)[0].time.timestamp() for _, batch in self._pending]
        if (oldest_ns := self._buffer.oldest_ns) is not None:
            waiting_s.append(oldest_ns / 1e9)
        return max(0.0, time.time() - min(waiting_s)) if waiting_s else 0.0

    def close_sinks(self, timeout_s: float) -> None:
        """Let the sinks send what they have queued, at the end of the process."""
        self._sinks.close(timeout_s)

    def _write_pending(self) -> None:
        """Write the last pending part; halve a rejected one until only the rows at fault are dropped."""
        first_seq, batch = self._pending[-1]
        rows = len(batch.records)
        if first_seq is None:
            first_seq = self._ring.reserve(rows)
        if not batch.part:
            batch = replace(batch, part=next(self._parts))
        self._pending[-1] = (first_seq, batch)
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
            self._pending.pop()
            if len(batch) > 1:
                # Each half gets its part number when it is written: part numbers are written in rising order.
                first, second = batch.halves()
                self._pending += (first_seq + len(first.records), second), (first_seq, first)
            else:
                self._rejected += 1
                guard.fault("rejected record", exc)
                self._ring.write(first_seq, replace(EMPTY_BATCH, part=next(self._parts)), self.counts())
            return
        self._pending.pop()
        self._stored += rows
        self._sampled_out += len(batch.sampled_out)
