"""Turn captured queries into records.

Fed by `sqllogs.writer`, in the writer's thread, with what `sqllogs.capture`
left in the buffer; what it returns goes to the sinks.
"""

import os
import socket
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import sleep
from typing import Any, NamedTuple

from sqllogs import release, tracing
from sqllogs.call_site import CallSites
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.models import SQLLog
from sqllogs.record import Captured, Record
from sqllogs.sql.text import text_of
from sqllogs.statement import Statement, Statements

YIELD_ROWS = 50
"""The interpreter's lock is given up this often. Otherwise a thread of the application that
wants it waits for the switch interval, and again: 22 ms at worst were measured, 0.5 ms are left."""

_LENGTHS = {
    field.name: field.max_length for field in SQLLog._meta.fields if getattr(field, "max_length", None)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one flush hands to the sinks."""

    records: list[Record]
    statements: dict[str, Statement]
    """The statements of these records by fingerprint."""
    units: list[UnitOfWork | None] = field(default_factory=list)
    """The unit of work of each record, in their order."""
    sampled_out: list[Record] = field(default_factory=list)
    """Records that statistics count and the ring does not keep."""
    part: int = 0
    """Its number, counted up by the delivery as it is written: no number is written twice."""

    def __len__(self) -> int:
        return len(self.records) + len(self.sampled_out)

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return two parts, neither of them empty, of a batch of two or more."""
        kept, left = len(self.records) // 2, -(-len(self.sampled_out) // 2)
        return (
            replace(self, records=self.records[:kept], sampled_out=self.sampled_out[:left], part=0),
            replace(self, records=self.records[kept:], sampled_out=self.sampled_out[left:], part=0),
        )


class _Origin(NamedTuple):
    """The part of a record that all queries of a unit of work under one span share."""

    trace_id: str | None
    span_id: str | None
    unit_id: str | None
    sampled: bool
    request_id: str | None
    kind: str
    route: str | None
    view: str | None
    method: str | None
    status: int | None
    repeats_allowed: bool


class Resolver:
    """For one thread."""

    def __init__(self, conf: Conf) -> None:
        self._statements = Statements()
        self._call_sites = CallSites(conf)
        self._release = _text(release.current(conf), "release")
        self._host = _text(socket.gethostname(), "host") or ""
        self._pid = os.getpid()

    def batch(self, drained: list[Captured]) -> Batch:
        """Resolve what was drained. Queries of muted units must be left out before."""
        statements: dict[str, Statement] = {}
        records = []
        units: list[UnitOfWork | None] = []
        unit: UnitOfWork | None = None
        span: Any = None
        origin, whole = _origin(None, None), None
        for captured in drained:
            if captured[12] is not unit or captured[13] is not span:
                # Queries come in runs of one unit; its names are made once for a run.
                unit, span = captured[12], captured[13]
                origin = _origin(unit, span)
                whole = None if unit is None else unit.whole
            statement = self._statements.scan(captured[2], captured[6])
            statements[statement.fingerprint] = statement
            units.append(whole)
            records.append(self._record(captured, statement.fingerprint, origin))
            if len(records) % YIELD_ROWS == 0:
                sleep(0)
        return Batch(records=records, statements=statements, units=units)

    def _record(self, captured: Captured, fingerprint: str, origin: _Origin) -> Record:
        (
            time_ns, execute_ns, sql, sql_length, sql_hash, alias, vendor, many, in_transaction,
            rowcount, error, sqlstate, _, _, code, lasti, fetch,
        ) = captured  # fmt: skip
        execute_ms = duration_ms = execute_ns // 1000 / 1000
        fetch_ms = None
        if fetch is not None and fetch.rows >= 0:
            fetch_ms = fetch.fetch_ns // 1000 / 1000
            duration_ms = (execute_ns + fetch.fetch_ns) // 1000 / 1000
            # SQLite and server-side cursors tell no count, psycopg counts rows that nobody fetches.
            rowcount = max(rowcount, fetch.rows)
            error, sqlstate = fetch.error or (error, sqlstate)
        values = (
            datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC),  # a float tells microseconds until 2106
            duration_ms,
            execute_ms,
            fetch_ms,
            rowcount if rowcount >= 0 else None,
            fingerprint,
            sql_length if sql_length >= 0 else len(sql),
            sql_hash,
            alias[:64],
            vendor[:16],
            many,
            in_transaction,
            None if error is None else error.__name__[:100],
            sqlstate,
            *origin,
            None if code is None else self._call_sites.name(code, lasti),
            self._release,
            self._host,
            self._pid,
        )
        return Record._make(values)  # two thirds of the time of a call with 28 arguments


def _origin(unit: UnitOfWork | None, span: Any) -> _Origin:
    trace = tracing.of(unit, span)
    # A unit's own id: spans that the application opens within it have others. Outside of one it is the span.
    unit_id = trace.span_hex if unit is None else f"{unit.span_id:016x}"
    ids = (trace.trace_hex, trace.span_hex, unit_id, trace.sampled)
    if unit is None:
        return _Origin(*ids, None, "thread", None, None, None, None, False)
    route, view = unit.destination()
    return _Origin(
        *ids,
        _text(unit.request_id, "request_id"),
        unit.kind[:16],
        _text(route, "route"),
        _text(view, "view"),
        _text(unit.method, "method"),
        unit.status,
        unit.repeats_allowed,
    )


def _text(value: str | None, column: str) -> str | None:
    """Clean a text that the host gave, and cut it to its column; empty is None."""
    return text_of(value)[: _LENGTHS[column]] or None if value else None
