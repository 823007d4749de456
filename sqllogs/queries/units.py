"""Add the ring up by trace: the requests, commands and tasks that sent the records.

The page of traces is chosen by one scan; what else is said of them is read for
the page alone. Runs in the reader's thread.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, Sum

from sqllogs.queries.figures import Records, as_time, fetch
from sqllogs.queries.places import Ring, chunks, holding, live, since

LAST = (
    "time", "duration_ms", "kind", "route", "view", "method", "status", "request_id", "release", "host",
)  # fmt: skip
"""What is read from a trace's last record: status and route are known best there."""


class Unit(NamedTuple):
    """The matching records of one trace, added up."""

    trace_id: str
    queries: int
    errors: int
    total_ms: float
    statements: int
    """Different ones."""
    first_seq: int
    last_seq: int

    @property
    def duplicates(self) -> int:
        return self.queries - self.statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A statement that one line of one unit of work has sent several times."""

    times: int
    fingerprint: str
    call_site: str | None


def of_units(filtered: Records) -> Records:
    """Leave out the records without a trace, which belong to no unit of work."""
    return filtered.filter(trace_id__isnull=False)


def units(filtered: Records, ring: Ring) -> list[Unit]:
    """Add all matching records up by trace."""
    found = (
        live(of_units(filtered), ring)
        .order_by()
        .values("trace_id")
        .annotate(
            queries=Count("*"),
            errors=Count("error"),
            total_ms=Sum("duration_ms"),
            statements=Count("fingerprint", distinct=True),
            # Numbers, not times: these are texts to SQLite, and sorted along.
            first_seq=Min("seq"),
            last_seq=Max("seq"),
        )
        .values_list(*Unit._fields)
    )
    return [Unit._make(row) for row in fetch(found)]


def times(ring: Ring, seqs: Iterable[int]) -> dict[int, datetime]:
    """Return when records were sent, by their numbers; one that has been overwritten is left out."""
    return {seq: as_time(time) for seq, time in by_number(ring, seqs, "time")}


def last_records(ring: Ring, seqs: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Look the last records of traces up by their numbers."""
    return {seq: dict(zip(LAST, values, strict=True)) for seq, *values in by_number(ring, seqs, *LAST)}


def by_number(ring: Ring, seqs: Iterable[int], *columns: str) -> Iterator[tuple[Any, ...]]:
    """Look records up: number and columns of each; what has been overwritten has another number by now."""
    for chosen in holding(ring, seqs):
        yield from fetch(chosen.values_list("seq", *columns))


def worst_repeats(filtered: Records, ring: Ring, units: Sequence[Unit]) -> dict[str, Repeat]:
    """Return, for each of some traces, what was sent most often from one line."""
    worst: dict[str, Repeat] = {}
    first = min((unit.first_seq for unit in units), default=0)
    for chosen in chunks([unit.trace_id for unit in units]):
        found = (
            since(filtered, ring, first)
            .filter(trace_id__in=chosen)
            .order_by()
            .values("trace_id", "unit_id", "fingerprint", "call_site")
            .annotate(times=Count("slot"))
            .filter(times__gt=1)
            .values_list("trace_id", "fingerprint", "call_site", "times")
        )
        for trace_id, fingerprint, call_site, times in fetch(found):
            if trace_id not in worst or times > worst[trace_id].times:
                worst[trace_id] = Repeat(times=times, fingerprint=fingerprint, call_site=call_site)
    return worst
