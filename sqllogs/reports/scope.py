"""Say which records an answer is about, what it is made from, and since when that is complete."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.utils import timezone

from sqllogs import queries
from sqllogs.filters import SQLLogFilter
from sqllogs.queries import Records, Ring
from sqllogs.rows import rfc3339

Source = Literal["ring", "statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a reader has asked for, and what there is of it in the ring."""

    records: Records
    """What the filters have chosen; what is stale in the ring is not taken out yet."""
    asked: Mapping[str, Any]
    """The filters' values."""
    ring: Ring
    oldest_seq: int | None
    oldest: datetime | None
    """Number and time of the oldest record in the ring; before it the ring is not complete."""
    version: str
    """Of what has been written, see `sqllogs.queries.version`."""
    with_text: bool
    now: datetime

    @classmethod
    def of(cls, filterset: SQLLogFilter, *, version: str, with_text: bool) -> "Scope":
        ring = queries.ring()
        oldest = queries.oldest_record(ring)
        return cls(
            records=filterset.qs,
            asked=filterset.form.cleaned_data,
            ring=ring,
            oldest_seq=oldest["id"] if oldest else None,
            oldest=datetime.fromisoformat(oldest["time"]) if oldest else None,
            version=version,
            with_text=with_text,
            now=timezone.now(),
        )

    @property
    def begin(self) -> datetime:
        """When the ring begins: about then was what has been overwritten while an answer is made."""
        return self.oldest or self.now

    @property
    def span(self) -> "Span":
        """The span of an answer from the ring."""
        since, until = self.asked["from"], self.asked["to"]
        known = [time for time in (since, self.oldest) if time is not None]
        begin = min(max(known, default=self.now), self.now)
        end = self.now if until is None else max(begin, min(until, self.now))
        return Span(source="ring", complete_since=self.oldest, begin=begin, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that an answer is about: that part of the range asked for of which something is known."""

    source: Source
    complete_since: datetime | None
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Never nothing, so that rates can be told."""
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


def head(span: Span) -> dict[str, Any]:
    """Return the fields of an `Answer`."""
    return {
        "source": span.source,
        "complete_since": rfc3339(span.complete_since) if span.complete_since else None,
        "begin": rfc3339(span.begin),
        "end": rfc3339(span.end),
    }
