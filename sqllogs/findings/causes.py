"""Keep one row per cause: merge evidence into findings, close those without, reopen those that return.

Fed by `sqllogs.findings.detection`, in the thread that detects; the table is bounded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from django.db import router, transaction
from django.db.models import Sum

from sqllogs.models import LIVE, Event, Finding, Statistic, StatisticKey
from sqllogs.statistics.resolution import HOUR_S

FINDINGS_MAX = 1_000
"""Beyond it the closed ones seen least recently are deleted, then any others."""
QUIET = timedelta(hours=24)
"""A finding closes when its evidence has been gone for this long ..."""
QUIET_CALLS = 200
"""... while the statement, or the route, had this many calls."""
EVENT_WITHIN = timedelta(hours=6)
"""A problem is attributed to the last deploy or migration if that was at most this long before it."""
KIND_EVENTS = ("deploy", "migration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What shows a problem at one moment."""

    kind: str
    figures: Mapping[str, Any]
    """Figures of the problem, for JSON; durations in milliseconds."""
    started_at: datetime
    seen_at: datetime
    fingerprint: str | None = None
    call_site: str | None = None
    route: str | None = None
    times: int = 1
    """How often it was seen since the last search."""
    by_route: bool = field(default=False)
    """The route is part of the cause, because there is no call site."""

    @property
    def key(self) -> str:
        """Return the same text for the same cause."""
        words = (self.kind, self.fingerprint, self.call_site, self.route if self.by_route else None)
        text = "\0".join(word or "" for word in words)
        return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def merge(found: Iterable[Evidence], now: datetime) -> list[Finding]:
    """Store evidence; return the findings that are new or have been reopened. Raise database errors."""
    alias = router.db_for_write(Finding)
    evidence = {one.key: one for one in found}
    with transaction.atomic(using=alias):
        known = {one.key: one for one in Finding.objects.filter(key__in=evidence)}
        events = list(Event.objects.filter(kind__in=KIND_EVENTS).order_by("-time")[:100])
        changed = [
            finding
            for key, one in evidence.items()
            if (finding := _merge(known.get(key), one, events, now)) is not None
        ]
        _bound()
    return changed


def _merge(finding: Finding | None, one: Evidence, events: list[Event], now: datetime) -> Finding | None:
    """Store evidence of one cause; return its finding if that is new or reopened."""
    is_news = finding is None
    if finding is None:
        finding = Finding(key=one.key, kind=one.kind, first_seen=now, occurrences=0)
        _describe(finding, one, events)
    elif (state := _next_state(finding, one, events)) != finding.state:
        is_news = True
        if state == Finding.State.REOPENED:
            _describe(finding, one, events)
        finding.state, finding.closed_at, finding.ignored_until = state, None, None
        finding.notified_at = finding.mailed_at = None
    finding.evidence = dict(one.figures)
    finding.route = one.route or finding.route
    finding.last_seen = max(one.seen_at, finding.last_seen or one.seen_at)
    finding.occurrences += one.times
    finding.save()
    return finding if is_news else None


def _describe(finding: Finding, one: Evidence, events: list[Event]) -> None:
    finding.fingerprint, finding.call_site, finding.route = one.fingerprint, one.call_site, one.route
    finding.started_at = one.started_at
    # Regressions are known to the hour: a deploy within the hour in which it began counts too.
    until, since = one.started_at + timedelta(hours=1), one.started_at - EVENT_WITHIN
    cause = next((event for event in events if since <= event.time < until), None)
    release = next((event for event in events if event.kind == "deploy" and event.time < until), None)
    finding.event = cause.title if cause else None
    finding.release = release.text[:100] if release else None


def _next_state(finding: Finding, one: Evidence, events: list[Event]) -> str:
    """Return the state after evidence was seen."""
    state = Finding.State(finding.state)
    if state == Finding.State.CLOSED:
        return Finding.State.REOPENED
    if state == Finding.State.IGNORED:
        is_over = finding.ignored_until is not None and finding.ignored_until <= one.seen_at
        return Finding.State.OPEN if is_over else state
    if state == Finding.State.FIXED:
        # Evidence of older releases is expected until the one that fixes it is deployed.
        deployed = next((e.time for e in events if e.kind == "deploy" and e.text == finding.fixed_in), None)
        is_back = not finding.fixed_in or (deployed is not None and deployed < one.started_at)
        return Finding.State.REOPENED if is_back else state
    return state


def close_quiet(now: datetime) -> int:
    """Close the findings whose evidence is gone for long enough under enough traffic; return their number."""
    quiet = Finding.objects.filter(state__in=[*LIVE, Finding.State.FIXED], last_seen__lt=now - QUIET)
    closed = [finding.pk for finding in quiet if _calls_since(finding) >= QUIET_CALLS]
    return Finding.objects.filter(pk__in=closed).update(state=Finding.State.CLOSED, closed_at=now)


def _calls_since(finding: Finding) -> int:
    """Return the calls since the evidence was last seen: of the route, else of the statement, else of all."""
    keys = StatisticKey.objects.all()
    if finding.route:
        keys = keys.filter(route=finding.route)
    elif finding.fingerprint:
        keys = keys.filter(fingerprint=finding.fingerprint)
    since_s = int(finding.last_seen.timestamp())
    rows = Statistic.objects.filter(resolution_s=HOUR_S, time__gte=since_s, key__in=keys.values("id"))
    return int(rows.aggregate(calls=Sum("calls"))["calls"] or 0)


def _bound() -> None:
    surplus = Finding.objects.count() - FINDINGS_MAX
    if surplus <= 0:
        return
    closed = Finding.objects.filter(state=Finding.State.CLOSED).order_by("last_seen")
    chosen = list(closed.values_list("pk", flat=True)[:surplus])
    if len(chosen) < surplus:
        others = Finding.objects.exclude(state=Finding.State.CLOSED).order_by("last_seen")
        chosen += others.values_list("pk", flat=True)[: surplus - len(chosen)]
    Finding.objects.filter(pk__in=chosen).delete()


def decide(
    finding: Finding,
    state: str,
    *,
    by: str = "",
    until: datetime | None = None,
    release: str = "",
    note: str = "",
) -> None:
    """Store a person's decision about a finding."""
    finding.state = state
    finding.ignored_until = until if state == Finding.State.IGNORED else None
    finding.fixed_in = release or None if state == Finding.State.FIXED else finding.fixed_in
    finding.closed_at = datetime.now(UTC) if state == Finding.State.CLOSED else None
    finding.assignee = by or finding.assignee
    finding.note = note or finding.note
    finding.save()
