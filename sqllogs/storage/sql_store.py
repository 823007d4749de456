"""Base of the two stores that use their driver directly, `sqlite` and `postgresql`.

Called by `sqllogs.storage.ring` in the writer's thread. Statistics are added by SQL that both databases
understand. Packed histograms are concatenated until a row has grown long, then merged by the function
`sqllogs_merged`, which is created by a migration on PostgreSQL and by the store on SQLite.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqllogs.models import Event, slot_ranges
from sqllogs.record import Reserved
from sqllogs.statistics.counting import StatisticRow
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S
from sqllogs.storage import blocks, events
from sqllogs.storage.database import close_connection, used_by_orm
from sqllogs.storage.store import (
    BATCH_ROWS,
    BLOCK_TABLE,
    HEAD_TABLE,
    KEY_TABLE,
    NEW_EPOCH,
    PROCESS_TABLE,
    PROCESSES_MAX,
    ROLL_UP_TABLE,
    SOURCE_TABLE,
    STATEMENT_TABLE,
    STATISTIC_TABLE,
    SURPLUS_PROCESSES,
    UNIT_HEAD,
    UNIT_TABLE,
    UNUSED_SOURCES,
    RingState,
    UnitHead,
    block_insert,
    block_rows,
    reserve_slots,
    statement_eviction,
)

ROWS_MAX = 5_000
"""Rows of minutes rolled up in one transaction."""

JOINED_BYTES = 250
"""Histograms longer than this are merged. Within an hour, a statement rarely gets there."""

NAMES = ", ".join(StatisticRow._fields)
_KIND, _VIEW = map(blocks.COLUMNS.index, ("kind", "view"))

Execute = Callable[..., Any]
"""A driver's `execute(statement, values)`; returns a cursor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The differences between SQLite's and PostgreSQL's SQL."""

    placeholder: str
    blob: str
    """Column type of bytes."""
    concatenation: str
    """Aggregate that concatenates durations."""

    def upsert(self, source: str) -> str:
        """Return the statement that adds rows. They must be sorted by key, or processes could deadlock."""
        # In SQLite || returns TEXT even for two BLOBs, hence the CAST below.
        joined = f"{STATISTIC_TABLE}.durations || excluded.durations"
        sums = ", ".join(
            f"{name} = {STATISTIC_TABLE}.{name} + excluded.{name}"
            for name in ("calls", "errors", "rows", "total_us")
        )
        maxima = ", ".join(
            f"{name} = CASE WHEN excluded.{name} > {STATISTIC_TABLE}.{name} THEN excluded.{name} "
            f"ELSE {STATISTIC_TABLE}.{name} END"
            for name in ("max_us", "last_seen")
        )
        return (
            f"INSERT INTO {STATISTIC_TABLE} ({NAMES}) {source} "
            f"ON CONFLICT (resolution_s, time, key_id) DO UPDATE SET {sums}, {maxima}, "
            f"durations = CASE WHEN length({joined}) > {JOINED_BYTES} "
            f"THEN sqllogs_merged({STATISTIC_TABLE}.durations, excluded.durations) "
            f"ELSE CAST({joined} AS {self.blob}) END"
        )

    def roll_up(self, resolution_s: int) -> str:
        """Return the statement that adds minutes to a coarser resolution.

        Its parameters are from and before.
        """
        length_s = abs(resolution_s)
        # psycopg takes a single % for a placeholder.
        start = f"time - time %% {length_s}" if self.placeholder == "%s" else f"time - time % {length_s}"
        minute_s = MINUTE_S if resolution_s > 0 else -MINUTE_S
        empty = f"CAST('' AS {self.blob})"
        return self.upsert(
            f"SELECT {resolution_s}, {start}, key_id, sum(calls), sum(errors), sum(rows), sum(total_us), "
            f"max(max_us), max(last_seen), sqllogs_merged({self.concatenation}, {empty}) "
            f"FROM {STATISTIC_TABLE} "
            f"WHERE resolution_s = {minute_s} AND time >= {self.placeholder} AND time < {self.placeholder} "
            "GROUP BY 2, 3 ORDER BY 2, 3"
        )

    def next_end_s(self, execute: Execute, until_s: int, before_s: int) -> int:
        """Return the end of the next step from `until_s`: a minute or about ROWS_MAX rows."""
        query = (
            f"SELECT time FROM {STATISTIC_TABLE} "
            f"WHERE resolution_s = {MINUTE_S} AND time >= {self.placeholder} AND time < {self.placeholder} "
            f"ORDER BY time LIMIT 1 OFFSET {self.placeholder}"
        )
        surplus = execute(query, (until_s, before_s, ROWS_MAX)).fetchone()
        if surplus is None:
            return before_s
        first = execute(query, (until_s, before_s, 0)).fetchone()
        # A minute with more rows than ROWS_MAX is rolled up as a whole, or the rollup would never pass it.
        return max(int(surplus[0]), int(first[0]) + MINUTE_S)


