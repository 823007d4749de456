"""Resolve captured queries into records: names, ids, fingerprints and call sites.

Called by `sqllogs.pipeline.delivery` in the writer's thread with queries from the buffer. Returns a batch for
the sinks and the ring.
"""

import os
import socket
from functools import lru_cache
from sys import getsizeof
from types import CodeType
from typing import Any

from sqllogs import guard
from sqllogs.capture import ALIAS, MANY, SPAN, SQL, TIME_NS, UNIT, VALUES, Captured
from sqllogs.capture.call_site import CallSites
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork, trace_of_span
from sqllogs.models import SQLLog
from sqllogs.pipeline.buffer import Drained
from sqllogs.record import YIELD_ROWS, Batch, CountedQueries, Dimensions, QueryForm, QueryOrigin, Record
from sqllogs.sql.n_plus_one import rows_read
from sqllogs.sql.normalize import ScannedStatement, StatementScanner, is_short
from sqllogs.sql.text import text_of
from sqllogs.storage import events
from sqllogs.threads import sleep

_LENGTHS = {
    field.name: field.max_length for field in SQLLog._meta.fields if getattr(field, "max_length", None)
}


READING = frozenset(["SELECT", "SAVEPOINT", "RELEASE SAVEPOINT", "BEGIN", "COMMIT", "SET"])
"""Operations that change no data. After any other, the same SELECT may return something else."""


_new = object.__new__

_Marks = tuple[bool, str | None]
"""Whether repetitions are allowed, and the `ignore_findings` rules, one per line."""

FORMS_BYTES_MAX = 8 << 20
"""Memory of the cached forms: 5,000 with statements of 350 characters, 900 with the longest ASCII ones."""
FORM_BYTES = 800
"""Memory of a form with its key, without the statement's text, which it has as sent and as redacted."""
KEY_BYTES = 44
"""Memory of one of `RowsRead.keys`."""
DIMENSIONS_MAX = 1_024
"""Cached dimensions, of four texts each."""


