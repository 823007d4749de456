"""One trace: its records in order, and the same as spans for a trace panel.

Fed with a page of records, feeds `traces/<trace_id>/`. Runs in the reader's thread and queries nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqllogs.read.pagination import Page
from sqllogs.read.records import epoch_ms
from sqllogs.read.scope import Answer, TimeSpan, head
from sqllogs.record import FIELDS, FieldGroup, RecordJSON

PART_OF_SPAN = frozenset(["time", "duration_ms", "operation", "tables", "alias", "vendor", "service"])
"""Fields that are a span's name, service or time, and need no tag."""
UNIT_TAGS = tuple(
    name
    for name, field in FIELDS.items()
    if field.group is FieldGroup.ORIGIN and name not in {*PART_OF_SPAN, "call_site"}
)
QUERY_TAGS = tuple(
    name
    for name, field in FIELDS.items()
    if field.group is not FieldGroup.TRACE and name not in {*PART_OF_SPAN, *UNIT_TAGS}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    key: str
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSpan:
    """A span under the names of Grafana's trace frame."""

    traceID: str
    spanID: str
    parentSpanID: str | None
    """None for the request, command or task itself."""
    operationName: str
    serviceName: str
    startTime: float
    """Milliseconds since the epoch."""
    duration: float
    """Milliseconds."""
    statusCode: int
    """0 unset, 2 error, as OpenTelemetry has it."""
    tags: list[Tag]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAnswer(Answer):
    """The answer of `traces/<trace_id>/`, in the order of its JSON."""

    trace_id: str
    count: int
    count_is_capped: bool
    next: str | None
    previous: str | None
    next_cursor: str | None
    queries: int
    """On this page, as are the other sums."""
    errors: int
    total_ms: float
    results: list[RecordJSON]
    spans: list[TraceSpan]
    """A span for each unit of work, then one for each of `results`."""


def trace_of(trace_id: str, page: Page, span: TimeSpan) -> TraceAnswer:
    # By time: numbers are reserved per batch, so records of two processes do not interleave by number.
    records = sorted(page.results, key=lambda record: (record["time"], record["id"]))
    return TraceAnswer(
        trace_id=trace_id,
        **head(span),
        count=page.count,
        count_is_capped=page.count_is_capped,
        next=page.next,
        previous=page.previous,
        next_cursor=page.next_cursor,
        queries=len(records),
        errors=sum(record["error"] is not None for record in records),
        total_ms=sum(record["duration_ms"] for record in records),
        results=records,
        spans=[*_units(trace_id, records), *(_query(trace_id, record) for record in records)],
    )


def _units(trace_id: str, records: list[RecordJSON]) -> Iterator[TraceSpan]:
    """Make a span of each unit of work, from its first query to its last, which is all that records show."""
    by_unit: dict[str | None, list[RecordJSON]] = {}
    for record in records:
        by_unit.setdefault(record["unit_id"], []).append(record)
    for unit_id, members in by_unit.items():
        if unit_id is None:
            continue
        first, last = members[0], members[-1]
        begin_ms = epoch_ms(first["time"])
        end_ms = max(epoch_ms(record["time"]) + record["duration_ms"] for record in members)
        where = last["route"] or last["view"] or last["kind"]
        yield TraceSpan(
            traceID=trace_id,
            spanID=unit_id,
            parentSpanID=None,
            operationName=f"{last['method']} {where}" if last["method"] else where,
            serviceName=last["service"] or last["kind"],
            startTime=begin_ms,
            duration=end_ms - begin_ms,
            statusCode=2 if (last["status"] or 0) >= 500 else 0,
            tags=_tags(last, UNIT_TAGS),
        )


def _query(trace_id: str, record: RecordJSON) -> TraceSpan:
    words = [record["operation"] or "SQL", *record["tables"]]
    return TraceSpan(
        traceID=trace_id,
        spanID=f"{record['id']:016x}",  # span_id is the surrounding span, which other queries share
        parentSpanID=record["unit_id"],
        operationName=" ".join(words[:3]),
        serviceName=f"{record['vendor']} {record['alias']}",  # Grafana colours spans by service
        startTime=epoch_ms(record["time"]),
        duration=record["duration_ms"],
        statusCode=0 if record["error"] is None else 2,
        tags=_tags(record, QUERY_TAGS),
    )


def _tags(record: RecordJSON, names: Iterable[str]) -> list[Tag]:
    found = ((name, record[name]) for name in names)  # type: ignore[literal-required]
    return [Tag(key=name, value=value) for name, value in found if value is not None]
