"""The tables of the ring: records, units of work, blocks and the ring's head.

Written by `sqllogs.storage` in the writer's thread; read by `sqllogs.read` in the readers' threads.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class UTCDateTimeField(models.DateTimeField):  # type: ignore[type-arg]  # not generic at run time
    """A time in UTC, aware in Python, whatever the project's USE_TZ and TIME_ZONE are.

    With USE_TZ=False Django's own field rejects aware times on SQLite, and returns naive ones: in UTC from
    SQLite, in TIME_ZONE from PostgreSQL.
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        # To migrations it is Django's own field, whose column is the same.
        return name, "django.db.models.DateTimeField", args, kwargs

    def get_prep_value(self, value: Any) -> Any:
        value = self.to_python(value)
        # A naive time is in the project's zone, as for Django's own field.
        is_naive = isinstance(value, datetime) and timezone.is_naive(value)
        return timezone.make_aware(value, timezone.get_default_timezone()) if is_naive else value

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        if isinstance(value, datetime) and not connection.features.supports_timezones:
            # DATABASES may have a TIME_ZONE, for a database that other programs write in local time.
            zone = connection.timezone or UTC
            value = value.astimezone(zone).replace(tzinfo=None)
        return connection.ops.adapt_datetimefield_value(value)

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        if not isinstance(value, datetime) or timezone.is_aware(value):
            return value
        # PostgreSQL converts to the time zone of the session, and Django drops it from the value.
        has_zones = connection.features.supports_timezones
        zone = ZoneInfo(connection.timezone_name) if has_zones else UTC
        return value.replace(tzinfo=zone).astimezone(UTC)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class MicrosecondsField(UTCDateTimeField):
    """A time in UTC, stored as microseconds since the epoch: 8 bytes in SQLite instead of 26.

    It is compared and sorted like any other time. Lookups of its parts, such as `time__date`, are not
    supported, because the databases' functions for them do not accept a number.
    """

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def get_transform(self, lookup_name: str) -> None:
        return None

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        return (value - EPOCH) // MICROSECOND if isinstance(value, datetime) else value

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return EPOCH + value * MICROSECOND if isinstance(value, int) else value


class RingRow(models.Model):
    """One executed statement, in a fixed slot: `slot = seq % capacity`. The view `SQLLog` reads it.

    Numbers as far as possible: they take a quarter of the space, and half of the writer's time, of the texts
    that they stand for.
    """

    # Two columns of 4 bytes, then those of 8, then shorter ones: PostgreSQL's alignment leaves no gaps.
    slot = models.IntegerField(primary_key=True, help_text=_("Slot in the ring, 0 to capacity - 1."))
    unit = models.IntegerField(null=True, help_text=_("Slot of the unit of work in Unit."))
    seq = models.BigIntegerField(help_text=_("Number of the record, ascending over all processes."))
    time = models.BigIntegerField(help_text=_("When it was sent, microseconds since the epoch."))
    statement = models.BigIntegerField(help_text=_("The fingerprint as a signed number."))
    source = models.BigIntegerField(help_text=_("Call site and database: the id of a QuerySource."))
    duration_us = models.BigIntegerField(help_text=_("Execute and fetch time, microseconds."))
    execute_us = models.BigIntegerField(help_text=_("Time in the driver's execute, microseconds."))
    fetch_us = models.BigIntegerField(null=True, help_text=_("Time in the driver's fetches, microseconds."))
    rows = models.BigIntegerField(null=True, help_text=_("Rows returned or changed, or else fetched."))
    sql_length = models.IntegerField(help_text=_("Characters of the statement as sent."))
    flags = models.SmallIntegerField(
        help_text=_(
            "1: executemany, 2: in a transaction, 4: trace is kept, 8: repeated on purpose, "
            "16: sent before with the same values, 32: its unit has counted and listed these rows."
        )
    )
    # Texts at the end, and NULL in most records: trace and span only where they are not the unit's.
    trace_id = models.CharField(max_length=32, null=True, help_text=_("W3C trace id; NULL: its unit's."))
    span_id = models.CharField(max_length=16, null=True, help_text=_("W3C span id; NULL: its unit's id."))
    sql_hash = models.CharField(
        max_length=16, null=True, help_text=_("BLAKE2b hash of a statement that was cut.")
    )
    error = models.CharField(max_length=100, null=True, help_text=_("Class of the exception raised."))
    sqlstate = models.CharField(max_length=5, null=True, help_text=_("SQLSTATE of the error."))

    class Meta:
        # No index but the key: each would cost the writer as much as the row, and a scan of 100,000 narrow
        # rows takes 10 to 30 ms; newest first is the order of the slots. Larger rings have `BlockColumn`.
        db_table = "sqllogs_query"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.seq} {self.duration_us} us"


