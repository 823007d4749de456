"""Findings with their evidence in words: the rows of `findings/`.

Written by `sqllogs.findings`, read in the reader's thread, on the ring's database.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext_lazy as _

from sqllogs.models import LIVE, Finding
from sqllogs.read import parameters
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import clean_parameters
from sqllogs.read.records import rfc3339, statements

PARAMETERS = ("from", "to", "finding", "state", "fingerprint", "route", "release", "assignee")
ORDERINGS = ("last_seen", "first_seen", "occurrences", "kind")
DEFAULT_ORDERING = "-last_seen"
LIVE_STATES = "live"
"""Names the states of problems that exist and are not ignored: the default."""
ALL_STATES = "all"

SENTENCES = {
    "slower": _("%(times)s times slower than at the same hours before."),
    "all_slower": _(
        "%(times)s times slower than before, as are almost all of the %(statements)s statements."
    ),
    "new": _("New, and takes %(load_percent)s %% of the load."),
    "more_rows": _("%(rows_per_call)s rows per call, %(times)s times as many as before."),
    "more_errors": _(
        "%(errors)s of %(calls)s calls fail; before, %(errors_before)s of %(calls_before)s did."
    ),
    "n_plus_one": _("Sent %(times_per_unit)s times in one request or task."),
    "unbounded": _("Returns up to %(rows_max)s rows without LIMIT."),
    "count_and_list": _("Counts rows that the same request reads anyway: len() of the list is enough."),
    "idle_transaction": _("A transaction is open for up to %(idle_ms_max)s ms without a statement."),
    "deadlock": _("Fails with deadlocks (SQLSTATE %(sqlstate)s)."),
    "lock_timeout": _("Waits too long for a lock (SQLSTATE %(sqlstate)s)."),
    "serialization": _("Fails because of concurrent transactions (SQLSTATE %(sqlstate)s)."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A problem that the log has found; durations in milliseconds."""

    id: int
    kind: str
    """slower, all_slower, new, more_rows, more_errors, n_plus_one, unbounded, count_and_list,
    idle_transaction, deadlock, lock_timeout or serialization."""
    state: str
    """open, acknowledged, ignored, fixed, closed or reopened."""
    summary: str
    fingerprint: str | None
    sql: str | None
    call_site: str | None
    route: str | None
    evidence: dict[str, float | str | None]
    """Figures; their names depend on the kind."""
    occurrences: int
    first_seen: str
    last_seen: str
    started_at: str
    """When the problem began; of regressions to the hour."""
    release: str | None
    """The release with which it began."""
    event: str | None
    """The deploy or migration at most six hours before it."""
    trace_id: str | None
    """A trace that shows it."""
    assignee: str
    note: str
    ignored_until: str | None
    fixed_in: str | None
    closed_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsAnswer:
    """The answer of `findings/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[FindingRow]


def read_findings(request: HttpRequest, query: QueryDict, *, with_text: bool) -> FindingsAnswer:
    """Return a page of the findings that match; raise ParameterError."""
    page = OffsetPage.from_query(query, ORDERINGS, DEFAULT_ORDERING)
    matching = find(query).order_by(f"{'-' if page.is_descending else ''}{page.column}", "-pk")
    count = matching.count()
    return FindingsAnswer(
        count=count,
        next=page.next_url(request, count),
        previous=page.previous_url(request),
        results=finding_rows(matching[page.offset : page.offset + page.limit], with_text=with_text),
    )


def find(query: QueryDict) -> QuerySet[Finding]:
    """Return the findings that match the parameters; those that are live unless a state is given."""
    several = ("finding", "state", "route", "release", "assignee")
    cleaned = clean_parameters(
        query,
        **{"from": parameters.InstantField(required=False), "to": parameters.InstantField(required=False)},
        fingerprint=parameters.ValuesField(convert=parameters.as_hex(16), required=False),
        **{name: parameters.ValuesField(required=False) for name in several},
    )
    conditions = Q()
    for name, column in (("finding", "kind"), *((name, name) for name in (*several[2:], "fingerprint"))):
        if cleaned[name]:
            conditions &= Q(**{f"{column}__in": cleaned[name]})
    if cleaned["from"]:
        conditions &= Q(last_seen__gte=cleaned["from"])
    if cleaned["to"]:
        conditions &= Q(first_seen__lt=cleaned["to"])
    return Finding.objects.filter(conditions & _states(cleaned["state"] or [LIVE_STATES]))


def _states(names: Iterable[str]) -> Q:
    names = set(names)
    if ALL_STATES in names:
        return Q()
    if LIVE_STATES in names:
        names |= set(LIVE)
    return Q(state__in=names)


def finding_rows(findings: Iterable[Finding], *, with_text: bool) -> list[FindingRow]:
    shown = list(findings)
    texts = statements({one.fingerprint for one in shown if one.fingerprint}) if with_text else {}
    return [_row(one, texts[one.fingerprint].sql if one.fingerprint in texts else None) for one in shown]


def _row(finding: Finding, sql: str | None) -> FindingRow:
    return FindingRow(
        id=finding.pk,
        kind=finding.kind,
        state=finding.state,
        summary=summary(finding),
        fingerprint=finding.fingerprint,
        sql=sql,
        call_site=finding.call_site,
        route=finding.route,
        evidence=finding.evidence,
        occurrences=finding.occurrences,
        first_seen=rfc3339(finding.first_seen),
        last_seen=rfc3339(finding.last_seen),
        started_at=rfc3339(finding.started_at),
        release=finding.release,
        event=finding.event,
        trace_id=finding.evidence.get("trace_id"),
        assignee=finding.assignee,
        note=finding.note,
        ignored_until=_time(finding.ignored_until),
        fixed_in=finding.fixed_in,
        closed_at=_time(finding.closed_at),
    )


def _time(time: datetime | None) -> str | None:
    return rfc3339(time.astimezone(UTC)) if time else None


def summary(finding: Finding) -> str:
    """Return the evidence in one sentence."""
    sentence = SENTENCES.get(finding.kind)
    try:
        return str(sentence) % finding.evidence if sentence else finding.get_kind_display()
    except KeyError:  # written by another release
        return str(finding.get_kind_display())
