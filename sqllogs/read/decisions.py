"""Store decisions about statements, end them, and find statements that have become worse since.

Fed by the admin's forms and actions; feeds the admin's list and page of statements, `reviews/` and the
terminal. Runs in the thread of the request, on the store.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import router, transaction
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, Value, When
from django.http import HttpRequest, QueryDict

from sqllogs.models import Event, Review, StatisticKey
from sqllogs.read import comparison, parameters, statistics, statistics_rows
from sqllogs.read.comparison import WorseFigure
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.records import rfc3339
from sqllogs.read.ring import chunks
from sqllogs.statistics.resolution import MINUTE_S, Oldest, floor_to

PERMISSION = "sqllogs.review_sqllog"
BY_MAX_CHARACTERS, KEY_MAX_CHARACTERS = 150, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a decision, besides its status and note."""

    by_key: str = ""
    """Primary key of the user who decides, as text."""
    until: datetime | None = None
    until_release: str = ""
    """Last release for which it holds."""
    assignee: tuple[str, str] | None = None
    """Username and primary key; None leaves the assignee as it is."""


NO_TERMS = Terms()


def decide(
    fingerprints: Iterable[str], status: str, *, by: str, note: str | None = None, terms: Terms = NO_TERMS
) -> int:
    """Store a decision about statements and return their number; without a note, existing notes stay."""
    wanted, now = list(dict.fromkeys(fingerprints)), datetime.now(UTC)
    holds = status != Review.Status.OPEN
    decision: dict[str, Any] = {
        "status": status,
        "by": by[:BY_MAX_CHARACTERS],
        "by_key": terms.by_key[:KEY_MAX_CHARACTERS],
        "at": now,
        "until": terms.until if holds else None,
        "until_release": terms.until_release if holds else "",
        "figures": None,  # removes those of an earlier decision; new ones are written below
    }
    if note is not None:
        decision["note"] = note
    if terms.assignee is not None:
        name, key = terms.assignee
        decision |= {"assignee": name[:BY_MAX_CHARACTERS], "assignee_key": key[:KEY_MAX_CHARACTERS]}
    # An open statement is not compared with anything.
    before = _figures_before(wanted, now) if holds else {}
    with transaction.atomic(using=router.db_for_write(Review)):
        for chosen in chunks(wanted):
            new = [Review(fingerprint=fingerprint, **decision) for fingerprint in chosen]
            # Creates those without a review, then updates all: two queries for 900 statements.
            Review.objects.bulk_create(new, ignore_conflicts=True)
            Review.objects.filter(fingerprint__in=chosen).update(**decision)
            known = [Review(fingerprint=one, figures=before[one]) for one in chosen if one in before]
            Review.objects.bulk_update(known, ["figures"])
    return len(wanted)


BEFORE = timedelta(days=7)
"""The time before a decision whose figures are kept with it."""
SINCE = timedelta(days=1)
"""The part of the time since a decision that is judged, up to now."""


def _figures_before(fingerprints: Sequence[str], now: datetime) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for chosen in chunks(list(fingerprints)):
        where = statistics_rows.Where(since=now - BEFORE, until=now, fingerprint=tuple(chosen))
        counted = statistics.aggregate(where)
        for group in counted.groups:
            # A statement that is new has no rate of a week.
            begin = max(counted.since, group.first_seen)
            seconds = max((now - begin).total_seconds(), MINUTE_S)
            found[str(group.group)] = asdict(comparison.ReviewFigures.from_group(group, seconds))
    return found


def _reviews() -> QuerySet[Review]:
    """Return the reviews, with the time of deployment of the release that each is bound to."""
    deploys = Event.objects.filter(kind="deploy", text=OuterRef("until_release")).order_by("time")
    # CASE, because the subquery is needed only for the few decisions that are bound to a release.
    named = Case(When(until_release="", then=Value(None)), default=Subquery(deploys.values("time")[:1]))
    return Review.objects.annotate(deployed_at=named)


