"""Say which records an answer is about, and since when they are complete."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from django.utils import timezone

from sqllogs import queries
from sqllogs.filters import SQLLogFilter
from sqllogs.queries import Records, Ring
from sqllogs.rows import rfc3339

Source = Literal["ring", "statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a reader has asked for, and what there is of it."""

    records: Records
    """What the filters have chosen; what is stale in the ring is not taken out yet."""
    ring: Ring
    since: datetime | None
    """The filter `from`."""
    until: datetime | None
    """The filter `to`."""
    oldest: datetime | None
    """Time of the oldest record in the ring; before it the answer is not complete."""
    with_text: bool
    now: datetime = field(default_factory=timezone.now)

    @classmethod
    def of(cls, filterset: SQLLogFilter, *, with_text: bool) -> "Scope":
        ring = queries.ring()
        oldest = queries.oldest_record(ring)
        asked = filterset.form.cleaned_data
        return cls(
            records=filterset.qs,
            ring=ring,
            since=asked["from"],
            until=asked["to"],
            oldest=datetime.fromisoformat(oldest["time"]) if oldest else None,
            with_text=with_text,
        )

    @property
    def begin(self) -> datetime:
        """From when on the answer has all there was."""
        known = [time for time in (self.since, self.oldest) if time is not None]
        return min(max(known, default=self.now), self.now)

    @property
    def end(self) -> datetime:
        return self.now if self.until is None else max(self.begin, min(self.until, self.now))

    @property
    def seconds(self) -> float:
        """Length of what the answer is about; it never is nothing, so that rates can be told."""
        return max((self.end - self.begin).total_seconds(), 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that an answer is about, and what it has been made from."""

    source: Source
    """ring: the records themselves; statistics: counts that outlive them."""
    complete_since: str | None
    """Before this time the source knows nothing, or not all; None while it is empty."""
    begin: str
    end: str

    @classmethod
    def of(cls, scope: Scope) -> "Span":
        complete_since = rfc3339(scope.oldest) if scope.oldest else None
        return cls(
            source="ring",
            complete_since=complete_since,
            begin=rfc3339(scope.begin),
            end=rfc3339(scope.end),
        )
