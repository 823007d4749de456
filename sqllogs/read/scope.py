"""Decide which records an answer covers, from when on it is complete, and whether ring or statistics answer.

The ring has the records; the statistics outlive them. Fed by the filters of a request, used by all reports in
the reader's thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqllogs import conf
from sqllogs.errors import ParameterError
from sqllogs.read import records, statistics, statistics_rows
from sqllogs.read import ring as read_ring
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.records import rfc3339
from sqllogs.read.ring import Records, RingSnapshot

Source = Literal["ring", "statistics"]

SUPPORTED = frozenset(
    {
        "from", "to", "alias", "vendor", "kind", "method", "route", "view", "release", "service",
        "fingerprint", "operation", "table", "search",
    }
)  # fmt: skip
"""The filters that statistics answer; any other needs the ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a reader has asked for, and what there is of it in the ring."""

    records: Records
    """What the filters have chosen; what is stale in the ring is not taken out yet."""
    asked: Mapping[str, Any]
    """The filters' values."""
    ring: RingSnapshot
    oldest_seq: int | None
    oldest: datetime | None
    """Number and time of the oldest record in the ring; before it the ring is not complete."""
    version: str
    """Of what has been written, see `sqllogs.read.ring`."""
    with_text: bool
    now: datetime

    @classmethod
    def from_filters(cls, filterset: SQLLogFilter, *, version: str, with_text: bool) -> "Scope":
        ring = read_ring.ring()
        oldest = records.oldest_record(ring)
        return cls(
            records=filterset.qs,
            asked=filterset.form.cleaned_data,
            ring=ring,
            oldest_seq=oldest["id"] if oldest else None,
            oldest=datetime.fromisoformat(oldest["time"]) if oldest else None,
            version=version,
            with_text=with_text,
            now=read_ring.utc_now(),
        )

    @property
    def begin(self) -> datetime:
        """When the ring begins: about then was what has been overwritten while an answer is made."""
        return self.oldest or self.now

    @property
    def span(self) -> "TimeSpan":
        """The span of an answer from the ring."""
        since, until = self.asked["from"], self.asked["to"]
        known = [time for time in (since, self.oldest) if time is not None]
        begin = min(max(known, default=self.now), self.now)
        end = self.now if until is None else max(begin, min(until, self.now))
        return TimeSpan(source="ring", complete_since=self.oldest, begin=begin, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """The time that an answer is about: that part of the range asked for of which something is known."""

    source: Source
    complete_since: datetime | None
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Never 0, so that rates can be computed."""
        return max((self.end - self.begin).total_seconds(), 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How every answer begins."""

    source: Source
    """ring: the records themselves; statistics: counts that outlive them."""
    complete_since: str | None
    """Before this time the source knows nothing, or not all; None while it is empty."""
    begin: str
    end: str
    """The part of the range asked for of which something is known."""


def head(span: TimeSpan) -> dict[str, Any]:
    """Return the fields of an `Answer`."""
    return {
        "source": span.source,
        "complete_since": rfc3339(span.complete_since) if span.complete_since else None,
        "begin": rfc3339(span.begin),
        "end": rfc3339(span.end),
    }


def choose_source(scope: Scope, wanted: str | None, group_by: str | None) -> Source:
    """Return what answers: the statistics if they can and the ring does not have all of the range.

    Raise ParameterError when they are asked for by name and cannot.
    """
    if wanted == "ring":
        return "ring"
    needs_ring = unsupported(scope.asked)
    if group_by is not None and group_by not in statistics.GROUPS:
        needs_ring.append("group_by")
    if wanted == "statistics":
        if needs_ring:
            message = f"The statistics do not keep what {needs_ring[0]} asks for; the ring does."
            raise ParameterError(needs_ring[0], message)
        return "statistics"
    if needs_ring:
        return "ring"
    return "statistics" if _is_sampled() or _is_older(scope) else "ring"


def unsupported(cleaned: Mapping[str, Any]) -> list[str]:
    """Name the filters in use that need the ring."""
    return sorted(
        name
        for name, value in cleaned.items()
        if name not in SUPPORTED and value is not None and value != [] and value != ""
    )


def cheapest_source() -> Source:
    """Return what answers fastest of what they both can answer: statistics, if any are kept."""
    return "ring" if statistics.complete_since() is None else "statistics"


def _is_sampled() -> bool:
    """Whether the ring has only a share of the records; the statistics count all."""
    return conf.load().sample < 1 and statistics.complete_since() is not None


def _is_older(scope: Scope) -> bool:
    """Whether the range begins before the ring, and the statistics have counts of that time."""
    since = scope.asked["from"]
    if scope.oldest is not None and (since is None or since >= scope.oldest or scope.oldest_seq == 1):
        return False  # number 1 is in the ring: nothing has been overwritten
    known_since = statistics.complete_since()
    return known_since is not None and (scope.oldest is None or known_since < scope.oldest)


def statistics_filter(scope: Scope) -> statistics_rows.Where:
    return statistics_rows.Where.from_filters(scope.asked)


def time_span(scope: Scope, since: datetime, until: datetime, complete_since: datetime | None) -> TimeSpan:
    """Return the span of an answer from statistics, whose rows begin and end with the minute."""
    begin = since if complete_since is None else max(since, complete_since)
    begin = min(begin, scope.now)
    end = max(begin, min(until, scope.now))
    return TimeSpan(source="statistics", complete_since=complete_since, begin=begin, end=end)
