"""The data that passes between the stages: a captured query, a record, a batch, counts.

`Captured` and `Record` are named tuples, not dataclasses: a query is captured as a plain tuple in
the caller's thread, and a record is passed to executemany and COPY as it is.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import CodeType
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypedDict, get_type_hints
from weakref import ref

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from sqllogs.context import UnitOfWork

if TYPE_CHECKING:
    from sqllogs.sql.normalize import ScannedStatement


class Fetch:
    """A query's fetched rows so far: its cursor adds to it, the writer reads it when it stores.

    It holds neither cursor nor connection. Only the cursor's thread writes to it.
    """

    __slots__ = ("_cursor", "done", "error", "fetch_ns", "rows")

    def __init__(self, cursor: object = None) -> None:
        # Not a `__del__` of the cursor: what a signal handler raises in one never reaches the caller.
        self._cursor = None if cursor is None else ref(cursor)
        self.fetch_ns = 0
        """Time in the driver's fetches, nanoseconds."""
        self.rows = -1
        """Rows fetched; -1 before the first attempt."""
        self.error: tuple[type[BaseException], str | None] | None = None
        """Class and SQLSTATE of what a fetch has raised."""
        self.done = False
        """The cursor is closed, or has sent another statement."""

    @property
    def is_complete(self) -> bool:
        """Return True if nothing will be added; Django never closes some cursors, as for SQLite's BEGIN."""
        return self.done or (self._cursor is not None and self._cursor() is None)

    def add(self, fetch_ns: int, rows: int) -> None:
        self.fetch_ns += fetch_ns
        self.rows = rows if self.rows < 0 else self.rows + rows

    def fail(self, fetch_ns: int, error: BaseException) -> None:
        self.add(fetch_ns, 0)
        self.error = type(error), error_code(error)
        self.done = True


class Captured(NamedTuple):
    """A query as the execute wrapper puts it into the buffer, not resolved yet."""

    time_ns: int
    """Wall time at which the statement was sent, nanoseconds since the epoch."""
    execute_ns: int
    """Time in execute, nanoseconds."""
    sql: str
    """The statement, cut to 64 KiB; bytes and psycopg's Composables are text by now."""
    sql_length: int
    """Characters before the cut; -1 if nothing was cut."""
    sql_hash: str | None
    """BLAKE2b of beginning, end and length, 16 hex digits, if it was cut."""
    alias: str
    vendor: str
    many: int
    """False, or the number of parameter sets of an executemany; True if that is unknown."""
    in_transaction: bool
    rowcount: int
    """The driver's rowcount; negative if unknown."""
    error: type[BaseException] | None
    sqlstate: str | None
    unit: UnitOfWork | None
    span: Any
    """The OpenTelemetry span current at the time, or None."""
    code: CodeType | None
    """Code object of the calling application function."""
    lasti: int
    """Index of the calling instruction in `code`."""
    fetch: Fetch | None
    """Filled by the cursor as it fetches; None if the cursor is not watched."""


# Indexes of a captured query, which is a plain tuple: making a named one costs the caller twice as much.
EXECUTE_NS: Final = 1
SQL: Final = 2
VENDOR: Final = 6
MANY: Final = 7
UNIT: Final = 12
SPAN: Final = 13
CODE: Final = 14
LASTI: Final = 15
FETCH: Final = 16


class Record(NamedTuple):
    """A stored query: the columns of `SQLLog` but slot and seq, in the table's order."""

    time: datetime
    duration_ms: float
    execute_ms: float
    fetch_ms: float | None
    rows: int | None
    fingerprint: str
    sql_length: int
    sql_hash: str | None
    alias: str
    vendor: str
    many: bool
    in_transaction: bool
    error: str | None
    sqlstate: str | None
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
    call_site: str | None
    release: str | None
    service: str | None
    host: str
    pid: int


class UnitRow(NamedTuple):
    """A stored unit of work: the columns of `Unit`, in the table's order."""

    slot: int
    first_seq: int
    last_seq: int
    unit_id: str | None
    parent_id: str | None
    trace_id: str | None
    sampled: bool
    request_id: str | None
    kind: str
    route: str | None
    view: str | None
    url_name: str | None
    method: str | None
    status: int | None
    exception: str | None
    time: datetime
    ended_at: datetime | None
    duration_ms: float | None
    queries: int
    errors: int
    rows: int
    total_ms: float
    statements: int
    worst_repeat: int
    worst_fingerprint: str | None
    worst_call_site: str | None
    response_bytes: int | None
    tags: str | None
    release: str | None
    service: str | None
    host: str
    pid: int
    connections: int | None
    connect_ms: float | None
    transaction_ms: float | None
    idle_transaction_ms: float | None


