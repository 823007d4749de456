"""The tables of findings: problems that the log reports without being asked, one row per cause.

Written by `sqllogs.findings` in the thread that detects, and by people through admin and terminal; read by
`sqllogs.read.findings` in the readers' threads.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

from sqllogs.models.ring import UTCDateTimeField


class Finding(models.Model):
    """A problem, its evidence, and what people have decided about it."""

    class Kind(models.TextChoices):
        SLOWER = "slower", _("Slower")
        ALL_SLOWER = "all_slower", _("All statements slower")
        NEW = "new", _("New and expensive")
        MORE_CALLS = "more_calls", _("More calls per unit of work")
        MORE_ROWS = "more_rows", _("More rows per call")
        MORE_ERRORS = "more_errors", _("More errors")
        N_PLUS_ONE = "n_plus_one", _("N+1")
        UNBOUNDED = "unbounded", _("Unbounded result")
        COUNT_AND_LIST = "count_and_list", _("COUNT and list")
        IDLE_TRANSACTION = "idle_transaction", _("Transaction open without a statement")
        DEADLOCK = "deadlock", _("Deadlocks")
        LOCK_TIMEOUT = "lock_timeout", _("Lock timeouts")
        SERIALIZATION = "serialization", _("Serialization failures")
        SERIALIZATION_RETRIED = "serialization_retried", _("Serialization failures, retried")
        SAME_VALUES = "same_values", _("Same query again")
        RENDERING = "rendering", _("Query in rendering")
        CONNECTION_PER_QUERY = "connection_per_query", _("A connection per query")
        OUTSIDE_CALL = "outside_call", _("Transaction open around a call")
        STALE_IGNORE = "stale_ignore", _("Unused ignore rule")

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        ACKNOWLEDGED = "acknowledged", _("Acknowledged")
        IGNORED = "ignored", _("Ignored")
        FIXED = "fixed", _("Fixed in a release")
        CLOSED = "closed", _("Closed")
        REOPENED = "reopened", _("Reopened")

    key = models.CharField(
        max_length=32,
        unique=True,
        help_text=_("Hash of kind, statement, call site and route: one per cause."),
    )
    kind = models.CharField(max_length=32, choices=Kind.choices)
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    # No index on any of these: there are at most FINDINGS_MAX rows.
    fingerprint = models.CharField(max_length=16, null=True, help_text=_("Statement, 16 hex digits."))
    call_site = models.CharField(
        max_length=300,
        null=True,
        help_text=_("Where the application sent it, as path/file.py:line function."),
    )
    route = models.CharField(max_length=200, null=True, help_text=_("URL pattern affected most."))
    evidence = models.JSONField(default=dict, help_text=_("Figures that show the problem."))
    first_seen = UTCDateTimeField(help_text=_("When it was found, UTC."))
    last_seen = UTCDateTimeField(help_text=_("When its evidence was last seen, UTC."))
    started_at = UTCDateTimeField(help_text=_("When the problem began, UTC; of regressions to the hour."))
    occurrences = models.BigIntegerField(help_text=_("How often its evidence was seen."))
    release = models.CharField(max_length=100, null=True, help_text=_("Release with which it began."))
    event = models.CharField(
        max_length=200, null=True, help_text=_("Title of the deploy or migration just before it.")
    )
    ignored_until = UTCDateTimeField(null=True, help_text=_("End of ignoring it, UTC."))
    ignored_by = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text=_("What ignores it: user NAME, code module:line or setting PATTERNS."),
    )
    fixed_in = models.CharField(
        max_length=100, null=True, help_text=_("Release that fixes it, as said by a person.")
    )
    assignee = models.CharField(max_length=150, blank=True, help_text=_("Username."))
    note = models.TextField(blank=True)
    closed_at = UTCDateTimeField(null=True, help_text=_("When it closed, UTC."))
    # NULL is due: a receiver that is down gets it later, whichever process is running then.
    notified_at = UTCDateTimeField(
        null=True, help_text=_("When it was posted to the webhook since it was opened, UTC.")
    )
    mailed_at = UTCDateTimeField(null=True, help_text=_("When it was sent by e-mail since then, UTC."))

    class Meta:
        default_permissions = ()
        verbose_name = _("finding")
        verbose_name_plural = _("Findings")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.fingerprint or self.route or ''}".strip()


LIVE = (Finding.State.OPEN, Finding.State.ACKNOWLEDGED, Finding.State.REOPENED)
"""The states of a problem that exists and is not ignored."""


class IgnoreRule(models.Model):
    """A rule of `ignore_findings` or of IGNORE_FINDINGS, and what it has ignored; written by the search."""

    key = models.CharField(max_length=32, primary_key=True, help_text=_("Hash of its text and place."))
    text = models.CharField(max_length=500, help_text=_("Kinds, end, place and reason, separated by |."))
    first_seen = UTCDateTimeField(help_text=_("When it was first seen, UTC."))
    last_seen = UTCDateTimeField(help_text=_("When a query or the setting last had it, UTC."))
    last_matched = UTCDateTimeField(null=True, help_text=_("When it last ignored a finding, UTC."))
    queries = models.BigIntegerField(
        default=0, help_text=_("Queries that it could have covered since it last ignored a finding.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.text


class DetectionTurn(models.Model):
    """One row: which process searches for findings, and up to where it has searched."""

    id = models.IntegerField(primary_key=True, default=1)
    # A time and not a lock: a process that dies while it searches stops nobody.
    taken_at = models.BigIntegerField(
        help_text=_("When a process last took its turn, seconds since the epoch.")
    )
    hours_until_s = models.BigIntegerField(
        default=0, db_default=0, help_text=_("Statistics before this are judged, seconds since the epoch.")
    )
    seq = models.BigIntegerField(
        default=0, db_default=0, help_text=_("Records up to this number are searched.")
    )
    # Not `taken_at`, because a process may die after it has taken its turn.
    searched_at = UTCDateTimeField(
        null=True, help_text=_("When the last search that stored its evidence began, UTC.")
    )
    # Not the latest of all findings: one that reopens is due again, and has no time.
    notified_at = UTCDateTimeField(null=True, help_text=_("When the last message was posted, UTC."))
    mailed_at = UTCDateTimeField(null=True, help_text=_("When the last e-mail was sent, UTC."))

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.taken_at)
