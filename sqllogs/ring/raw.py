"""What the two stores that speak to their driver do alike."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqllogs import blocks, events
from sqllogs.models import Event
from sqllogs.ring.adding import Dialect
from sqllogs.ring.connecting import borrowed, close_connection
from sqllogs.ring.store import (
    BLOCK_TABLE,
    HEAD_TABLE,
    KEY_TABLE,
    ROLL_UP_TABLE,
    STATEMENT_TABLE,
    STATISTIC_TABLE,
    Head,
    block_insert,
    block_rows,
)
from sqllogs.slots import slot_ranges


class RawStore:
    """See `sqllogs.ring.store.Store`."""

    dialect: Dialect
    has_index = True
    _connection: Any
    """Django's connection."""
    _raw: Any
    """The driver's."""

    def _transaction(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _one(self, statement: str, *values: Any) -> Any:
        """Return the first value of the first row, if there is one."""
        row = self._raw.execute(statement, values).fetchone()
        return row[0] if row else None

    def head(self) -> Head:
        row = self._raw.execute(f"SELECT seq, capacity, epoch FROM {HEAD_TABLE} WHERE id = 1").fetchone()
        return Head(*row) if row else Head(0, 0, 0)

    def _head_for_writing(self) -> Head:
        """Return the head as it stays until the transaction ends."""
        return self.head()

    def block_columns(self, block: int, head: Head) -> list[Sequence[Any]] | None:
        first = blocks.first_of(block)
        numbers = first, first + blocks.ROWS - 1
        rows = [
            row
            for slots in slot_ranges(*numbers, head.capacity)
            for row in self._raw.execute(block_rows(self.dialect.placeholder), (*slots, *numbers))
        ]
        return list(zip(*rows, strict=True)) if len(rows) == blocks.ROWS else None

    def keep_block(self, block: int, columns: Sequence[Sequence[Any]], head: Head) -> bool:
        rows = list(blocks.encoded(block, columns))
        mark = self.dialect.placeholder
        overwritten = f"DELETE FROM {BLOCK_TABLE} WHERE name = {mark} AND block < {mark}"
        oldest = blocks.block_of(max(1, head.seq - head.capacity))
        with self._transaction():
            if self._head_for_writing().epoch != head.epoch:
                return False
            self._raw.cursor().executemany(block_insert(mark), rows)
            self._raw.cursor().executemany(overwritten, [(name, oldest) for name in blocks.COLUMNS])
        return True

    def indexed_blocks(self) -> set[int]:
        found = f"SELECT block FROM {BLOCK_TABLE} WHERE name = {self.dialect.placeholder}"
        return {row[0] for row in self._raw.execute(found, (blocks.COLUMNS[0],))}

    def count_statements(self) -> int:
        return int(self._one(f"SELECT count(*) FROM {STATEMENT_TABLE}"))

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

    def lease_tidying(self, now_s: int, interval_s: int) -> bool:
        mark = self.dialect.placeholder
        # One whose clock is ahead must not keep the others from it for long.
        leased = (
            f"UPDATE {ROLL_UP_TABLE} SET tidied_at = {mark} "
            f"WHERE id = 1 AND (tidied_at <= {mark} OR tidied_at > {mark})"
        )
        with self._transaction():
            return bool(self._raw.execute(leased, (now_s, now_s - interval_s, now_s + interval_s)).rowcount)

    def delete_statistics(self, resolution_s: int, before_s: int) -> int:
        mark = self.dialect.placeholder
        delete = f"DELETE FROM {STATISTIC_TABLE} WHERE resolution_s = {mark} AND time < {mark}"
        with self._transaction():
            return int(self._raw.execute(delete, (resolution_s, before_s)).rowcount)

    def delete_keys(self, before_s: int) -> int:
        delete = f"DELETE FROM {KEY_TABLE} WHERE last_seen < {self.dialect.placeholder}"
        with self._transaction():
            deleted = int(self._raw.execute(delete, (before_s,)).rowcount)
            if deleted:
                self._raw.execute(f"UPDATE {HEAD_TABLE} SET epoch = epoch + 1")
            return deleted

    def keep_event(self, event: Event) -> None:
        with borrowed(self._connection, self._connection.alias):
            events.keep(event, self._connection.alias)

    def close(self) -> None:
        close_connection(self._connection)
