"""Write batches to the store, whatever its database.

Called by `sqllogs.pipeline.delivery` in the writer's thread. Opens the store for the database's vendor,
remembers which statement texts are stored, and converts drivers' exceptions to those that the writer handles.
"""

import logging
import os
import random
import socket
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from itertools import chain
from operator import attrgetter
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import load_backend

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork, untraced
from sqllogs.errors import (
    RejectedRowsError,
    SQLLogsError,
    StoreReplacedError,
    StoreUnavailableError,
    StoreUnreadyError,
)
from sqllogs.record import Batch, ProcessCounts, Record, Reserved
from sqllogs.statistics import counting
from sqllogs.statistics.counting import Counts, Keys
from sqllogs.statistics.resolution import MINUTE_S, Retention
from sqllogs.storage import blocks, events, failures, orm, postgresql, sqlite
from sqllogs.storage.database import Descriptors, StoreFile, is_sqlite, never_free
from sqllogs.storage.statement_texts import Sources, StatementTexts
from sqllogs.storage.store import BATCH_ROWS, ProcessRow, RingState, Store, WritePart

logger = logging.getLogger(__name__)

SERVICE_MAX_CHARACTERS = 100
EPOCHS_MAX = 5
"""Attempts to write a batch while other processes delete texts at the same time."""


