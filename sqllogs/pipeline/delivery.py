"""Drain the buffer, resolve the queries and pass them to the sinks and the ring, batch by batch.

Called by `sqllogs.pipeline.writer` in its thread. A batch that the ring could not store is kept for the next
attempt. At any moment, captured == stored + sampled_out + dropped + queued. Queries that did not fit into the
buffer are dropped, but still counted in statistics, metrics and units of work, even while the store is
unavailable.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from sqllogs import guard
from sqllogs.capture import EXECUTE_NS, TIME_NS, UNIT, Captured
from sqllogs.context import UnitOfWork
from sqllogs.errors import RejectedRowsError, StoreReplacedError
from sqllogs.pipeline.buffer import Buffer, OpenFetches
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.pipeline.units import Units, unit_row
from sqllogs.record import ALL, Batch, ProcessCounts, Record, Sample, UnitRow, WriterStatus
from sqllogs.sql.normalize import ScannedStatement
from sqllogs.statistics import counting
from sqllogs.statistics.counting import Counts
from sqllogs.storage.ring import Ring
from sqllogs.threads import RLock, sleep

ROW_INTERVAL_S = 5.0
"""The process's row is updated this often while only the outcomes of exports change."""

OVERFLOW_ROWS = 2_000
"""Overflowed queries counted between two releases of the interpreter's lock: about 2 ms."""
COUNTED_MAX = 20_000
"""Keys and minutes counted while the store is unavailable, about 20 MB; queries beyond it are `uncounted`."""

SLOT_KEPT_SHARE = 0.75
"""A unit whose last record is older than this share of the ring gets a new slot before its own is reused."""

