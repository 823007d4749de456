"""The SQL that adds to statistics, alike for SQLite and PostgreSQL.

Both have a function `sqllogs_merged` that adds two packed counts of durations:
in PostgreSQL it is made by a migration, in SQLite by the store. It is called
only when a row has grown; before that, to join two is to add them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqllogs.ring.store import ROLL_UP_TABLE, STATISTIC_TABLE
from sqllogs.statistics.counting import StatisticRow
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S

ROWS_MAX = 5_000
"""Minutes that are rolled up in one transaction."""

JOINED_BYTES = 250
"""Durations are merged when they are longer; those of one statement in an hour seldom are."""

NAMES = ", ".join(StatisticRow._fields)


Execute = Callable[..., Any]
"""A driver's `execute(statement, values)`, which returns a cursor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """In what the two differ here."""

    placeholder: str
    blob: str
    """The type of bytes."""
    concatenation: str
    """The aggregate that joins durations."""

    def upsert(self, source: str) -> str:
        """Return the statement that adds rows, which must come in the order of their key."""
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
        """Return the statement that adds minutes (from, before) to the rows of a coarser resolution."""
        start = (
            f"time - time %% {resolution_s}" if self.placeholder == "%s" else f"time - time % {resolution_s}"
        )
        nothing = f"CAST('' AS {self.blob})"
        return self.upsert(
            f"SELECT {resolution_s}, {start}, key_id, sum(calls), sum(errors), sum(rows), sum(total_us), "
            f"max(max_us), max(last_seen), sqllogs_merged({self.concatenation}, {nothing}) "
            f"FROM {STATISTIC_TABLE} "
            f"WHERE resolution_s = {MINUTE_S} AND time >= {self.placeholder} AND time < {self.placeholder} "
            "GROUP BY 2, 3 ORDER BY 2, 3"
        )

    def next_end_s(self, execute: Execute, until_s: int, before_s: int) -> int:
        """Return the end of the next step from a time on, one minute or as many as have ROWS_MAX rows."""
        query = (
            f"SELECT time FROM {STATISTIC_TABLE} "
            f"WHERE resolution_s = {MINUTE_S} AND time >= {self.placeholder} AND time < {self.placeholder} "
            f"ORDER BY time LIMIT 1 OFFSET {self.placeholder}"
        )
        surplus = execute(query, (until_s, before_s, ROWS_MAX)).fetchone()
        if surplus is None:
            return before_s
        first = execute(query, (until_s, before_s, 0)).fetchone()
        return max(int(surplus[0]), int(first[0]) + MINUTE_S)


def roll_up(execute: Execute, dialect: Dialect, until_s: int, before_s: int) -> bool:
    """Take one step, in a transaction that has the row of ROLL_UP_TABLE to itself; say if more are left."""
    if before_s - until_s < MINUTE_S:
        return False
    end_s = dialect.next_end_s(execute, until_s, before_s)
    for resolution_s in (HOUR_S, DAY_S):
        execute(dialect.roll_up(resolution_s), (until_s, end_s))
    execute(f"UPDATE {ROLL_UP_TABLE} SET until_s = {dialect.placeholder} WHERE id = 1", (end_s,))
    return end_s < before_s