class Resolver:
    """For one thread."""

    def __init__(self, conf: Conf) -> None:
        self._statements = StatementScanner()
        self._call_sites = CallSites(conf)
        self._release = cleaned(events.current_release(conf), "release")
        self._service = cleaned(events.current_service(conf), "service")
        self.host = cleaned(socket.gethostname(), "host") or ""
        self.pid = os.getpid()
        self._forms: dict[Any, tuple[QueryForm, CodeType | None]] = {}
        """Cached forms. Each with its code object, whose id is in the key: a freed id could be reused."""
        self._forms_bytes = 0
        self._dimensions: dict[Any, Dimensions] = {}
        """By kind, route, view and method before they are cleaned."""
        # Of queries outside units of work.
        self._no_dimensions: Dimensions = "thread", None, None, None, self._release, self._service

    def batch(self, drained: list[Captured]) -> Batch:
        """Resolve drained queries; queries of muted units must have been removed before.

        A query with a value that cannot be resolved is left out: the others belong to other requests.
        """
        statements: dict[str, ScannedStatement] = {}
        records: list[Record] = []
        batch_sizes: dict[int, int] = {}
        units: list[UnitOfWork | None] = []
        unit: UnitOfWork | None = None
        span: Any = None
        origin, whole, until_ns = self._origin(None, None), None, NEVER_NS
        marks = _marks(None)
        for captured in drained:
            try:
                if captured[UNIT] is not unit or captured[SPAN] is not span or captured[TIME_NS] > until_ns:
                    # Consecutive queries mostly belong to the same unit, so its fields are resolved once.
                    its_unit = _unit_of(captured)
                    origin, marks = self._origin(its_unit, captured[SPAN]), _marks(its_unit)
                    whole = None if its_unit is None else its_unit.whole
                    unit, span = captured[UNIT], captured[SPAN]
                    until_ns = _until_ns(its_unit)
                record = self._record(captured, origin, marks)
                form = record.form
                # Most repetitions are sent without values, and only these and writes change anything here.
                if whole is not None and (captured[VALUES] is not None or form.is_write):
                    _compare_values(whole, captured, record)
            except Exception as exc:
                guard.fault("resolver", exc)
                continue
            records.append(record)
            statements[form.fingerprint] = form.statement
            units.append(whole)
            if captured[MANY] > 1:
                batch_sizes[len(records) - 1] = captured[MANY]
            if len(records) % YIELD_ROWS == 0:
                # Lets the application's threads run, for 14 us. os.sched_yield() takes 1 us but rarely does.
                sleep(0)
        return Batch(records=records, statements=statements, units=units, batch_sizes=batch_sizes)

    def counted(self, drained: Drained) -> Batch:
        """Resolve queries that are only counted."""
        batch = self.batch(drained.single)
        for one in drained.grouped:
            try:
                unit = _unit_of(one.slowest)
                record = self._record(one.slowest, self._origin(unit, None), _marks(unit))
            except Exception as exc:
                guard.fault("resolver", exc)
                continue
            batch.statements[record.fingerprint] = record.form.statement
            whole = None if unit is None else unit.whole
            batch.groups.append(CountedQueries(record, whole, one.durations_us, one.rows, one.last_s))
        return batch

    def dimensions(self, unit: UnitOfWork) -> Dimensions:
        """Return a unit's part of the statistics key, cleaned."""
        # Most units have ended by now, and have their route.
        known = (unit.route, unit.view) if unit.request is None else _route_and_view(unit)
        key = kind, route, view, method = unit.kind, *known, unit.method
        found = self._dimensions.get(key)
        if found is None:
            found = (
                cleaned(kind, "kind") or "thread",
                cleaned(route, "route"),
                cleaned(view, "view"),
                cleaned(method, "method"),
                self._release,
                self._service,
            )
            if all(text is None or is_short(text) for text in key):
                if len(self._dimensions) >= DIMENSIONS_MAX:
                    self._dimensions.clear()
                self._dimensions[key] = found
        return found

    def call_site(self, code: CodeType, lasti: int) -> str:
        return self._call_sites.name(code, lasti)

    def _record(self, captured: Captured, origin: QueryOrigin, marks: _Marks) -> Record:
        (
            time_ns, execute_ns, sql, sql_length, sql_hash, alias, vendor, many, in_transaction,
            rowcount, error, sqlstate, _, _, code, lasti, fetch, asked_by, rendering, _,
        ) = captured  # fmt: skip
        duration_us = execute_us = execute_ns // 1000
        fetch_us = None
        if fetch is not None and fetch.rows >= 0:
            fetch_us = fetch.fetch_ns // 1000
            duration_us = (execute_ns + fetch.fetch_ns) // 1000
            # SQLite and server-side cursors report no row count. psycopg's includes rows that nobody fetched.
            if fetch.rows > rowcount:
                rowcount = fetch.rows
            if fetch.error is not None:
                error, sqlstate = fetch.error
        # The code object is represented by its id, because hashing it walks its bytecode.
        key = (
            sql, sql_length, sql_hash, alias, vendor, many is not False, in_transaction, error, sqlstate,
            id(code), lasti, asked_by, rendering, marks,
        )  # fmt: skip
        found = self._forms.get(key)
        form = self._form(key, code) if found is None else found[0]
        # Without __init__, whose call takes 1,200 instructions.
        record = _new(Record)
        record.time_us = time_ns // 1000
        record.duration_us = duration_us
        record.execute_us = execute_us
        record.fetch_us = fetch_us
        record.rows = rowcount if rowcount >= 0 else None
        record.form = form
        record.origin = origin
        record.same_values = record.same_rows = False
        return record

    def _form(self, key: tuple[Any, ...], code: CodeType | None) -> QueryForm:
        (
            sql, sql_length, sql_hash, alias, vendor, many, in_transaction, error, sqlstate,
            _, lasti, asked_by, rendering, (repeats_allowed, ignored),
        ) = key  # fmt: skip
        statement = self._statements.scan(sql, vendor)
        form = QueryForm(
            fingerprint=statement.fingerprint,
            sql_length=sql_length if sql_length >= 0 else len(sql),
            sql_hash=sql_hash,
            # Cut to the lengths of the columns, because some databases refuse longer texts.
            alias=alias[:64],
            vendor=vendor[:16],
            many=many,
            in_transaction=in_transaction,
            error=None if error is None else error.__name__[:100],
            sqlstate=sqlstate,
            repeats_allowed=repeats_allowed,
            ignored=ignored,
            call_site=None if code is None else self._call_sites.name(code, lasti),
            asked_by=None if asked_by is None else cleaned(asked_by, "asked_by"),
            rendering=None if rendering is None else self._call_sites.shorten(rendering),
            statement=statement,
            rows_read=None if error is not None or repeats_allowed else rows_read(statement.sql),
            is_write=statement.operation not in READING,
        )
        if is_short(sql):
            keys = () if form.rows_read is None else form.rows_read.keys
            size = FORM_BYTES + getsizeof(sql) + getsizeof(statement.sql) + KEY_BYTES * len(keys)
            if self._forms_bytes + size > FORMS_BYTES_MAX:
                self._forms.clear()
                self._forms_bytes = 0
            self._forms[key] = form, code
            self._forms_bytes += size
        return form

    def _origin(self, unit: UnitOfWork | None, span: Any) -> QueryOrigin:
        trace = trace_of_span(unit, span)
        kind, route, view, method, release, service = (
            self._no_dimensions if unit is None else self.dimensions(unit)
        )
        span_hex = trace.span_hex
        return QueryOrigin(
            trace_id=trace.trace_hex,
            span_id=span_hex,
            # The unit's id, not the span's, because the application may open more spans within a request.
            unit_id=(span_hex if unit is None or unit.span_id == trace.span_id else f"{unit.span_id:016x}"),
            sampled=trace.sampled,
            request_id=None if unit is None else cleaned(unit.request_id, "request_id"),
            kind=kind,
            route=route,
            view=view,
            method=method,
            status=None if unit is None else unit.status,
            release=release,
            service=service,
            host=self.host,
            pid=self.pid,
        )


