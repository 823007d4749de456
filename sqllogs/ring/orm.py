"""The ring in any other database that Django can upsert into (MySQL, MariaDB, psycopg 2), over the ORM.

About four times the work a row of the two stores that speak to their driver.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connections, transaction
from django.db.models import Max, Min, Model

from sqllogs.models import Process, RingHead, SQLLog, Statement
from sqllogs.record import Record
from sqllogs.ring.connecting import open_connection
from sqllogs.ring.store import COLUMNS, Head, ProcessRow, StatementRow, newest


class ORMStore:
    """See `sqllogs.ring.store.Store`."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection = open_connection(alias)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Let the ORM use this store's connection, in this thread, for one transaction."""
        usual = getattr(connections._connections, self._alias, None)  # type: ignore[attr-defined]
        connections[self._alias] = self._connection
        try:
            with transaction.atomic(using=self._alias):
                yield
        finally:
            self._connection.queries_log.clear()  # with DEBUG it would grow for ever
            del connections[self._alias]
            if usual is not None:
                connections[self._alias] = usual

    def head(self) -> Head:
        with self._transaction():
            return self._head()

    def _head(self) -> Head:
        row = RingHead.objects.using(self._alias).filter(id=1).values_list("seq", "capacity", "epoch").first()
        return Head(*row) if row else Head(0, 0, 0)

    def reserve(self, count: int, capacity_rows: int) -> int:
        with self._transaction():
            heads = RingHead.objects.using(self._alias).select_for_update()
            head, _ = heads.get_or_create(id=1, defaults={"seq": 0, "capacity": capacity_rows})
            head.seq += count
            head.save(using=self._alias, update_fields=["seq"])
            return head.seq - count + 1

    def write(
        self,
        first_seq: int,
        records: Sequence[Record],
        statements: Sequence[StatementRow],
        process: ProcessRow,
    ) -> None:
        with self._transaction():
            capacity = self._head().capacity
            first_seq, records = newest(first_seq, records, capacity)
            rows = sorted((seq % capacity, seq, *record) for seq, record in enumerate(records, first_seq))
            self._upsert(SQLLog, [dict(zip(COLUMNS, row, strict=True)) for row in rows], "slot")
            self._upsert(Statement, [row._asdict() for row in statements], "fingerprint", keep="first_seen")
            self._upsert(Process, [process._asdict()], "uuid", keep="started_at")

    def _upsert(self, model: type[Model], rows: list[dict[str, Any]], key: str, keep: str = "") -> None:
        if not rows:
            return
        targeted = self._connection.features.supports_update_conflicts_with_target
        model._default_manager.using(self._alias).bulk_create(
            [model(**row) for row in rows],
            batch_size=500,
            update_conflicts=True,
            unique_fields=[key] if targeted else None,
            update_fields=[name for name in rows[0] if name not in {key, keep}],
        )

    def count_statements(self) -> int:
        with self._transaction():
            return Statement.objects.using(self._alias).count()

    def prune_statements(self, unseen_since: datetime) -> int:
        with self._transaction():
            oldest = SQLLog.objects.using(self._alias).aggregate(oldest=Min("time"))["oldest"]
            before = min(oldest or unseen_since, unseen_since)
            deleted = Statement.objects.using(self._alias).filter(last_seen__lt=before).delete()[0]
            if deleted:
                epoch = RingHead.objects.using(self._alias).aggregate(epoch=Max("epoch"))["epoch"]
                RingHead.objects.using(self._alias).update(epoch=epoch + 1)
            return deleted

    def close(self) -> None:
        self._connection.close()