def roll_up(execute: Execute, dialect: Dialect, until_s: int, before_s: int) -> bool:
    """Roll up one step, with the row of ROLL_UP_TABLE locked; return whether more is due."""
    if before_s - until_s < MINUTE_S:
        return False
    end_s = dialect.next_end_s(execute, until_s, before_s)
    # Negative resolutions count units of work.
    for resolution_s in (-DAY_S, -HOUR_S, HOUR_S, DAY_S):
        execute(dialect.roll_up(resolution_s), (until_s, end_s))
    execute(f"UPDATE {ROLL_UP_TABLE} SET until_s = {dialect.placeholder} WHERE id = 1", (end_s,))
    return end_s < before_s


class RawStore:
    """See `sqllogs.storage.store.Store`."""

    dialect: Dialect
    batch_rows = BATCH_ROWS
    has_index = True
    is_hurried: Callable[[], bool] = bool
    _connection: Any
    """Django's wrapper."""
    _raw: Any
    """The driver's connection."""

    def _transaction(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _one(self, statement: str, *values: Any) -> Any:
        """Return the first value of the first row, or None."""
        row = self._raw.execute(statement, values).fetchone()
        return row[0] if row else None

    def head(self) -> RingState:
        row = self._raw.execute(f"SELECT seq, capacity, epoch FROM {HEAD_TABLE} WHERE id = 1").fetchone()
        return RingState(*row) if row else RingState(0, 0, 0)

    def _reserve_slots(self, count: int, units: int, idle: int) -> Reserved:
        """Reserve slots of units, in a transaction that has locked the head and added `count` to `seq`."""
        head = UnitHead(*self._raw.execute(UNIT_HEAD).fetchone())
        reserved, changed = reserve_slots(head, units, idle, self._last_live_slot(head))
        reserved = reserved._replace(first_seq=head.seq - count + 1)
        if not units and not idle:
            return reserved
        mark = self.dialect.placeholder
        self._raw.execute(
            f"UPDATE {HEAD_TABLE} SET unit_slots = {mark}, unit_cursor = {mark}, idle_units = {mark} "
            "WHERE id = 1",
            (changed.unit_slots, changed.unit_cursor, changed.idle_units),
        )
        if reserved.slots.start < head.unit_slots:
            # Marked as in use now, because their rows are written later and another process could take them.
            self._raw.execute(
                f"UPDATE {UNIT_TABLE} SET kind = '', first_seq = 0, last_seq = {mark} "
                f"WHERE slot >= {mark} AND slot < {mark}",
                (head.seq, reserved.slots.start, reserved.slots.stop),
            )
        return reserved

    def _last_live_slot(self, head: UnitHead) -> Callable[[int, int], int | None]:
        mark = self.dialect.placeholder
        in_use = f"slot BETWEEN {mark} AND {mark} AND last_seq >= {mark}"
        query = f"SELECT max(slot) FROM {UNIT_TABLE} WHERE {in_use}"
        return lambda first, last: self._one(query, first, last, head.oldest_seq)

    def _head_for_writing(self) -> RingState:
        """Return the head, locked until the transaction ends."""
        return self.head()

    def _lock_head(self) -> None:
        """Wait for batches being written; SQLite has already waited when a transaction begins."""

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Open a transaction during which no batch is written.

        Otherwise the two would lock the same rows in different order, and deadlock.
        """
        with self._transaction():
            self._lock_head()
            yield

    def block_columns(self, block: int, head: RingState, *, wait: bool) -> list[Sequence[Any]] | None:
        first = blocks.first_of(block)
        numbers = first, first + blocks.ROWS - 1
        rows = [
            row
            # By slot, the primary key; the numbers exclude older records in slots not overwritten yet.
            for slots in slot_ranges(*numbers, head.capacity)
            for row in self._raw.execute(block_rows(self.dialect.placeholder), (*slots, *numbers))
        ]
        if len(rows) < blocks.ROWS:
            return None  # another process has not written its part yet
        has_early = any(row[_KIND] == "request" and row[_VIEW] is None for row in rows)
        if wait and has_early and self._has_open_request(*numbers):
            return None
        return list(zip(*rows, strict=True))

    def _has_open_request(self, first: int, last: int) -> bool:
        """Return True if a request with records in a range may still get its view; this scans the units."""
        mark = self.dialect.placeholder
        found = (
            f"SELECT 1 FROM {UNIT_TABLE} WHERE first_seq <= {mark} AND last_seq >= {mark} "
            "AND kind = 'request' AND view IS NULL AND ended_at IS NULL LIMIT 1"
        )
        return self._one(found, last, first) is not None

    def store_block(self, block: int, columns: Sequence[Sequence[Any]], head: RingState) -> bool:
        rows = list(blocks.encode_columns(block, columns))
        mark = self.dialect.placeholder
        overwritten = f"DELETE FROM {BLOCK_TABLE} WHERE name = {mark} AND block < {mark}"
        oldest = blocks.block_of(max(1, head.seq - head.capacity))
        with self._transaction():
            # If the ring has been cleared, the columns would describe records that are gone.
            if self._head_for_writing().epoch != head.epoch:
                return False
            self._raw.cursor().executemany(block_insert(mark), rows)
            # Name by name, because the primary key begins with the name.
            self._raw.cursor().executemany(overwritten, [(name, oldest) for name in blocks.COLUMNS])
        return True

    def indexed_blocks(self) -> set[int]:
        found = f"SELECT block FROM {BLOCK_TABLE} WHERE name = {self.dialect.placeholder}"
        return {row[0] for row in self._raw.execute(found, (blocks.NEWEST_NAME,))}

    def count_statements(self) -> int:
        return int(self._one(f"SELECT count(*) FROM {STATEMENT_TABLE}"))

    def evict_statements(self, count: int) -> int:
        with self._turn():
            deleted = int(self._raw.execute(statement_eviction(self.dialect.placeholder), (count,)).rowcount)
            if deleted:
                self._raw.execute(NEW_EPOCH)
            return deleted

    def count_sources(self) -> int:
        return int(self._one(f"SELECT count(*) FROM {SOURCE_TABLE}"))

    def evict_sources(self) -> int:
        with self._turn():
            deleted = int(self._raw.execute(UNUSED_SOURCES).rowcount)
            if deleted:
                self._raw.execute(NEW_EPOCH)
            return deleted

    def limit_processes(self) -> None:
        if int(self._one(f"SELECT count(*) FROM {PROCESS_TABLE}")) > PROCESSES_MAX:
            with self._turn():
                self._raw.execute(SURPLUS_PROCESSES)

    def count_keys(self) -> int:
        return int(self._one(f"SELECT count(*) FROM {KEY_TABLE}"))

    def rolled_up_s(self) -> int:
        return self._one(f"SELECT until_s FROM {ROLL_UP_TABLE} WHERE id = 1") or 0

    def count_statistics(self, resolution_s: int) -> int:
        mark = self.dialect.placeholder
        return int(
            self._one(f"SELECT count(*) FROM {STATISTIC_TABLE} WHERE resolution_s = {mark}", resolution_s)
        )

    def statistic_time_s(self, resolution_s: int, number: int) -> int | None:
        mark = self.dialect.placeholder
        found: int | None = self._one(
            f"SELECT time FROM {STATISTIC_TABLE} WHERE resolution_s = {mark} "
            f"ORDER BY time LIMIT 1 OFFSET {mark}",
            resolution_s,
            number,
        )
        return found

    def acquire_cleanup_lease(self, now_s: int, interval_s: int) -> bool:
        mark = self.dialect.placeholder
        # A process whose clock is ahead must not hold the lease for long.
        leased = (
            f"UPDATE {ROLL_UP_TABLE} SET tidied_at = {mark} "
            f"WHERE id = 1 AND (tidied_at <= {mark} OR tidied_at > {mark})"
        )
        with self._transaction():
            return bool(self._raw.execute(leased, (now_s, now_s - interval_s, now_s + interval_s)).rowcount)

    def delete_statistics(self, resolution_s: int, before_s: int) -> int:
        mark = self.dialect.placeholder
        delete = f"DELETE FROM {STATISTIC_TABLE} WHERE resolution_s = {mark} AND time < {mark}"
        with self._turn():
            return int(self._raw.execute(delete, (resolution_s, before_s)).rowcount)

    def delete_keys(self, before_s: int) -> int:
        delete = f"DELETE FROM {KEY_TABLE} WHERE last_seen < {self.dialect.placeholder}"
        with self._turn():
            deleted = int(self._raw.execute(delete, (before_s,)).rowcount)
            if deleted:
                self._raw.execute(NEW_EPOCH)
            return deleted

    def store_event(self, event: Event) -> None:
        with used_by_orm(self._connection, self._connection.alias):
            events.store_event(event, self._connection.alias)

    def close(self) -> None:
        close_connection(self._connection)
