"""Add up the queries of each unit of work, and create its row.

`sqllogs.pipeline.delivery` passes each resolved batch and the units that have ended, in the writer's thread.
The rows are written by `sqllogs.storage.ring` in the batch's transaction.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqllogs import context, guard
from sqllogs.context import UnitOfWork
from sqllogs.pipeline.resolver import Resolver, cleaned
from sqllogs.pipeline.transactions import Transactions
from sqllogs.record import (
    REPEATS_MAX,
    CountedQueries,
    EndedUnit,
    QueryForm,
    Record,
    Reserved,
    Sample,
    UnitRow,
)
from sqllogs.sql.text import text_of

DUE_MAX = 10_000
"""Maximum ended units that wait for the store; beyond it the oldest are dropped and counted."""


class OpenUnit:
    """The totals of a unit's queries so far; kept in the unit's attribute `row`.

    It has no reference to the unit: freeing such cycles with the garbage collector took more time than all
    else here.
    """

    __slots__ = (
        "errors",
        "first_seq",
        "generation",
        "has_record",
        "is_complete",
        "is_idle",
        "is_outside",
        "last_seq",
        "owner",
        "queries",
        "repeats",
        "rows",
        "slot",
        "total_us",
        "trace",
        "transactions",
        "without_texts",
    )  # fmt: skip

    def __init__(self, owner: "Units") -> None:
        self.owner = owner
        """The `Units` of this process.

        A forked child that continues its parent's unit gets a separate row.
        """
        self.trace: tuple[str | None, bool] | None = None
        """Trace id and whether it is sampled, of the first query, because a span may have another one."""
        self.slot: int | None = None
        self.generation = 0
        """Generation of the store in which the slot was reserved; another store has other slots."""
        self.first_seq = self.last_seq = 0
        self.without_texts = False
        """The database rejected it, so it is written without the host's texts."""
        self.is_outside = False
        """It represents all queries of the process outside units of work, and has neither id nor totals."""
        self.is_idle = False
        """None of its queries is stored."""
        self.has_record = False
        """At least one of its queries was not dropped by the buffer."""
        self.is_complete = False
        """Its row was written after its end."""
        self.queries = self.errors = self.rows = 0
        self.total_us = 0
        self.repeats: dict[tuple[str, str | None], int] = {}
        self.transactions: Transactions | None = None

    def add(self, records: Sequence[Record], *, in_order: bool = True) -> None:
        """Add queries; `in_order` means that they come after all added before."""
        if not self.queries:
            origin = records[0].origin
            self.trace = origin.trace_id, origin.sampled
        self.queries += len(records)
        total_us = rows = 0
        forms: dict[QueryForm, int] = {}
        for record in records:
            total_us += record.duration_us
            rows += record.rows or 0
            form = record.form
            forms[form] = forms.get(form, 0) + 1
        self.total_us += total_us
        self.rows += rows
        in_transaction = False
        for form, times in forms.items():
            if form.error is not None:
                self.errors += times
            if form.in_transaction:
                in_transaction = True
            self._repeat(form, times)
        if in_order and (in_transaction or self.transactions is not None):
            self.transactions = self.transactions or Transactions()
            self.transactions.add(records)

    def add_group(self, group: CountedQueries) -> None:
        """Add queries without a record. Transactions ignore them, because their order is unknown."""
        record, times = group.record, len(group.durations_us)
        if not self.queries:
            self.trace = record.trace_id, record.sampled
        self.queries += times
        self.total_us += sum(group.durations_us)
        self.errors += times * (record.error is not None)
        self.rows += group.rows
        self._repeat(record.form, times)

    def _repeat(self, form: QueryForm, times: int) -> None:
        line, repeats = form.line, self.repeats
        before = repeats.get(line, 0)
        if before or len(repeats) < REPEATS_MAX:
            repeats[line] = before + times

    def worst(self) -> tuple[int, str | None, str | None]:
        """Return the highest count of one line sending one statement, with its fingerprint and call site."""
        times = max(self.repeats.values()) if self.repeats else 0
        if times < 2:
            return times, None, None
        fingerprint, call_site = next(key for key, count in self.repeats.items() if count == times)
        return times, fingerprint, call_site


