"""Build the template context of a request's page: where its time went, and a waterfall with repeats folded.

Called by the renderer with the records and units of work of a trace, in the reader's thread; sends no query.
The template is trace.html.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.models import VIEW_TEXT
from sqllogs.page.links import Links, curl, reverse
from sqllogs.page.records import RecordRow, record_row, viewers
from sqllogs.read.records import epoch_ms
from sqllogs.read.requests import RequestRow
from sqllogs.read.traces import TraceAnswer
from sqllogs.record import RecordJSON
from sqllogs.sql.n_plus_one import Repetition, Rules, SeenStatement
from sqllogs.sql.normalize import StatementInfo
from sqllogs.sql.remedies import Remedies
from sqllogs.templatetags.sqllogs import milliseconds, percent

GAPS_MAX = 5
GAP_SHARE, GAP_MIN_MS = 0.05, 1.0
"""A time without a query gets a row if it has at least this share of the whole, and this length."""
BAR_MIN_PERCENT = 0.01
"""SVG does not draw a width of 0, not even its stroke: 0.1 ms of ten seconds must be seen too."""
WORST_SHARE = 0.2
"""The summary names a repeated statement if it took at least this share of the SQL time."""


class WithUnits(NamedTuple):
    """A trace and its units of work, the earliest first."""

    answer: TraceAnswer
    units: list[RequestRow]


class Interval(NamedTuple):
    """Milliseconds since the trace began."""

    begin_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        return self.end_ms - self.begin_ms


class RunEnd(NamedTuple):
    """The fields of a record that the rules of N+1 read."""

    time: datetime
    rows: int | None
    sql_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """In percent of the timeline."""

    x: str
    width: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterfallRow:
    """A query, all runs of a statement from one line, or a time without a query."""

    row: RecordRow | None
    """The first run; None in a gap."""
    after_ms: float
    """Since the trace began."""
    total_ms: float
    times: int
    bars: list[Bar]
    url: str
    """The record, or the list of all runs."""
    statement: str
    """The statement's page."""
    advice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    record: RecordJSON
    interval: Interval