AFTER_END_NS = 60 * 10**9
"""A query sent up to this long after the end of its unit of work still belongs to it."""
NEVER_NS = 1 << 63


def _until_ns(unit: UnitOfWork | None) -> int:
    """Return the time until which queries belong to a unit of work."""
    return NEVER_NS if unit is None or not unit.ended_ns else unit.ended_ns + AFTER_END_NS


def _unit_of(captured: Captured) -> UnitOfWork | None:
    """Return the unit of work of a query; None if it ended long ago, as in an asyncio task that goes on."""
    unit = captured[UNIT]
    return None if captured[TIME_NS] > _until_ns(unit) else unit


VALUES_MAX = 500
"""Maximum statements, and values of each, that are compared in a unit of work between two writes."""


def _compare_values(unit: UnitOfWork, captured: Captured, record: Record) -> None:
    """Mark a SELECT that the unit has sent before with the same values, without a write in between."""
    form, values = record.form, captured[VALUES]
    if form.is_write:
        unit.values_sent = None
    if values is None or form.statement.operation != "SELECT":
        return
    sent = unit.values_sent = unit.values_sent or {}
    # With the text, because Django writes LIMIT and OFFSET into it and not into the parameters.
    known, whole = _sent_by(sent, captured[ALIAS], form.fingerprint), hash((captured[SQL], values))
    record.same_values = whole in known
    if len(known) + len(sent) < VALUES_MAX:
        known.add(whole)
    if form.rows_read is not None:
        kind, other = ("COUNT", "list") if form.rows_read.is_counted else ("list", "COUNT")
        own, others = _sent_by(sent, captured[ALIAS], kind), sent.get((captured[ALIAS], other), ())
        keys = {hash((key, values)) for key in form.rows_read.keys}
        record.same_rows = not keys.isdisjoint(others)
        if len(own) < VALUES_MAX:
            own.update(keys)


def _sent_by(sent: dict[tuple[str, str], set[int]], alias: str, name: str) -> set[int]:
    found = sent.get((alias, name))
    if found is None:
        found = set()
        if len(sent) < VALUES_MAX:  # an endless command may send any number of statements
            sent[alias, name] = found
    return found


def _route_and_view(unit: UnitOfWork) -> tuple[str | None, str | None]:
    """Return route and view; an error in reading them must not drop the records of other requests."""
    try:
        return unit.route_and_view()
    except Exception as exc:
        guard.fault("resolver", exc)
        return None, None


def _marks(unit: UnitOfWork | None) -> _Marks:
    return (False, None) if unit is None else (unit.repeats_allowed, "\n".join(unit.ignore_rules) or None)


def cleaned(value: str | None, column: str) -> str | None:
    """Clean a text from the host application and cut it to the column's length; None if it is empty."""
    if not value:
        return None
    # Not cached: request ids are unique, and a client may send long ones. 4,096 of 8 KB took 34 MB.
    is_reused = column != "request_id" and is_short(value)
    return (_cached_clean if is_reused else _clean)(value, column)


def _clean(value: str, column: str) -> str | None:
    return text_of(value)[: _LENGTHS[column]] or None


_cached_clean = lru_cache(maxsize=4_096)(_clean)
"""Worth it, because there are few routes, views and methods, and each unit of work has them twice."""