class Units:
    """The units of one process; for one thread."""

    def __init__(self, sample: Sample, *, with_idle: bool) -> None:
        self._sample = sample
        self._with_idle = with_idle
        self._undecided: list[UnitOfWork] = []
        """Ended units of which queries may still be in the buffer."""
        # A dict, because unlike a set it is ordered: the oldest are dropped first.
        self._due: dict[UnitOfWork, None] = {}
        """Ended units to write although there is no record of theirs to write."""
        self._ended: list[UnitOfWork] = []
        """Ended units that have not been counted."""
        self._dropped = 0
        self.outside = UnitOfWork("thread")
        self.outside.row = OpenUnit(self)
        self.outside.row.is_outside = True

    @property
    def dropped(self) -> int:
        """Number of units whose row is missing or was not completed: a queue was full, or it was rejected."""
        return self._dropped + context.closed_dropped.value

    def drop(self, count: int) -> None:
        """Count units that were lost by a fault of ours."""
        self._dropped += count

    def reject(self, units: Sequence[tuple[UnitOfWork, bool]]) -> bool:
        """Leave out the texts of units of which the database rejected one; return False if none has any."""
        fresh = [unit for unit, _ in units if not unit.row.without_texts]
        self._dropped += len(fresh)
        for unit in fresh:
            unit.row.without_texts = True
        return bool(fresh)

    def restore(self, units: Sequence[tuple[UnitOfWork, bool]]) -> None:
        """Undo `reject`: not the units were at fault, but their record."""
        for unit, _ in units:
            self._dropped -= unit.row.without_texts  # `reject` has counted it
            unit.row.without_texts = False

    def note(
        self,
        records: Sequence[Record],
        units: Iterable[UnitOfWork | None],
        *,
        with_record: bool = True,
    ) -> None:
        """Add queries to their units. Those without a record come out of order."""
        for unit, pairs in groupby(zip(units, records, strict=True), itemgetter(0)):
            if unit is not None:
                row = self._row(unit)
                row.has_record |= with_record
                row.add([record for _, record in pairs], in_order=with_record)

    def note_groups(self, groups: Iterable[CountedQueries]) -> None:
        """Add queries without a record to their units."""
        for group in groups:
            if group.unit is not None:
                self._row(group.unit).add_group(group)

    def _row(self, unit: UnitOfWork) -> OpenUnit:
        row: OpenUnit | None = unit.row
        # If an idle unit sends a query after all, it needs a slot among the units with records.
        if row is None or row.owner is not self or row.is_idle:
            row = unit.row = OpenUnit(self)
        return row

    def take_closed(self) -> None:
        """Take the units that have ended since the last call. Call it before the buffer is drained."""
        context.close_abandoned()
        while context.closed:
            self._undecided.append(context.closed.popleft())
        surplus = max(0, len(self._undecided) - DUE_MAX)
        del self._undecided[:surplus]
        self._dropped += surplus

    def decide(self, fetching: Container[UnitOfWork]) -> None:
        """Decide which ended units are to be written. Call it after the buffer has been drained.

        Units in `fetching` have queries that are not resolved yet, so they wait.
        """
        undecided, self._undecided = self._undecided, []
        for unit in undecided:
            if unit in fetching:
                self._undecided.append(unit)
                continue
            try:
                self._decide(unit)
            except Exception as exc:
                self.leave_out(unit, exc)
        for unit in list(self._due)[: max(0, len(self._due) - DUE_MAX)]:
            del self._due[unit]
            self._dropped += 1

    def _decide(self, unit: UnitOfWork) -> None:
        row = unit.row if unit.row is not None and unit.row.owner is self else None
        # Its row was written with its records, but while it was still running.
        if row is not None and row.slot is not None and not row.is_complete:
            self._due[unit] = None
        elif row is not None and not row.has_record and self._keeps(unit):
            row.is_idle = True  # stored among the units without SQL
            self._due[unit] = None
        elif row is None and self._with_idle and self._keeps(unit):
            unit.row = OpenUnit(self)
            unit.row.is_idle = True
            self._due[unit] = None
        self._ended.append(unit)

    def leave_out(self, unit: UnitOfWork, exc: Exception) -> None:
        """Count a unit with a value that cannot be resolved. It gets no row; others are not affected."""
        self._due.pop(unit, None)
        if unit.row is None or not unit.row.without_texts:
            self._dropped += 1
        if unit.row is not None:
            unit.row.without_texts = True
        guard.fault("units", exc)

    def take_ended(self, get_resolver: Callable[[], Resolver]) -> list[EndedUnit]:
        """Return the units that have ended and been decided since the last call."""
        ended, self._ended = self._ended, []
        found = []
        for unit in ended:
            try:
                found.append(self._ended_unit(unit, get_resolver()))
            except Exception as exc:
                self.leave_out(unit, exc)
        return found

    def _ended_unit(self, unit: UnitOfWork, resolver: Resolver) -> EndedUnit:
        row: OpenUnit | None = unit.row if unit.row is not None and unit.row.owner is self else None
        return EndedUnit(
            unit,
            (unit.time_ns + unit.duration_ns) // 10**9,
            _has_failed(unit),
            0 if row is None else row.queries,
            *resolver.dimensions(unit),
        )

    def _keeps(self, unit: UnitOfWork) -> bool:
        """Sample a unit without a query as records are: keep it if it is slow or has failed."""
        return _has_failed(unit) or self._sample.keeps_unit(unit.span_id, unit.duration_ns / 1e6)

    @property
    def is_due(self) -> bool:
        return bool(self._due)

    def outdated(self, units: Iterable[UnitOfWork | None], from_seq: int) -> list[UnitOfWork]:
        """Return the units without a record since this seq: their slots may be reused."""
        return [unit for unit in dict.fromkeys(units) if unit is not None and unit.row.last_seq < from_seq]

    def without_slot(self, units: Iterable[UnitOfWork | None], generation: int) -> list[UnitOfWork]:
        """Return the units of records to store that need a slot."""
        return [unit for unit in dict.fromkeys(units) if unit is not None and _needs_slot(unit, generation)]

    def idle_without_slot(self, generation: int) -> list[UnitOfWork]:
        return [unit for unit in self._due if unit.row.is_idle and _needs_slot(unit, generation)]

    def assign_slots(
        self, reserved: Reserved, first_seq: int, units: list[UnitOfWork], idle: list[UnitOfWork]
    ) -> None:
        """Give units the slots that have been reserved for them."""
        for unit, slot in zip(units, reserved.slots, strict=True):
            row = unit.row
            row.slot, row.generation = slot, reserved.generation
            row.first_seq = row.last_seq = first_seq
        for unit, number in zip(idle, reserved.idle, strict=True):
            row = unit.row
            row.slot, row.generation = reserved.idle_slot(number), reserved.generation
            row.first_seq = row.last_seq = number

    def to_write(
        self, units: Sequence[UnitOfWork | None], first_seq: int, generation: int
    ) -> list[tuple[UnitOfWork, bool]]:
        """Return the units to write with some records, in order of slot, and whether each has ended."""
        last = {unit: seq for seq, unit in enumerate(units, first_seq) if unit is not None}
        for unit, seq in last.items():
            unit.row.last_seq = max(unit.row.last_seq, seq)
        # By slot, so that a unit that sent records and has ended is written only once.
        found = {unit.row.slot: unit for unit in (*last, *self._due)}
        found.pop(None, None)
        return [
            (found[slot], found[slot].duration_ns > 0)
            for slot in sorted(found)
            if found[slot].row.generation == generation
        ]

    def written(self, units: Iterable[tuple[UnitOfWork, bool]]) -> None:
        for unit, is_complete in units:
            unit.row.is_complete = is_complete
            self._due.pop(unit, None)