class EndedUnit(NamedTuple):
    """A unit of work that has ended, to be counted once."""

    unit: UnitOfWork
    ended_s: int
    """Seconds since the epoch."""
    failed: bool
    queries: int
    kind: str
    route: str | None
    view: str | None
    method: str | None
    release: str | None
    service: str | None


class Reserved(NamedTuple):
    """Numbers and slots that belong to one process from now on."""

    first_seq: int
    slots: range
    """Of units with queries."""
    idle: range
    """Numbers of units without queries."""
    idle_slots: int
    """How many slots these have in all."""
    generation: int = 0
    """Of the store; see `Ring.generation`."""

    def idle_slot(self, number: int) -> int:
        """Return the slot of a unit without queries: below 0, used in turn."""
        return -1 - number % self.idle_slots


class FieldGroup(TextChoices):
    """What a field says something about; the order is the one in which people see the groups."""

    OUTCOME = "outcome", _("How it went")
    STATEMENT = "statement", _("Statement")
    ORIGIN = "origin", _("Where from")
    TRACE = "trace", _("Trace")


@dataclass(frozen=True, slots=True, eq=False)  # `Annotated` hashes it, and a lazy translation needs the apps
class RecordField:
    """How people see a field; its unit in the model's help text is for developers."""

    label: "str | Promise"
    group: FieldGroup
    unit: "str | Promise" = ""


class RecordJSON(TypedDict):
    """One executed statement under the names of the API; see the model's help texts for units.

    This is the one definition of the fields that readers see: JSON, CSV, OTLP, the page and
    the admin list them from here. A field of `Record` is read from the ring's table, `id` is
    its number there, and the others are those of its statement.
    """

    id: Annotated[int, RecordField(_("Record"), FieldGroup.OUTCOME)]
    time: Annotated[str, RecordField(_("Time"), FieldGroup.OUTCOME, "UTC")]
    duration_ms: Annotated[float, RecordField(_("Duration"), FieldGroup.OUTCOME, "ms")]
    execute_ms: Annotated[float, RecordField(_("Execute"), FieldGroup.OUTCOME, "ms")]
    fetch_ms: Annotated[float | None, RecordField(_("Fetch"), FieldGroup.OUTCOME, "ms")]
    rows: Annotated[int | None, RecordField(_("Rows"), FieldGroup.OUTCOME)]
    sql: Annotated[str | None, RecordField(_("Statement"), FieldGroup.STATEMENT)]
    sql_length: Annotated[int, RecordField(_("Length as sent"), FieldGroup.STATEMENT, _("characters"))]
    fingerprint: Annotated[str, RecordField(_("Fingerprint"), FieldGroup.STATEMENT)]
    operation: Annotated[str | None, RecordField(_("Operation"), FieldGroup.STATEMENT)]
    tables: Annotated[list[str], RecordField(_("Tables"), FieldGroup.STATEMENT)]
    alias: Annotated[str, RecordField(_("Database"), FieldGroup.STATEMENT)]
    vendor: Annotated[str, RecordField(_("Vendor"), FieldGroup.STATEMENT)]
    many: Annotated[bool, RecordField(_("By executemany"), FieldGroup.STATEMENT)]
    in_transaction: Annotated[bool, RecordField(_("In a transaction"), FieldGroup.OUTCOME)]
    error: Annotated[str | None, RecordField(_("Error"), FieldGroup.OUTCOME)]
    sqlstate: Annotated[str | None, RecordField(_("SQLSTATE"), FieldGroup.OUTCOME)]
    trace_id: Annotated[str | None, RecordField(_("Trace"), FieldGroup.TRACE)]
    span_id: Annotated[str | None, RecordField(_("Span"), FieldGroup.TRACE)]
    unit_id: Annotated[str | None, RecordField(_("Unit of work"), FieldGroup.TRACE)]
    sampled: Annotated[bool, RecordField(_("Trace is kept"), FieldGroup.TRACE)]
    request_id: Annotated[str | None, RecordField(_("Request"), FieldGroup.ORIGIN)]
    kind: Annotated[str, RecordField(_("Kind"), FieldGroup.ORIGIN)]
    route: Annotated[str | None, RecordField(_("Route"), FieldGroup.ORIGIN)]
    view: Annotated[str | None, RecordField(_("View"), FieldGroup.ORIGIN)]
    method: Annotated[str | None, RecordField(_("Method"), FieldGroup.ORIGIN)]
    status: Annotated[int | None, RecordField(_("Status"), FieldGroup.ORIGIN)]
    call_site: Annotated[str | None, RecordField(_("Call site"), FieldGroup.ORIGIN)]
    release: Annotated[str | None, RecordField(_("Release"), FieldGroup.ORIGIN)]
    service: Annotated[str | None, RecordField(_("Service"), FieldGroup.ORIGIN)]
    host: Annotated[str, RecordField(_("Host"), FieldGroup.ORIGIN)]
    pid: Annotated[int, RecordField(_("Process"), FieldGroup.ORIGIN)]


