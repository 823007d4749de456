"""Search statistics and ring for evidence of problems: regressions, repetitions, failures and others.

Runs in one process at a time, see `take_turn`: in a thread started by `sqllogs.findings.schedule`, or in the
main thread of `manage.py sqllogs findings --detect`. Reads with `sqllogs.read`, and passes evidence to
`sqllogs.findings.causes`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import exp
from statistics import median
from typing import Any, NamedTuple

from django.db import router, transaction
from django.db.models import Max, Q, Sum
from django.utils.timezone import get_default_timezone

from sqllogs import conf, guard
from sqllogs.errors import PlanError
from sqllogs.findings import Rule, regressions, rules_of_settings
from sqllogs.findings.causes import Evidence, close_quiet, covering, find_stale, merge
from sqllogs.findings.patterns import count_queries_by_rule, find_patterns
from sqllogs.findings.regressions import HISTORY, HOURS, RECENT, Ratio
from sqllogs.findings.transactions import find_in_units
from sqllogs.models import (
    EPOCH,
    LIVE,
    MICROSECOND,
    DetectionTurn,
    Finding,
    RingRow,
    RollUp,
    SQLLog,
    Statement,
    Statistic,
)
from sqllogs.pipeline.transactions import ends as transaction_ends
from sqllogs.read.aggregates import columns_by_seq, fetch
from sqllogs.read.explain import explain
from sqllogs.read.plans import advise, store_plan
from sqllogs.read.records import GAP_TIMEOUT_S
from sqllogs.read.ring import RingSnapshot, between, chunks, in_ring, ring
from sqllogs.read.statistics_rows import StatisticsSums, Where, call_sums, rows, totals_us
from sqllogs.statistics import counting, histogram
from sqllogs.statistics.resolution import DAY_S, HOUR_S, ResolutionSpan, floor_to
from sqllogs.storage.database import only_row
from sqllogs.storage.events import current_service

CANDIDATES_MAX = 300
"""Maximum statements that one search compares with four weeks; the others follow in the next hours."""
PLANS_MAX = 5
"""Maximum statements that a search explains: each needs a connection to the application's database."""
EXPENSIVE_SHARE = 0.1
EXPENSIVE_MS = 10_000.0
"""A new statement is a finding if it takes this share of the load and, in all of the window, this long."""
DAYS = range(1, 8)
"""The window is compared with the same hours this many days before."""


def take_turn(now: datetime, interval_s: int) -> DetectionTurn | None:
    """Return the turn if no process has searched within the interval."""
    now_s = int(now.timestamp())
    turn = only_row(DetectionTurn.objects.all(), taken_at=0)
    # A turn in the future is ignored, because it is of a process whose clock was ahead.
    due = Q(taken_at__lte=now_s - interval_s) | Q(taken_at__gt=now_s + interval_s)
    # If several processes try at once, the condition is true for only one of them.
    return turn if DetectionTurn.objects.filter(due, id=1).update(taken_at=now_s) else None


def detect(turn: DetectionTurn, now: datetime) -> list[Finding]:
    """Search what is new since the last turn; return the findings that are new or reopened.

    Raise database errors.
    """
    now_s = int(now.timestamp())
    # Only complete hours, because minutes are rolled up two minutes after they end. A host whose clock is
    # ahead rolls up future hours, which cannot be judged yet.
    until_s = floor_to(min(_rolled_up_s(), now_s), HOUR_S)
    snapshot = before_gap(ring(), turn.seq, now)
    evidence: list[Evidence] = []
    # If a host whose clock was ahead has judged future hours, the last complete ones are judged again.
    if not until_s <= turn.hours_until_s <= now_s:
        found = with_lines(list(Regressions(until_s).evidence()), snapshot)
        evidence += with_plans(found) if conf.load().findings_explain else found
    evidence += find_in_units(min(turn.searched_at or EPOCH, now), turn.seq, snapshot)
    rules = rules_of_settings(conf.load().ignore_findings)
    used: Counter[Rule] = Counter()
    if snapshot.seq > turn.seq:
        evidence += find_patterns(turn.seq, snapshot)
        used = count_queries_by_rule(turn.seq, snapshot, rules)
    evidence = [replace(one, ignored=one.ignored or covering(rules, one)) for one in evidence]
    searched = {"hours_until_s": until_s, "seq": snapshot.seq, "searched_at": now}
    with transaction.atomic(using=router.db_for_write(Finding)):
        # Of several processes that have searched the same records, only the first one stores what it found.
        # Two may search if `at_once` is set, or if a process was suspended and continues later.
        if not DetectionTurn.objects.filter(id=1, searched_at=turn.searched_at).update(**searched):
            return []
        evidence += find_stale(used, {one.ignored for one in evidence}, now)
        changed = merge(evidence, now)
    close_quiet(now)
    return changed