class QuerySource(models.Model):
    """Where queries come from and which database they go to; stored once for all their records."""

    # 48 bits are 6 bytes of each record in SQLite; a hash is the same in every process.
    id = models.BigIntegerField(primary_key=True, help_text=_("48 bits of a BLAKE2b hash of the fields."))
    call_site = models.CharField(
        max_length=300,
        null=True,
        help_text=_("Where the application sent it, as path/file.py:line function."),
    )
    alias = models.CharField(max_length=64, help_text=_("Alias in DATABASES."))
    vendor = models.CharField(max_length=16, help_text=_("Django's vendor name: sqlite, postgresql, ..."))
    asked_by = models.CharField(
        max_length=300, null=True, help_text=_("What of Django's ORM asked, for the fifth repetition.")
    )
    rendering = models.CharField(
        max_length=300,
        null=True,
        help_text=_(
            "Template and line, or field of a serializer, that was rendered, such as list.html:12 For."
        ),
    )
    ignored = models.CharField(
        max_length=2_000, null=True, help_text=_("Rules of ignore_findings around it, one per line.")
    )

    class Meta:
        # Apart, like units and statements: a record with all of its 31 columns took four times the space.
        db_table = "sqllogs_source"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.call_site} to {self.alias}"


class SQLLog(models.Model):
    """One executed statement, read-only: a row of the ring with its unit of work and its call site.

    A database view, created by migration 0018, and again by each migration that adds a column. It joins,
    because a request's route, view and status are often unknown when its first queries are stored. The
    databases skip a join if the query names none of its columns.
    """

    slot = models.IntegerField(primary_key=True, help_text=_("Slot in the ring, 0 to capacity - 1."))
    seq = models.BigIntegerField("id", help_text=_("Number of the record, ascending over all processes."))
    time = MicrosecondsField(help_text=_("When the statement was sent, UTC, microseconds."))
    duration_ms = models.FloatField("duration", help_text=_("Execute and fetch time, milliseconds."))
    execute_ms = models.FloatField(help_text=_("Time in the driver's execute, milliseconds."))
    fetch_ms = models.FloatField(null=True, help_text=_("Time in the driver's fetches, milliseconds."))
    rows = models.BigIntegerField(
        null=True, help_text=_("Rows returned or changed; rows fetched where the driver has no count.")
    )
    fingerprint = models.CharField(
        max_length=16, help_text=_("16 hex digits, the same for statements that differ only in literals.")
    )
    sql_length = models.IntegerField(help_text=_("Characters of the statement as sent."))
    sql_hash = models.CharField(
        max_length=16, null=True, help_text=_("BLAKE2b hash of a statement that was cut.")
    )
    alias = models.CharField(max_length=64, help_text=_("Alias in DATABASES."))
    vendor = models.CharField(max_length=16, help_text=_("Django's vendor name: sqlite, postgresql, ..."))
    many = models.BooleanField(help_text=_("Sent by executemany, which is one record."))
    in_transaction = models.BooleanField(help_text=_("Sent inside a transaction, or ends it."))
    error = models.CharField(
        max_length=100, null=True, help_text=_("Class of the exception raised; its message is never stored.")
    )
    sqlstate = models.CharField(
        max_length=5, null=True, help_text=_("SQLSTATE of the error, where the database has one.")
    )
    trace_id = models.CharField(max_length=32, null=True, help_text=_("W3C trace id, 32 hex digits."))
    span_id = models.CharField(max_length=16, null=True, help_text=_("W3C span id, 16 hex digits."))
    unit_id = models.CharField(
        max_length=16, null=True, help_text=_("Id of the request, command or task, 16 hex digits.")
    )
    sampled = models.BooleanField(help_text=_("Whether the tracing backend keeps the trace."))
    request_id = models.CharField(max_length=64, null=True, help_text=_("The X-Request-ID header."))
    kind = models.CharField(
        max_length=16, help_text=_("Kind of unit of work: request, command, task or thread.")
    )
    route = models.CharField(max_length=200, null=True, help_text=_("URL pattern that matched."))
    view = models.CharField(
        max_length=200,
        null=True,
        help_text=_("Dotted name of the view, or name of the command, task or thread."),
    )
    method = models.CharField(max_length=16, null=True, help_text=_("HTTP method."))
    status = models.SmallIntegerField(
        null=True, help_text=_("HTTP status; NULL while the request is running, and for any other unit.")
    )
    repeats_allowed = models.BooleanField(
        default=False, db_default=False, help_text=_("Repeated on purpose, so not an N+1.")
    )
    ignored = models.CharField(
        max_length=2_000, null=True, help_text=_("Rules of ignore_findings around it, one per line.")
    )
    call_site = models.CharField(
        max_length=300,
        null=True,
        help_text=_("Where the application sent it, as path/file.py:line function."),
    )
    asked_by = models.CharField(
        max_length=300,
        null=True,
        help_text=_("What of Django's ORM asked; only for the fifth repetition in a unit of work."),
    )
    rendering = models.CharField(
        max_length=300, null=True, help_text=_("Template and line, or field of a serializer, in rendering.")
    )
    same_values = models.BooleanField(
        help_text=_("Sent before in the same unit of work, with the same values and nothing written since.")
    )
    release = models.CharField(max_length=100, null=True, help_text=_("Version of the application."))
    service = models.CharField(
        max_length=100, null=True, help_text=_("Name of the project, where several write to one log.")
    )
    host = models.CharField(max_length=255, help_text=_("Name of the machine."))
    pid = models.IntegerField(help_text=_("Process id."))
    unit = models.IntegerField(null=True, help_text=_("Slot of the unit of work in Unit."))

    statement_number = models.BigIntegerField(
        db_column="statement",
        help_text=_("The fingerprint as a signed number: comparing and grouping by it takes half as long."),
    )
    source = models.BigIntegerField(help_text=_("Call site and database: the id of a QuerySource."))

    class Meta:
        managed = False  # a view
        db_table = "sqllogs_record"
        verbose_name = _("SQL log")
        verbose_name_plural = _("SQL logs")
        # Figures and fingerprints need Django's own permission view_sqllog.
        default_permissions = ("view",)
        permissions = [
            ("view_sqllog_text", "Can view the SQL text"),
            ("explain_sqllog", "Can explain a statement"),
            ("review_sqllog", "Can review statements"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.fingerprint} {self.duration_ms:.3f} ms"


class Unit(models.Model):
    """A request, command, task or other unit of work, in a slot that it keeps while its records exist.

    Created with its first stored query and completed at its end. Units without a query have
    slots below 0, which are used in turn.
    """

    slot = models.IntegerField(primary_key=True, help_text=_("Slot; SQLLog.unit of its queries."))
    # The view joins by slot and by these two: a slot that is used again never describes another's record.
    first_seq = models.BigIntegerField(
        help_text=_("Number of its first record in this slot; without records a number of its own.")
    )
    last_seq = models.BigIntegerField(help_text=_("Number of its last record: the slot is kept until then."))
    unit_id = models.CharField(max_length=16, null=True, help_text=_("Its id, 16 hex digits."))
    parent_id = models.CharField(
        max_length=16, null=True, help_text=_("Id of the unit that it runs in, 16 hex digits.")
    )
    trace_id = models.CharField(max_length=32, null=True, help_text=_("W3C trace id, 32 hex digits."))
    sampled = models.BooleanField(help_text=_("Whether the tracing backend keeps the trace."))
    request_id = models.CharField(max_length=64, null=True, help_text=_("The X-Request-ID header."))
    kind = models.CharField(max_length=16, help_text=_("request, command, task, ...; empty: just reserved."))
    route = models.CharField(max_length=200, null=True, help_text=_("URL pattern that matched."))
    view = models.CharField(
        max_length=200,
        null=True,
        help_text=_("Dotted name of the view, or name of the command, task or thread."),
    )
    url_name = models.CharField(max_length=200, null=True, help_text=_("Name of the URL pattern."))
    method = models.CharField(max_length=16, null=True, help_text=_("HTTP method."))
    status = models.SmallIntegerField(
        null=True,
        help_text=_("HTTP status; 499 if the client went away."),
    )
    exception = models.CharField(
        max_length=100, null=True, help_text=_("Class of the exception that it failed with.")
    )
    time = UTCDateTimeField(help_text=_("When it began, UTC, microseconds."))
    ended_at = UTCDateTimeField(null=True, help_text=_("When it ended, UTC; NULL while it is running."))
    duration_ms = models.FloatField(
        null=True, help_text=_("From its begin to its end, milliseconds; NULL while it is running.")
    )
    queries = models.IntegerField(help_text=_("Number of its queries."))
    errors = models.IntegerField(help_text=_("Number of its failed queries."))
    rows = models.BigIntegerField(help_text=_("Rows returned or changed, if the driver reports them."))
    total_ms = models.FloatField(help_text=_("Sum of the durations of its queries, milliseconds."))
    statements = models.IntegerField(help_text=_("Number of different statements."))
    worst_repeat = models.IntegerField(help_text=_("How often one line has sent one statement, at most."))
    worst_fingerprint = models.CharField(
        max_length=16, null=True, help_text=_("That statement; NULL if none was sent twice.")
    )
    worst_call_site = models.CharField(max_length=300, null=True, help_text=_("That line."))
    response_bytes = models.BigIntegerField(null=True, help_text=_("Size of the response's body, if known."))
    tags = models.CharField(max_length=200, null=True, help_text=_("Tags of the host, as ,a,b,."))
    release = models.CharField(max_length=100, null=True, help_text=_("Version of the application."))
    service = models.CharField(
        max_length=100, null=True, help_text=_("Name of the project, where several write to one log.")
    )
    host = models.CharField(max_length=255, help_text=_("Name of the machine."))
    pid = models.IntegerField(help_text=_("Process id."))
    connections = models.IntegerField(
        null=True, help_text=_("Connections that it has opened, or taken from a pool.")
    )
    connect_ms = models.FloatField(null=True, help_text=_("Time that it has waited for these, milliseconds."))
    transaction_ms = models.FloatField(
        null=True,
        help_text=_("Time in transactions, from their first statement to COMMIT or ROLLBACK, milliseconds."),
    )
    idle_transaction_ms = models.FloatField(
        null=True, help_text=_("Longest time a transaction was open without a statement, milliseconds.")
    )
    outside_ms = models.FloatField(
        null=True,
        help_text=_("Longest wait for another service while a transaction was open, milliseconds."),
    )
    outside_call_site = models.CharField(max_length=300, null=True, help_text=_("The line that waited."))
    ignored = models.CharField(
        max_length=2_000, null=True, help_text=_("Rules of ignore_findings in it, one per line.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.view or self.route or self.unit_id}"


def slot_ranges(first: int, last: int, capacity: int) -> list[tuple[int, int]]:
    """Return the one or two ranges of slots that hold the numbers from `first` to `last`, oldest first.

    There must be at most `capacity` numbers: with more, they would overwrite each other.
    """
    low, high = first % capacity, last % capacity
    return [(low, high)] if low <= high else [(low, capacity - 1), (0, high)]


class RingHead(models.Model):
    """One row: the state of the ring. Locked only while a block of numbers is reserved."""

    id = models.IntegerField(primary_key=True, default=1)
    # The row is locked while this moves, not until the batch is stored: four processes store 92,700 rows/s
    # instead of 49,000.
    seq = models.BigIntegerField(help_text=_("The last reserved number."))
    # Here and not only in the settings: all processes must compute the same slots, also after a resize.
    capacity = models.IntegerField(help_text=_("Number of slots."))
    epoch = models.IntegerField(
        default=0,
        db_default=0,
        help_text=_("Incremented when texts or keys are deleted, so that writers store them again."),
    )
    unit_slots = models.IntegerField(default=0, db_default=0, help_text=_("Number of slots for units."))
    unit_cursor = models.IntegerField(
        default=0, db_default=0, help_text=_("Slot from which the next free ones are searched.")
    )
    # Units without queries overwrite only each other: a flood of health checks costs no record its request.
    idle_units = models.BigIntegerField(
        default=0, db_default=0, help_text=_("The last reserved number of a unit without queries.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.seq} of {self.capacity}"


class BlockColumn(models.Model):
    """One column of a block of records, in a ring too large to scan; see `sqllogs.storage.blocks`."""

    # By name first: a filter reads one column of many blocks.
    pk = models.CompositePrimaryKey("name", "block")
    name = models.CharField(max_length=16, help_text=_("Column of SQLLog."))
    block = models.BigIntegerField(help_text=_("Number of the block; block 0 starts at the first record."))
    # With these a reader passes over a block without reading its values.
    low = models.FloatField(null=True, help_text=_("Smallest value, of numbers and times."))
    high = models.FloatField(null=True, help_text=_("Largest value, of numbers and times."))
    values = models.BinaryField(help_text=_("Distinct names as JSON, or little-endian doubles."))
    codes = models.BinaryField(help_text=_("Index of each record's name, if there are several names."))

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} of block {self.block}"