class Ring:
    """One per process; one thread at a time calls its methods."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._alias = conf.database
        _import_backend(self._alias)
        self._store: Store | None = None
        self._descriptors: Descriptors | None = None
        self._is_cut_off = False
        """The descriptors of a file were closed; SQLite never opens it again in the same process."""
        self._file = StoreFile(conf.database)
        self.generation = 1
        """Increases when the file is replaced: in another file, numbers and slots refer to other records."""
        self._texts = StatementTexts(conf.statements_max)
        self._sources = Sources()
        self._keys = Keys(conf.statistics_keys_max)
        self._retention = Retention(conf)
        self._indexing = Indexing()
        self._release = events.current_release(conf)
        self._service = events.current_service(conf)[:SERVICE_MAX_CHARACTERS]
        self._author = events.current_author(conf)
        self._deployed = False
        self._has_made_room = False
        self._head = RingState(0, 0, -1)
        """The ring's state when the last batch was written."""
        self.hurried = False
        """If True, the store does not wait for locks, because a fork or a request is waiting for us."""
        self.wait_until_s = float("inf")
        """The store does not wait for locks after this time of `time.monotonic()` either."""
        self._uuid = uuid.uuid4().hex
        self._started_at = datetime.now(UTC)

    @property
    def batch_rows(self) -> int:
        """Records per batch; the usual number if the store is not open."""
        return BATCH_ROWS if self._store is None else self._store.batch_rows

    @property
    def is_file(self) -> bool:
        """True if the store is a file that this process opens, and not a server."""
        return is_sqlite(self._alias)

    def reserve(self, count: int) -> int:
        """Return the first of `count` numbers; raise StoreUnavailableError."""
        return self.reserve_all(count).first_seq

    def reserve_all(self, count: int, *, units: int = 0, idle: int = 0) -> Reserved:
        """Reserve numbers of records, and slots of units with and without queries."""
        with self._guarded() as store:
            # A recreated store gets its former capacity, because a resize may have set it.
            capacity = self._head.capacity or self._conf.capacity_rows
            reserved = failures.repeat_conflicts(
                lambda: store.reserve(count, capacity, units=units, idle=idle)
            )
            return reserved._replace(generation=self.generation)

    @property
    def capacity(self) -> int:
        """Slots of the ring when the last batch was written, 0 before the first."""
        return self._head.capacity

    def write(self, first_seq: int, batch: Batch, process_counts: ProcessCounts) -> None:
        """Store a batch and the process's counts.

        Raise StoreUnavailableError if nothing was written, its subclass StoreReplacedError if the batch needs
        new numbers, and RejectedRowsError if the database refuses one of its values.
        """
        counts, unit_counts = self._count(batch)
        with self._guarded() as store:
            # A batch of generation 0 has no records, hence no numbers, and can be written to any file.
            if batch.generation not in (0, self.generation):
                raise StoreReplacedError("The SQL log's file has been replaced.")
            for _ in range(EPOCHS_MAX):
                # In each attempt, because texts stored earlier may have been deleted meanwhile.
                make_part = partial(self._part, store, first_seq, batch, counts, unit_counts, process_counts)
                part = failures.repeat_conflicts(make_part)  # it deletes texts if the table is full
                if failures.repeat_conflicts(partial(store.write, part)):
                    break
            else:
                raise StoreUnavailableError(
                    "Another process is deleting texts of the SQL log; records are kept for a retry."
                )
        # Only after the commit: what was rolled back has to be written again.
        self._texts.learn(part.statements)
        self._sources.learn(part.sources)
        self._keys.learn(part.keys)
        self._record_deploy()
        self._limit_processes()
        self._run_rollup()
        self._index(first_seq, batch)

    def _record_deploy(self) -> None:
        """Store the deploy event of this process's release, once."""
        if self._deployed or not self._release:
            return
        self._deployed = True
        try:
            with self._guarded() as store:
                event = events.deploy_event(self._release, self._service, self._author)
                failures.repeat_conflicts(partial(store.store_event, event))
        except SQLLogsError as exc:
            guard.fault("events", exc)

    def _limit_processes(self) -> None:
        """Make room for the row of this process, once."""
        if self._has_made_room:
            return
        self._has_made_room = True
        try:
            with self._guarded() as store:
                failures.repeat_conflicts(store.limit_processes)
        except SQLLogsError as exc:
            guard.fault("processes", exc)

    def _run_rollup(self) -> None:
        """Run one step of rollup and retention; the batch is stored even if it fails."""
        try:
            with self._guarded() as store:
                # A repeated step does nothing: its work is due again at the next interval.
                failures.repeat_conflicts(partial(self._retention.step, store))
        except SQLLogsError as exc:
            guard.fault("statistics", exc)

    def _index(self, first_seq: int, batch: Batch) -> None:
        """Index the completed blocks of a large ring."""
        try:
            with self._guarded() as store:
                self._indexing.step(store, self._head, first_seq, batch)
        except SQLLogsError as exc:
            guard.fault("index", exc)

    def _count(self, batch: Batch) -> tuple[Counts, Counts]:
        """Return the counts of statements, and those of units of work."""
        if not self._conf.statistics_rows_max:
            return {}, {}
        try:
            counts = counting.count(chain(batch.records, batch.sampled_out))
            counting.add_counts(counts, batch.counted)
            return counts, counting.count_units(batch.ended)
        except Exception as exc:  # the records are stored even if counting fails
            guard.fault("statistics", exc)
            return {}, {}

    def _part(
        self,
        store: Store,
        first_seq: int,
        batch: Batch,
        counts: Counts,
        unit_counts: Counts,
        process_counts: ProcessCounts,
    ) -> WritePart:
        self._reload_if_cleared(store)
        found = {key for _, key in chain(counts, unit_counts)}
        ids, keys = self._keys.identify(found, int(time.time()), store)
        return WritePart(
            first_seq=first_seq,
            records=batch.records,
            slots=batch.slots or [None] * len(batch.records),
            units=batch.unit_rows,
            sources=self._sources.rows(store, batch),
            statements=self._texts.rows(store, batch),
            keys=keys,
            statistics=[*counting.rows(unit_counts, ids, -MINUTE_S), *counting.rows(counts, ids)],
            process=self._process_row(batch.part, process_counts),
            epoch=self._head.epoch,
        )

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._retention.reset()
        store, self._store = self._store, None
        descriptors, self._descriptors = self._descriptors, None
        if descriptors is not None and descriptors.are_closed:
            never_free(store)
            self._is_cut_off = self.is_file
            return
        try:
            if descriptors is not None:
                descriptors.close()
            if store is not None:
                store.close()
        except Exception:
            # Not an error: a broken connection may fail to close, and the next call opens a new one.
            logger.debug("Closing the store's connection failed", exc_info=True)

    @contextmanager
    def _guarded(self) -> Iterator[Store]:
        try:
            with untraced():
                self._reopen_if_closed()
                self._reopen_if_changed()
                if self._store is None:
                    self._descriptors = self._descriptors or Descriptors()
                    with self._file.opening():
                        self._store = _open_store(self._alias)
                    self._store.is_hurried = lambda: self.hurried or time.monotonic() > self.wait_until_s
                yield self._store
        except StoreUnavailableError:
            # After any exception the state of the connection is unknown; the next call opens a new one.
            self.close()
            raise
        except Exception as exc:
            self.close()
            if self._file.is_corrupt(exc):
                raise self._replace_corrupt(exc) from exc
            unavailable = failures.unavailable(self._alias, exc)
            # For some drivers, both a missing table and a value they cannot send are a ProgrammingError.
            if not isinstance(unavailable, StoreUnreadyError) and failures.is_rejection(exc):
                raise RejectedRowsError(str(exc)) from exc
            raise unavailable from exc

    def _reopen_if_closed(self) -> None:
        """Leave a connection whose file descriptors are closed; connect to a server again."""
        if self._descriptors is not None and self._descriptors.are_closed:
            self.close()
        if self._is_cut_off:
            raise StoreUnavailableError(
                f"This process has closed all file descriptors, those of {self._file.path} too, and can "
                "store no more records. Close them before Django starts, or in a fork."
            )

    def _reopen_if_changed(self) -> None:
        """Switch to the file that now has the store's name; recreate it if it was deleted."""
        change = self._file.change()
        if change is None:
            return
        self.close()
        self._forget_store()
        self._file.recreate()
        guard.fault(
            "store",
            StoreUnavailableError(
                f"The SQL log's file {self._file.path} was {change} while this process used it. Records are "
                "written to the file of that name from now on; it is created if it is missing."
            ),
        )

    def _replace_corrupt(self, exc: Exception) -> StoreUnavailableError:
        self._forget_store()
        try:
            aside = self._file.recreate()
        except Exception as second:
            return failures.unavailable(self._alias, second)
        return StoreUnavailableError(
            f"The SQL log's file {self._file.path} is corrupt ({type(exc).__name__}: {exc}). "
            + (f"It was moved to {aside}, and a new one was created. " if aside else "")
            + "Records are kept for a retry."
        )

    def _forget_store(self) -> None:
        """Clear all caches, because the store's file has been replaced."""
        self._head = self._head._replace(seq=0, epoch=-1)
        self._texts.clear()
        self._sources.clear()
        self._keys.clear()
        self._indexing = Indexing()
        self._deployed = False
        self.generation += 1

    def _reload_if_cleared(self, store: Store) -> None:
        """Clear the caches if another process has deleted texts or keys."""
        head = store.head()
        if head.epoch != self._head.epoch:
            self._texts.clear()
            self._sources.clear()
            self._keys.clear()
        self._head = head

    def _process_row(self, part: int, process_counts: ProcessCounts) -> ProcessRow:
        return ProcessRow(
            uuid=self._uuid,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            updated_at=datetime.now(UTC),
            captured=process_counts.captured,
            stored=process_counts.stored,
            sampled_out=process_counts.sampled_out,
            dropped=process_counts.dropped,
            exported=process_counts.exported,
            queued=process_counts.queued,
            lag_ms=_lag_ms(process_counts),
            written_part=part,
            service=self._service or None,
            urlconf=str(getattr(settings, "ROOT_URLCONF", None) or "")[:200] or None,
            units_dropped=process_counts.units_dropped,
        )


