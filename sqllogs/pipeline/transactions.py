"""Add up how long a unit of work had transactions open, and how long these were idle.

Called by `sqllogs.pipeline.units` with the records of one unit, in the writer's thread. Capture collects
nothing extra for this, so it costs the application nothing.
"""

from collections.abc import Iterable
from functools import cache

from sqllogs.record import Record
from sqllogs.sql.normalize import StatementScanner

VENDORS = ("sqlite", "postgresql", "mysql", "oracle", "microsoft")


@cache
def ends() -> frozenset[str]:
    """Return the fingerprints of COMMIT and ROLLBACK.

    ROLLBACK TO SAVEPOINT has another one and ends nothing.
    """
    scanner = StatementScanner()
    return frozenset(
        scanner.scan(sql, vendor).fingerprint for sql in ("COMMIT", "ROLLBACK") for vendor in VENDORS
    )


class Transactions:
    """The transactions of one unit of work.

    A transaction begins with its first statement, since databases take locks and snapshots no earlier, and
    ends with COMMIT or ROLLBACK. If that was dropped, it lasts until its last statement.
    """

    __slots__ = ("_closed_ms", "_ends", "_open", "idle_max_ms", "total_ms")

    def __init__(self) -> None:
        self._ends = ends()
        self.total_ms = 0.0
        """Sum of the durations of all transactions that have ended."""
        self.idle_max_ms = 0.0
        """Longest time between two statements of an open transaction."""
        self._open: dict[str, list[float]] = {}
        """By alias: `[begin, end of its last statement]`, milliseconds since the epoch.

        Changed for each record.
        """
        self._closed_ms: dict[str, float] = {}

    def add(self, records: Iterable[Record]) -> None:
        is_open, ends = self._open, self._ends
        for record in records:
            form = record.form
            found = is_open.get(form.alias)
            if found is None and not form.in_transaction:
                continue
            start_ms = record.time_us / 1000
            if found is None or not form.in_transaction:
                self._begin_or_end(record, start_ms, found)
                continue
            if start_ms - found[1] > self.idle_max_ms:
                self.idle_max_ms = start_ms - found[1]
            end_ms = start_ms + record.duration_us / 1000
            if end_ms > found[1]:
                found[1] = end_ms
            if form.fingerprint in ends:
                self._close(form.alias, end_ms)

    def _begin_or_end(self, record: Record, start_ms: float, found: list[float] | None) -> None:
        form, alias = record.form, record.form.alias
        if found is not None:
            if start_ms >= found[1]:  # its COMMIT was dropped
                self._close(alias, found[1])
        # A query whose rows are fetched slowly arrives late, possibly after its COMMIT.
        elif form.fingerprint not in self._ends and start_ms >= self._closed_ms.get(alias, 0.0):
            self._open[alias] = [start_ms, start_ms + record.duration_us / 1000]

    def _close(self, alias: str, end_ms: float) -> None:
        self.total_ms += end_ms - self._open.pop(alias)[0]
        self._closed_ms[alias] = end_ms

    @property
    def so_far_ms(self) -> float:
        """Return the time in transactions, including those that are still open."""
        return self.total_ms + sum(last_ms - begin_ms for begin_ms, last_ms in self._open.values())