def trace_page(request: Request, shown: WithUnits, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of trace.html."""
    trace, units = shown
    settings, links = conf.load(), Links(reverse("sqllogs:list"), QueryDict())
    began_ms = min(
        [*(epoch_ms(record["time"]) for record in trace.results), *(epoch_ms(unit.time) for unit in units)],
        default=0.0,
    )
    queries = [_Query(record=record, interval=_interval(record, began_ms)) for record in trace.results]
    busy = merge([query.interval for query in queries])
    # Queries in threads may end after the unit. Never 0, because positions are divided by it.
    total_ms = max([*(_end_ms(unit, began_ms) for unit in units), *(one.end_ms for one in busy), 0.001])
    folded = _folded(queries)
    remedies, seen = Remedies(), [_seen_statement(group) for group in folded]
    rows = [_row(group, total_ms, links, remedies, seen) for group in folded]
    rows += [_gap_row(gap, total_ms) for gap in find_gaps(busy, total_ms)]
    return {
        "trace": trace,
        "units": units,
        "unit": units[0] if units else None,
        "is_running": bool(units) and units[0].elapsed_ms is None,
        "last": record_row(trace.results[-1], links, settings) if queries else None,
        "total_ms": total_ms,
        "sentence": sentence(queries, busy, units, total_ms) if queries or units else None,
        "is_part": trace.next is not None or trace.previous is not None,
        "rows": sorted(rows, key=lambda row: row.after_ms),
        "repeated": len(queries) - len({query.record["fingerprint"] for query in queries}),
        "viewers": viewers(
            settings,
            trace.trace_id,
            began_ms,
            began_ms + total_ms,
            is_sampled=any(record["sampled"] for record in trace.results),
        ),
        "as_list": links.only(trace_id=trace.trace_id, ordering="id"),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "as_json": f"{request.path}?format=json",
        "curl": curl(request),
    }


def _interval(record: RecordJSON, began_ms: float) -> Interval:
    begin_ms = epoch_ms(record["time"]) - began_ms
    return Interval(begin_ms, begin_ms + record["duration_ms"])


def _end_ms(unit: RequestRow, began_ms: float) -> float:
    return epoch_ms(unit.time) - began_ms + (unit.elapsed_ms or 0.0)


def _seen_statement(group: Sequence[_Query]) -> SeenStatement:
    record = group[0].record
    rows = max((query.record["rows"] or 0 for query in group), default=0)
    return SeenStatement.of_statement(
        record["sql"], record["tables"], rows, _asker(group), record["call_site"]
    )


def _asker(group: Sequence[_Query]) -> str | None:
    """Return the part of the ORM by the last query that has it, which is the most exact."""
    return next((asker for query in reversed(group) if (asker := query.record["asked_by"])), None)


def merge(intervals: Sequence[Interval]) -> list[Interval]:
    """Return the times in which at least one query ran: those of two threads may overlap."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if merged and interval.begin_ms <= merged[-1].end_ms:
            merged[-1] = Interval(merged[-1].begin_ms, max(merged[-1].end_ms, interval.end_ms))
        else:
            merged.append(interval)
    return merged


def find_gaps(busy: Sequence[Interval], total_ms: float) -> list[Interval]:
    """Return the longest times without a query, at most GAPS_MAX."""
    # From each end to the next begin, and at both ends of the trace.
    begins = [0.0, *(one.end_ms for one in busy)]
    ends = [*(one.begin_ms for one in busy), total_ms]
    least_ms = max(GAP_MIN_MS, GAP_SHARE * total_ms)
    gaps = [Interval(*pair) for pair in zip(begins, ends, strict=True)]
    long_ones = [gap for gap in gaps if gap.length_ms >= least_ms]
    return sorted(long_ones, key=lambda gap: -gap.length_ms)[:GAPS_MAX]


def _folded(queries: Iterable[_Query]) -> list[list[_Query]]:
    """Return the queries by statement, line and outcome, in order of the first of each."""
    groups: dict[tuple[Any, ...], list[_Query]] = {}
    for query in queries:
        record = query.record
        # A failed run is a row of its own, with its exception and without advice.
        key = (record["fingerprint"], record["call_site"], record["alias"], record["error"])
        groups.setdefault(key, []).append(query)
    return list(groups.values())


def _row(
    group: Sequence[_Query], total_ms: float, links: Links, remedies: Remedies, seen: list[SeenStatement]
) -> WaterfallRow:
    first = group[0].record
    row = record_row(first, links, conf.load())
    runs = links.only(trace_id=str(first["trace_id"]), fingerprint=first["fingerprint"], ordering="id")
    return WaterfallRow(
        row=row,
        after_ms=group[0].interval.begin_ms,
        total_ms=sum(query.record["duration_ms"] for query in group),
        times=len(group),
        bars=[_bar(query.interval, total_ms) for query in group],
        url=runs if len(group) > 1 else row.url,
        statement=reverse("sqllogs:fingerprint", args=[first["fingerprint"]]),
        advice=_advice(group, remedies, seen),
    )


def _advice(group: Sequence[_Query], remedies: Remedies, seen: list[SeenStatement]) -> str | None:
    """Return how to replace an N+1; None without the text, or if the repeats are meant."""
    first, last = group[0].record, group[-1].record
    sql, operation = first["sql"], first["operation"]
    # The same as can_be_n_plus_one(), as far as a record shows it.
    if sql is None or operation is None or first["error"] is not None or first["many"]:
        return None
    statement = StatementInfo(
        fingerprint=first["fingerprint"], sql=sql, operation=operation, tables=",".join(first["tables"])
    )
    asker, site = _asker(group), first["call_site"]
    repetition = Repetition(times=len(group), first=_end(first), last=_end(last), asked_by=asker)
    if not Rules(conf.load()).is_suspect(statement, site, repetition):
        return None
    remedy = remedies.remedy(operation, sql, first["tables"], seen, asked_by=asker, call_site=site)
    return remedy.advice if remedy else _("One line of code repeats it.")


def _end(record: RecordJSON) -> RunEnd:
    return RunEnd(datetime.fromisoformat(record["time"]), record["rows"], record["sql_length"])


def _gap_row(gap: Interval, total_ms: float) -> WaterfallRow:
    bars = [_bar(gap, total_ms)]
    return WaterfallRow(
        row=None, after_ms=gap.begin_ms, total_ms=gap.length_ms, times=0, bars=bars, url="", statement=""
    )


def _bar(interval: Interval, total_ms: float) -> Bar:
    width = max(100 * interval.length_ms / total_ms, BAR_MIN_PERCENT)
    return Bar(x=f"{100 * interval.begin_ms / total_ms:.2f}", width=f"{width:.2f}")


def sentence(
    queries: Sequence[_Query], busy: Sequence[Interval], units: Sequence[RequestRow], total_ms: float
) -> str:
    """Say in one sentence where the time went."""
    sql_ms = sum(one.length_ms for one in busy)
    connect_ms = sum(unit.connect_ms or 0.0 for unit in units)
    count = ngettext("%(count)s query", "%(count)s queries", len(queries)) % {"count": f"{len(queries):,}"}
    clauses = [
        _("Of %(total)s ms, %(sql)s ms (%(share)s %%) went to %(queries)s")
        % {
            "total": milliseconds(total_ms),
            "sql": milliseconds(sql_ms),
            "share": percent(100 * sql_ms / total_ms),
            "queries": count,
        }
    ]
    clauses += _worst_clause(queries, sql_ms)
    clauses += _connection_clause(connect_ms, sum(unit.connections or 0 for unit in units))
    clauses += _transaction_clause(queries, busy)
    rest_ms = max(0.0, total_ms - sql_ms - connect_ms)
    clauses.append(
        _("%(rest)s ms (%(share)s %%) went to work other than SQL")
        % {"rest": milliseconds(rest_ms), "share": percent(100 * rest_ms / total_ms)}
    )
    # A number and its unit stay on one line.
    return re.sub(r"(?<=\d) (?=ms\b|%)", "\N{NO-BREAK SPACE}", "; ".join(clauses) + ".")


def _worst_clause(queries: Sequence[_Query], sql_ms: float) -> list[str]:
    repeated = [group for group in _folded(queries) if len(group) > 1]
    worst = max(repeated, key=lambda group: sum(one.interval.length_ms for one in group), default=None)
    if worst is None:
        return []
    worst_ms = sum(one.interval.length_ms for one in worst)
    if worst_ms < WORST_SHARE * sql_ms:
        return []
    record = worst[0].record
    values = {
        "worst": milliseconds(worst_ms),
        "times": f"{len(worst):,}",
        "statement": " ".join([record["operation"] or "SQL", *record["tables"][:2]]),
        "site": record["call_site"] or "",
    }
    if record["call_site"]:
        return [
            _("%(worst)s ms of that went to one statement (%(statement)s), run %(times)s times by %(site)s")
            % values
        ]
    return [_("%(worst)s ms of that went to one statement (%(statement)s), run %(times)s times") % values]


def _connection_clause(connect_ms: float, connections: int) -> list[str]:
    if connect_ms < GAP_MIN_MS:
        return []
    text = ngettext(
        "%(connect)s ms went to waiting for %(count)s connection",
        "%(connect)s ms went to waiting for %(count)s connections",
        connections,
    )
    return [text % {"connect": milliseconds(connect_ms), "count": f"{connections:,}"}]


def _transaction_clause(queries: Sequence[_Query], busy: Sequence[Interval]) -> list[str]:
    """Report how long transactions were open, if they did not only run queries meanwhile."""
    open_ = merge(open_transactions(queries))
    open_ms = sum(one.length_ms for one in open_)
    # Both are merged, so no millisecond is subtracted twice.
    idle_ms = open_ms - sum(_overlap(one, other) for one in open_ for other in busy)
    if idle_ms < GAP_MIN_MS:
        return []
    values = {"open": milliseconds(open_ms), "idle": milliseconds(idle_ms)}
    return [_("a transaction was open for %(open)s ms, %(idle)s ms of that without a query") % values]


def open_transactions(queries: Iterable[_Query]) -> list[Interval]:
    """Return when transactions were open: from their first query to COMMIT, ROLLBACK or their last one."""
    opened: dict[tuple[Any, ...], Interval] = {}
    ended: list[Interval] = []
    for query in queries:
        record, interval = query.record, query.interval
        if not record["in_transaction"]:
            continue
        # Records do not contain their thread, so transactions of two threads on one database count as one.
        key = (record["alias"], record["pid"])
        begin_ms = opened[key].begin_ms if key in opened else interval.begin_ms
        opened[key] = Interval(begin_ms, interval.end_ms)
        if record["operation"] in ("COMMIT", "ROLLBACK"):
            ended.append(opened.pop(key))
    return [*ended, *opened.values()]


def _overlap(one: Interval, other: Interval) -> float:
    return max(0.0, min(one.end_ms, other.end_ms) - max(one.begin_ms, other.begin_ms))