def _lag_ms(process_counts: ProcessCounts) -> float:
    oldest_ns = process_counts.oldest_ns
    return max(0, time.time_ns() - oldest_ns) / 1e6 if oldest_ns else 0.0


def _import_backend(alias: str) -> None:
    """Import what the writer's thread needs to open the store, before it starts.

    A signal handler that raises while the application imports something can leave Python's import lock
    taken. Threads can then import nothing any more: the writer would wait for ever.
    """
    with suppress(ImproperlyConfigured):  # without its driver; reported when the store is opened
        if alias in connections.settings:
            backend = load_backend(connections.settings[alias]["ENGINE"])
            import_module(backend.DatabaseWrapper.ops_class.compiler_module)


def _open_store(alias: str) -> Store:
    """Return the store for an alias's kind of database."""
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        return sqlite.SQLiteStore(alias)
    if vendor == "postgresql" and _has_psycopg3():
        return postgresql.PostgreSQLStore(alias)
    return orm.ORMStore(alias)


def _has_psycopg3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)


STEP_BLOCKS = 2
"""Blocks tried after each batch. Enough, because a batch has fewer records than two blocks."""
TRIES = 20
"""Attempts before a block is left to the next search.

In the meantime, another process may write its part, or a running request may get its route.
"""
SEARCH_INTERVAL_S = 300.0
"""Interval of searches for blocks that no process has indexed, for example because it ended."""