def _needs_slot(unit: UnitOfWork, generation: int) -> bool:
    return unit.row.slot is None or unit.row.generation != generation


def _has_failed(unit: UnitOfWork) -> bool:
    """Return True if it failed. A client that disconnects, or exit(0) in a command, is no failure."""
    # The exception counts besides the status: a streamed body may fail after its headers were sent.
    raised = unit.kind == "request" and unit.exception not in (None, "CancelledError")
    return unit.failed or raised or (unit.status or 0) >= 500


def unit_row(unit: UnitOfWork, resolver: Resolver) -> UnitRow:
    """Return the row of a unit as it is now."""
    row: OpenUnit = unit.row
    times, fingerprint, call_site = row.worst()
    transactions = row.transactions
    if row.trace is not None:
        trace_id, sampled = row.trace
    else:
        trace_id, sampled = None if row.is_outside else f"{unit.trace_id:032x}", unit.sampled
    kind, route, view, method, release, service = resolver.dimensions(unit)
    tags = [tag for tag in map(text_of, unit.tags) if tag] if unit.tags else None
    time_us, duration_us = unit.time_ns // 1000, unit.duration_ns // 1000
    # Positional, in the order of the columns: keywords took four times as long, a tenth of a unit's cost.
    made = UnitRow._make(
        (
            row.slot or 0,
            row.first_seq,
            row.last_seq,
            None if row.is_outside else f"{unit.span_id:016x}",  # unit_id
            f"{unit.parent_id:016x}" if unit.parent_id else None,
            trace_id,
            sampled,
            cleaned(unit.request_id, "request_id"),
            kind,
            route,
            view,
            cleaned(unit.url_name, "view"),
            method,
            unit.status,
            cleaned(unit.exception, "error"),
            datetime.fromtimestamp(time_us / 1e6, UTC),
            # A sum of times would take longer.
            datetime.fromtimestamp((time_us + duration_us) / 1e6, UTC) if unit.duration_ns else None,
            duration_us / 1000 if unit.duration_ns else None,  # duration_ms
            row.queries,
            row.errors,
            min(row.rows, 1 << 62),  # databases have 63 bits
            row.total_us / 1000,  # total_ms
            len({statement for statement, _ in row.repeats}),  # statements
            times,  # worst_repeat
            fingerprint,  # worst_fingerprint
            call_site,  # worst_call_site
            unit.response_bytes,
            f",{','.join(tags)}," if tags else None,
            release,
            service,
            resolver.host,
            resolver.pid,
            unit.connections,
            unit.connect_ns // 1000 / 1000,  # connect_ms
            0.0 if transactions is None else round(transactions.so_far_ms, 3),  # transaction_ms
            0.0 if transactions is None else round(transactions.idle_max_ms, 3),  # idle_transaction_ms
            unit.outside_ns // 1000 / 1000 or None,  # outside_ms
            resolver.call_site(*unit.outside_site) if unit.outside_site else None,  # outside_call_site
            "\n".join(unit.rules_entered) or None,  # ignored
        )
    )
    return made._replace(**_NO_HOST_TEXTS) if row.without_texts else made


_NO_HOST_TEXTS: dict[str, Any] = dict.fromkeys(
    (
        "request_id",
        "route",
        "view",
        "url_name",
        "method",
        "exception",
        "worst_call_site",
        "tags",
        "outside_call_site",
        "ignored",
    )
)
