"""Find what one line of one unit of work has sent again and again: the N+1 suspects.

One scan of the ring; what is left of it is judged by `sqllogs.repeats`. Runs in
the reader's thread.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, Sum

from sqllogs import conf
from sqllogs.queries.figures import Records, as_time, fetch
from sqllogs.queries.groups import newest
from sqllogs.queries.places import Ring, chunks, live
from sqllogs.queries.records import statements
from sqllogs.queries.units import by_number
from sqllogs.repeats import JUDGED, Repetition, Rules
from sqllogs.rows import StatementRow

_KEYS = ("unit_id", "fingerprint", "call_site")
_FIGURES = ("times", "total_ms", "first_seq", "last_seq", "a_group")


class _End(NamedTuple):
    """What is read of the first and the last record of a repetition."""

    time: datetime
    rows: int | None
    sql_length: int
    trace_id: str
    route: str | None
    view: str | None


class Found(NamedTuple):
    """A statement that one line of one unit of work has sent often, and is not meant to."""

    trace_id: str
    fingerprint: str
    call_site: str | None
    times: int
    total_ms: float
    time: datetime
    """Of the last one."""
    route: str | None
    view: str | None
    group: Any


@dataclass(slots=True, kw_only=True)
class Suspect:
    """A statement and a line that belong to an N+1, over all requests."""

    statement: StatementRow
    call_site: str | None
    worst: Found
    requests: int = 0
    calls: int = 0
    total_ms: float = 0.0
    routes: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    last_seen: datetime

    def add(self, found: Found) -> None:
        self.requests += 1
        self.calls += found.times
        self.total_ms += found.total_ms
        if found.route:
            self.routes[found.route] += 1
        if found.view:
            self.views[found.view] += 1
        self.last_seen = max(self.last_seen, found.time)
        if found.times > self.worst.times:
            self.worst = found


def suspects(filtered: Records, ring: Ring) -> list[Suspect]:
    """Return the suspects among all matching records, in no particular order."""
    texts, found = _found(live(filtered, ring), ring, "fingerprint")
    made: dict[tuple[str, str | None], Suspect] = {}
    for one in found:
        key = (one.fingerprint, one.call_site)
        if key not in made:
            text = texts[one.fingerprint]
            made[key] = Suspect(statement=text, call_site=one.call_site, worst=one, last_seen=one.time)
        made[key].add(one)
    return list(made.values())


def worst_by_group(filtered: Records, ring: Ring, column: str) -> dict[Any, int]:
    """Return how often, lately and at worst, one line of one unit of work has sent a group's statement."""
    worst: dict[Any, int] = {}
    for one in _found(newest(filtered, ring), ring, column)[1]:
        worst[one.group] = max(worst.get(one.group, 0), one.times)
    return worst


def tables_of(filtered: Records, ring: Ring, trace_ids: Iterable[str]) -> dict[str, set[str]]:
    """Return what tables each of some traces has asked."""
    seen: dict[str, set[str]] = {}
    for chosen in chunks(list(trace_ids)):
        pairs = live(filtered, ring).filter(trace_id__in=chosen).order_by()
        found = list(fetch(pairs.values_list("trace_id", "fingerprint").distinct()))
        texts = statements({fingerprint for _, fingerprint in found})
        for trace_id, fingerprint in found:
            if fingerprint in texts:
                seen.setdefault(trace_id, set()).update(texts[fingerprint].tables.split(","))
    return seen


def _found(records: Records, ring: Ring, group: str) -> tuple[dict[str, StatementRow], list[Found]]:
    settings = conf.load()
    rows = list(fetch(_repeated(records, group, settings.n_plus_one_threshold)))
    texts = statements({row[1] for row in rows})
    ends = _ends(ring, {seq for row in rows for seq in row[5:7]})
    rules = Rules(settings)
    found = []
    for _, fingerprint, call_site, times, total_ms, first_seq, last_seq, value in rows:
        statement, first, last = texts.get(fingerprint), ends.get(first_seq), ends.get(last_seq)
        # Of a statement without a text, or one that is just being overwritten, nobody can say what is meant.
        if statement is None or first is None or last is None:
            continue
        if rules.is_suspect(statement, call_site, Repetition(times=times, first=first, last=last)):
            repeated = (fingerprint, call_site, times, total_ms)
            found.append(Found(last.trace_id, *repeated, last.time, last.route, last.view, value))
    return texts, found


def _ends(ring: Ring, seqs: Collection[int]) -> dict[int, _End]:
    """Look records up by their numbers."""
    found = by_number(ring, seqs, *_End._fields)
    return {seq: _End(as_time(time), *rest) for seq, time, *rest in found}


def _repeated(records: Records, group: str, threshold: int) -> Any:
    keys = dict.fromkeys((*_KEYS, group))
    return (
        records.filter(unit_id__isnull=False, **JUDGED)
        .order_by()
        .values(*keys)
        .annotate(
            times=Count("*"),
            total_ms=Sum("duration_ms"),
            first_seq=Min("seq"),
            last_seq=Max("seq"),
            a_group=Max(group),
        )
        .filter(times__gte=threshold)
        .values_list(*_KEYS, *_FIGURES)
    )