_COLUMNS = [attrgetter({"time": "time_us"}.get(name, name)) for name in blocks.COLUMNS]


class Indexing:
    """Index complete blocks; for one thread. Readers scan a block that is not indexed."""

    def __init__(self) -> None:
        self._due: deque[tuple[int, int]] = deque()
        """Blocks to index, with the attempts left: 0 after a search, which does not wait for requests."""
        self._recent: dict[int, Record] = {}
        """Records of blocks that are not complete yet, by number."""
        self._early: dict[int, UnitOfWork] = {}
        """The requests of records stored before the URL was resolved: these get view and route later."""
        # At a random time, because all workers of a server start together.
        self._search_at_s = time.monotonic() + random.uniform(0, 0.1 * SEARCH_INTERVAL_S)  # noqa: S311

    def step(self, store: Store, head: RingState, first_seq: int, batch: Batch) -> None:
        """Index the blocks that a batch has completed, or blocks left over from before."""
        if not (store.has_index and blocks.is_indexed(head.capacity)):
            return
        records = batch.records
        next_seq = first_seq + len(records)
        self._early |= {
            seq: unit
            for seq, (record, unit) in enumerate(zip(records, batch.stored_units, strict=False), first_seq)
            if record.view is None and record.kind == "request" and unit is not None
        }
        self._recent.update(zip(range(first_seq, next_seq), records, strict=True))
        self._due.extend((block, TRIES) for block in blocks.completed_by(first_seq, len(records)))
        if not self._due and time.monotonic() > self._search_at_s:
            self._search_at_s = time.monotonic() + SEARCH_INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
            self._search(store, head)
        for _ in range(min(STEP_BLOCKS, len(self._due))):
            block, tries = self._due.popleft()
            # From memory if possible: reading a record back takes as long as indexing it, 2 us on SQLite and
            # 4 on PostgreSQL.
            columns = self._columns_from_memory(block) or store.block_columns(block, head, wait=tries > 0)
            if not (columns and store.store_block(block, columns, head)) and tries > 1:
                self._due.append((block, tries - 1))
        unfinished = blocks.first_of(blocks.block_of(next_seq))
        self._recent = {seq: record for seq, record in self._recent.items() if seq >= unfinished}
        self._early = {seq: unit for seq, unit in self._early.items() if seq >= unfinished}

    def _columns_from_memory(self, block: int) -> list[Sequence[Any]] | None:
        """Return a block's columns if this process has written all of its records, and they are final."""
        begin = blocks.first_of(block)
        end = begin + blocks.ROWS
        if any(begin <= seq < end and _is_late(unit) for seq, unit in self._early.items()):
            return None
        try:
            records = [self._recent[seq] for seq in range(begin, end)]
        except KeyError:
            return None
        return [list(map(find, records)) for find in _COLUMNS]

    def _search(self, store: Store, head: RingState) -> None:
        """Queue the blocks that no process has indexed."""
        left = set(blocks.complete_blocks(head.seq, head.capacity)) - store.indexed_blocks()
        # In random order, so that several processes do not index the same blocks.
        self._due.extend((block, 0) for block in random.sample(sorted(left), len(left)))


def _is_late(unit: UnitOfWork) -> bool:
    """Return True if a request that had no view has one now, or may still get one."""
    return not unit.ended or unit.view is not None
