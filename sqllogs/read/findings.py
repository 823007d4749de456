"""Read findings, with their evidence in words: the rows of `findings/`.

`sqllogs.findings` writes them. Called by API, page, admin and terminal, in the reader's thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext_lazy as _

from sqllogs import conf
from sqllogs.models import LIVE, DetectionTurn, Finding
from sqllogs.read import parameters
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import clean_parameters
from sqllogs.read.records import rfc3339, statements
from sqllogs.sql.text import readable_number

PARAMETERS = ("from", "to", "finding", "state", "fingerprint", "route", "release", "assignee")
ORDERINGS = ("last_seen", "first_seen", "occurrences", "kind")
DEFAULT_ORDERING = "-last_seen"
_COLUMNS = {
    "finding": "kind",
    "fingerprint": "fingerprint",
    "route": "route",
    "release": "release",
    "assignee": "assignee",
}
"""Parameters whose values are compared with a column."""
LIVE_STATES = "live"
"""Value of `state` for problems that exist and are not ignored; the default."""
ALL_STATES = "all"

# By kind. The placeholders are fields of the evidence. If one is missing, because another release has written
# the finding, `summary` returns the name of the kind instead.
SENTENCES = {
    "slower": _("%(times)s times slower than at the same hours before."),
    "all_slower": _(
        "%(times)s times slower than before, as are almost all of the %(statements)s statements."
    ),
    "new": _("New, and takes %(load_percent)s %% of the load."),
    "more_calls": _("%(calls_per_unit)s calls per request or task, %(times)s times as many as before."),
    "more_rows": _("%(rows_per_call)s rows per call, %(times)s times as many as before."),
    "more_errors": _(
        "%(errors)s of %(calls)s calls fail; before, %(errors_before)s of %(calls_before)s did."
    ),
    "n_plus_one": _("Sent %(times_per_unit)s times per request or task."),
    "unbounded": _("Returns up to %(rows_max)s rows without LIMIT."),
    "count_and_list": _("Counts rows that the same request reads anyway: len() of the list is enough."),
    "idle_transaction": _("A transaction is open for up to %(idle_ms_max)s ms without a statement."),
    "deadlock": _("Fails with deadlocks (SQLSTATE %(sqlstate)s)."),
    "lock_timeout": _("Waits too long for a lock (SQLSTATE %(sqlstate)s)."),
    "serialization": _("Fails because of concurrent transactions (SQLSTATE %(sqlstate)s)."),
    "serialization_retried": _(
        "Fails because of concurrent transactions and is run again (SQLSTATE %(sqlstate)s)."
    ),
    "same_values": _("Sent up to %(times_max)s times with the same values in one request or task."),
    "rendering": _("Sent while rendering %(rendering)s."),
    "connection_per_query": _("Opens up to %(connections_max)s connections for %(queries)s queries."),
    "outside_call": _("Waits up to %(outside_ms_max)s ms for another service while a transaction is open."),
    "stale_ignore": _(
        "The rule “%(reason)s”, until %(until)s, has ignored nothing for %(days)s days and "
        "%(queries)s queries."
    ),
}

LOCK_HELD = _(
    "Waits too long for a lock (SQLSTATE %(sqlstate)s), which the transaction of %(holder)s "
    "has held for %(held_ms)s ms."
)
IDLE_AFTER = _("A transaction is open for up to %(idle_ms_max)s ms without a statement, after this line.")

ADVICE = {
    "slower": _("Compare its plan with an earlier one: an index may be missing, or a table may have grown."),
    "all_slower": _("Check the database and its host first: load, locks, disk, a running backup."),
    "new": _("Check that the new code needs it this often, and that an index supports it."),
    "more_calls": _("Look for a new loop around it: read all rows in one query, or once per unit of work."),
    "more_rows": _("Add a filter or a LIMIT, or read in pages."),
    "more_errors": _("Look at the failed queries of this statement: their exceptions name the cause."),
    "n_plus_one": _("Read the rows at once: select_related, prefetch_related, in_bulk or annotate."),
    "unbounded": _("Add a LIMIT: paginate, slice the queryset, or use iterator()."),
    "count_and_list": _("Use len() of the list instead of count()."),
    "idle_transaction": _("Move slow work, such as calls of other services, out of the transaction."),
    "deadlock": _("Lock rows in the same order everywhere, for example with order_by()."),
    "lock_timeout": _("Shorten the transaction that holds the lock; it is often an idle or a bulk one."),
    "serialization": _("Run the transaction again when it fails, and keep it short."),
    "serialization_retried": _("Shorten the transaction, or lock what it reads with select_for_update()."),
    "same_values": _(
        "Run it once and keep the result: in a variable, or in a cached_property of the object."
    ),
    "rendering": _("Read it in the view: select_related, prefetch_related or annotate, or pass the value."),
    "connection_per_query": _("Keep the connection: CONN_MAX_AGE, a pool, and no close() between queries."),
    "outside_call": _("Call the other service before or after the transaction, or in on_commit()."),
    "stale_ignore": _("Remove the rule, or give it a new end if it is still needed."),
}
"""By kind: what to try first."""
SHORTEN_HOLDER = _(
    "Shorten the transaction of %(holder)s: move slow work, such as calls of other services, out of it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A problem that the log has found; durations in milliseconds."""

    id: int
    kind: str
    """slower, all_slower, new, more_calls, more_rows, more_errors, n_plus_one, unbounded, count_and_list,
    idle_transaction, deadlock, lock_timeout, serialization, serialization_retried, same_values, rendering,
    connection_per_query, outside_call or stale_ignore."""
    state: str
    """open, acknowledged, ignored, fixed, closed or reopened."""
    summary: str
    advice: str
    """What to try first."""
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
    ignored_by: str
    """`user NAME`, `code module:line` or `setting PATTERNS`; empty if nothing ignores it."""
    fixed_in: str | None
    closed_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsAnswer:
    """The answer of `findings/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[FindingRow]


class SearchedFindings(NamedTuple):
    """Findings for the page, which shows the time of the last search if there are no findings."""

    answer: FindingsAnswer
    is_searched: bool
    """The setting FINDINGS."""
    searched_at: str | None
    """When a process last searched; None before the first search."""


def with_search(answer: FindingsAnswer) -> SearchedFindings:
    """Return the answer with the time of the last search."""
    searched_at = DetectionTurn.objects.filter(id=1).values_list("searched_at", flat=True).first()
    return SearchedFindings(answer, conf.load().findings, rfc3339(searched_at) if searched_at else None)


def count_by_kind_and_state() -> dict[tuple[str, str], int]:
    """Return the number of findings of each kind in each state, including zeros."""
    # With zeros: a series that starts at 1 has no increase, and one that disappears keeps alerting for
    # minutes.
    counts = {(kind, state): 0 for kind in Finding.Kind.values for state in Finding.State.values}
    for kind, state, count in Finding.objects.values_list("kind", "state").annotate(Count("pk")):
        if (kind, state) in counts:  # another release may have written others
            counts[kind, state] = count
    return counts


def read_findings(request: HttpRequest, query: QueryDict, *, with_text: bool) -> FindingsAnswer:
    """Return a page of the findings that match; raise ParameterError."""
    # Offsets are enough: the table has at most FINDINGS_MAX rows.
    page = OffsetPage.from_query(query, ORDERINGS, DEFAULT_ORDERING)
    # By -pk too, so that the order of equal values is the same on all pages.
    matching = find(query).order_by(f"{'-' if page.is_descending else ''}{page.column}", "-pk")
    found, count = page.read(matching)
    return FindingsAnswer(
        count=count,
        next=page.next_url(request, count),
        previous=page.previous_url(request),
        results=finding_rows(found, with_text=with_text),
    )


def find(query: QueryDict) -> QuerySet[Finding]:
    """Return the findings that match the parameters; those that are live unless a state is given."""
    cleaned = clean_parameters(
        query,
        **{name: parameters.InstantField(required=False) for name in ("from", "to")},
        **{name: parameters.ValuesField(required=False) for name in ("state", *_COLUMNS)}
        | {"fingerprint": parameters.ValuesField(convert=parameters.as_hex(16), required=False)},
    )
    conditions = Q()
    for name, column in _COLUMNS.items():
        if cleaned[name]:
            conditions &= Q(**{f"{column}__in": cleaned[name]})
    # A problem lasts from first_seen to last_seen, and matches if the range overlaps that time.
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
    return [
        _row(one, texts[one.fingerprint].sql if one.fingerprint in texts else None, with_text=with_text)
        for one in shown
    ]


def _row(finding: Finding, sql: str | None, *, with_text: bool) -> FindingRow:
    return FindingRow(
        id=finding.pk,
        kind=finding.kind,
        state=finding.state,
        summary=summary(finding),
        advice=advice(finding, with_text=with_text),
        fingerprint=finding.fingerprint,
        sql=sql,
        call_site=finding.call_site,
        route=finding.route,
        evidence=_evidence(finding, with_text=with_text),
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
        ignored_by=finding.ignored_by if finding.state == Finding.State.IGNORED else "",
        fixed_in=finding.fixed_in,
        closed_at=_time(finding.closed_at),
    )


EVIDENCE = {
    "times": _("Times as much as before"),
    "times_now": _("Times as much as before, now"),
    "z": _("Deviation from the usual (z)"),
    "hours": _("Hours compared"),
    "calls": _("Calls"),
    "calls_before": _("Calls before"),
    "errors": _("Failed"),
    "errors_before": _("Failed before"),
    "statements": _("Statements"),
    "rows_per_call": _("Rows per call"),
    "rows_usual": _("Rows per call before"),
    "rows_max": _("Maximum rows of a call"),
    "load_percent": _("Share of load, %"),
    "total_ms": _("Total, ms"),
    "times_per_unit": _("Times in a request or task"),
    "times_max": _("At most"),
    "sqlstate": _("SQLSTATE"),
    "idle_ms_max": _("Longest time without a statement, ms"),
    "holder": _("Lock held by"),
    "held_ms": _("Held for, ms"),
    "list": _("Statement of the list"),
    "calls_per_unit": _("Calls per request or task"),
    "connections_max": _("Maximum connections"),
    "queries": _("Queries"),
    "outside_ms_max": _("Longest call of another service, ms"),
    "rendering": _("While rendering"),
    "call_site": _("Call site"),
    "holder_route": _("Route of its holder"),
    "reason": _("Reason"),
    "until": _("Until"),
    "days": _("Days"),
}
"""Labels of the evidence, by its field."""


# Fields that are shown as links and as the advice, not as figures.
NO_FIGURES = frozenset(["trace_id", "holder_trace_id", "plan", "advice"])


def _evidence(finding: Finding, *, with_text: bool) -> dict[str, Any]:
    """Leave out advice taken from a plan for readers who may not see the plan."""
    hidden = {"advice"} if "plan" in finding.evidence and not with_text else set()
    return {name: value for name, value in finding.evidence.items() if name not in hidden}


def evidence_in_words(finding: Finding) -> list[tuple[str, Any]]:
    """Return label and value of each figure; one of another release has its name as the label."""
    return [
        (str(EVIDENCE.get(name) or name.replace("_", " ").capitalize()), value)
        for name, value in _readable_figures(finding.evidence).items()
        if name not in NO_FIGURES
    ]


def _time(time: datetime | None) -> str | None:
    return rfc3339(time.astimezone(UTC)) if time else None


def _readable_figures(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Format figures for sentences: 25 times, not 25.0 times, and 1,203 ms, not 1202.6 ms."""
    return {
        name: readable_number(value) if isinstance(value, float | int) else value
        for name, value in evidence.items()
    }


def summary(finding: Finding) -> str:
    """Return the evidence in one sentence."""
    sentence = SENTENCES.get(finding.kind)
    if finding.kind == "lock_timeout" and "holder" in finding.evidence:
        sentence = LOCK_HELD
    elif finding.kind == "idle_transaction" and finding.call_site:
        sentence = IDLE_AFTER
    try:
        return str(sentence) % _readable_figures(finding.evidence) if sentence else finding.get_kind_display()
    except KeyError:  # written by another release
        return str(finding.get_kind_display())


def advice(finding: Finding, *, with_text: bool) -> str:
    """Return what to try first; advice taken from a plan requires the permission for texts."""
    found = finding.evidence.get("advice")
    if found and (with_text or "plan" not in finding.evidence):
        return str(found)
    if finding.kind == "lock_timeout" and "holder" in finding.evidence:
        return str(SHORTEN_HOLDER) % _readable_figures(finding.evidence)
    return str(ADVICE.get(finding.kind, ""))
