"""Resolve captured queries into records: names, ids, fingerprints and call sites.

Called by `sqllogs.pipeline.delivery` in the writer's thread with queries drained from the buffer;
the batch it returns goes to the sinks and the ring.
"""

import os
import socket
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqllogs import guard
from sqllogs.capture.call_site import CallSites
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork, trace_of_span
from sqllogs.models import SQLLog
from sqllogs.record import MANY, SPAN, SQL, UNIT, VENDOR, YIELD_ROWS, Batch, Captured, Record
from sqllogs.sql.normalize import ScannedStatement, StatementScanner
from sqllogs.sql.text import text_of
from sqllogs.storage import events
from sqllogs.threads import sleep

_LENGTHS = {
    field.name: field.max_length for field in SQLLog._meta.fields if getattr(field, "max_length", None)
}


class _Origin(NamedTuple):
    """The fields that all queries of a unit of work under one span share, in the order of `Record`."""

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
        self._statements = StatementScanner()
        self._call_sites = CallSites(conf)
        self._release = _text(events.current_release(conf), "release")
        self._service = _text(events.current_service(conf), "service")
        self._host = _text(socket.gethostname(), "host") or ""
        self._pid = os.getpid()

    def batch(self, drained: list[Captured]) -> Batch:
        """Resolve drained queries; queries of muted units must have been removed before.

        A query with a value that cannot be resolved is left out: the others belong to other requests.
        """
        statements: dict[str, ScannedStatement] = {}
        records = []
        batch_sizes: dict[int, int] = {}
        units: list[UnitOfWork | None] = []
        unit: UnitOfWork | None = None
        span: Any = None
        origin, whole = _origin(None, None), None
        for captured in drained:
            try:
                if captured[UNIT] is not unit or captured[SPAN] is not span:
                    # Consecutive queries mostly belong to one unit, so its fields are made once for them.
                    origin = _origin(captured[UNIT], captured[SPAN])
                    unit, span = captured[UNIT], captured[SPAN]
                    whole = None if unit is None else unit.whole
                statement = self._statements.scan(captured[SQL], captured[VENDOR])
                records.append(self._record(captured, statement.fingerprint, origin))
            except Exception as exc:
                guard.fault("resolver", exc)
                continue
            statements[statement.fingerprint] = statement
            units.append(whole)
            if captured[MANY] > 1:
                batch_sizes[len(records) - 1] = captured[MANY]
            if len(records) % YIELD_ROWS == 0:
                # Costs 14 us of CPU; os.sched_yield takes 1 us and seldom lets another thread in.
                sleep(0)
        return Batch(records=records, statements=statements, units=units, batch_sizes=batch_sizes)

    def unit_fields(self, unit: UnitOfWork) -> dict[str, Any]:
        """Return the columns of a unit's row that describe it, cleaned."""
        route, view = unit.destination()
        tags = [tag for tag in map(text_of, unit.tags) if tag] if unit.tags else None
        return {
            "unit_id": f"{unit.span_id:016x}",
            "parent_id": f"{unit.parent_id:016x}" if unit.parent_id else None,
            "trace_id": f"{unit.trace_id:032x}",
            "sampled": unit.sampled,
            "request_id": _text(unit.request_id, "request_id"),
            "kind": _text(unit.kind, "kind") or "thread",
            "route": _text(route, "route"),
            "view": _text(view, "view"),
            "url_name": _text(unit.url_name, "view"),
            "method": _text(unit.method, "method"),
            "status": unit.status,
            "exception": _text(unit.exception, "error"),
            "response_bytes": unit.response_bytes,
            "tags": f",{','.join(tags)}," if tags else None,
            "release": self._release,
            "service": self._service,
            "host": self._host,
            "pid": self._pid,
        }

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
            # SQLite and server-side cursors report no row count, psycopg counts rows that nobody fetches.
            rowcount = max(rowcount, fetch.rows)
            error, sqlstate = fetch.error or (error, sqlstate)
        values = (
            datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC),  # a float keeps microseconds until 2106
            duration_ms,
            execute_ms,
            fetch_ms,
            rowcount if rowcount >= 0 else None,
            fingerprint,
            sql_length if sql_length >= 0 else len(sql),
            sql_hash,
            alias[:64],
            vendor[:16],
            many is not False,
            in_transaction,
            None if error is None else error.__name__[:100],
            sqlstate,
            *origin,
            None if code is None else self._call_sites.name(code, lasti),
            self._release,
            self._service,
            self._host,
            self._pid,
        )
        return Record._make(values)  # takes two thirds of the time of a call with 28 arguments


def _origin(unit: UnitOfWork | None, span: Any) -> _Origin:
    trace = trace_of_span(unit, span)
    # The unit's id, not the span's: spans that the application opens within a request have other ids.
    unit_id = trace.span_hex if unit is None else f"{unit.span_id:016x}"
    ids = (trace.trace_hex, trace.span_hex, unit_id, trace.sampled)
    if unit is None:
        return _Origin(*ids, None, "thread", None, None, None, None, False)
    route, view = unit.destination()
    return _Origin(
        *ids,
        _text(unit.request_id, "request_id"),
        _text(unit.kind, "kind") or "thread",
        _text(route, "route"),
        _text(view, "view"),
        _text(unit.method, "method"),
        unit.status,
        unit.repeats_allowed,
    )


@lru_cache(maxsize=4_096)  # routes, views and methods are few, and each unit has them twice
def _text(value: str | None, column: str) -> str | None:
    """Clean a text from the host application and cut it to the column's length; None if it is empty."""
    return text_of(value)[: _LENGTHS[column]] or None if value else None
