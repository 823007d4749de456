"""The scope of a report: the records it covers, its time range, and its source, ring or statistics.

The ring has the newest records; statistics cover a longer time. Created by the views from a request's
filters, used by all reports in the reader's thread.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from django.utils.translation import gettext as _

from sqllogs import conf
from sqllogs.errors import ParameterError
from sqllogs.read import records, statistics, statistics_rows
from sqllogs.read import ring as read_ring
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.records import rfc3339
from sqllogs.read.ring import Records, Report, RingSnapshot
from sqllogs.statistics.resolution import Oldest

Source = Literal["ring", "statistics", "units"]

SUPPORTED = frozenset(
    {
        "from", "to", "alias", "vendor", "kind", "method", "route", "view", "release", "service",
        "fingerprint", "operation", "table", "search",
    }
)  # fmt: skip
"""The filters that statistics can answer; all others need the ring."""
OF_UNITS = frozenset({"from", "to", "kind", "method", "route", "view", "release", "service"})
"""The filters, and the groups, that statistics of units of work can answer."""

PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The filters of a request, and a snapshot of the ring."""

    records: Records
    """The matching records, including slots left behind by a resize or a killed writer."""
    filters: Mapping[str, Any]
    """The values of the filters."""
    ring: RingSnapshot
    oldest_seq: int | None
    oldest: datetime | None
    """Number and time of the oldest record in the ring; earlier records have been overwritten."""
    version: str
    """State of the log that the answer is made from, for the ETag; see `sqllogs.read.ring`."""
    with_text: bool
    now: datetime
    fields: frozenset[str] = frozenset()
    """The fields that the client wants of each row; empty for all."""
    unchanged: Records | None = None
    """The records selected by the filters and `narrowed`; if `records` differ, there is no `report`."""
    narrowed_by: str = ""
    _kept: list[Oldest] = field(default_factory=list, repr=False, compare=False)
    """Which statistics exist, once that has been read."""

    @property
    def kept(self) -> Oldest:
        """Which statistics of statements exist."""
        if not self._kept:
            self._kept.append(statistics.read_oldest())
        return self._kept[0]

    @property
    def counted_since(self) -> datetime | None:
        """The time since which every call is counted in the statistics; None before the first call."""
        return statistics.as_complete_since(self.kept)

    def wants(self, *names: str) -> bool:
        """Return whether any of these fields is requested; others need not be read."""
        return not self.fields or not self.fields.isdisjoint(names)

    def percentiles(self, figures: Any) -> dict[str, float | None]:
        """Return the percentiles of a group by name; None for those that are not wanted."""
        # A series of groups computes 1,400 for a dashboard that shows a third of them.
        return {name: getattr(figures, name) if self.wants(name) else None for name in PERCENTILES}

    @classmethod
    def from_filters(cls, filterset: SQLLogFilter, *, with_text: bool, fields: Iterable[str] = ()) -> "Scope":
        # Read once: the ring changes while an answer is made, and all parts must agree. Before the data,
        # because a tag may be too old but never too new.
        ring, version = read_ring.state()
        oldest_seq, oldest = records.oldest_record(ring) or (None, None)
        return cls(
            records=filterset.qs,
            unchanged=filterset.qs,
            filters=filterset.values,
            ring=ring,
            oldest_seq=oldest_seq,
            oldest=oldest,
            version=version,
            with_text=with_text,
            now=read_ring.utc_now(),
            fields=frozenset(fields),
        )

    def with_filters(self, filterset: SQLLogFilter, **changes: Any) -> "Scope":
        """Return the scope with other filters, and the same snapshot of the ring."""
        records, filters = filterset.qs, filterset.values
        return replace(self, records=records, unchanged=records, filters=filters, **changes)

    def narrowed(self, records: Records, by: str) -> "Scope":
        """Return the scope with fewer records; `by` names a choice that is final when their block is."""
        return replace(self, records=records, unchanged=records, narrowed_by=by)

    def report(self, *parts_of: object) -> Report | None:
        """Return the identity of a report of these records, apart from its range; `parts_of` is its kind.

        None if the records were narrowed further, since the filters do not show how.
        """
        if self.unchanged is None or self.records is not self.unchanged:
            return None
        filters = {name: value for name, value in self.filters.items() if name not in ("from", "to")}
        key = repr((parts_of, self.narrowed_by, sorted(filters.items()), conf.load().slow_ms))
        return Report(key, self.filters["from"], self.filters["to"])

    @property
    def begin(self) -> datetime:
        """Time of the oldest record, also used for records overwritten while an answer is made."""
        return self.oldest or self.now

    @property
    def span(self) -> "TimeSpan":
        """The span of an answer from the ring."""
        since, until = self.filters["from"], self.filters["to"]
        begins = [time for time in (since, self.oldest) if time is not None]
        # A range in the future is empty and begins now: its length is never negative.
        begin = min(max(begins, default=self.now), self.now)
        end = self.now if until is None else max(begin, min(until, self.now))
        return TimeSpan(source="ring", complete_since=self.oldest, begin=begin, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """The time range of an answer: the part of the requested range that its source covers."""

    source: Source
    complete_since: datetime | None
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Length of the range; never 0, so that rates can be computed."""
        return max((self.end - self.begin).total_seconds(), 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The first fields of every answer."""

    source: Source
    """`ring`, the newest records; `statistics`, counts over a longer time; or `units`, those of requests."""
    complete_since: str | None
    """The source is complete from this time on; null while it is empty."""
    begin: str
    end: str
    """The part of the requested time range that the source covers."""


def head(span: TimeSpan) -> dict[str, Any]:
    """Return the fields of an `Answer`."""
    return {
        "source": span.source,
        "complete_since": rfc3339(span.complete_since) if span.complete_since else None,
        "begin": rfc3339(span.begin),
        "end": rfc3339(span.end),
    }


def choose_source(
    scope: Scope, wanted: str | None, group_by: str | None, of_ring: Sequence[str] = ()
) -> Source:
    """Return the source: the statistics if they can answer and the ring does not cover the whole range.

    `of_ring` are further filters in use, which need the ring. Raise ParameterError if the reader wants
    statistics, which cannot answer.
    """
    if wanted == "ring":
        return "ring"
    if wanted == "units":
        return _units(scope, group_by, of_ring)
    needs_ring = [*unsupported(scope.filters), *of_ring]
    if group_by is not None and group_by not in statistics.GROUPS:
        needs_ring.append("group_by")
    if wanted == "statistics":
        if needs_ring:
            message = _("Statistics do not support %(name)s; use the ring as source.")
            raise ParameterError(needs_ring[0], message % {"name": needs_ring[0]})
        return "statistics"
    if needs_ring:
        return "ring"
    # The ring if it covers the range, because only its percentiles are exact.
    return "statistics" if _is_sampled(scope) or _is_older(scope) else "ring"


def _units(scope: Scope, group_by: str | None, of_ring: Sequence[str]) -> Source:
    refused = [*unsupported(scope.filters, OF_UNITS), *of_ring]
    if group_by is not None and group_by not in OF_UNITS - {"from", "to"}:
        refused.append("group_by")
    if refused:
        message = _("Statistics of units of work do not support %(name)s.")
        raise ParameterError(refused[0], message % {"name": refused[0]})
    return "units"


def unsupported(cleaned: Mapping[str, Any], supported: Container[str] = SUPPORTED) -> list[str]:
    """Return the names of the filters in use that are not supported, by default those that need the ring."""
    return sorted(
        name
        for name, value in cleaned.items()
        if name not in supported and value is not None and value != [] and value != ""
    )


def _is_sampled(scope: Scope) -> bool:
    """Return whether the ring has only a sample of the records; the statistics count all of them."""
    return conf.load().sample < 1 and scope.counted_since is not None


def _is_older(scope: Scope) -> bool:
    """Return whether the range begins before the ring, and the statistics cover that time."""
    since = scope.filters["from"]
    if scope.oldest is not None and (since is None or since >= scope.oldest or scope.oldest_seq == 1):
        return False  # if record 1 is in the ring, nothing has been overwritten
    counted_since = scope.counted_since
    return counted_since is not None and (scope.oldest is None or counted_since < scope.oldest)


def statistics_filter(scope: Scope, chosen: Source) -> statistics_rows.Where:
    of_units = chosen == "units"
    kept = None if of_units else scope.kept
    return statistics_rows.Where.from_filters(scope.filters, kept, of_units=of_units)


def time_span(
    scope: Scope, chosen: Source, since: datetime, until: datetime, complete_since: datetime | None
) -> TimeSpan:
    """Return the time range of an answer from statistics, whose ends are those of rows."""
    begin = since if complete_since is None else max(since, complete_since)
    # As in `Scope.span`: a range in the future is empty.
    begin = min(begin, scope.now)
    end = max(begin, min(until, scope.now))
    return TimeSpan(source=chosen, complete_since=complete_since, begin=begin, end=end)
