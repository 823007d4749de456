"""Keep one row per cause: merge evidence into findings, close those without, reopen those that return.

Called by `sqllogs.findings.detection` with evidence, in the thread that searches. The table is bounded.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from django.db import router, transaction
from django.db.models import Q, Sum

from sqllogs.findings import Rule
from sqllogs.models import LIVE, Event, Finding, IgnoreRule, Statistic, StatisticKey
from sqllogs.record import CALL_SITE
from sqllogs.statistics.resolution import HOUR_S
from sqllogs.storage.database import upsert

FINDINGS_MAX = 1_000
"""Maximum findings; beyond it, closed ones seen least recently are deleted first, then others."""
QUIET = timedelta(hours=24)
"""A finding closes if it had no evidence for this long, during QUIET_CALLS calls."""
QUIET_CALLS = 200
"""Calls of the statement or route during that time; with fewer, a finding stays open."""
EVENT_WITHIN = timedelta(hours=6)
"""A problem is attributed to the last deploy or migration before it, if that was at most this long ago."""
STALE_AFTER = timedelta(days=14)
"""An ignore rule is reported when it has ignored nothing for this long, in QUIET_CALLS queries."""
RULES_MAX = 200
"""Maximum rules whose use is recorded; beyond it, those seen least recently are deleted."""
KIND_EVENTS = ("deploy", "migration")
STALE = "stale_ignore"
"""Kind of the finding about an unused rule."""
_WRITTEN = [
    field.name
    for field in Finding._meta.concrete_fields
    if field.name not in {"id", "key", "kind", "first_seen", "assignee"}
]
"""Columns of a known finding that the search may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Figures that show a problem, as a search found them."""

    kind: str
    figures: Mapping[str, Any]
    """Figures of the problem, for JSON; durations in milliseconds."""
    started_at: datetime
    seen_at: datetime
    fingerprint: str | None = None
    call_site: str | None = None
    route: str | None = None
    example: str | None = None
    """A line that shows it, if the call site is not part of the cause: there may be several."""
    times: int = 1
    """How often it was seen since the last search."""
    ignored: Rule | None = None
    """The rule that ignores it."""

    @property
    def key(self) -> str:
        """Return the same text for the same cause; without a call site the route is part of it.

        Without the line number, because any edit above the line changes it, and a decision would be lost.
        """
        place = CALL_SITE.fullmatch(self.call_site or "")
        line = f"{place['path']} {place['function']}" if place and self.kind != STALE else self.call_site
        words = (self.kind, self.fingerprint, line, self.route if self.call_site is None else None)
        text = "\0".join(word or "" for word in words)
        return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def of_route(route: str | None) -> Q:
    """Filter by the route of a finding; commands and others without a route are named by their view."""
    return Q(route=route) | Q(route=None, view=route)


def rules_of_text(text: str | None) -> list[Rule]:
    found = map(Rule.from_text, (text or "").splitlines())
    return [rule for rule in found if rule is not None]


def covering(rules: Iterable[Rule], one: Evidence) -> Rule | None:
    """Return the first rule that ignores some evidence."""
    line = one.call_site or one.example
    values = {"call_site": line, "route": one.route, "fingerprint": one.fingerprint}
    return next((rule for rule in rules if rule.covers(one.kind, one.seen_at) and rule.matches(values)), None)


def merge(found: Iterable[Evidence], now: datetime) -> list[Finding]:
    """Store evidence; return the findings that are new or have been reopened. Raise database errors."""
    alias = router.db_for_write(Finding)
    evidence: dict[str, Evidence] = {}
    for one in found:
        other = evidence.get(one.key, one)
        # Evidence seen outside a rule too is not ignored. Of several lines, the most frequent one is stored.
        if (one.ignored is None, one.times) >= (other.ignored is None, other.times):
            evidence[one.key] = one
    with transaction.atomic(using=alias):
        # Locked, because a decision of a person must not be overwritten by the state that is read here.
        rows = Finding.objects.using(alias).select_for_update().filter(key__in=evidence).order_by("key")
        known = {one.key: one for one in rows}
        events = list(Event.objects.filter(kind__in=KIND_EVENTS).order_by("-time")[:100])
        fixed_in = {one.fixed_in for one in known.values() if one.state == Finding.State.FIXED}
        events += Event.objects.filter(kind="deploy", text__in=fixed_in - {None}).order_by("-time")[:100]
        changed = []
        for key, one in evidence.items():
            if key not in known:
                known[key] = Finding(key=key, kind=one.kind, first_seen=now, occurrences=0)
            if _merge(known[key], one, events):
                changed.append(known[key])
        upsert(list(known.values()), ["key"], _WRITTEN, using=alias)
        _bound(alias)
    return changed


def _merge(finding: Finding, one: Evidence, events: list[Event]) -> bool:
    """Add evidence of one cause to its finding; return whether that is new or reopened."""
    is_news = False
    if finding._state.adding:
        _describe(finding, one, events)
        if one.ignored is None:
            is_news = True
        else:
            _ignore(finding, one.ignored)
    elif one.ignored is not None and finding.state in (*LIVE, Finding.State.CLOSED, Finding.State.IGNORED):
        _ignore(finding, one.ignored)
    elif (state := _next_state(finding, one, events)) != finding.state:
        is_news = True
        if state == Finding.State.REOPENED:
            _describe(finding, one, events)
        finding.state, finding.closed_at, finding.ignored_until = state, None, None
        finding.ignored_by = ""
        # NULL means that a message is due: a problem that returns is sent like a new one.
        finding.notified_at = finding.mailed_at = None
    finding.evidence = dict(one.figures)
    finding.route = one.route or finding.route
    finding.call_site = one.call_site or one.example or finding.call_site
    finding.last_seen = max(one.seen_at, finding.last_seen or one.seen_at)
    finding.occurrences += one.times
    return is_news


def _ignore(finding: Finding, rule: Rule) -> None:
    """Let a rule ignore a finding, unless a person has done so."""
    if finding.state != Finding.State.IGNORED or is_by_rule(finding):
        finding.state, finding.closed_at, finding.ignored_until = Finding.State.IGNORED, None, rule.ends_at
        finding.ignored_by, finding.note = rule.place[:200], rule.reason


def is_by_rule(finding: Finding) -> bool:
    """Return True if a rule ignores the finding, and not a person."""
    # A person is `user NAME`, see `decide`.
    return finding.ignored_by.startswith(("code ", "setting "))


def _describe(finding: Finding, one: Evidence, events: list[Event]) -> None:
    finding.fingerprint, finding.call_site, finding.route = one.fingerprint, one.call_site, one.route
    finding.started_at = one.started_at
    # The begin of a regression is known only to the hour, so a deploy within that hour counts too.
    until, since = one.started_at + timedelta(hours=1), one.started_at - EVENT_WITHIN
    # The newest event is the first one, see `merge`.
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
        return Finding.State.OPEN if is_over or is_by_rule(finding) else state
    if state == Finding.State.FIXED:
        # Evidence is expected from older releases until the fix is deployed, and for a day afterwards,
        # because what began before is judged by the last hours.
        deployed = next((e.time for e in events if e.kind == "deploy" and e.text == finding.fixed_in), None)
        is_back = not finding.fixed_in or (
            deployed is not None and (deployed < one.started_at or deployed + QUIET <= one.seen_at)
        )
        return Finding.State.REOPENED if is_back else state
    return state


def find_stale(used: Mapping[Rule, int], matched: Container[Rule | None], now: datetime) -> list[Evidence]:
    """Note the queries that rules could cover; return evidence of those that have ended, or ignore nothing.

    A rule that has ended no longer ignores anything. It is reported because it misleads readers of the code.
    """
    alias, stale = router.db_for_write(IgnoreRule), []
    keys = {rule: _rule_key(rule) for rule in used}
    rows = IgnoreRule.objects.in_bulk(keys.values())
    for rule, queries in used.items():
        key = keys[rule]
        row = rows.setdefault(key, IgnoreRule(key=key, text=rule.text[:500], first_seen=now))
        row.last_seen, row.queries = now, row.queries + queries
        if rule in matched:
            row.last_matched, row.queries = now, 0
        since = row.last_matched or row.first_seen
        if now >= rule.ends_at or (now - since >= STALE_AFTER and row.queries >= QUIET_CALLS):
            stale.append(_stale(rule, row, since, now))
    upsert(list(rows.values()), ["key"], ["last_seen", "last_matched", "queries"], using=alias)
    # Read first, here and in `_bound`, because MySQL allows no LIMIT in a subquery of a DELETE.
    old = IgnoreRule.objects.order_by("-last_seen").values_list("key", flat=True)[RULES_MAX:]
    IgnoreRule.objects.filter(key__in=list(old))._raw_delete(alias)
    return stale


def _stale(rule: Rule, row: IgnoreRule, since: datetime, now: datetime) -> Evidence:
    figures = {
        "reason": rule.reason,
        "until": rule.until.isoformat(),
        "days": (now - since).days,
        "queries": row.queries,
    }
    started_at = min(now, max(since, rule.ends_at if now >= rule.ends_at else since + STALE_AFTER))
    return Evidence(kind=STALE, call_site=rule.place, figures=figures, started_at=started_at, seen_at=now)


def _rule_key(rule: Rule) -> str:
    text = f"{rule.text}{rule.patterns}"
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def close_quiet(now: datetime) -> int:
    """Close findings without evidence for long enough despite enough traffic; return their number."""
    quiet = Finding.objects.filter(state__in=[*LIVE, Finding.State.FIXED], last_seen__lt=now - QUIET)
    closed = [finding.pk for finding in quiet if _calls_since(finding) >= QUIET_CALLS]
    return Finding.objects.filter(pk__in=closed).update(state=Finding.State.CLOSED, closed_at=now)


def _calls_since(finding: Finding) -> int:
    """Return the calls since the evidence was last seen: of the route, else of the statement, else of all."""
    keys = StatisticKey.objects.all()
    if finding.route:
        keys = keys.filter(of_route(finding.route))
    elif finding.fingerprint:
        keys = keys.filter(fingerprint=finding.fingerprint)
    since_s = int(finding.last_seen.timestamp())
    # By hours, because minutes are kept for only a day, and a finding may be older.
    rows = Statistic.objects.filter(resolution_s=HOUR_S, time__gte=since_s, key__in=keys.values("id"))
    return int(rows.aggregate(calls=Sum("calls"))["calls"] or 0)


def _bound(alias: str) -> None:
    surplus = Finding.objects.count() - FINDINGS_MAX
    if surplus <= 0:
        return
    closed = Finding.objects.filter(state=Finding.State.CLOSED).order_by("last_seen")
    chosen = list(closed.values_list("pk", flat=True)[:surplus])
    if len(chosen) < surplus:
        others = Finding.objects.exclude(state=Finding.State.CLOSED).order_by("last_seen")
        chosen += others.values_list("pk", flat=True)[: surplus - len(chosen)]
    Finding.objects.filter(pk__in=chosen)._raw_delete(alias)


def assign(finding: Finding, username: str) -> None:
    """Assign a finding to a user, or to nobody if the name is empty; its state does not change."""
    finding.assignee = username[:150]
    finding.save(update_fields=["assignee"])


DECIDED = ("state", "ignored_until", "ignored_by", "fixed_in", "closed_at", "assignee", "note")
"""What a decision changes."""


def decide(
    finding: Finding,
    state: str,
    *,
    by: str = "",
    until: datetime | None = None,
    release: str = "",
    note: str = "",
) -> None:
    """Store a person's decision about a finding, which is assigned to them if it has no assignee yet."""
    finding.state = state
    is_ignored = state == Finding.State.IGNORED
    finding.ignored_until = until if is_ignored else None
    finding.ignored_by = f"user {by or '-'}"[:200] if is_ignored else ""
    finding.fixed_in = release or None if state == Finding.State.FIXED else finding.fixed_in
    finding.closed_at = datetime.now(UTC) if state == Finding.State.CLOSED else None
    finding.assignee = finding.assignee or by[:150]
    finding.note = note or finding.note
    # Not the evidence, which may be newer in the database.
    finding.save(update_fields=DECIDED)
