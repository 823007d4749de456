"""Search statistics and ring for evidence of problems: regressions, repetitions, shapes, failures.

One process at a time does it, see `take_turn`; in a thread that `sqllogs.findings.schedule` starts, or in
that of `manage.py sqllogs findings --detect`. Reads with `sqllogs.read`, feeds `sqllogs.findings.causes`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from math import exp
from typing import Any, NamedTuple

from django.db.models import Q

from sqllogs.findings import regressions
from sqllogs.findings.causes import Evidence, close_quiet, merge
from sqllogs.findings.patterns import find_idle_transactions, find_patterns
from sqllogs.findings.regressions import HISTORY, HOURS, RECENT, Level, Ratio
from sqllogs.models import LIVE, DetectionTurn, Finding, RollUp, Statement
from sqllogs.read.ring import chunks, ring
from sqllogs.read.statistics_rows import StatisticsSums, Where, rows
from sqllogs.statistics import histogram
from sqllogs.statistics.resolution import HOUR_S, ResolutionSpan, floor_to

CANDIDATES_MAX = 300
"""Statements that are compared with four weeks in one search; the others at the next hours."""
DAYS = range(1, 8)
"""Days back that rows and errors are compared with."""


def take_turn(now: datetime, interval_s: int) -> DetectionTurn | None:
    """Return the turn if no process has searched within the interval."""
    now_s = int(now.timestamp())
    turn, is_new = DetectionTurn.objects.get_or_create(id=1, defaults={"taken_at": now_s})
    # A process whose clock is ahead must not hold the turn for long.
    due = Q(taken_at__lte=now_s - interval_s) | Q(taken_at__gt=now_s + interval_s)
    is_mine = is_new or DetectionTurn.objects.filter(due, id=1).update(taken_at=now_s)
    return turn if is_mine else None


def detect(turn: DetectionTurn, now: datetime) -> list[Finding]:
    """Search what is new since the last turn; return the findings that are new or reopened.

    Raise database errors.
    """
    until_s = floor_to(_rolled_up_s(), HOUR_S)
    snapshot = ring()
    evidence: list[Evidence] = []
    if until_s > turn.hours_until_s:
        evidence += Regressions(until_s).evidence()
    since = datetime.fromtimestamp(turn.taken_at if turn.seq else 0, UTC)
    evidence += find_idle_transactions(since)
    if snapshot.seq > turn.seq:
        evidence += find_patterns(turn.seq, snapshot)
    DetectionTurn.objects.filter(id=1).update(hours_until_s=until_s, seq=snapshot.seq)
    changed = merge(evidence, now)
    close_quiet(now)
    return changed


def _rolled_up_s() -> int:
    return RollUp.objects.filter(id=1).values_list("until_s", flat=True).first() or 0


class HourSums(NamedTuple):
    """All calls of one statement in one hour."""

    calls: int
    errors: int
    rows: int
    total_us: int
    max_us: int
    durations: bytes

    @property
    def level(self) -> Level | None:
        durations: dict[int, int] = {}
        histogram.add(durations, bytes(self.durations))
        return regressions.level_of(durations)


Hourly = dict[str, dict[int, HourSums]]
"""By fingerprint and begin of the hour."""


def hourly(spans: Iterable[tuple[int, int]], fingerprints: tuple[str, ...] = ()) -> Hourly:
    """Read the hours of some spans, of all statements or some."""
    found: Hourly = defaultdict(dict)
    for since_s, until_s in spans:
        span = ResolutionSpan(HOUR_S, since_s, until_s)
        for (fingerprint, time_s), sums in rows(
            Where(fingerprint=fingerprints), [span], "key__fingerprint", "time"
        ):
            found[fingerprint][time_s] = _hour(sums)
    return found


def _hour(sums: StatisticsSums) -> HourSums:
    return HourSums(
        int(sums.calls), int(sums.errors), int(sums.rows), int(sums.total_us), sums.max_us, sums.durations
    )


class Regressions:
    """What has changed in the last hours before `until_s`, compared with the weeks before."""

    def __init__(self, until_s: int) -> None:
        self._until_s = until_s
        self._since_s = until_s - HOURS * HOUR_S
        self._seen_at = datetime.fromtimestamp(until_s, UTC)

    def evidence(self) -> Iterator[Evidence]:
        backs = sorted({back * HOUR_S for back in RECENT} | {24 * day * HOUR_S for day in DAYS})
        spans = [(self._since_s - back, self._until_s - back) for back in (0, *backs)]
        found = hourly(spans)
        shifts = {fingerprint: self._first_look(hours, self._until_s) for fingerprint, hours in found.items()}
        shared = regressions.shared_shift([shift for shift in shifts.values() if shift is not None])
        if shared:
            yield self._all_slower(found, shared)
        yield from self._slower(found, shifts, shared)
        yield from self._still_slower(found, shared)
        yield from self._new(found)
        for fingerprint, hours in found.items():
            yield from self._per_call(fingerprint, hours)

    def _first_look(self, hours: dict[int, HourSums], until_s: int) -> float | None:
        window = self._levels(hours, self._since_s, self._until_s)
        if sum(level.calls for level in window if level is not None) < regressions.CALLS_MIN:
            return None
        moved = until_s - self._until_s
        earlier = [
            self._levels(hours, self._since_s + moved - back * HOUR_S, until_s - back * HOUR_S)
            for back in RECENT
        ]
        return regressions.looks_slower(window, earlier)

    @staticmethod
    def _levels(hours: dict[int, HourSums], since_s: int, until_s: int) -> list[Level | None]:
        return [
            hour.level if (hour := hours.get(time_s)) else None for time_s in range(since_s, until_s, HOUR_S)
        ]

    def _slower(self, found: Hourly, shifts: dict[str, float | None], shared: float) -> Iterator[Evidence]:
        limit = regressions.FIRST_LOOK + shared
        candidates = sorted(
            (fingerprint for fingerprint, shift in shifts.items() if shift is not None and shift >= limit),
            key=lambda fingerprint: -sum(hour.total_us for hour in found[fingerprint].values()),
        )[:CANDIDATES_MAX]
        begin_s = self._until_s - (HISTORY + HOURS) * HOUR_S
        for chosen in chunks(candidates):
            for fingerprint, hours in hourly([(begin_s, self._until_s)], tuple(chosen)).items():
                change = regressions.slowdown(self._levels(hours, begin_s, self._until_s), shared)
                if change is not None:
                    yield self._slowdown(fingerprint, hours, change)

    def _slowdown(
        self, fingerprint: str, hours: dict[int, HourSums], change: regressions.Slowdown
    ) -> Evidence:
        since_s = self._until_s - change.hours * HOUR_S
        figures = {
            "times": round(change.times, 2), "z": round(change.z, 1), "hours": change.hours,
            **self._before_and_after(hours, since_s),
        }  # fmt: skip
        return self._evidence("slower", fingerprint, figures, since_s)

    def _before_and_after(self, hours: dict[int, HourSums], since_s: int) -> dict[str, Any]:
        """Return the figures of the same hours of the week before, and of those since."""
        week = {
            time_s - day * 24 * HOUR_S
            for time_s in range(since_s, self._until_s, HOUR_S)
            for day in range(1, 8)
        }
        after = [hour for time_s, hour in hours.items() if time_s >= since_s]
        before = [hour for time_s, hour in hours.items() if time_s in week]
        return {**_figures("before", before), **_figures("after", after)}

    def _still_slower(self, found: Hourly, shared: float) -> Iterator[Evidence]:
        """Yield evidence of open findings: they are compared with the days before they began.

        Otherwise a slowdown would become the usual after a while.
        """
        live = Finding.objects.filter(kind__in=("slower", "all_slower"), state__in=[*LIVE, "ignored"])
        for finding in live.exclude(fingerprint=None):
            fingerprint = finding.fingerprint or ""
            start_s = floor_to(int(finding.started_at.timestamp()), HOUR_S)
            days = -(-(self._until_s - start_s) // (24 * HOUR_S))
            backs = [(days + more) * 24 * HOUR_S for more in range(4)]
            spans = [(self._since_s - back, self._until_s - back) for back in backs]
            hours = hourly([*spans, (self._since_s, self._until_s)], (fingerprint,)).get(fingerprint, {})
            window = self._levels(hours, self._since_s, self._until_s)
            shift = regressions.looks_slower(window, [self._levels(hours, *span) for span in spans])
            if shift - shared >= regressions.FIRST_LOOK:
                figures = {**finding.evidence, "times_now": round(exp(shift - shared), 2)}
                yield self._evidence("slower", fingerprint, figures, start_s)

    def _all_slower(self, found: Hourly, shared: float) -> Evidence:
        figures = {"times": round(exp(shared), 2), "statements": len(found)}
        return self._evidence("all_slower", None, figures, self._since_s)

    def _new(self, found: Hourly) -> Iterator[Evidence]:
        """Yield statements first seen in the window that take much of its load; not in the first week."""
        recent = [
            (fingerprint, [hour for time_s, hour in hours.items() if time_s >= self._since_s])
            for fingerprint, hours in found.items()
        ]
        all_ms = sum(hour.total_us for _, hours in recent for hour in hours) / 1000
        is_known = any(time_s < self._since_s for hours in found.values() for time_s in hours)
        since = datetime.fromtimestamp(self._since_s, UTC)
        for fingerprint, hours in recent if is_known else ():
            total_ms = sum(hour.total_us for hour in hours) / 1000
            if not regressions.is_expensive(total_ms, all_ms) or len(hours) < len(found[fingerprint]):
                continue
            text = Statement.objects.filter(fingerprint=fingerprint, first_seen__gte=since).first()
            if text is not None:
                figures = {"load_percent": round(100 * total_ms / all_ms, 1), **_figures("after", hours)}
                yield self._evidence("new", fingerprint, figures, int(text.first_seen.timestamp()))

    def _per_call(self, fingerprint: str, hours: dict[int, HourSums]) -> Iterator[Evidence]:
        """Yield more rows per call, and more errors, than in the same hours of the week before."""
        now = [hour for time_s, hour in hours.items() if time_s >= self._since_s]
        calls, errors = sum(hour.calls for hour in now), sum(hour.errors for hour in now)
        if calls < regressions.CALLS_MIN:
            return
        days = []
        for day in DAYS:
            back = day * 24 * HOUR_S
            days.append(
                [hour for time_s, hour in hours.items() if self._since_s <= time_s + back < self._until_s]
            )
        ratios = [Ratio(sum(h.rows for h in day), sum(h.calls for h in day)) for day in days]
        more = regressions.times_more(Ratio(sum(hour.rows for hour in now), calls), ratios)
        if more is not None:
            figures = {"times": round(more, 1), "rows_per_call": round(sum(h.rows for h in now) / calls, 1)}
            yield self._evidence("more_rows", fingerprint, figures | {"calls": calls}, self._since_s)
        usual = list(chain.from_iterable(days))
        usual_calls, usual_errors = sum(h.calls for h in usual), sum(h.errors for h in usual)
        if regressions.more_errors(calls, errors, usual_calls, usual_errors):
            figures = {
                "errors": errors,
                "calls": calls,
                "errors_before": usual_errors,
                "calls_before": usual_calls,
            }
            yield self._evidence("more_errors", fingerprint, figures, self._since_s)

    def _evidence(
        self, kind: str, fingerprint: str | None, figures: dict[str, Any], started_s: int
    ) -> Evidence:
        return Evidence(
            kind=kind,
            fingerprint=fingerprint,
            figures=figures,
            started_at=datetime.fromtimestamp(started_s, UTC),
            seen_at=self._seen_at,
        )


def _figures(name: str, hours: list[HourSums]) -> dict[str, float]:
    """Return calls, mean and p95 of some hours."""
    calls = sum(hour.calls for hour in hours)
    if not calls:
        return {}
    by_range = histogram.calls_by_range(b"".join(bytes(hour.durations) for hour in hours))
    (p95_us,) = histogram.percentiles_us(by_range, (0.95,), max(hour.max_us for hour in hours))
    mean_ms = sum(hour.total_us for hour in hours) / calls / 1000
    return {
        f"calls_{name}": calls,
        f"mean_ms_{name}": round(mean_ms, 3),
        f"p95_ms_{name}": round(p95_us / 1000, 3),
    }
