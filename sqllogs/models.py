"""The tables of the ring's database.

Written by `sqllogs.storage` in the writer's thread, read by `sqllogs.read`.
"""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone


class UTCDateTimeField(models.DateTimeField):  # type: ignore[type-arg]  # not generic at run time
    """A time in UTC, aware in Python, whatever the project's USE_TZ and TIME_ZONE are.

    With USE_TZ=False Django's own field takes no aware time on SQLite, and reads a naive one
    back: in UTC from SQLite, in TIME_ZONE from PostgreSQL.
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs

    def get_prep_value(self, value: Any) -> Any:
        value = self.to_python(value)
        is_naive = isinstance(value, datetime) and timezone.is_naive(value)
        return timezone.make_aware(value, timezone.get_default_timezone()) if is_naive else value

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        if isinstance(value, datetime) and not connection.features.supports_timezones:
            own_zone = connection.timezone or UTC  # of a database that others write too, see TIME_ZONE there
            value = value.astimezone(own_zone).replace(tzinfo=None)
        return connection.ops.adapt_datetimefield_value(value)

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        if not isinstance(value, datetime) or timezone.is_aware(value):
            return value
        has_zones = connection.features.supports_timezones
        zone = ZoneInfo(connection.timezone_name) if has_zones else UTC
        return value.replace(tzinfo=zone).astimezone(UTC)


class SQLLog(models.Model):
    """One executed statement, in a fixed slot: `slot = seq % capacity`.

    There is no secondary index: each costs the writer as much as the row
    itself, while a scan of 100,000 narrow rows takes 10-30 ms, and newest
    first is the order of the slots (see `sqllogs.read`). A larger ring
    has `BlockColumn`.
    """

    slot = models.IntegerField(primary_key=True, help_text="Slot in the ring, 0 to capacity - 1.")
    seq = models.BigIntegerField("id", help_text="Number of the record, ascending over all processes.")
    time = UTCDateTimeField(help_text="When the statement was sent, UTC, microseconds.")
    duration_ms = models.FloatField("duration", help_text="Execute and fetch time, milliseconds.")
    execute_ms = models.FloatField(help_text="Time in the driver's execute, milliseconds.")
    fetch_ms = models.FloatField(null=True, help_text="Time in the driver's fetches, milliseconds.")
    rows = models.BigIntegerField(
        null=True, help_text="Rows returned or changed; rows fetched where the driver has no count."
    )
    fingerprint = models.CharField(
        max_length=16, help_text="16 hex digits, the same for statements that differ only in literals."
    )
    sql_length = models.IntegerField(help_text="Characters of the statement as sent.")
    sql_hash = models.CharField(max_length=16, null=True, help_text="BLAKE2b of a statement that was cut.")
    alias = models.CharField(max_length=64, help_text="Alias in DATABASES.")
    vendor = models.CharField(max_length=16, help_text="Django's vendor name: sqlite, postgresql, ...")
    many = models.BooleanField(help_text="Sent by executemany, which is one record.")
    in_transaction = models.BooleanField(help_text="Sent inside a transaction, or ends it.")
    error = models.CharField(
        max_length=100, null=True, help_text="Class of the exception raised; its message is never stored."
    )
    sqlstate = models.CharField(
        max_length=5, null=True, help_text="SQLSTATE of the error, where the database has one."
    )
    trace_id = models.CharField(max_length=32, null=True, help_text="W3C trace id, 32 hex digits.")
    span_id = models.CharField(max_length=16, null=True, help_text="W3C span id, 16 hex digits.")
    unit_id = models.CharField(
        max_length=16, null=True, help_text="Id of the request, command or task, 16 hex digits."
    )
    sampled = models.BooleanField(help_text="Whether the tracing backend keeps the trace.")
    request_id = models.CharField(max_length=64, null=True, help_text="The X-Request-ID header.")
    kind = models.CharField(max_length=16, help_text="Unit of work: request, command, task or thread.")
    route = models.CharField(max_length=200, null=True, help_text="URL pattern that matched.")
    view = models.CharField(
        max_length=200,
        null=True,
        help_text="Dotted name of the view, or name of the command, task or thread.",
    )
    method = models.CharField(max_length=16, null=True, help_text="HTTP method.")
    status = models.SmallIntegerField(
        null=True, help_text="HTTP status, where it was known when the record was stored."
    )
    repeats_allowed = models.BooleanField(default=False, help_text="Repeated on purpose, so not an N+1.")
    call_site = models.CharField(
        max_length=300,
        null=True,
        help_text="Where the application sent it: `path/file.py:line function`.",
    )
    release = models.CharField(max_length=100, null=True, help_text="Version of the application.")
    host = models.CharField(max_length=255, help_text="Name of the machine.")
    pid = models.IntegerField(help_text="Process id.")

    class Meta:
        verbose_name = "SQL log"
        verbose_name_plural = "SQL logs"
        # The permission to read figures and fingerprints is Django's own view_sqllog.
        default_permissions = ("view",)
        permissions = [
            ("view_sqllog_text", "Can view the SQL text"),
            ("explain_sqllog", "Can explain a statement"),
            ("review_sqllog", "Can review statements"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.fingerprint} {self.duration_ms:.3f} ms"


def slot_ranges(first: int, last: int, capacity: int) -> list[tuple[int, int]]:
    """Return the one or two runs of slots that hold the numbers from `first` to `last`, oldest first."""
    low, high = first % capacity, last % capacity
    return [(low, high)] if low <= high else [(low, capacity - 1), (0, high)]


class Statement(models.Model):
    """The redacted text of a statement, once for all its records."""

    fingerprint = models.CharField(max_length=16, primary_key=True, help_text="16 hex digits.")
    sql = models.TextField(help_text="The statement with every literal replaced by ?.")
    operation = models.CharField(max_length=32, help_text="SELECT, INSERT, ...")
    tables = models.CharField(max_length=500, help_text="Tables that the statement names.")
    first_seen = UTCDateTimeField()
    last_seen = UTCDateTimeField(help_text="To the hour; the oldest make room for new ones.")

    class Meta:
        verbose_name = "slow query"  # as the admin calls it, which lists statements by their share of load
        verbose_name_plural = "Slow queries"
        default_permissions = ()

    def __str__(self) -> str:
        return self.sql[:80]


class Review(models.Model):
    """What somebody has decided about a statement; kept when the statement's text is not."""

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        REVIEWED = "reviewed", "Reviewed"
        IGNORED = "ignored", "Ignored"

    fingerprint = models.CharField(max_length=16, primary_key=True, help_text="16 hex digits.")
    status = models.CharField(max_length=16, choices=Status.choices)
    by = models.CharField(max_length=150, help_text="Username: users may be in another database.")
    at = UTCDateTimeField(help_text="When, UTC.")
    note = models.TextField(blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.status} by {self.by}"