def before_gap(snapshot: RingSnapshot, after: int, now: datetime) -> RingSnapshot:
    """End a snapshot before the first number that another process has reserved and not written yet.

    The next search has these records. A killed process never writes them, which shows by the age of the next.
    """
    first = max(after + 1, snapshot.oldest)
    rows = between(RingRow.objects.order_by("seq"), snapshot, first, snapshot.seq)
    if rows.count() == snapshot.seq - first + 1:
        return snapshot
    recent = timedelta(seconds=GAP_TIMEOUT_S)
    last = first - 1
    for seq, time_us in fetch(rows.values_list("seq", "time")):
        if seq > last + 1 and abs(now - EPOCH - time_us * MICROSECOND) < recent:
            break
        last = seq
    return replace(snapshot, seq=last)


class _Line(NamedTuple):
    """All records of a statement from one line of code."""

    total_ms: float
    last_seq: int
    call_site: str | None


def with_lines(found: list[Evidence], snapshot: RingSnapshot) -> list[Evidence]:
    """Add the line that takes most of a statement's time, and a trace, which statistics do not have."""
    lines: dict[str, _Line] = {}
    for chosen in chunks(sorted({one.fingerprint for one in found if one.fingerprint})):
        records = in_ring(SQLLog.objects.filter(fingerprint__in=chosen), snapshot).order_by()
        sums = records.values("fingerprint", "call_site").annotate(total=Sum("duration_ms"), last=Max("seq"))
        for fingerprint, *values in fetch(sums.values_list("fingerprint", "total", "last", "call_site")):
            line = _Line(*values)
            lines[fingerprint] = max(line, lines.get(fingerprint, line), key=lambda one: one.total_ms)
    traces = dict(columns_by_seq(snapshot, [line.last_seq for line in lines.values()], "trace_id"))
    completed = []
    for one in found:
        known = lines.get(one.fingerprint or "")
        if known is None:
            completed.append(one)
            continue
        figures = {**one.figures, "trace_id": traces.get(known.last_seq)}
        completed.append(replace(one, example=known.call_site, figures=figures))
    return completed


def with_plans(found: list[Evidence]) -> list[Evidence]:
    """Explain at most PLANS_MAX statements that are slower or new, and add the index that they lack."""
    explained: dict[str, dict[str, Any]] = {}
    for one in found:
        if one.kind in ("slower", "new") and one.fingerprint and len(explained) < PLANS_MAX:
            explained.setdefault(one.fingerprint, _plan_figures(one.fingerprint))
    return [
        replace(one, figures=_without_plan(one.figures) | explained[one.fingerprint])
        if one.fingerprint in explained
        else one
        for one in found
    ]


