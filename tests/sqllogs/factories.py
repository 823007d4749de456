"""Rings as the writer leaves them, and clients that may read them."""

from datetime import UTC, datetime, timedelta

from django.test import Client

from sqllogs.api import tokens
from sqllogs.models import Process, RingHead, RollUp, SQLLog, Statement, Statistic, StatisticKey
from sqllogs.record import Record
from sqllogs.statistics import counting

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)
"""The time of record 0; each further one is a second later."""


def row(seq, capacity=100, **changes):
    """Make a row in its slot, not saved yet."""
    plain = {
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
        "host": "web-1",
        "pid": 1,
    }
    return SQLLog(slot=seq % capacity, seq=seq, **plain | changes)


def fill(last, *, capacity=100, first=None, changes=None):
    """Write the newest records up to number `last`; `changes` gives the fields of some by number."""
    first = max(1, last - capacity + 1) if first is None else first
    RingHead.objects.update_or_create(id=1, defaults={"seq": last, "capacity": capacity})
    SQLLog.objects.bulk_create(
        row(seq, capacity, **(changes or {}).get(seq, {})) for seq in range(first, last + 1)
    )


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
    plain = dict.fromkeys(Record._fields) | {
        name: getattr(row(0), name)
        for name in ("time", "duration_ms", "fingerprint", "alias", "vendor", "kind")
    }
    counts = counting.count(Record(**plain | fields) for fields in calls)
    ids = {key: key.id for _, key in counts}
    StatisticKey.objects.bulk_create(
        [StatisticKey(id=id, last_seen=0, **key._asdict()) for key, id in ids.items()], ignore_conflicts=True
    )
    minutes = counting.rows(counts, ids)
    RollUp.objects.update_or_create(id=1, defaults={"until_s": max(part.time for part in minutes) + 60})
    parts = [*minutes, *counting.hours_and_days(minutes)]
    Statistic.objects.bulk_create(Statistic(**part._asdict()) for part in parts)
