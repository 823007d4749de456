"""The store in any other database, through Django's ORM: MySQL, MariaDB, and PostgreSQL with psycopg 2.

Called by `sqllogs.storage.ring` in the writer's thread. A row costs about four times the CPU of the two
stores that use their driver directly.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from django.db import transaction
from django.db.models import F, Max, Model, Q

from sqllogs.models import (
    Event,
    Process,
    QuerySource,
    RingHead,
    RingRow,
    RollUp,
    Statement,
    Statistic,
    StatisticKey,
    Unit,
)
from sqllogs.record import Reserved, UnitRow
from sqllogs.statistics import histogram
from sqllogs.statistics.counting import StatisticRow, hours_and_days
from sqllogs.statistics.resolution import HOUR_S, MINUTE_S, floor_to
from sqllogs.storage import events
from sqllogs.storage.database import close_connection, only_row, open_connection, upsert, used_by_orm
from sqllogs.storage.store import (
    COLUMNS,
    EVICTION_ORDER,
    PROCESSES_KEPT,
    PROCESSES_MAX,
    ProcessRow,
    RingState,
    UnitHead,
    WritePart,
    query_rows,
    reserve_slots,
)

CHUNK_ROWS = 200
"""Rows per statement. Databases limit the number of its variables, and a key has three."""


class ORMStore:
    """See `sqllogs.storage.store.Store`."""

    is_hurried: Callable[[], bool] = bool
    # With 2,000, each of four processes held MariaDB's locks for 3 to 9 s, and some timed out.
    batch_rows = 500
    has_index = False  # these databases may compare texts by collations that the index does not know

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection = open_connection(alias)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with used_by_orm(self._connection, self._alias), transaction.atomic(using=self._alias):
            yield

    @contextmanager
    def _turn(self) -> Iterator[RollUp]:
        """Open a transaction that excludes all others opened here, so that rows may be locked in any order.

        The row of the rollup serves as the lock, because not every database has shared locks. It is created
        if it is missing. Without the lock, a rollup could skip minutes that are not committed yet.
        """
        with self._transaction():
            rows = RollUp.objects.using(self._alias).select_for_update()
            yield only_row(rows, until_s=0)

    def store_event(self, event: Event) -> None:
        with used_by_orm(self._connection, self._alias):
            events.store_event(event, self._alias)

    def head(self) -> RingState:
        with self._transaction():
            return self._head()

    def _head(self) -> RingState:
        row = RingHead.objects.using(self._alias).filter(id=1).values_list("seq", "capacity", "epoch").first()
        return RingState(*row) if row else RingState(0, 0, 0)

    def reserve(self, count: int, capacity_rows: int, *, units: int = 0, idle: int = 0) -> Reserved:
        slots = Unit.objects.using(self._alias)
        with self._transaction():
            heads = RingHead.objects.using(self._alias).select_for_update()
            row = only_row(heads, seq=0, capacity=capacity_rows)
            row.seq += count
            head = UnitHead._make(getattr(row, name) for name in UnitHead._fields)

            def last_live(first: int, last: int) -> int | None:
                live = slots.filter(slot__range=(first, last), last_seq__gte=head.oldest_seq)
                found: int | None = live.aggregate(Max("slot"))["slot__max"]
                return found

            reserved, changed = reserve_slots(head, units, idle, last_live)
            if reserved.slots.start < head.unit_slots:
                taken = slots.filter(slot__gte=reserved.slots.start, slot__lt=reserved.slots.stop)
                taken.update(kind="", first_seq=0, last_seq=head.seq)
            heads.filter(id=1).update(**changed._asdict())
            return reserved._replace(first_seq=head.seq - count + 1)

    def write(self, part: WritePart) -> bool:
        with self._turn() as rollup:
            seq, capacity, epoch = self._head()
            if epoch != part.epoch:
                return False
            if self._is_written(part.process):
                return True
            rows = (dict(zip(COLUMNS, row, strict=True)) for row in query_rows(part, capacity))
            # The slots of a late batch may hold newer records, and the ORM's upsert has no condition.
            timely = [row for row in rows if row["seq"] > seq - capacity]
            self._upsert(RingRow, sorted(timely, key=itemgetter("slot")), "slot")
            QuerySource.objects.using(self._alias).bulk_create(
                [QuerySource(**row._asdict()) for row in part.sources], ignore_conflicts=True
            )
            self._write_units(part.units)
            texts = [row._asdict() for row in part.statements]
            self._upsert(Statement, texts, "fingerprint", keep="first_seen")
            self._upsert(StatisticKey, [row._asdict() for row in part.keys], "id")
            late = hours_and_days(minute for minute in part.statistics if minute.time < rollup.until_s)
            self._add([*part.statistics, *late])
            return True

    def _write_units(self, units: Sequence[UnitRow]) -> None:
        for first in range(0, len(units), CHUNK_ROWS):
            chunk = units[first : first + CHUNK_ROWS]
            known = Unit.objects.using(self._alias).filter(slot__in=[row.slot for row in chunk])
            taken = dict(known.values_list("slot", "first_seq"))  # a slot may have been given to another
            rows = [row._asdict() for row in chunk if row.first_seq >= taken.get(row.slot, 0)]
            self._upsert(Unit, rows, "slot")

    def _is_written(self, process: ProcessRow) -> bool:
        """Store the process's counts and the part's number; return whether the part was written before."""
        processes = Process.objects.using(self._alias)
        values = process._asdict()
        new = Process(**values | {"written_part": 0})
        # Inserted first, so that there is a row to lock: an earlier transaction may have lost its connection
        # and still commit.
        processes.bulk_create([new], ignore_conflicts=True)
        row = processes.select_for_update().filter(uuid=process.uuid)
        before: int = row.values_list("written_part", flat=True)[0]
        counts = {name: value for name, value in values.items() if name not in ("uuid", "started_at")}
        processes.filter(uuid=process.uuid).update(**counts)
        return before >= process.written_part

    def _add(self, due: Sequence[StatisticRow]) -> None:
        """Add to rows of statistics."""
        for first in range(0, len(due), CHUNK_ROWS):
            chunk = due[first : first + CHUNK_ROWS]
            self._add_chunk({(row.resolution_s, row.time, row.key_id): row for row in chunk})

    def roll_up(self, before_s: int) -> bool:
        with self._turn() as row:
            if before_s - row.until_s < MINUTE_S:
                return False
            minutes = (
                Statistic.objects.using(self._alias)
                .filter(resolution_s__in=(MINUTE_S, -MINUTE_S), time__gte=row.until_s, time__lt=before_s)
                .order_by("time")
            )
            first_s = minutes.values_list("time", flat=True).first()
            end_s = before_s if first_s is None else min(floor_to(first_s, HOUR_S) + HOUR_S, before_s)
            due = minutes.filter(time__lt=end_s).values_list(*StatisticRow._fields)
            self._add(hours_and_days(StatisticRow(*values) for values in due))
            RollUp.objects.using(self._alias).filter(id=1).update(until_s=end_s)
            return end_s < before_s

    def _add_chunk(self, due: dict[tuple[int, int, int], StatisticRow]) -> None:
        stored = Statistic.objects.using(self._alias).select_for_update().filter(pk__in=list(due))
        for values in stored.values_list(*StatisticRow._fields):
            row = StatisticRow(*values)
            more = due[row[:3]]
            due[row[:3]] = more._replace(
                calls=row.calls + more.calls,
                errors=row.errors + more.errors,
                rows=row.rows + more.rows,
                total_us=row.total_us + more.total_us,
                max_us=max(row.max_us, more.max_us),
                last_seen=max(row.last_seen, more.last_seen),
                durations=histogram.merged(bytes(row.durations), more.durations),
            )
        # bulk_update() takes 30 times as long, because it sends a CASE for each row and column.
        self._upsert(Statistic, [row._asdict() for row in due.values()], *StatisticRow._fields[:3])

    def _upsert(self, model: type[Model], rows: list[dict[str, Any]], *key: str, keep: str = "") -> None:
        if rows:
            fields = [name for name in rows[0] if name not in {*key, keep}]
            upsert([model(**row) for row in rows], key, fields, using=self._alias)

    def block_columns(self, block: int, head: RingState, *, wait: bool) -> list[Sequence[Any]] | None:
        return None

    def store_block(self, block: int, columns: Sequence[Sequence[Any]], head: RingState) -> bool:
        return False

    def indexed_blocks(self) -> set[int]:
        return set()

    def count_statements(self) -> int:
        with self._transaction():
            return Statement.objects.using(self._alias).count()

    def evict_statements(self, count: int) -> int:
        statements = Statement.objects.using(self._alias)
        with self._turn():
            # Read first: MySQL does not allow LIMIT in a subquery of the table that it deletes from.
            evicted = list(statements.order_by(*EVICTION_ORDER).values_list("fingerprint", flat=True)[:count])
            for first in range(0, len(evicted), CHUNK_ROWS):
                chunk = statements.filter(fingerprint__in=evicted[first : first + CHUNK_ROWS])
                chunk._raw_delete(self._alias)
            if evicted:
                RingHead.objects.using(self._alias).update(epoch=F("epoch") + 1)
            return len(evicted)

    def count_sources(self) -> int:
        with self._transaction():
            return QuerySource.objects.using(self._alias).count()

    def evict_sources(self) -> int:
        in_use = RingRow.objects.using(self._alias).values("source")
        with self._turn():
            # delete() would read all rows first, and call the application's receivers of post_delete, if any.
            deleted = QuerySource.objects.using(self._alias).exclude(id__in=in_use)._raw_delete(self._alias)
            if deleted:
                RingHead.objects.using(self._alias).update(epoch=F("epoch") + 1)
            return deleted

    def limit_processes(self) -> None:
        rows = Process.objects.using(self._alias)
        with self._turn():
            if rows.count() > PROCESSES_MAX:
                # Read first, see `evict_statements`.
                kept = rows.order_by("-updated_at").values_list("updated_at", flat=True)
                rows.filter(updated_at__lt=kept[PROCESSES_KEPT - 1])._raw_delete(self._alias)

    def count_keys(self) -> int:
        with self._transaction():
            return StatisticKey.objects.using(self._alias).count()

    def stored_keys(self, ids: Sequence[int]) -> set[int]:
        keys = StatisticKey.objects.using(self._alias)
        with self._transaction():
            return {
                key_id
                for first in range(0, len(ids), CHUNK_ROWS)
                for key_id in keys.filter(id__in=ids[first : first + CHUNK_ROWS]).values_list("id", flat=True)
            }

    def rolled_up_s(self) -> int:
        with self._transaction():
            return (
                RollUp.objects.using(self._alias).filter(id=1).values_list("until_s", flat=True).first() or 0
            )

    def acquire_cleanup_lease(self, now_s: int, interval_s: int) -> bool:
        free = Q(tidied_at__lte=now_s - interval_s) | Q(tidied_at__gt=now_s + interval_s)
        with self._transaction():
            return bool(RollUp.objects.using(self._alias).filter(free, id=1).update(tidied_at=now_s))

    def count_statistics(self, resolution_s: int) -> int:
        with self._transaction():
            return Statistic.objects.using(self._alias).filter(resolution_s=resolution_s).count()

    def statistic_time_s(self, resolution_s: int, number: int) -> int | None:
        rows = Statistic.objects.using(self._alias).filter(resolution_s=resolution_s).order_by("time")
        with self._transaction():
            return next(iter(rows.values_list("time", flat=True)[number : number + 1]), None)

    def delete_statistics(self, resolution_s: int, before_s: int) -> int:
        rows = Statistic.objects.using(self._alias).filter(resolution_s=resolution_s, time__lt=before_s)
        with self._turn():
            return rows._raw_delete(self._alias)

    def delete_keys(self, before_s: int) -> int:
        with self._turn():
            keys = StatisticKey.objects.using(self._alias).filter(last_seen__lt=before_s)
            deleted = keys._raw_delete(self._alias)
            if deleted:
                RingHead.objects.using(self._alias).update(epoch=F("epoch") + 1)
            return deleted

    def close(self) -> None:
        close_connection(self._connection)
