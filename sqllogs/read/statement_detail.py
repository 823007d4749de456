"""Read everything about one statement for its review: the statistics' figures, and the rest from the ring.

Feeds the admin's page of a statement; runs in the reader's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _

from sqllogs.models import Review, SQLLog, Statement
from sqllogs.read import aggregates, n_plus_one, records, reviews, ring, series, statement, statistics, stats
from sqllogs.read import statement as read_statement
from sqllogs.read.n_plus_one import RepeatRow
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.scope import Answer, Scope, Source, head
from sqllogs.read.series import SeriesOptions, SeriesPoint
from sqllogs.read.statement import ORIGINS_MAX, samples
from sqllogs.read.stats import StatsGroup
from sqllogs.record import RecordJSON

ORIGINS = ("route", "view", "alias")
"""What statistics know of where a statement came from; call sites are known of records alone."""


PARTS = (*ORIGINS, "release")
"""All that follows from one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailPart:
    """A part of a statement's calls."""

    label: Any
    figures: StatsGroup
    share: float
    """Percent of the statement's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementDetail(Answer):
    """Figures are of the time chosen; whatever has not happened in it is empty."""

    fingerprint: str
    statement: Statement | None
    """None where its text is not kept."""
    review: Review | None
    whole: StatsGroup | None
    points: Sequence[SeriesPoint]
    origins: dict[str, list[DetailPart]]
    """By ORIGINS, and `call_site`; those with most time first."""
    releases: list[DetailPart]
    """The one seen last first."""
    around_review: list[DetailPart]
    """Since the review, and before it; empty when it was not in the time chosen."""
    samples: dict[str, list[RecordJSON]]
    suspects: list[RepeatRow]
    """The N+1 that it is a suspect of."""


def read_statement_detail(
    request: HttpRequest, fingerprint: str, begin: str, *, with_text: bool
) -> StatementDetail | None:
    """Return None for an unknown statement; raise ParameterError for an invalid time."""
    query = QueryDict(mutable=True)
    query.update({"from": begin, "fingerprint": fingerprint})
    scope = Scope.from_filters(SQLLogFilter.from_query(query), version="", with_text=with_text)
    kept = statistics.read_oldest()
    scope = replaced(scope, kept=kept)
    reader = _DetailReader(scope, "ring" if kept.complete_since_s is None else "statistics")
    statement, review = read_statement.statement(fingerprint), reviews.get_review(fingerprint)
    whole, span = reader.whole, reader.span
    if whole is None and not is_known(fingerprint):
        return None
    page = OffsetPage(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    return StatementDetail(
        **head(span),
        fingerprint=fingerprint,
        statement=statement,
        review=review,
        whole=whole,
        points=reader.points(),
        origins={name: reader.parts(name)[:ORIGINS_MAX] for name in ORIGINS} | {"call_site": reader.places()},
        releases=reader.releases(),
        around_review=reader.around(review.at) if review and span.begin < review.at < span.end else [],
        samples=samples(scope.records, scope.ring, with_text=False),
        suspects=n_plus_one.read_repeats(request, scope, page).results,
    )


def is_known(fingerprint: str) -> bool:
    """Whether such a statement exists or existed."""
    return bool(
        statement.statement(fingerprint)
        or reviews.get_review(fingerprint)
        or statement.is_counted(fingerprint)
        or records.count(SQLLog.objects.filter(fingerprint=fingerprint), ring.ring(), 1)
    )


class _DetailReader:
    """Reads one statement's figures."""

    def __init__(self, scope: Scope, chosen: Source) -> None:
        self._scope = scope
        self._chosen = chosen
        self._parts, self.span = stats.read_parts(scope, chosen, *PARTS)

    @property
    def whole(self) -> StatsGroup | None:
        return next(iter(stats.group_parts(self._parts, None)), None)

    def points(self) -> Sequence[SeriesPoint]:
        options = SeriesOptions(group_by=None, top=1, step_s=None)
        return series.read_series(self._scope, options, self._chosen).results

    def parts(self, group_by: str) -> list[DetailPart]:
        total_ms = sum(part.total_ms for part in self._parts)
        return _detail_parts(stats.group_parts(self._parts, PARTS.index(group_by)), total_ms)

    def releases(self) -> list[DetailPart]:
        return sorted(self.parts("release"), key=lambda part: stats.last_seen(part.figures), reverse=True)

    def places(self) -> list[DetailPart]:
        """Return call sites, of the records that are still kept."""
        groups, total_ms = aggregates.groups(self._scope.records, self._scope.ring, "call_site")
        return _detail_parts(groups, total_ms)[:ORIGINS_MAX]

    def around(self, time: datetime) -> list[DetailPart]:
        """Return the figures since a time and before it."""
        filters, records = self._scope.filters, self._scope.records
        since = replaced(
            self._scope, filters={**filters, "from": time}, records=records.filter(time__gte=time)
        )
        before = replaced(self._scope, filters={**filters, "to": time}, records=records.filter(time__lt=time))
        parts = ((_("Since the review"), since), (_("Before the review"), before))
        found = [
            (label, next(iter(stats.read_groups(scope, "fingerprint", self._chosen).groups), None))
            for label, scope in parts
        ]
        total_ms = sum(figures.total_ms for _, figures in found if figures)
        return [_detail_part(label, figures, total_ms) for label, figures in found if figures]


def _detail_parts(groups: Sequence[StatsGroup], total_ms: float) -> list[DetailPart]:
    ranked = sorted(groups, key=lambda group: -group.total_ms)
    return [_detail_part(group.group, group, total_ms) for group in ranked]


def _detail_part(label: Any, figures: StatsGroup, total_ms: float) -> DetailPart:
    share = 100 * figures.total_ms / total_ms if total_ms else 0.0
    return DetailPart(label=label, figures=figures, share=share)