def decided() -> dict[str, Review]:
    """Return all decisions by fingerprint; there are few, because people make them one by one.

    A decision that has ended is open, and `ended` is its former status.
    """
    found = _reviews().in_bulk()
    _end(found)
    return found


def get_review(fingerprint: str) -> Review | None:
    found = {review.pk: review for review in _reviews().filter(fingerprint=fingerprint)}
    _end(found)
    return found.get(fingerprint)


def state(fingerprint: str) -> tuple[object, ...]:
    """Return a value that changes with the review, and every minute, because the figures since then do."""
    at = Review.objects.filter(fingerprint=fingerprint).values_list("at", flat=True).first()
    return (at, datetime.now(UTC).replace(second=0, microsecond=0)) if at else ()


def _end(reviews: Mapping[str, Review]) -> None:
    """Reopen decisions whose date has passed, or whose statement was run by a later release."""
    now = datetime.now(UTC)
    holding = [review for review in reviews.values() if review.status != Review.Status.OPEN]
    ended = {review.pk for review in holding if review.until is not None and review.until <= now}
    ended |= _ended_by_release([review for review in holding if review.until_release])
    for fingerprint in ended:
        review = reviews[fingerprint]
        # Only in memory: readers do not write, and the row keeps the decision.
        review.ended, review.status = review.status, Review.Status.OPEN.value


def _ended_by_release(reviews: Sequence[Any]) -> set[str]:
    if not reviews:
        return set()
    deploys = Event.objects.filter(kind="deploy", text=OuterRef("release")).order_by("time")
    by_fingerprint = {review.pk: review for review in reviews}
    one = reviews[0].pk if len(reviews) == 1 else None
    # A subquery, because there can be more decisions than a query can have parameters.
    bound = Review.objects.exclude(until_release="").values("fingerprint")
    keys = (
        StatisticKey.objects.filter(fingerprint=one)
        if one
        else StatisticKey.objects.filter(fingerprint__in=bound)
    )
    ran = keys.exclude(release=None).annotate(first=Subquery(deploys.values("time")[:1])).order_by()
    return {
        fingerprint
        for fingerprint, release, first in ran.values_list("fingerprint", "release", "first").distinct()
        if release
        and (review := by_fingerprint.get(fingerprint))
        and _is_later(release, first, review.until_release, review.deployed_at)
    }


def _is_later(release: str, first: datetime | None, named: str, named_first: datetime | None) -> bool:
    """Return whether a release was deployed after another; if that is unknown, compare version numbers."""
    if release == named:
        return False
    if first is not None and named_first is not None:
        return first > named_first
    numbers = [tuple(map(int, re.findall(r"[0-9]{1,9}", name))) for name in (release, named)]
    # Commit hashes contain digits too, but have no order.
    is_version = all(_VERSION.fullmatch(name) for name in (release, named))
    return is_version and numbers[0] > numbers[1]


_VERSION = re.compile(r"[a-z-]{0,20}[0-9]{1,9}(\.[0-9]{1,9}){0,5}", re.IGNORECASE)


def worse_since_review(
    reviews: Mapping[str, Review], kept: Oldest | None = None
) -> dict[str, tuple[WorseFigure, ...]]:
    """Return the figures that got worse since a decision, by statement, in one query."""
    now = datetime.now(UTC)
    earliest = (now - SINCE).replace(second=0, microsecond=0)  # statistics are by minute
    judged = {
        review.pk: review
        for review in reviews.values()
        if review.figures and review.status != Review.Status.OPEN
    }
    if not judged:
        return {}
    kept = kept or statistics.read_oldest()
    begins = {name: max(review.at, earliest) for name, review in judged.items()}
    stored = Review.objects.filter(figures__isnull=False)
    stored = stored.filter(fingerprint=next(iter(judged))) if len(judged) == 1 else stored
    since = statistics.read_since(
        {name: floor_to(int(begin.timestamp()), MINUTE_S) for name, begin in begins.items()},
        keys=Q(fingerprint__in=stored.values("fingerprint")),
        recent=Q(key__fingerprint__in=stored.filter(at__gt=earliest).values("fingerprint")),
        kept=kept,
    )
    worse: dict[str, tuple[WorseFigure, ...]] = {}
    for fingerprint, group in since.items():
        seconds = max((now - begins[fingerprint]).total_seconds(), MINUTE_S)
        before = comparison.ReviewFigures(**(judged[fingerprint].figures or {}))
        found = comparison.worse_figures(before, comparison.ReviewFigures.from_group(group, seconds), seconds)
        if found:
            worse[fingerprint] = found
    return worse


