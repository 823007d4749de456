"""The data that the writer's stages pass on: a record with its fields, a batch, counts.

`sqllogs.pipeline.resolver` makes it from captured queries in the writer's thread; sinks and stores read it
there. `RecordJSON` lists the fields for all readers.
"""

import random
import re
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypedDict, get_type_hints

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from sqllogs.context import UnitOfWork

if TYPE_CHECKING:
    from sqllogs.sql.n_plus_one import RowsRead
    from sqllogs.sql.normalize import ScannedStatement


CALL_SITE = re.compile(r"(?P<path>.+?):(?P<line>\d+)(?: (?P<function>.*))?", re.DOTALL)
"""A call site as text; its path may have spaces and colons."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Source = tuple[str | None, str, str, str | None, str | None, str | None]
"""The columns of `QuerySource` except its id."""


@dataclass(slots=True, kw_only=True, eq=False)
class FormFields:
    """The fields that queries share if one line sends the same statement with the same outcome."""

    fingerprint: str
    sql_length: int
    sql_hash: str | None
    alias: str
    vendor: str
    many: bool
    in_transaction: bool
    error: str | None
    sqlstate: str | None
    repeats_allowed: bool
    ignored: str | None
    call_site: str | None
    asked_by: str | None
    rendering: str | None


# eq=False: hashed by identity, because the writer looks up form and origin for each query.
@dataclass(slots=True, kw_only=True, eq=False)
class QueryForm(FormFields):
    """FormFields with values derived from them. The resolver creates one for many queries."""

    statement: "ScannedStatement"
    rows_read: "RowsRead | None" = None
    """The rows that it counts or lists; None for other statements."""
    is_write: bool = False
    """It may change data: after it, the same SELECT may return something else."""
    line: tuple[str, str | None] = field(init=False)
    """Statement and call site, by which repetitions are counted."""
    source_id: int = field(init=False)
    flags: int = field(init=False)
    """Its part of `RingRow.flags`."""

    def __post_init__(self) -> None:
        self.line = self.fingerprint, self.call_site
        self.source_id = source_id(*self.source)
        # The bits are listed at `RingRow.flags`; the others differ between queries of a form.
        self.flags = self.many | self.in_transaction << 1 | self.repeats_allowed << 3

    @property
    def source(self) -> Source:
        return self.call_site, self.alias, self.vendor, self.asked_by, self.rendering, self.ignored


@lru_cache(maxsize=4_096)
def source_id(
    call_site: str | None,
    alias: str,
    vendor: str,
    asked_by: str | None,
    rendering: str | None,
    ignored: str | None,
) -> int:
    """Return the id of a source: the same in every process, and short in SQLite."""
    text = "\0".join((call_site or "", alias, vendor, *([asked_by] if asked_by else [])))
    if rendering or ignored:  # without them, a source keeps the id that it had in earlier releases
        text = "\0".join((text, rendering or "", ignored or ""))
    # SQLite stores the id in 6 bytes, and among 20,000 sources a collision is unlikely.
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=6).digest(), "big")


Dimensions = tuple[str, str | None, str | None, str | None, str | None, str | None]
"""Kind, route, view, method, release and service: the unit of work's part of a statistics key."""


@dataclass(slots=True, kw_only=True, eq=False)
class OriginFields:
    """The fields that the queries of a unit of work share while the same span is current."""

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
    release: str | None
    service: str | None
    host: str
    pid: int


@dataclass(slots=True, kw_only=True, eq=False)
class QueryOrigin(OriginFields):
    """OriginFields with a value derived from them."""

    dimensions: Dimensions = field(init=False)

    def __post_init__(self) -> None:
        self.dimensions = self.kind, self.route, self.view, self.method, self.release, self.service


# For the type checker, a record has the fields of both. At run time they are properties, defined below,
# because copying them to each record took half of the writer's time.
if TYPE_CHECKING:

    class _SharedFields(FormFields, OriginFields): ...  # type: ignore[misc]  # both have slots
else:
    _SharedFields = object


class Record(_SharedFields):
    """A query to store, with the fields of `SQLLog` except its numbers.

    It has only the fields that differ from query to query. All others are read from `form` and `origin`.
    """

    __slots__ = (
        "duration_us", "execute_us", "fetch_us", "form", "origin", "rows", "same_rows", "same_values",
        "time_us",
    )  # fmt: skip

    def __init__(
        self,
        time_us: int,
        duration_us: int,
        execute_us: int,
        fetch_us: int | None,
        rows: int | None,
        form: QueryForm,
        origin: QueryOrigin,
    ) -> None:
        self.time_us = time_us
        """Microseconds since the epoch."""
        self.duration_us = duration_us
        self.execute_us = execute_us
        self.fetch_us = fetch_us
        self.rows = rows
        self.form = form
        self.origin = origin
        self.same_values = False
        self.same_rows = False
        """It counts rows that its unit of work has listed, or lists those that it has counted."""

    @property
    def time(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.time_us)

    @property
    def duration_ms(self) -> float:
        return self.duration_us / 1000

    @property
    def execute_ms(self) -> float:
        return self.execute_us / 1000

    @property
    def fetch_ms(self) -> float | None:
        return None if self.fetch_us is None else self.fetch_us / 1000


