"""Decide which statement texts and call sites are written with a batch, and make room in full tables.

Called by `sqllogs.storage.ring` in the writer's thread. A full table is stored as an event, from which
`sqllogs.read.health` takes the call site that keeps sending new statements.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqllogs import guard
from sqllogs.errors import SQLLogsError
from sqllogs.models import Event
from sqllogs.record import Batch
from sqllogs.sql.normalize import ScannedStatement
from sqllogs.storage import events
from sqllogs.storage.store import SourceRow, Store, StoredStatement

EVICTED_SHARE = 10
"""A tenth of the texts is evicted at once, because after each eviction all processes rewrite their texts."""
HOUR = timedelta(hours=1)


class StatementTexts:
    """Decide which statement texts are written with a batch; for one thread."""

    def __init__(self, statements_max: int) -> None:
        self._max = statements_max
        self._known: dict[str, datetime] = {}
        """By fingerprint, the hour in which this process last wrote the text."""
        self._reported: datetime | None = None
        """The hour for which a full table was reported."""

    def clear(self) -> None:
        self._known.clear()

    def learn(self, written: Iterable[StoredStatement]) -> None:
        """Remember texts that have been committed."""
        self._known.update((row.fingerprint, row.last_seen) for row in written)

    def rows(self, store: Store, batch: Batch) -> list[StoredStatement]:
        """Return the texts not written in this hour, in key order, the order of locking."""
        if len(self._known) > 2 * self._max:
            self._known.clear()
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        due = sorted(name for name in batch.statements if self._known.get(name) != hour)
        # Only for a new text, because making room counts the rows of the table.
        if any(fingerprint not in self._known for fingerprint in due):
            # More texts than fit would evict each other within this batch.
            due = due[: self._max]
            if self._make_room(store, len(due)) and hour != self._reported:
                self._reported = hour
                self._report(store, hour, _busiest_call_site(batch, set(due) - self._known.keys()))
        return [_row(batch.statements[fingerprint], hour) for fingerprint in due]

    def _make_room(self, store: Store, needed: int) -> int:
        """Delete the least recently used texts if there is not enough room; return their number.

        Records of a deleted text stay, and the text is stored again with its next call.
        """
        lacking = needed - (self._max - store.count_statements())
        return store.evict_statements(max(lacking, self._max // EVICTED_SHARE)) if lacking > 0 else 0

    def _report(self, store: Store, hour: datetime, call_site: str) -> None:
        """Log that texts are deleted, and store an event: once an hour, over all processes."""
        message = f"The table of statement texts is full. Most of the new statements come from {call_site}"
        advice = (
            f"{message}. The least recently used of {self._max} texts were deleted. Build SQL with "
            "parameters instead of names or comments made from input, or raise STATEMENTS_MAX."
        )
        guard.fault("statements", SQLLogsError(advice))
        store.store_event(
            Event(
                key=f"{events.STATEMENTS_FULL}:{hour:%Y-%m-%dT%H}",
                time=datetime.now(UTC),
                kind=events.STATEMENTS_FULL,
                title=message[: events.TITLE_MAX_CHARACTERS],
                text=advice,
                tags=[events.STATEMENTS_FULL],
            )
        )


SOURCES_MAX = 20_000
"""Beyond this number, sources without a record in the ring are deleted: each release adds new lines."""


class Sources:
    """Decide which call sites and databases are written with a batch; for one thread."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._evicted_at: datetime | None = None
        """The hour in which the table was last found full; sources in use cannot be evicted."""

    def clear(self) -> None:
        self._known.clear()

    def learn(self, written: Iterable[SourceRow]) -> None:
        """Remember what has been committed."""
        self._known.update(row.id for row in written)

    def rows(self, store: Store, batch: Batch) -> list[SourceRow]:
        """Return those of a batch that this process has not written, in key order."""
        found = {form.source_id: form for form in {record.form for record in batch.records}}
        due = [SourceRow(id, *found[id].source) for id in sorted(found.keys() - self._known)]
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        if due and hour != self._evicted_at and store.count_sources() + len(due) > SOURCES_MAX:
            self._evicted_at = hour
            store.evict_sources()
        return due


def _busiest_call_site(batch: Batch, new: set[str]) -> str:
    """Return where most of the new statements of a batch come from."""
    # A set: a call site counts once for each new statement, however often it was sent.
    origins = {
        (record.fingerprint, record.call_site or record.view or record.kind)
        for record in (*batch.records, *batch.sampled_out)
        if record.fingerprint in new
    }
    found = Counter(origin for _, origin in origins).most_common(1)
    return found[0][0] if found else "an unknown call site"


def _row(statement: ScannedStatement, hour: datetime) -> StoredStatement:
    tables = ",".join(statement.tables)[:500]
    return StoredStatement(statement.fingerprint, statement.sql, statement.operation[:32], tables, hour, hour)
