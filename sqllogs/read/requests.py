"""Read units of work: requests, commands and tasks with a summary of their queries, for `requests/`.

With filters on queries, one scan of the ring sums the matching queries by unit; otherwise the units' rows
have the sums. Feeds API, page and terminal, in the reader's thread.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Count, F, Min, OrderBy, Q, QuerySet, Sum, Value
from django.db.models.functions import NullIf
from django.http import HttpRequest, QueryDict
from django.urls import Resolver404, get_script_prefix, resolve
from django.utils.translation import get_language_from_path, override
from django.utils.translation import gettext_lazy as _

from sqllogs.models import Unit
from sqllogs.read import records
from sqllogs.read.aggregates import fetch
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import (
    ChoiceField,
    MillisecondsField,
    StatusField,
    ValuesField,
    clean_parameters,
    with_defaults,
)
from sqllogs.read.records import UTCText, rfc3339
from sqllogs.read.ring import Records, RingSnapshot, chunks, in_ring, since
from sqllogs.read.scope import Answer, Scope, head

OF_UNIT = ("kind", "method", "route", "view", "release", "service", "host", "trace_id", "request_id")
"""Filters on columns of the unit's row, besides `from` and `to`."""


NAME_MAX_CHARACTERS = 200
"""Length of the columns route and view."""


_LOG_LINE = re.compile(r"(?:[A-Z]{3,10} +)?(.*?)(?: +HTTP/[\d.]+)?")
"""A path between method and protocol, as in the log of a server."""
_HOST = re.compile(
    r"(?:localhost|\d+(?:\.\d+){3}|\[[\da-fA-F:]+\]|(?:[\w-]+\.)+[^\W\d_][\w-]+|[\w.-]+(?=:))(?::\d+)?"
)
"""A host as browsers show it; any other name needs a port."""


class PathField(forms.CharField):
    """A URL as people copy or type it; its value is route and view."""

    def clean(self, value: Any) -> tuple[str | None, str] | None:
        text = super().clean(value)
        if not text:
            return None
        typed = _LOG_LINE.fullmatch(text.strip("\"'`<> "))
        for path in _possible_paths(typed[1] if typed else text):
            if (found := _view_of(path)) is not None:
                return found
        raise ValidationError(_("No URL pattern of this project matches '%(path)s'."), params={"path": text})


def _possible_paths(text: str) -> Iterator[str]:
    """Yield what a text can mean: a URL, a path behind a host alone, or one without its first slash."""
    try:
        yield unquote(urlsplit(text).path) or "/"  # browsers copy "/café/" as "/caf%C3%A9/"
    except ValueError:  # "http://["
        return
    if text.startswith("/"):
        return
    path = unquote(re.split("[?#]", text)[0])
    host, slash, rest = path.partition("/")
    # A host first: a pattern for every path, as a CMS has it, would take it for a part of the path. Without
    # a slash, a name is that of a file, such as robots.txt.
    if _HOST.fullmatch(host) and (slash or ":" in host):
        yield f"/{rest}"
    yield f"/{path}"


def _view_of(path: str) -> tuple[str | None, str] | None:
    # resolve() takes a path without SCRIPT_NAME.
    inner = path.removeprefix(get_script_prefix().rstrip("/")) or "/"
    # The prefix of i18n_patterns matches in its own language only, whatever the reader's is.
    with override(get_language_from_path(inner) or settings.LANGUAGE_CODE):
        # Like CommonMiddleware, because people omit the last slash.
        for candidate in dict.fromkeys([inner, f"{inner.rstrip('/')}/"]):
            try:
                match = resolve(candidate)
            except Resolver404:
                continue
            return (match.route or None, match._func_path)  # as in sqllogs.context
    return None