FIELDS: Final[dict[str, RecordField]] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(RecordJSON, include_extras=True).items()
}
"""How people see each field, by name, in the order of the JSON."""
FIELD_TYPES: Final[dict[str, Any]] = get_type_hints(RecordJSON)
COLUMNS: Final = tuple(
    {"id": "seq"}.get(name, name) for name in FIELDS if name == "id" or name in Record._fields
)
"""The columns of `SQLLog` that readers read, in the order of the JSON."""


def error_code(error: BaseException) -> str | None:
    """Return the driver's SQLSTATE: psycopg 3 has `sqlstate`, psycopg 2 `pgcode`, SQLite none."""
    cause = error.__cause__ or error
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCounts:
    """Records of one process so far: captured == stored + sampled_out + sum(dropped) + queued."""

    captured: int
    stored: int
    dropped: dict[str, int]
    queued: int
    oldest_ns: int = 0
    """End of the oldest query of the last batch, nanoseconds since the epoch; 0 if there was none."""
    sampled_out: int = 0
    """Records counted by the statistics but not stored."""
    exported: dict[str, int] = field(default_factory=dict)
    """Records for other systems, by outcome; see `sqllogs.otel.otlp`."""
    units_dropped: int = 0
    """Units of work whose row is missing or was not completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStatus:
    """The state of the writer after a round."""

    counts: ProcessCounts
    queue_bytes: int
    """Upper bound of the memory of buffered records."""
    lag_s: float
    """Age of the oldest queued record."""
    flush_s: float | None
    """Duration of the round; None if it wrote nothing."""


YIELD_ROWS = 50
"""The writer releases the interpreter's lock after this many records. Otherwise a thread of the
application waits for the switch interval, repeatedly: at worst 22 ms were measured, now 0.5 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Resolved records, as passed to the sinks and the ring."""

    records: list[Record]
    statements: "dict[str, ScannedStatement]"
    """The statements of these records by fingerprint."""
    units: list[UnitOfWork | None] = field(default_factory=list)
    """The unit of work of each record, in their order."""
    batch_sizes: dict[int, int] = field(default_factory=dict)
    """Number of parameter sets of an executemany, if there are several, by the record's index."""
    sampled_out: list[Record] = field(default_factory=list)
    """Records counted by the statistics but not stored in the ring."""
    stored_units: list[UnitOfWork | None] = field(default_factory=list)
    """The unit of work of each record in `records`; `units` has those of the records sampled out too."""
    slots: list[int | None] = field(default_factory=list)
    """The slot of the unit of each record in `records`."""
    unit_rows: list[UnitRow] = field(default_factory=list)
    """Units to write with these records, in the order of their slots."""
    ended: list[EndedUnit] = field(default_factory=list)
    """Units to count, whether they have a row or not."""
    part: int = 0
    """Its number within this process, rising: the store counts no part twice."""
    generation: int = 0
    """Of the store in which its numbers were reserved, 0 before; see `Ring.generation`."""

    def __len__(self) -> int:
        return len(self.records) + len(self.sampled_out)

    def halves(self) -> tuple["Batch", "Batch"]:
        """Split a batch of at least two records into two parts, neither of them empty."""
        kept, sampled = len(self.records) // 2, -(-len(self.sampled_out) // 2)
        return (
            replace(
                self,
                records=self.records[:kept],
                stored_units=self.stored_units[:kept],
                sampled_out=self.sampled_out[:sampled],
                part=0,
            ),
            replace(
                self,
                records=self.records[kept:],
                stored_units=self.stored_units[kept:],
                sampled_out=self.sampled_out[sampled:],
                ended=[],
                part=0,
            ),
        )


class Sample(NamedTuple):
    """Choose a share of the requests, commands and tasks, and every slow or failing query.

    All processes choose alike.
    """

    share: float
    slow_ms: float

    def keeps(self, record: Record) -> bool:
        if self.share >= 1 or record.error is not None or record.duration_ms >= self.slow_ms:
            return True
        if record.unit_id is None:
            return random.random() < self.share  # noqa: S311
        return self.keeps_unit(int(record.unit_id, 16))

    def keeps_unit(self, unit_id: int, duration_ms: float = 0.0) -> bool:
        # Not the trace id: a client that sends a `traceparent` would decide what is kept.
        return self.share >= 1 or unit_id < self.share * 2**64 or duration_ms >= self.slow_ms

    def split(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        """Return the records to store and those only to count."""
        if self.share >= 1:
            return records, []
        kept: list[Record] = []
        sampled_out: list[Record] = []
        for record in records:
            (kept if self.keeps(record) else sampled_out).append(record)
        return kept, sampled_out


ALL = Sample(1.0, 0.0)