def _without_plan(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the advice from the plan of an earlier search, because the index may exist by now."""
    return {name: value for name, value in figures.items() if name not in ("plan", "advice")}


def _plan_figures(fingerprint: str) -> dict[str, Any]:
    newest = SQLLog.objects.filter(fingerprint=fingerprint).order_by("-seq")
    service = newest.values_list("service", flat=True).first()
    if (service or "") != current_service(conf.load()):
        return {}  # another project's database may have the same alias
    try:
        plan = advise(explain(fingerprint))
    except PlanError:  # a change of data, or values that the plan needs
        return {}
    except Exception as exc:  # a driver's own; the search must not end with it each time
        guard.fault("findings plan", exc)
        return {}
    stored = store_plan(plan)
    found = {"plan": stored and stored.pk, "advice": plan.advice}
    return {name: value for name, value in found.items() if value is not None}


def _rolled_up_s() -> int:
    return RollUp.objects.filter(id=1).values_list("until_s", flat=True).first() or 0


def hour_of_week(time_s: int) -> int:
    """Return the hours since midnight between Sunday and Monday, in TIME_ZONE as the site's users live."""
    local = datetime.fromtimestamp(time_s, get_default_timezone())
    return local.weekday() * 24 + local.hour


class HourSums(NamedTuple):
    """All calls of one statement in one hour."""

    calls: int
    errors: int
    rows: int
    total_us: int
    max_us: int
    durations: bytes

    @property
    def level(self) -> histogram.Level | None:
        durations: dict[int, int] = {}
        histogram.add(durations, bytes(self.durations))
        return histogram.level_of(durations)


Hourly = dict[str, dict[int, HourSums]]
"""By fingerprint and begin of the hour."""


def hourly(spans: Iterable[tuple[int, int]], fingerprints: tuple[str, ...] = ()) -> Hourly:
    """Read the hours of some spans, of these statements or, without any, of all."""
    found: Hourly = defaultdict(dict)
    for since_s, until_s in spans:
        span = ResolutionSpan(HOUR_S, since_s, until_s)
        for (fingerprint, time_s), sums in rows(
            Where(fingerprint=fingerprints), [span], "key__fingerprint", "time"
        ):
            found[fingerprint][time_s] = _hour(sums)
    return found


def _hour(sums: StatisticsSums) -> HourSums:
    # int(), because PostgreSQL and MySQL return some sums as Decimal.
    return HourSums(
        int(sums.calls), int(sums.errors), int(sums.rows), int(sums.total_us), sums.max_us, sums.durations
    )


def _within(hours: Mapping[int, HourSums], span: tuple[int, int]) -> list[HourSums]:
    since_s, until_s = span
    return [hour for time_s, hour in hours.items() if since_s <= time_s < until_s]


def _levels(hours: Mapping[int, HourSums], span: tuple[int, int]) -> list[histogram.Level | None]:
    return [hour.level if (hour := hours.get(time_s)) else None for time_s in range(*span, HOUR_S)]


WORK = ("key__route", "key__view", "key__kind")
"""Columns that units of work and their statements share; commands have a view but no route."""


def _calls_by(where: Where, span: tuple[int, int], *columns: str) -> dict[tuple[Any, ...], int]:
    """Return the number of calls, or of units of work, by columns."""
    return {
        key: sums.calls
        for key, sums in call_sums(where, ResolutionSpan(HOUR_S, *span), *columns)
        # The key for everything beyond STATISTICS_KEYS_MAX mixes statements.
        if counting.OTHER_KEY.fingerprint not in key
    }


def _work_times_us(where: Where, span: tuple[int, int]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yield the columns of WORK and the time of all their statements."""
    for *work, time_us in totals_us(where, [ResolutionSpan(HOUR_S, *span)], *WORK):
        yield tuple(work), time_us


class Regressions:
    """Compare the last hours before `until_s` with the weeks before them."""

    def __init__(self, until_s: int) -> None:
        self._until_s = until_s
        self._since_s = until_s - HOURS * HOUR_S
        self.seen_at = datetime.fromtimestamp(until_s, UTC)

    def evidence(self) -> Iterator[Evidence]:
        """Yield evidence of all kinds that statistics show; raise database errors."""
        # Only the window and DAYS, which include RECENT, are read of all statements; four weeks are read of
        # those that look slower.
        found = hourly([self._window(), *self._windows_before()])
        shifts = {fingerprint: self._first_look(hours) for fingerprint, hours in found.items()}
        shared = regressions.shared_shift([shift for shift in shifts.values() if shift is not None])
        if shared:
            yield self._all_slower(len(found), shared)
        yield from self._slower(found, shifts, shared)
        yield from self._still_slower(shared)
        yield from self._new(found)
        for fingerprint, hours in found.items():
            yield from self._per_call(fingerprint, hours)
        yield from self._more_calls()

    def _window(self, back_s: int = 0) -> tuple[int, int]:
        """Return begin and end of the hours that are judged, or of as many hours some time before."""
        return self._since_s - back_s, self._until_s - back_s

    def _windows_before(self) -> list[tuple[int, int]]:
        return [self._window(day * DAY_S) for day in DAYS]

    def _first_look(self, hours: dict[int, HourSums]) -> float | None:
        """Return how much slower a statement looks, as a logarithm; None with too few calls to judge."""
        window = _levels(hours, self._window())
        if sum(level.calls for level in window if level is not None) < regressions.CALLS_MIN:
            return None
        return regressions.looks_slower(
            window, [_levels(hours, self._window(back * HOUR_S)) for back in RECENT]
        )

    def _slower(self, found: Hourly, shifts: dict[str, float | None], shared: float) -> Iterator[Evidence]:
        limit = regressions.FIRST_LOOK + shared
        slower = (one for one, shift in shifts.items() if shift is not None and shift >= limit)
        # Not COMMIT: its duration depends on which transactions are frequent at the time.
        candidates = sorted(
            (one for one in slower if one not in transaction_ends()),
            key=lambda fingerprint: -sum(hour.total_us for hour in found[fingerprint].values()),
        )[:CANDIDATES_MAX]
        weeks = self._since_s - HISTORY * HOUR_S, self._until_s
        for chosen in chunks(candidates):
            for fingerprint, hours in hourly([weeks], tuple(chosen)).items():
                levels = _levels(hours, weeks)
                change = regressions.slowdown(levels, shared, end=hour_of_week(self._until_s))
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
        """Return the figures of the same hours of the week before, and of the window."""
        after = _within(hours, (since_s, self._until_s))
        before = [
            hour
            for day in DAYS
            for hour in _within(hours, (since_s - day * DAY_S, self._until_s - day * DAY_S))
        ]
        return {**_figures("before", before), **_figures("after", after)}

    def _still_slower(self, shared: float) -> Iterator[Evidence]:
        """Yield evidence of open findings: they are compared with the days before they began.

        Otherwise a slowdown would count as usual after a while.
        """
        live = Finding.objects.filter(kind__in=("slower", "all_slower"), state__in=[*LIVE, "ignored"])
        # Those of a COMMIT are left to close, see `_slower`.
        for finding in live.exclude(fingerprint=None).exclude(fingerprint__in=transaction_ends()):
            fingerprint = finding.fingerprint or ""
            start_s = floor_to(int(finding.started_at.timestamp()), HOUR_S)
            # Rounded up, so that all windows end before the problem began.
            days = -(-(self._until_s - start_s) // DAY_S)
            before = [self._window((days + more) * DAY_S) for more in range(4)]
            hours = hourly([*before, self._window()], (fingerprint,)).get(fingerprint, {})
            shift = regressions.looks_slower(
                _levels(hours, self._window()), [_levels(hours, span) for span in before]
            )
            if shift - shared >= regressions.FIRST_LOOK:
                figures = {**finding.evidence, "times_now": round(exp(shift - shared), 2)}
                yield self._evidence("slower", fingerprint, figures, start_s)

    def _all_slower(self, statements: int, shared: float) -> Evidence:
        figures = {"times": round(exp(shared), 2), "statements": statements}
        return self._evidence("all_slower", None, figures, self._since_s)

    def _new(self, found: Hourly) -> Iterator[Evidence]:
        """Yield statements first seen in the window that take much of its load.

        Statements that replace others are not new load, as when a release changes the text of a statement.
        """
        # In a new log all statements are new.
        if not any(time_s < self._since_s for hours in found.values() for time_s in hours):
            return
        recent = {fingerprint: _within(hours, self._window()) for fingerprint, hours in found.items()}
        all_ms = sum(hour.total_us for hours in recent.values() for hour in hours) / 1000
        since = datetime.fromtimestamp(self._since_s, UTC)
        for fingerprint, hours in recent.items():
            total_ms = sum(hour.total_us for hour in hours) / 1000
            if not is_expensive(total_ms, all_ms):
                continue
            statement = Statement.objects.filter(fingerprint=fingerprint, first_seen__gte=since).first()
            if statement is not None and not self._was_seen(fingerprint) and not self._replaces(fingerprint):
                figures = {"load_percent": round(100 * total_ms / all_ms, 1), **_figures("after", hours)}
                yield self._evidence("new", fingerprint, figures, int(statement.first_seen.timestamp()))

    def _was_seen(self, fingerprint: str) -> bool:
        """Return True if there are earlier calls: the text may have been evicted and stored again."""
        day_s = floor_to(self._since_s, DAY_S)
        earlier = Q(resolution_s=HOUR_S, time__lt=self._since_s) | Q(resolution_s=DAY_S, time__lt=day_s)
        return Statistic.objects.filter(earlier, key__fingerprint=fingerprint).exists()

    def _replaces(self, fingerprint: str) -> bool:
        """Return whether other statements of the same work take so much less that it is no new load.

        At least half of the time of the statement must have been theirs, per unit of work.
        """
        own = dict(_work_times_us(Where(fingerprint=(fingerprint,)), self._window()))
        now = self._load(own.keys(), self._window())
        days = [self._load(own.keys(), span) for span in self._windows_before()]
        earlier = [day.each for day in days if day.calls >= regressions.RATIO_CALLS_MIN]
        if not now.calls or not earlier:
            return False
        added_us = now.each - median(earlier)
        return added_us <= 0.5 * sum(own.values()) / now.calls

    def _load(self, works: Collection[tuple[Any, ...]], span: tuple[int, int]) -> Ratio:
        """Return the time in microseconds of all statements of some work, and the number of its units."""
        units = _calls_by(Where(of_units=True), span, *WORK)
        total_us = sum(time_us for work, time_us in _work_times_us(Where(), span) if work in works)
        return Ratio(total_us, sum(units.get(work, 0) for work in works))

    def _per_call(self, fingerprint: str, hours: dict[int, HourSums]) -> Iterator[Evidence]:
        """Yield more rows per call, and more errors, than in the same hours of the week before."""
        now = _within(hours, self._window())
        if sum(hour.calls for hour in now) < regressions.CALLS_MIN:
            return
        days = [_within(hours, span) for span in self._windows_before()]
        for found in (self._more_rows(fingerprint, hours, days), self._more_errors(fingerprint, hours, days)):
            if found is not None:
                yield found

    def _more_rows(
        self, fingerprint: str, hours: dict[int, HourSums], days: list[list[HourSums]]
    ) -> Evidence | None:
        now = _rows_per_call(_within(hours, self._window()))
        usual = regressions.usual_of_grown(now, map(_rows_per_call, days))
        if usual is None:
            return None
        hourly_rows = {
            time_s: Ratio(hour.rows, hour.calls)
            for time_s, hour in hours.items()
            if time_s >= self._since_s and hour.calls >= regressions.RATIO_CALLS_MIN
        }
        began_s = regressions.grown_since(hourly_rows, usual)
        if began_s is None:
            return None
        figures = {
            "times": _growth(now.each, usual), "rows_per_call": round(now.each, 1), "calls": now.calls,
        }  # fmt: skip
        return self._evidence("more_rows", fingerprint, figures, began_s)

    def _more_errors(
        self, fingerprint: str, hours: dict[int, HourSums], days: list[list[HourSums]]
    ) -> Evidence | None:
        now, before = _error_rate(_within(hours, self._window())), [_error_rate(day) for day in days]
        if not regressions.more_errors(now, before):
            return None
        figures = {
            "errors": int(now.total),
            "calls": now.calls,
            "errors_before": int(sum(day.total for day in before)),
            "calls_before": sum(day.calls for day in before),
        }
        began_s = min(time_s for time_s, hour in hours.items() if time_s >= self._since_s and hour.errors)
        return self._evidence("more_errors", fingerprint, figures, began_s)

    def _more_calls(self) -> Iterator[Evidence]:
        """Yield statements of which one request, command or task sends more than in the week before."""
        spans = [self._window(), *self._windows_before()]
        units = [_calls_by(Where(of_units=True), span, *WORK) for span in spans]
        calls = [_calls_by(Where(), span, *WORK, "key__fingerprint") for span in spans]
        for *work, fingerprint in calls[0]:
            now, *before = (
                Ratio(sent.get((*work, fingerprint), 0), done.get(tuple(work), 0))
                for sent, done in zip(calls, units, strict=True)
            )
            usual = regressions.usual_of_grown(now, before)
            if usual is None or (began_s := self._grown_since(fingerprint, tuple(work), usual)) is None:
                continue
            figures = {
                "times": _growth(now.each, usual), "calls_per_unit": round(now.each, 1),
                "calls": int(now.total), "units": now.calls,
            }  # fmt: skip
            route, view, _ = work
            yield self._evidence("more_calls", fingerprint, figures, began_s, route or view)

    def _grown_since(self, fingerprint: str, work: tuple[Any, ...], usual: float) -> int | None:
        """Return the hour since which each unit of work sends more calls, if it is known."""
        span = self._window()
        calls = _calls_by(Where(fingerprint=(fingerprint,)), span, *WORK, "time")
        units = _calls_by(Where(of_units=True), span, *WORK, "time")
        hours = {
            time_s: Ratio(calls.get((*work, time_s), 0), number)
            for time_s in range(*span, HOUR_S)
            if (number := units.get((*work, time_s), 0)) >= regressions.RATIO_CALLS_MIN
        }
        return regressions.grown_since(hours, usual)

    def _evidence(
        self,
        kind: str,
        fingerprint: str | None,
        figures: dict[str, Any],
        started_s: int,
        route: str | None = None,
    ) -> Evidence:
        return Evidence(
            kind=kind,
            fingerprint=fingerprint,
            route=route,
            figures=figures,
            started_at=datetime.fromtimestamp(started_s, UTC),
            seen_at=self.seen_at,
        )


def is_expensive(total_ms: float, all_ms: float) -> bool:
    """Return True if a new statement takes enough of the load to be examined."""
    return total_ms >= EXPENSIVE_MS and total_ms >= EXPENSIVE_SHARE * all_ms


def _rows_per_call(hours: list[HourSums]) -> Ratio:
    return Ratio(sum(hour.rows for hour in hours), sum(hour.calls for hour in hours))


def _error_rate(hours: list[HourSums]) -> Ratio:
    return Ratio(sum(hour.errors for hour in hours), sum(hour.calls for hour in hours))


def _growth(now: float, usual: float) -> float:
    # The usual is at least 0.1, because growth from zero would be infinite.
    return round(now / max(usual, 0.1), 1)


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