class RingHead(models.Model):
    """One row: how far the ring has been written. Locked only while a block is reserved."""

    id = models.IntegerField(primary_key=True, default=1)
    seq = models.BigIntegerField(help_text="The last number given out.")
    capacity = models.IntegerField(help_text="Slots.")
    epoch = models.IntegerField(default=0, help_text="Changes when texts or keys are deleted.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.seq} of {self.capacity}"


class BlockColumn(models.Model):
    """One column of a block of records, in a ring too large to be scanned; see `sqllogs.storage.blocks`."""

    pk = models.CompositePrimaryKey("name", "block")
    name = models.CharField(max_length=16, help_text="Of the column of SQLLog.")
    block = models.BigIntegerField(help_text="Which block, counted from 0 from the first record on.")
    low = models.FloatField(null=True, help_text="Least value, of numbers and times.")
    high = models.FloatField(null=True, help_text="Greatest value, of numbers and times.")
    values = models.BinaryField(help_text="Distinct names as JSON, or numbers, little-endian.")
    codes = models.BinaryField(help_text="Which name each record has, where there are several.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} of block {self.block}"


class Process(models.Model):
    """What one process has captured, stored and dropped; written with each batch."""

    uuid = models.CharField(max_length=32, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    started_at = UTCDateTimeField()
    updated_at = UTCDateTimeField()
    captured = models.BigIntegerField(help_text="Queries seen.")
    stored = models.BigIntegerField(help_text="Records written to the ring.")
    sampled_out = models.BigIntegerField(default=0, help_text="Records that only the statistics count.")
    dropped = models.JSONField(default=dict, help_text="Records lost, by reason.")
    exported = models.JSONField(
        default=dict, help_text="Records that were to be sent elsewhere too, by outcome."
    )
    queued = models.IntegerField(help_text="Records waiting.")
    lag_ms = models.FloatField(help_text="Age of the oldest record of the last batch, milliseconds.")
    written_part = models.BigIntegerField(
        default=0, help_text="Number of the last part of a batch written: it is not counted a second time."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class StatisticKey(models.Model):
    """What all calls of one statistic have in common: which statement, from where, in which release.

    The id is a hash of the other fields, so that every process finds it by itself.
    """

    id = models.BigIntegerField(
        primary_key=True, help_text="BLAKE2b of the fields; 0 is all that had no room."
    )
    fingerprint = models.CharField(
        max_length=16, help_text="16 hex digits, the same for statements that differ only in literals."
    )
    alias = models.CharField(max_length=64, help_text="Alias in DATABASES.")
    vendor = models.CharField(max_length=16, help_text="Django's vendor name: sqlite, postgresql, ...")
    kind = models.CharField(max_length=16, help_text="Unit of work: request, command, task or thread.")
    route = models.CharField(max_length=200, null=True, help_text="URL pattern that matched.")
    view = models.CharField(
        max_length=200,
        null=True,
        help_text="Dotted name of the view, or name of the command, task or thread.",
    )
    method = models.CharField(
        max_length=16, null=True, help_text="HTTP method; OTHER for one of no standard."
    )
    release = models.CharField(max_length=100, null=True, help_text="Version of the application.")
    last_seen = models.BigIntegerField(
        help_text="To the hour, seconds since the epoch; the oldest make room for new ones."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.route or self.view or self.kind}"


class Statistic(models.Model):
    """All calls of one key in one minute, hour or day.

    A call is counted in its minute, and with that in its hour and day once they are rolled up.

    The order of the primary key is that in which rows are written and read; on SQLite it is the
    table itself (WITHOUT ROWID).
    """

    pk = models.CompositePrimaryKey("resolution_s", "time", "key")
    resolution_s = models.IntegerField(help_text="60, 3600 or 86400 seconds.")
    time = models.BigIntegerField(help_text="Start, seconds since the epoch; a multiple of the resolution.")
    key = models.ForeignKey(StatisticKey, models.DO_NOTHING, db_constraint=False, db_index=False)
    calls = models.BigIntegerField(help_text="Statements sent.")
    errors = models.BigIntegerField(help_text="Of these, failed.")
    rows = models.BigIntegerField(help_text="Rows returned or changed, where the driver told.")
    total_us = models.BigIntegerField(help_text="Sum of durations, microseconds.")
    max_us = models.BigIntegerField(help_text="Longest duration, microseconds.")
    last_seen = models.BigIntegerField(help_text="Latest call, seconds since the epoch.")
    durations = models.BinaryField(
        help_text="Calls by logarithmic range of duration; see statistics.durations."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.calls} calls in {self.resolution_s} s from {self.time}"


class RollUp(models.Model):
    """One row: up to when minutes have been added to hours and days."""

    id = models.IntegerField(primary_key=True, default=1)
    until_s = models.BigIntegerField(
        help_text="Minutes before this are rolled up, seconds since the epoch; late calls count in all."
    )
    tidied_at = models.BigIntegerField(
        default=0, help_text="When a process last looked for old statistics, seconds since the epoch."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.until_s)


class Event(models.Model):
    """Something that happened to the application, to be seen beside its figures."""

    key = models.CharField(
        max_length=128, unique=True, null=True, help_text="What happens once, whoever notices it first."
    )
    time = UTCDateTimeField(help_text="When, UTC.")
    kind = models.CharField(max_length=16, help_text="deploy or migration.")
    title = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    tags = models.JSONField(default=list, help_text="Words to choose by.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.title


class Token(models.Model):
    """A bearer token that may read the SQL log API and nothing else."""

    name = models.CharField(max_length=64, help_text="Who uses it; two may be active under one name.")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token, hex.")
    created_at = UTCDateTimeField(auto_now_add=True)
    last_used_at = UTCDateTimeField(null=True, help_text="To the minute.")
    revoked_at = UTCDateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


VIEW = "sqllogs.view_sqllog"
VIEW_TEXT = "sqllogs.view_sqllog_text"