STATIC_FILES = ("all", "true", "false")
STATIC_VIEWS = ("django.views.static.serve", "django.contrib.staticfiles.views.serve")
"""Views that send a file."""
# Without a view, a middleware such as WhiteNoise has answered. It sends no errors, so those are other
# requests.
_OF_STATIC_FILES = Q(kind="request", queries=0, status__lt=400) & (Q(view=None) | Q(view__in=STATIC_VIEWS))
_NAMING = ("path", "route", "view", "trace_id", "request_id")
"""Filters by which a reader looks for something specific, which may be a static file."""


def without_static_files(query: QueryDict) -> QueryDict:
    """Leave out static files by default, because each page has many, unless the reader looks for one."""
    if any(query.get(name) for name in _NAMING):
        return query
    return with_defaults(query, static_files="false")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFilter:
    """The filters of `requests/` beside those of all lists."""

    status: tuple[str, ...] = ()
    min_elapsed_ms: float | None = None
    tag: tuple[str, ...] = ()
    path: tuple[str | None, str] | None = None
    """Route and view of a URL."""
    static_files: str | None = None
    """One of STATIC_FILES: all units, those of static files, or all others."""

    @classmethod
    def from_query(cls, query: QueryDict) -> "UnitFilter":
        """Read a query string; raise ParameterError."""
        data = clean_parameters(
            query,
            status=StatusField(),
            min_elapsed_ms=MillisecondsField(required=False),
            tag=ValuesField(required=False),
            path=PathField(required=False),
            static_files=ChoiceField(names=STATIC_FILES),
        )
        return cls(
            status=tuple(data["status"]),
            min_elapsed_ms=data["min_elapsed_ms"],
            tag=tuple(data["tag"]),
            path=data["path"],
            static_files=data["static_files"],
        )

    def narrow(self, units: "QuerySet[Unit]") -> "QuerySet[Unit]":
        statuses, tags = Q(), Q()
        for status in self.status:
            if status.endswith("xx"):
                statuses |= Q(status__range=(int(status[0]) * 100, int(status[0]) * 100 + 99))
            else:
                statuses |= Q(status=int(status))
        for tag in self.tag:
            # The column has commas at both ends too, so that `a` does not match `ab`.
            tags |= Q(tags__contains=f",{tag},")
        units = units.filter(statuses, tags)
        if self.static_files in ("true", "false"):
            units = units.filter(_OF_STATIC_FILES if self.static_files == "true" else ~_OF_STATIC_FILES)
        if self.path is not None:
            # Names are stored cut to the length of their columns.
            route, view = self.path
            units = units.filter(route=route and route[:NAME_MAX_CHARACTERS], view=view[:NAME_MAX_CHARACTERS])
        return units if self.min_elapsed_ms is None else units.filter(duration_ms__gte=self.min_elapsed_ms)

    @property
    def given(self) -> list[str]:
        """Names of the filters that exclude records. Static files have no records."""
        return [name for name in PARAMETERS if getattr(self, name) not in ((), None, "all", "false")]

    def scope(self, scope: Scope) -> Scope:
        """Narrow the records of a report to those of the units that match."""
        if not self.given:
            return scope
        slots = self.narrow(_live_units(scope.ring)).values("slot")
        return replace(scope, records=scope.records.filter(unit__in=slots))