@dataclass(frozen=True, slots=True, kw_only=True)
class WorseRow:
    """A figure of a statement that is worse than before its review."""

    figure: str
    """mean_ms, p95_ms, rows_per_call, calls_per_s or total_ms_per_s."""
    before: float
    since: float
    change_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow:
    """A decision about a statement."""

    fingerprint: str
    status: str
    """open, reviewed or ignored; open too once the decision has ended."""
    ended: str | None
    """The status of a decision that has ended."""
    reviewed_by: str
    reviewed_at: str
    note: str
    assignee: str
    until: str | None
    """When the decision ends."""
    until_release: str
    """The decision ends when a later release runs the statement."""
    got_worse: list[WorseRow]
    """Figures that are worse since the review than in the week before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsAnswer:
    """The answer of `reviews/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[ReviewRow]


PARAMETERS = ("review", "assignee", "fingerprint", "got_worse")
_FILTERED = (("review", "status"), ("assignee", "assignee"), ("fingerprint", "fingerprint"))
ORDERINGS = {"reviewed_at": "at", "status": "status", "assignee": "assignee", "fingerprint": "fingerprint"}
DEFAULT_ORDERING = "-reviewed_at"


def read_review(fingerprint: str) -> ReviewRow | None:
    review = get_review(fingerprint)
    if review is None:
        return None
    return _review_row(review, worse_since_review({fingerprint: review}).get(fingerprint, ()))


def read_reviews(request: HttpRequest, query: QueryDict) -> ReviewsAnswer:
    """Return a page of the decisions that match; raise ParameterError."""
    page = OffsetPage.from_query(query, ORDERINGS, DEFAULT_ORDERING)
    cleaned = parameters.clean_parameters(
        query,
        review=parameters.ValuesField(required=False),
        assignee=parameters.ValuesField(required=False),
        fingerprint=parameters.ValuesField(convert=parameters.as_hex(16), required=False),
        got_worse=parameters.SwitchField(required=False),
    )
    found = decided()
    worse = worse_since_review(found)
    # In Python, because no column shows whether a decision has ended or its statement became worse.
    matching = [
        review
        for review in found.values()
        if all(not cleaned[name] or getattr(review, column) in cleaned[name] for name, column in _FILTERED)
        and cleaned["got_worse"] in (None, review.pk in worse)
    ]
    matching.sort(
        key=lambda review: (getattr(review, ORDERINGS[page.column]), review.pk), reverse=page.is_descending
    )
    return ReviewsAnswer(
        count=len(matching),
        next=page.next_url(request, len(matching)),
        previous=page.previous_url(request),
        results=[
            _review_row(review, worse.get(review.pk, ()))
            for review in matching[page.offset : page.offset + page.limit]
        ],
    )


def _review_row(review: Review, worse: Iterable[WorseFigure]) -> ReviewRow:
    return ReviewRow(
        fingerprint=review.fingerprint,
        status=review.status,
        ended=review.ended or None,
        reviewed_by=review.by,
        reviewed_at=rfc3339(review.at),
        note=review.note,
        assignee=review.assignee,
        until=rfc3339(review.until) if review.until else None,
        until_release=review.until_release,
        got_worse=[WorseRow(**one._asdict(), change_percent=one.change_percent) for one in worse],
    )
