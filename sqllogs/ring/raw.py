"""What the two stores that speak to their driver do alike."""

from contextlib import AbstractContextManager
from typing import Any

from sqllogs import events
from sqllogs.models import Event
from sqllogs.ring.adding import Dialect
from sqllogs.ring.connecting import borrowed
from sqllogs.ring.store import HEAD_TABLE, KEY_TABLE, ROLL_UP_TABLE, STATEMENT_TABLE, STATISTIC_TABLE, Head


class RawStore:
    """See `sqllogs.ring.store.Store`."""

    dialect: Dialect
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
        self._connection.close()