EMPTY_BATCH = Batch(records=[])
"""Written to update only the process's row."""


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
        with_idle_units: bool = True,
    ) -> None:
        self._buffer = buffer
        self._ring = ring
        self._make_resolver = make_resolver
        self._sinks = sinks
        self._sample = sample
        self._resolver: Resolver | None = None
        self._lock = RLock()
        """Held while records move between the next four, so that `counts` sees each exactly once."""
        self._taken: list[Captured] = []
        """Drained, but not resolved yet."""
        self._pending: list[tuple[int | None, Batch]] = []
        """The batch being written, in parts if it was rejected, each with its first seq once reserved."""
        self._open_fetches = OpenFetches()
        self._units = Units(sample, with_idle=with_idle_units)
        self._counted: Counts = {}
        """Queries without a record, to be written with the next batch."""
        self._counted_statements: dict[str, ScannedStatement] = {}
        self._uncounted = 0
        """Overflowed queries that have not been counted, or could not be."""
        self._parts = count(1)
        self._stored = self._sampled_out = self._rejected = self._muted = 0
        self._oldest_ns = 0
        self._next_seq = 0
        self._row_exported: dict[str, int] = {}
        """The outcomes of exports as last written to the process's row."""
        self._row_at_s = 0.0
        self.written_at_s = time.monotonic()

    def counts(self) -> ProcessCounts:
        """Return how many records this process has captured, stored, dropped and queued."""
        # Before the lock: a sink has its own.
        exported = self._sinks.exported()
        with self._lock:
            dropped = self._buffer.drops()
            buffered = len(self._buffer)  # once: other threads add to it meanwhile
            captured = self._buffer.drained + buffered + sum(dropped.values()) - self._muted
            dropped["rejected"] = self._rejected
            _move_uncounted(dropped, self._uncounted + self._buffer.overflow.lost)
            return ProcessCounts(
                captured=captured,
                stored=self._stored,
                sampled_out=self._sampled_out,
                dropped={reason: count for reason, count in dropped.items() if count},
                queued=buffered + len(self._open_fetches) + self._in_hand(),
                oldest_ns=self._oldest_ns,
                exported=exported,
                units_dropped=self._units.dropped,
            )

    def _in_hand(self) -> int:
        return len(self._taken) + sum(len(batch) for _, batch in self._pending)

    def write_all(self, *, wait: bool = False) -> None:
        """Write what is in the buffer now; raise StoreUnavailableError.

        With `wait`, queries whose cursor is still fetching are left for a later call.
        """
        if not self._in_hand():
            self._oldest_ns = 0  # there may be nothing to write but units that have ended
        # Before the buffer is drained: all queries of a unit that has ended are in it by now.
        self._units.take_closed()
        self._count_overflow(wait=wait)
        # Only what is there now. On a busy site, a flush that included new queries would never end.
        remaining = len(self._buffer) + len(self._open_fetches) + len(self._taken)
        while self._pending or remaining > 0:
            if self._pending:
                self._write_pending()
                self.written_at_s = self._row_at_s = time.monotonic()
                # Also between two batches: a slow store must not let the overflow fill up.
                self._count_overflow(wait=wait)
                continue
            remaining -= self._ring.batch_rows
            if not self._taken:
                self._take(wait=wait)
            self._resolve()
            if remaining <= 0:
                self._count_ended()
        self._count_ended()
        while self._pending:
            self._write_pending()
        if time.monotonic() - self._row_at_s >= ROW_INTERVAL_S:
            self.write_row()

    def _count_overflow(self, *, wait: bool) -> None:
        """Count the queries that did not fit into the buffer; works without the store."""
        overflow = self._buffer.overflow
        while (drained := overflow.drain(OVERFLOW_ROWS, wait=wait)).calls:
            drained = drained.without_muted()
            self._uncounted += drained.calls
            try:
                self._count(self._get_resolver().counted(drained))
            except Exception as exc:
                guard.fault("overflow", exc)
            sleep(0)  # lets the application's threads run, as in the resolver

    def _count(self, batch: Batch) -> None:
        """Count queries that will have no record; until here each is `uncounted`."""
        self._units.note(batch.records, batch.units, with_record=False)
        self._units.note_groups(batch.groups)
        more = counting.count(batch.records)
        counting.count_groups(batch.groups, more)
        # Keys that exist already need no more memory, so only new ones are limited.
        new, room = [at for at in more if at not in self._counted], COUNTED_MAX - len(self._counted)
        for at in new[max(0, room) :]:
            del more[at]
        counting.add_counts(self._counted, more)
        self._counted_statements |= batch.statements
        self._uncounted -= _calls(more)
        self._sinks.count(batch)

    def _count_ended(self) -> None:
        """Add ended units, and counts without records, to the last batch: each write is a transaction."""
        self._units.decide(self._open_fetches.units() | self._buffer.overflow.units())
        ended = self._units.take_ended(self._get_resolver)
        if ended or self._units.is_due or self._counted:
            if not self._pending:
                self._pending.append((self._next_seq, EMPTY_BATCH))
            first_seq, batch = self._pending[0]
            self._pending[0] = (
                first_seq,
                replace(
                    batch,
                    ended=[*batch.ended, *ended],
                    counted=self._counted,
                    statements=batch.statements | self._counted_statements,
                ),
            )
            self._counted, self._counted_statements = {}, {}
        if ended:
            self._sinks.add(Batch(records=[], ended=ended))

    def write_row(self) -> None:
        """Write the process's row if outcomes of exports have changed since; raise StoreUnavailableError.

        A batch's transaction writes the row too, but its records are exported only afterwards.
        """
        counts = self.counts()
        if counts.exported == self._row_exported:
            return
        self._ring.write(self._next_seq, replace(EMPTY_BATCH, part=next(self._parts)), counts)
        self._row_exported, self._row_at_s = counts.exported, time.monotonic()

    def drop_in_hand(self) -> None:
        """Drop and count the records at which our code failed: it would fail at them again."""
        with self._lock:
            self._rejected += self._in_hand()
            self._units.drop(sum(len(batch.ended) for _, batch in self._pending))
            self._uncounted += sum(_calls(batch.counted) for _, batch in self._pending)
            self._taken = []
            self._pending.clear()

    def _take(self, *, wait: bool) -> None:
        """Drain the buffer, without queries that are still fetching and those of muted units."""
        with self._lock:
            self._taken = self._buffer.drain(self._ring.batch_rows)
            oldest = self._taken[0] if self._taken else None
            ready = self._open_fetches.split_ready(self._taken, wait=wait)
            self._taken = [one for one in ready if (unit := one[UNIT]) is None or not unit.muted]
            self._muted += len(ready) - len(self._taken)
            # Measured from the end of the query, because a long query is no lag of the writer.
            self._oldest_ns = oldest[TIME_NS] + oldest[EXECUTE_NS] if oldest else 0

    def _resolve(self) -> None:
        batch = self._get_resolver().batch(self._taken)
        units = batch.units
        self._units.note(batch.records, units)
        kept, sampled_out = self._split(batch.records)
        if sampled_out:
            # By id(), because equal records may be of different units.
            unit_of = dict(zip(map(id, batch.records), units, strict=True))
            units = [unit_of[id(record)] for record in kept]
        with self._lock:
            self._rejected += len(self._taken) - len(batch.records)
            self._taken = []
            if batch.records:
                stored_units: list[UnitOfWork | None] = [
                    self._units.outside if unit is None else unit for unit in units
                ]
                self._pending.append(
                    (None, replace(batch, records=kept, sampled_out=sampled_out, stored_units=stored_units))
                )
        # Last, so that an exception set by another thread cannot make the sinks see a batch twice.
        self._sinks.add(batch)

    def _split(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        try:
            return self._sample.split(records)
        except Exception as exc:
            guard.fault("sample", exc)
            return records, []

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
        waiting_s = [
            (batch.records or batch.sampled_out)[0].time.timestamp()
            for _, batch in self._pending
            if len(batch)
        ]
        if (oldest_ns := self._buffer.oldest_ns) is not None:
            waiting_s.append(oldest_ns / 1e9)
        return max(0.0, time.time() - min(waiting_s)) if waiting_s else 0.0

    def close_sinks(self, timeout_s: float) -> None:
        """Let the sinks send what is queued, at the end of the process."""
        self._sinks.close(timeout_s)

    def start_sinks(self) -> None:
        """Let the sinks import and start what they need, while the process can still do that."""
        self._sinks.start()

    def flush_sinks(self, timeout_s: float) -> bool:
        """Wait until the sinks have sent what they have queued; return False if time was not enough."""
        return self._sinks.flush(timeout_s)

    def _write_pending(self) -> None:
        """Write the last pending part; halve a rejected one until only the rows at fault are dropped."""
        first_seq, batch = self._pending[-1]
        rows = len(batch.records)
        first_seq, batch = self._reserve(first_seq, batch)
        if not batch.part:
            batch = replace(batch, part=next(self._parts))
        self._pending[-1] = (first_seq, batch)
        before = self.counts()
        # The counts after the write, because the process's row is written in the same transaction.
        after = replace(
            before,
            stored=before.stored + rows,
            sampled_out=before.sampled_out + len(batch.sampled_out),
            queued=before.queued - len(batch),
        )
        units = self._units.to_write(batch.stored_units, first_seq, self._ring.generation)
        try:
            self._ring.write(first_seq, self._with_units(batch, units), after)
        except StoreReplacedError:
            self._pending[-1] = (None, replace(batch, part=0, generation=0))
            return
        except RejectedRowsError as exc:
            self._isolate(first_seq, batch, units, exc)
            return
        self._units.written(units)
        self._next_seq = first_seq + rows
        self._row_exported = after.exported
        with self._lock:
            self._pending.pop()
            self._stored += rows
            self._sampled_out += len(batch.sampled_out)

    def _reserve(self, first_seq: int | None, batch: Batch) -> tuple[int, Batch]:
        """Reserve what a batch lacks: numbers for its records, slots for its units."""
        generation, rows = self._ring.generation, len(batch.records)
        if batch.generation not in (0, generation):
            first_seq = None
        units = self._units.without_slot(batch.stored_units, generation)
        idle = self._units.idle_without_slot(generation)
        if first_seq is None or units or idle:
            count = rows if first_seq is None else 0
            reserved = self._ring.reserve_all(count, units=len(units), idle=len(idle))
            if first_seq is None:
                first_seq, batch = reserved.first_seq, replace(batch, generation=reserved.generation)
            self._units.assign_slots(reserved, first_seq, units, idle)
            if reserved.generation != generation:  # replaced meanwhile: other units need slots there too
                return self._reserve(first_seq, batch)
        kept = int(SLOT_KEPT_SHARE * self._ring.capacity)
        # Not known before the process's first batch, whose units have all just got their slots.
        if kept and (outdated := self._units.outdated(batch.stored_units, first_seq + rows - kept)):
            reserved = self._ring.reserve_all(0, units=len(outdated))
            self._units.assign_slots(reserved, first_seq, outdated, [])
        return first_seq, batch

    def _with_units(self, batch: Batch, units: list[tuple[UnitOfWork, bool]]) -> Batch:
        if not units:
            return batch
        rows: dict[UnitOfWork, UnitRow] = {}
        for unit, _ in units:
            try:
                rows[unit] = unit_row(unit, self._get_resolver())
            except Exception as exc:
                self._units.leave_out(unit, exc)
        slots: dict[UnitOfWork | None, int | None] = {unit: unit.row.slot for unit in rows}
        return replace(batch, unit_rows=list(rows.values()), slots=list(map(slots.get, batch.stored_units)))

    def _get_resolver(self) -> Resolver:
        if self._resolver is None:
            self._resolver = self._make_resolver()
        return self._resolver

    def _isolate(
        self, first_seq: int, batch: Batch, units: list[tuple[UnitOfWork, bool]], exc: RejectedRowsError
    ) -> None:
        """Halve the last pending part; leave out the texts of a single record's unit, or else the record."""
        if len(batch) > 1:
            # Each half gets its part number when it is written: part numbers are written in rising order.
            first, second = batch.halves()
            # In this order, because the last part is written next.
            self._pending[-1:] = [(first_seq + len(first.records), second), (first_seq, first)]
            return
        if self._units.reject(units):
            guard.fault("rejected unit", exc)
            self._pending[-1] = first_seq, replace(batch, part=0)
            return
        # Everything else in the batch, and the process's row, are written without the record.
        rest = replace(
            EMPTY_BATCH,
            ended=batch.ended,
            counted=batch.counted,
            statements=batch.statements if batch.counted else {},
        )
        has_rest = len(batch) > 0 or bool(units)
        with self._lock:
            self._rejected += len(batch)
            self._pending[-1:] = [(first_seq, rest)] if has_rest else []
        guard.fault("rejected record", exc)
        if len(batch):
            self._units.restore(units)
        elif units:
            self._units.written(units)
        else:
            self._units.drop(len(batch.ended))
            self._uncounted += _calls(batch.counted)


def _calls(counts: Counts) -> int:
    return sum(counted.calls for counted in counts.values())


def _move_uncounted(dropped: dict[str, int], uncounted: int) -> None:
    """Change the reason of dropped queries that could not even be counted to `uncounted`."""
    for reason in ("buffer_rows", "buffer_bytes"):
        moved = min(uncounted, dropped[reason])
        dropped[reason] -= moved
        dropped["uncounted"] += moved
        uncounted -= moved