FORM_FIELDS: Final = tuple(one.name for one in fields(FormFields))
ORIGIN_FIELDS: Final = tuple(one.name for one in fields(OriginFields))
RECORD_FIELDS: Final = (
    *("time", "duration_ms", "execute_ms", "fetch_ms", "rows", "same_values"), *FORM_FIELDS, *ORIGIN_FIELDS,
)  # fmt: skip
for _part, _names in (("form", FORM_FIELDS), ("origin", ORIGIN_FIELDS)):
    for _name in _names:
        setattr(Record, _name, property(attrgetter(f"{_part}.{_name}")))


class CountedQueries(NamedTuple):
    """Queries that are only counted, because the buffer was full.

    They have the same statement, call site, error, unit of work and minute.
    """

    record: Record
    """The slowest of them."""
    unit: UnitOfWork | None
    durations_us: list[int]
    rows: int
    last_s: int
    """Time of the newest, seconds since the epoch."""


REPEATS_MAX = 500
"""Maximum pairs of statement and call site that are distinguished in a unit of work."""
IDLE_TRANSACTION_MS = 1_000.0
"""A transaction that is open for this long without a statement keeps its locks longer than it needs to."""


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
    outside_ms: float | None
    outside_call_site: str | None
    ignored: str | None


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
    """Numbers and slots that the store has reserved for this process."""

    first_seq: int
    slots: range
    """Slots of units with queries."""
    idle: range
    """Numbers of units without queries."""
    idle_slots: int
    """Number of slots that all units without queries share."""
    generation: int = 0
    """Generation of the store, see `Ring.generation`."""

    def idle_slot(self, number: int) -> int:
        """Return the slot of a unit without queries. These are negative and reused in turn."""
        return -1 - number % self.idle_slots


class FieldGroup(TextChoices):
    """Groups of fields, in the order in which they are shown."""

    OUTCOME = "outcome", _("Execution")
    STATEMENT = "statement", _("Statement")
    ORIGIN = "origin", _("Origin")
    TRACE = "trace", _("Trace")


@dataclass(frozen=True, slots=True, eq=False)  # `Annotated` hashes it, and a lazy translation needs the apps
class RecordField:
    """How a field is shown to people. Units in the model's help texts are for developers."""

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
    view: Annotated[str | None, RecordField(pgettext_lazy("Django view", "View"), FieldGroup.ORIGIN)]
    method: Annotated[str | None, RecordField(_("Method"), FieldGroup.ORIGIN)]
    status: Annotated[int | None, RecordField(_("Status"), FieldGroup.ORIGIN)]
    call_site: Annotated[str | None, RecordField(_("Call site"), FieldGroup.ORIGIN)]
    asked_by: Annotated[str | None, RecordField(_("Asked by"), FieldGroup.ORIGIN)]
    release: Annotated[str | None, RecordField(_("Release"), FieldGroup.ORIGIN)]
    service: Annotated[str | None, RecordField(_("Service"), FieldGroup.ORIGIN)]
    host: Annotated[str, RecordField(_("Host"), FieldGroup.ORIGIN)]
    pid: Annotated[int, RecordField(_("Process"), FieldGroup.ORIGIN)]


FIELDS: Final[dict[str, RecordField]] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(RecordJSON, include_extras=True).items()
}
"""How each field is shown, by name, in the order of the JSON."""
FIELD_TYPES: Final[dict[str, Any]] = get_type_hints(RecordJSON)
# The API's `id` is the number of the record, because the table's key, the slot, is reused for other records.
COLUMNS: Final = tuple(
    {"id": "seq"}.get(name, name) for name in FIELDS if name == "id" or name in RECORD_FIELDS
)
"""The columns of `SQLLog` that readers read, in the order of the JSON."""


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
"""The writer releases the interpreter's lock after this many records.

Otherwise a thread of the application waits for the switch interval again and again: 22 ms in the worst case
measured, 0.5 ms with this.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Resolved records, as passed to the sinks and the ring."""

    records: list[Record]
    statements: "dict[str, ScannedStatement]" = field(default_factory=dict)
    """By fingerprint, the statements of the records and of `counted`, whose texts may have to be stored."""
    units: list[UnitOfWork | None] = field(default_factory=list)
    """The unit of work of each record, in their order."""
    batch_sizes: dict[int, int] = field(default_factory=dict)
    """By index of the record, the number of parameter sets of an executemany, if more than one."""
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
    groups: list[CountedQueries] = field(default_factory=list)
    """Queries without a record, for the sinks."""
    counted: dict[tuple[int, Any], Any] = field(default_factory=dict)
    """The same for the statistics, as `sqllogs.statistics.counting.Counts`."""
    part: int = 0
    """Ascending number within this process, by which the store recognizes a part that it has written."""
    generation: int = 0
    """Generation of the store in which its numbers are reserved, else 0; see `Ring.generation`."""

    def __len__(self) -> int:
        return len(self.records) + len(self.sampled_out)

    def halves(self) -> tuple["Batch", "Batch"]:
        """Split a batch of at least two records into two parts, neither of them empty."""
        # One is rounded down, the other up: then neither part is empty even with one record of each.
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
                # Only in the first part, or they would be counted twice.
                ended=[],
                counted={},
                part=0,
            ),
        )


class Sample(NamedTuple):
    """Keep a share of the requests, commands and tasks, and every slow or failing query.

    It depends only on the unit's id, so all processes decide alike.
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
        # Not by the trace id, because a client that sends a `traceparent` could then decide what is kept.
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
