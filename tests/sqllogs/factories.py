"""Rings as the writer leaves them, and clients that may read them."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from django.test import Client

from sqllogs.api import tokens
from sqllogs.context import UnitOfWork
from sqllogs.models import (
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
from sqllogs.record import (
    EPOCH,
    FORM_FIELDS,
    ORIGIN_FIELDS,
    RECORD_FIELDS,
    EndedUnit,
    QueryForm,
    QueryOrigin,
    Record,
)
from sqllogs.statistics import counting
from sqllogs.statistics.resolution import MINUTE_S
from sqllogs.storage.store import COLUMNS, NO_IDS, SourceRow, query_row

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)
"""The time of record 0; each further one is a second later."""


def record_of(*, statement=None, **fields):
    """Make a record as the resolver does, from the fields of `SQLLog`."""
    duration_us, execute_us, fetch_us = (
        None if fields[name] is None else round(fields[name] * 1000)
        for name in ("duration_ms", "execute_ms", "fetch_ms")
    )
    made = Record(
        (fields["time"] - EPOCH) // timedelta(microseconds=1),
        duration_us or 0,
        execute_us or 0,
        fetch_us,
        fields["rows"],
        QueryForm(**{name: fields[name] for name in FORM_FIELDS}, statement=statement),
        QueryOrigin(**{name: fields[name] for name in ORIGIN_FIELDS}),
    )
    made.same_values = fields["same_values"]
    return made


def changed(record, **changes):
    """Make a record with other values of some fields."""
    fields = {name: getattr(record, name) for name in RECORD_FIELDS}
    return record_of(**fields | changes, statement=record.form.statement)


def row(seq, capacity=100, **changes):
    """Make a record in its slot, not saved yet."""
    plain = dict.fromkeys(RECORD_FIELDS) | {
        "time": BEGINNING + timedelta(seconds=seq),
        "duration_ms": 1.0,
        "execute_ms": 1.0,
        "fingerprint": "f" * 16,
        "sql_length": 8,
        "alias": "default",
        "vendor": "sqlite",
        "many": False,
        "in_transaction": False,
        "sampled": False,
        "kind": "request",
        "repeats_allowed": False,
        "same_values": False,
        "host": "web-1",
        "pid": 1,
    }
    return SimpleNamespace(**{"slot": seq % capacity, "seq": seq, "unit": None} | plain | changes)


def fill(last, *, capacity=100, first=None, changes=None):
    """Write the newest records up to number `last`; `changes` gives the fields of some by number."""
    first = max(1, last - capacity + 1) if first is None else first
    RingHead.objects.update_or_create(id=1, defaults={"seq": last, "capacity": capacity})
    put_rows(*(row(seq, capacity, **(changes or {}).get(seq, {})) for seq in range(first, last + 1)))


def put_rows(*rows):
    """Write records with their units of work and sources; of other statements there are only statistics."""
    rows = [one for one in rows if one.fingerprint != counting.OTHER_KEY.fingerprint]
    put_units(rows)
    records = [record_of(**{name: getattr(one, name) for name in RECORD_FIELDS}) for one in rows]
    sources = {one.form.source_id: one.form.source for one in records}
    QuerySource.objects.bulk_create(
        [QuerySource(**SourceRow(one, *sources[one])._asdict()) for one in sources], ignore_conflicts=True
    )
    stored = (
        query_row(one.slot, one.seq, record, one.unit, NO_IDS)
        for one, record in zip(rows, records, strict=True)
    )
    RingRow.objects.bulk_create(RingRow(**dict(zip(COLUMNS, values, strict=True))) for values in stored)


def put_units(rows):
    """Write the units of work of records, as long as their queries took.

    Records without a unit or trace share one without an id, as those of a process do.
    """
    units = {}
    for one in rows:
        if one.unit is None:
            has_ids = one.unit_id or one.trace_id
            key = (one.unit_id, one.trace_id) if has_ids else tuple(getattr(one, name) for name in OF_UNIT)
            units.setdefault(key, []).append(one)
    taken = Unit.objects.count()
    for one_units_rows in units.values():
        for one in one_units_rows:
            one.unit = taken
        put_unit(*one_units_rows)
        taken += 1


def put_unit(*rows, slot=None, **changes):
    """Write the unit of work that has sent some records."""
    first, last = rows[0], rows[-1]
    end = last.time + timedelta(milliseconds=last.duration_ms)
    repeats = Counter((one.fingerprint, one.call_site) for one in rows).most_common(1)
    (fingerprint, call_site), times = repeats[0]
    plain = {name: getattr(last, name) for name in OF_UNIT} | {
        "first_seq": min(one.seq for one in rows),
        "last_seq": max(one.seq for one in rows),
        "time": first.time,
        "ended_at": end,
        "duration_ms": (end - first.time) / timedelta(milliseconds=1),
        "queries": len(rows),
        "errors": sum(one.error is not None for one in rows),
        "rows": min(sum(one.rows or 0 for one in rows), 2**62),
        "total_ms": sum(one.duration_ms for one in rows),
        "statements": len({one.fingerprint for one in rows}),
        "worst_repeat": times,
        "worst_fingerprint": fingerprint if times > 1 else None,
        "worst_call_site": call_site if times > 1 else None,
    }
    return Unit.objects.create(slot=last.unit if slot is None else slot, **plain | changes)


OF_UNIT = (
    "unit_id", "trace_id", "sampled", "request_id", "kind", "route", "view", "method", "status", "release",
    "service", "host", "pid",
)  # fmt: skip


def put(*fields, capacity=100):
    """Write a record for each dict of fields, numbered from 1."""
    fill(len(fields), capacity=capacity, changes=dict(enumerate(fields, 1)))


def put_statement(fingerprint="f" * 16, sql="SELECT 1", operation="SELECT", tables=""):
    """Write a statement's text; return its fingerprint."""
    times = {"first_seen": BEGINNING, "last_seen": BEGINNING}
    Statement.objects.create(fingerprint=fingerprint, sql=sql, operation=operation, tables=tables, **times)
    return fingerprint