PARAMETERS = tuple(UnitFilter.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A unit of work and its queries, of these only the matching ones; durations in milliseconds."""

    unit_id: str | None
    trace_id: str | None
    parent_id: str | None
    """Id of the unit in which it ran."""
    time: str
    """When it began."""
    kind: str
    route: str | None
    view: str | None
    method: str | None
    status: int | None
    """None while it is running, and for anything but a request."""
    exception: str | None
    """Class of the exception that it failed with."""
    request_id: str | None
    tags: list[str]
    response_bytes: int | None
    release: str | None
    service: str | None
    host: str
    queries: int
    errors: int
    rows: int | None
    total_ms: float
    elapsed_ms: float | None
    """From its begin to its end; None while it is running."""
    share_percent: float | None
    """Share of the elapsed time that was spent in queries."""
    duplicates: int
    """Queries whose statement had been sent before."""
    worst_repeat: int
    """How often the statement that was sent most often from one line was sent."""
    worst_fingerprint: str | None
    """That statement; None if nothing was sent twice."""
    worst_call_site: str | None
    worst_sql: str | None
    connections: int | None
    """Connections that it has opened, or taken from a pool; None in rows of an earlier release."""
    connect_ms: float | None
    """Time that it has waited for these."""
    transaction_ms: float | None
    """Time in transactions, from their first statement to COMMIT or ROLLBACK."""
    idle_transaction_ms: float | None
    """Longest time in which a transaction was open without a statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsAnswer(Answer):
    """The answer of `requests/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[RequestRow]


class UnitQueries(NamedTuple):
    """The queries of a unit: its row's, or those that match a filter."""

    slot: int
    queries: int
    errors: int
    rows: int | None
    total_ms: float
    statements: int
    """Different ones."""
    first_seq: int


ORIGIN = (
    "unit_id", "trace_id", "parent_id", "kind", "route", "view", "method", "status", "exception",
    "request_id", "response_bytes", "release", "service", "host", "connections", "connect_ms",
    "transaction_ms", "idle_transaction_ms",
)  # fmt: skip
"""Columns of a unit that are fields of a row under the same names."""
READ = (*ORIGIN, "time", "duration_ms", "tags", "worst_repeat", "worst_fingerprint", "worst_call_site")

ORDERINGS: dict[str, Any] = {
    "time": F("time"),
    "elapsed_ms": F("duration_ms"),
    "queries": F("queries"),
    "errors": F("errors"),
    "rows": F("rows"),
    "total_ms": F("total_ms"),
    # NULLIF, because PostgreSQL raises an error for a division by 0.
    "share_percent": F("total_ms") / NullIf(F("duration_ms"), Value(0.0)),
    "duplicates": F("queries") - F("statements"),
    "status": F("status"),
    "response_bytes": F("response_bytes"),
    "connect_ms": F("connect_ms"),
    "transaction_ms": F("transaction_ms"),
    "idle_transaction_ms": F("idle_transaction_ms"),
}
DEFAULT_ORDERING = "-time"


def of_units(filtered: Records) -> Records:
    """Leave out the records that belong to no unit of work."""
    # All queries outside units share a row without ids. A subquery is faster than joining that row to each
    # record.
    outside = Unit.objects.filter(unit_id=None, trace_id=None).values("slot")
    return filtered.filter(unit__isnull=False).exclude(unit__in=outside)


def read_requests(
    request: HttpRequest, scope: Scope, page: OffsetPage, unit_filter: UnitFilter | None = None
) -> RequestsAnswer:
    """Read the units that match and return the page asked for; one beyond the last is empty."""
    units = (unit_filter or UnitFilter()).narrow(_units(scope))
    if filters_queries(scope.filters):
        count, rows = _by_queries(scope, units, page)
    else:
        count, rows = _by_units(scope, units, page)
    return RequestsAnswer(
        **head(scope.span),
        count=count,
        next=page.next_url(request, count),
        previous=page.previous_url(request),
        results=rows,
    )


def filters_queries(filters: Mapping[str, Any]) -> bool:
    """Return True if a filter selects among the queries of a unit."""
    return any(
        name not in {*OF_UNIT, "from", "to"} and value is not None and value != [] and value != ""
        for name, value in filters.items()
    )


def _units(scope: Scope) -> "QuerySet[Unit]":
    """Return the units that match the filters, with and without records in the ring.

    A time range matches the units that ran within it.
    """
    filters, units = scope.filters, _live_units(scope.ring)
    for name in OF_UNIT:
        if filters.get(name):
            units = units.filter(**{f"{name}__in": filters[name]})
    if filters["from"] is not None:
        units = units.filter(Q(ended_at__gte=filters["from"]) | Q(ended_at__isnull=True))
    return units if filters["to"] is None else units.filter(time__lt=filters["to"])


def _live_units(ring: RingSnapshot) -> "QuerySet[Unit]":
    # Units without queries have negative slots. Units whose records are overwritten are left out.
    live = Q(slot__lt=0) | Q(last_seq__gte=ring.oldest, first_seq__lte=ring.seq)
    # A slot that is only reserved has an empty kind; queries outside units have no ids, see `of_units`.
    return Unit.objects.filter(live).exclude(kind="").exclude(unit_id=None, trace_id=None)


TRACE_UNITS_MAX = 50
"""Units of work that the page of a trace lists."""


def read_units_of_trace(scope: Scope, trace_id: str) -> list[RequestRow]:
    """Return the units of a trace with all their queries, the earliest first."""
    units = _live_units(scope.ring).filter(trace_id=trace_id).order_by("time")
    return _rows(scope, _read_units(units[:TRACE_UNITS_MAX]))


def _by_units(scope: Scope, units: "QuerySet[Unit]", page: OffsetPage) -> tuple[int, list[RequestRow]]:
    # Slots first: sorting rows with all columns takes five times as long.
    slots = list(_ordered_slots(units, page)[page.offset : page.offset + page.limit])
    return units.count(), _rows(scope, _read_units_at(slots))


def _ordered_slots(units: "QuerySet[Unit]", page: OffsetPage) -> "QuerySet[Unit, int]":
    # Unknown values sort below known ones in every database; then the newest first.
    descending = page.is_descending
    nulls_first, nulls_last = None if descending else True, True if descending else None
    key = ORDERINGS[page.column]
    first = OrderBy(key, descending=descending, nulls_first=nulls_first, nulls_last=nulls_last)
    return units.order_by(first, "-time").values_list("slot", flat=True)


def _read_units_at(slots: list[int]) -> list[tuple[dict[str, Any], UnitQueries]]:
    """Return the units of some slots, in their order."""
    found = {
        queries.slot: (unit, queries)
        for chosen in chunks(slots)
        for unit, queries in _read_units(Unit.objects.filter(slot__in=chosen))
    }
    return [found[slot] for slot in slots if slot in found]


def _read_units(units: "QuerySet[Unit]") -> list[tuple[dict[str, Any], UnitQueries]]:
    columns = (UTCText(name) if name == "time" else name for name in READ)
    found = fetch(units.values_list("slot", *columns, *UnitQueries._fields[1:]))
    width = 1 + len(READ)
    return [(dict(zip(READ, row[1:width], strict=True)), UnitQueries(row[0], *row[width:])) for row in found]


OF_QUERIES = ("queries", "errors", "rows", "total_ms", "share_percent", "duplicates")
"""Orderings by figures of the queries that match, which are read of all units and not of the page's alone."""


def _by_queries(scope: Scope, units: "QuerySet[Unit]", page: OffsetPage) -> tuple[int, list[RequestRow]]:
    """Return the number of units with queries that match, and the page of them with the sums of these."""
    matching = in_ring(scope.records, scope.ring).order_by()
    sums: dict[int, UnitQueries] = {}
    if page.column in OF_QUERIES:
        sums = find_queries(matching)
        found = sorted(one for one in fetch(units.values_list("slot", "duration_ms")) if one[0] in sums)
        count = len(found)
        slots = [one[0] for one in page.cut(found, lambda one: _value(page.column, sums[one[0]], one[1]))]
    else:
        slots = list(_ordered_slots(units.filter(slot__in=matching.values("unit")), page))
        count = len(slots)
        slots = slots[page.offset : page.offset + page.limit]
    read = _read_units_at(slots)
    if not sums:
        first = min((queries.first_seq for _unit, queries in read), default=0)
        for chosen in chunks(slots):
            sums |= find_queries(since(scope.records, scope.ring, first).filter(unit__in=chosen))
    shown = [(unit, sums[queries.slot]) for unit, queries in read if queries.slot in sums]
    for unit, _queries in shown:
        # The unit's row has the worst repetition of all its queries, not of the matching ones.
        unit |= {"worst_repeat": 1, "worst_fingerprint": None, "worst_call_site": None}
    if scope.wants("worst_repeat", "worst_fingerprint", "worst_call_site", "worst_sql"):
        worst = worst_repeats(scope.records, scope.ring, [one for _unit, one in shown])
        for unit, one in shown:
            unit |= worst.get(one.slot, {})
    return count, _rows(scope, shown)


def _value(column: str, queries: UnitQueries, elapsed_ms: float | None) -> Any:
    match column:
        case "share_percent":
            return _share(queries.total_ms, elapsed_ms)
        case "duplicates":
            return queries.queries - queries.statements
    return getattr(queries, column)


def find_queries(matching: Records) -> dict[int, UnitQueries]:
    """Add records up by slot of their unit."""
    found = (
        matching.filter(unit__isnull=False)
        .order_by()
        .values("unit")
        .annotate(
            queries=Count("slot"),
            errors=Count("error"),
            all_rows=Sum("rows"),
            total_ms=Sum("duration_ms"),
            statements=Count("statement_number", distinct=True),
            first_seq=Min("seq"),
        )
        .values_list("unit", "queries", "errors", "all_rows", "total_ms", "statements", "first_seq")
    )
    return {row[0]: UnitQueries._make(row) for row in fetch(found)}


def worst_repeats(
    filtered: Records, ring: RingSnapshot, units: Sequence[UnitQueries]
) -> dict[int, dict[str, Any]]:
    """Return, for each of some units, the statement that one line sent most often."""
    worst: dict[int, dict[str, Any]] = {}
    first = min((unit.first_seq for unit in units), default=0)
    for chosen in chunks([unit.slot for unit in units]):
        found = (
            since(filtered, ring, first)
            .filter(unit__in=chosen)
            .order_by()
            .values("unit", "fingerprint", "call_site")
            .annotate(times=Count("slot"))
            .filter(times__gt=1)
            .values_list("unit", "fingerprint", "call_site", "times")
        )
        for slot, fingerprint, call_site, times in fetch(found):
            if slot not in worst or times > worst[slot]["worst_repeat"]:
                worst[slot] = {
                    "worst_repeat": times, "worst_fingerprint": fingerprint, "worst_call_site": call_site,
                }  # fmt: skip
    return worst


def _rows(scope: Scope, shown: Sequence[tuple[dict[str, Any], UnitQueries]]) -> list[RequestRow]:
    fingerprints = {unit["worst_fingerprint"] for unit, _ in shown if unit["worst_fingerprint"]}
    texts = records.statements(fingerprints) if scope.with_text and scope.wants("worst_sql") else {}
    return [_row(unit, queries, texts) for unit, queries in shown]


def _row(unit: Mapping[str, Any], queries: UnitQueries, texts: Mapping[str, Any]) -> RequestRow:
    text = texts.get(unit["worst_fingerprint"])
    return RequestRow(
        **{name: unit[name] for name in ORIGIN},
        # UTCText makes a text of it on SQLite and PostgreSQL.
        time=unit["time"] if isinstance(unit["time"], str) else rfc3339(unit["time"]),
        tags=[tag for tag in (unit["tags"] or "").split(",") if tag],
        queries=queries.queries,
        errors=queries.errors,
        rows=None if queries.rows is None else int(queries.rows),  # PostgreSQL's sum of bigint is numeric
        total_ms=queries.total_ms,
        elapsed_ms=unit["duration_ms"],
        share_percent=_share(queries.total_ms, unit["duration_ms"]),
        duplicates=queries.queries - queries.statements,
        worst_repeat=unit["worst_repeat"],
        worst_fingerprint=unit["worst_fingerprint"],
        worst_call_site=unit["worst_call_site"],
        worst_sql=text.sql if text else None,
    )


def _share(total_ms: float, elapsed_ms: float | None) -> float | None:
    """Return the percentage of the elapsed time."""
    if elapsed_ms is None:
        return None
    # The sum of concurrent queries can be longer than the unit.
    return min(100.0, 100 * total_ms / elapsed_ms) if elapsed_ms else 100.0
