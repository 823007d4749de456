"""The tables of the store.

Written by `sqllogs.storage` in the writer's thread; read by `sqllogs.read` in the readers' threads.
A column that is added later is nullable or has a `db_default`: during an upgrade, processes of the
previous release write rows without it.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

from sqllogs.models.findings import LIVE, DetectionTurn, Finding, IgnoreRule
from sqllogs.models.ring import (
    EPOCH,
    MICROSECOND,
    BlockColumn,
    QuerySource,
    RingHead,
    RingRow,
    SQLLog,
    Unit,
    UTCDateTimeField,
    slot_ranges,
)

__all__ = (
    "EPOCH",
    "LIVE",
    "MICROSECOND",
    "VIEW",
    "VIEW_TEXT",
    "BlockColumn",
    "DetectionTurn",
    "Event",
    "Finding",
    "IgnoreRule",
    "Process",
    "QuerySource",
    "Review",
    "RingHead",
    "RingRow",
    "RollUp",
    "SQLLog",
    "SavedView",
    "Statement",
    "Statistic",
    "StatisticKey",
    "StoredPlan",
    "Token",
    "UTCDateTimeField",
    "Unit",
    "slot_ranges",
)


class Statement(models.Model):
    """The redacted text of a statement, stored once for all its records."""

    fingerprint = models.CharField(max_length=16, primary_key=True, help_text=_("16 hex digits."))
    sql = models.TextField(help_text=_("The statement with every literal replaced by ?."))
    operation = models.CharField(max_length=32, help_text=_("SELECT, INSERT, ..."))
    tables = models.CharField(max_length=500, help_text=_("Tables that the statement names."))
    first_seen = UTCDateTimeField()
    # To the hour, so that a statement in use is updated once an hour and not with each batch.
    last_seen = UTCDateTimeField(help_text=_("To the hour. The least recently seen are deleted first."))

    class Meta:
        verbose_name = _("slow query")  # the admin lists statements by their share of load
        verbose_name_plural = _("Slow queries")
        default_permissions = ()

    def __str__(self) -> str:
        return self.sql[:80]


class Review(models.Model):
    """A user's decision about a statement; kept after the statement's text is deleted."""

    ended = ""
    """Set by readers: the former status of a decision that has ended, whose statement is open again."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        REVIEWED = "reviewed", _("Reviewed")
        IGNORED = "ignored", _("Ignored")

    # Not a foreign key, because texts are evicted but decisions are kept.
    fingerprint = models.CharField(max_length=16, primary_key=True, help_text=_("16 hex digits."))
    status = models.CharField(max_length=16, choices=Status.choices)
    by = models.CharField(
        max_length=150, help_text=_("Username. Not a foreign key: users may be in another database.")
    )
    by_key = models.CharField(
        max_length=64, default="", db_default="", help_text=_("Primary key of that user, as text.")
    )
    at = UTCDateTimeField(help_text=_("When, UTC."))
    note = models.TextField(blank=True)
    assignee = models.CharField(
        max_length=150, default="", db_default="", help_text=_("Username of who takes care of it.")
    )
    assignee_key = models.CharField(
        max_length=64, default="", db_default="", help_text=_("Primary key of that user, as text.")
    )
    until = UTCDateTimeField(null=True, help_text=_("When the decision ends, UTC."))
    until_release = models.CharField(
        max_length=100,
        default="",
        db_default="",
        help_text=_("The decision ends when a later release runs the statement."),
    )
    # Stored with the decision, because statistics are deleted after STATISTICS_HOUR_DAYS.
    figures = models.JSONField(
        null=True, help_text=_("The statement's figures of the week before the decision.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.status} by {self.by}"


class SavedView(models.Model):
    """The filters, range and ordering of a tab of the page that a user keeps under a name."""

    owner = models.CharField(
        max_length=150,
        help_text=_("Primary key of the user. Not a foreign key: users may be in another database."),
    )
    page = models.CharField(max_length=32, help_text=_("URL name of the tab."))
    name = models.CharField(max_length=60)
    query = models.TextField(blank=True, help_text=_("Query string of its address."))
    saved_at = UTCDateTimeField(help_text=_("When, UTC."))

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(fields=["owner", "page", "name"], name="sqllogs_savedview_once"),
        )

    def __str__(self) -> str:
        return self.name


class StoredPlan(models.Model):
    """How a database planned a statement once, without values; the last few of each statement are kept."""

    fingerprint = models.CharField(max_length=16, help_text=_("16 hex digits."))
    alias = models.CharField(max_length=64, help_text=_("Alias in DATABASES."))
    vendor = models.CharField(max_length=16, help_text=_("Django's vendor name: sqlite, postgresql, ..."))
    lines = models.JSONField(help_text=_("As the database writes it, indented, without values."))
    made_at = UTCDateTimeField(help_text=_("When it was made first, UTC."))
    seen_at = UTCDateTimeField(help_text=_("When the same plan was made last, UTC."))
    release = models.CharField(max_length=100, blank=True, help_text=_("Version of the application."))
    by = models.CharField(max_length=150, blank=True, help_text=_("Username; empty in a terminal."))

    class Meta:
        default_permissions = ()
        # For the last plans of a statement, the newest first.
        indexes = (models.Index(fields=["fingerprint", "-id"], name="sqllogs_plan_of"),)

    def __str__(self) -> str:
        return f"{self.fingerprint} on {self.alias}"


class Process(models.Model):
    """What one process has captured, stored and dropped; updated with each batch."""

    uuid = models.CharField(max_length=32, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    started_at = UTCDateTimeField()
    updated_at = UTCDateTimeField()
    captured = models.BigIntegerField(help_text=_("Queries seen."))
    stored = models.BigIntegerField(help_text=_("Records stored in the ring."))
    sampled_out = models.BigIntegerField(
        default=0, db_default=0, help_text=_("Records that were only counted in the statistics.")
    )
    dropped = models.JSONField(default=dict, help_text=_("Records dropped, by reason."))
    exported = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text=_("Records to be sent over OTLP, by outcome."),
    )
    queued = models.IntegerField(help_text=_("Records in the queue."))
    lag_ms = models.FloatField(help_text=_("Age of the oldest record of the last batch, milliseconds."))
    # Statistics must not be added twice. The number is stored in the part's transaction, so a part that is
    # sent again after a lost connection is recognized.
    written_part = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text=_("Number of the last part of a batch that was written; it is not written again."),
    )
    service = models.CharField(
        max_length=100, null=True, help_text=_("Name of the project, where several write to one log.")
    )
    urlconf = models.CharField(
        max_length=200,
        null=True,
        help_text=_("The project's ROOT_URLCONF: of several one is another project."),
    )
    units_dropped = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text=_("Units of work whose row is missing or was not completed."),
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class StatisticKey(models.Model):
    """What the calls of one statistic have in common: statement, route, release and so on.

    The id is a hash of the other fields, so that every process computes the same one.
    """

    id = models.BigIntegerField(
        primary_key=True,
        help_text=_("BLAKE2b hash of the fields; 0 counts all keys beyond STATISTICS_KEYS_MAX."),
    )
    fingerprint = models.CharField(
        max_length=16, help_text=_("16 hex digits, the same for statements that differ only in literals.")
    )
    alias = models.CharField(max_length=64, help_text=_("Alias in DATABASES."))
    vendor = models.CharField(max_length=16, help_text=_("Django's vendor name: sqlite, postgresql, ..."))
    kind = models.CharField(
        max_length=16, help_text=_("Kind of unit of work: request, command, task or thread.")
    )
    route = models.CharField(max_length=200, null=True, help_text=_("URL pattern that matched."))
    view = models.CharField(
        max_length=200,
        null=True,
        help_text=_("Dotted name of the view, or name of the command, task or thread."),
    )
    method = models.CharField(
        max_length=16, null=True, help_text=_("HTTP method; OTHER if it is not a standard one.")
    )
    release = models.CharField(max_length=100, null=True, help_text=_("Version of the application."))
    service = models.CharField(
        max_length=100, null=True, help_text=_("Name of the project, where several write to one log.")
    )
    last_seen = models.BigIntegerField(
        help_text=_("To the hour, seconds since the epoch. The least recently seen are deleted first.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.route or self.view or self.kind}"


class Statistic(models.Model):
    """All calls of one key in one minute, hour or day.

    A call is counted in its minute first; the rollup adds minutes to hours and days.
    """

    # The order in which rows are written and read. On SQLite it is the table itself (WITHOUT ROWID).
    pk = models.CompositePrimaryKey("resolution_s", "time", "key")
    # Negative in rows that count units of work, so that readers of statements do not see them.
    resolution_s = models.IntegerField(help_text=_("Length: 60, 3600 or 86400 seconds."))
    time = models.BigIntegerField(
        help_text=_("Start, seconds since the epoch; a multiple of the resolution.")
    )
    key = models.ForeignKey(StatisticKey, models.DO_NOTHING, db_constraint=False, db_index=False)
    calls = models.BigIntegerField(help_text=_("Number of calls."))
    errors = models.BigIntegerField(help_text=_("Number of failed calls."))
    rows = models.BigIntegerField(help_text=_("Rows returned or changed, if the driver reports them."))
    total_us = models.BigIntegerField(help_text=_("Sum of durations, microseconds."))
    max_us = models.BigIntegerField(help_text=_("Longest duration, microseconds."))
    last_seen = models.BigIntegerField(help_text=_("Latest call, seconds since the epoch."))
    # Packed: adding is concatenation on any database. A row for each range would be 12 times more.
    durations = models.BinaryField(
        help_text=_("Calls by logarithmic range of duration; see sqllogs.statistics.histogram.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.calls} calls in {self.resolution_s} s from {self.time}"


class RollUp(models.Model):
    """One row: up to which time minutes have been added to hours and days."""

    id = models.IntegerField(primary_key=True, default=1)
    # Moved under a lock that all writers share, so that each minute is added once.
    until_s = models.BigIntegerField(
        help_text=_("Minutes before this are rolled up, seconds since the epoch.")
    )
    tidied_at = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text=_("When a process last searched for old statistics, seconds since the epoch."),
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.until_s)


class Event(models.Model):
    """A deploy, a migration or a full table of statements, shown next to the charts."""

    # NULL for an event that only one process can notice, because NULLs are never equal.
    key = models.CharField(
        max_length=128,
        unique=True,
        null=True,
        help_text=_("Unique key of an event that several processes notice."),
    )
    time = UTCDateTimeField(help_text=_("When, UTC."))
    kind = models.CharField(
        max_length=16, help_text=_("deploy, migration, or statements: their table was full.")
    )
    title = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    tags = models.JSONField(default=list, help_text=_("Words to filter by."))
    service = models.CharField(
        max_length=100, null=True, help_text=_("Name of the project, where several write to one log.")
    )
    author = models.CharField(max_length=150, null=True, help_text=_("Who deployed or migrated."))

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.title


class Token(models.Model):
    """A bearer token that gives read access to the API of the SQL log only."""

    name = models.CharField(
        max_length=64, help_text=_("Name of the user or system. Two tokens may share a name, for rotation.")
    )
    digest = models.CharField(max_length=64, unique=True, help_text=_("SHA-256 of the token, hexadecimal."))
    created_at = UTCDateTimeField(auto_now_add=True)
    last_used_at = UTCDateTimeField(null=True, help_text=_("To the minute."))
    revoked_at = UTCDateTimeField(null=True)

    class Meta:
        default_permissions = ()
        verbose_name = _("token")
        verbose_name_plural = _("Tokens")

    def __str__(self) -> str:
        return self.name


VIEW = "sqllogs.view_sqllog"
VIEW_TEXT = "sqllogs.view_sqllog_text"