def put_process(updated_at, **changes):
    plain = {
        "host": "web-1",
        "pid": 1,
        "captured": 10,
        "stored": 10,
        "dropped": {},
        "queued": 0,
        "lag_ms": 5.0,
    }
    times = {"started_at": updated_at, "updated_at": updated_at}
    number = Process.objects.count()
    return Process.objects.create(uuid=f"{number:032x}", **plain | times | changes)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
"""What a browser accepts."""


def reader(name="test", **headers):
    """A client with a token of its own."""
    return Client(headers={"Authorization": f"Bearer {tokens.create(name)}", **headers})


def put_statistics(*calls):
    """Count calls in the statistics: each is a dict of fields of a record, as in `put`."""
    plain = {name: getattr(row(0), name) for name in RECORD_FIELDS}
    _put_counts(counting.count(record_of(**plain | fields) for fields in calls), MINUTE_S)


def put_unit_statistics(*units):
    """Count units of work in the statistics: each is a dict of duration_ms and fields of `EndedUnit`."""
    plain = {"failed": False, "queries": 0, "kind": "request", "route": "a/", "view": "v", "method": "GET"}
    ended = []
    for fields in units:
        unit = UnitOfWork("request")
        unit.duration_ns = int(fields.pop("duration_ms", 1.0) * 1e6)
        values = plain | {"ended_s": BEGINNING.timestamp(), "release": None, "service": None} | fields
        ended.append(EndedUnit(unit=unit, **values))
    _put_counts(counting.count_units(ended), -MINUTE_S)


def _put_counts(counts, resolution_s):
    ids = {key: key.id for _, key in counts}
    StatisticKey.objects.bulk_create(
        [StatisticKey(id=id, last_seen=0, **key._asdict()) for key, id in ids.items()], ignore_conflicts=True
    )
    minutes = counting.rows(counts, ids, resolution_s)
    RollUp.objects.update_or_create(id=1, defaults={"until_s": max(part.time for part in minutes) + 60})
    parts = [*minutes, *counting.hours_and_days(minutes)]
    Statistic.objects.bulk_create(Statistic(**part._asdict()) for part in parts)
