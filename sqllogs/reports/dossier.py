"""All there is of one statement for who reviews it: from statistics what these know, from the ring the rest.

Feeds the admin's page of a statement; runs in the reader's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any

from django.http import HttpRequest, QueryDict

from sqllogs import queries, reviews
from sqllogs.aggregation import Graph, Slice
from sqllogs.filters import SQLLogFilter
from sqllogs.models import Review, SQLLog, Statement
from sqllogs.reports import repeats, series, source, stats
from sqllogs.reports.repeats import RepeatRow
from sqllogs.reports.scope import Answer, Scope, Source, head
from sqllogs.reports.series import Point
from sqllogs.reports.statement import ORIGINS_MAX
from sqllogs.reports.stats import Group
from sqllogs.rows import Record

ORIGINS = ("route", "view", "alias")
"""What statistics know of where a statement came from; call sites are known of records alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a statement's calls."""

    label: Any
    figures: Group
    share: float
    """Percent of the statement's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier(Answer):
    """Figures are of the time chosen; whatever has not happened in it is empty."""

    fingerprint: str
    statement: Statement | None
    """None where its text is not kept."""
    review: Review | None
    whole: Group | None
    points: Sequence[Point]
    origins: dict[str, list[Part]]
    """By ORIGINS, and `call_site`; those with most time first."""
    releases: list[Part]
    """The one seen last first."""
    around_review: list[Part]
    """Since the review, and before it; empty when it was not in the time chosen."""
    samples: dict[str, list[Record]]
    suspects: list[RepeatRow]
    """The N+1 that it is a suspect of."""


def read_dossier(request: HttpRequest, fingerprint: str, begin: str, *, with_text: bool) -> Dossier | None:
    """Return None for a statement that nobody knows; raise ParameterError for a time that is none."""
    query = QueryDict(mutable=True)
    query.update({"from": begin, "fingerprint": fingerprint})
    scope = Scope.of(SQLLogFilter.of(query), version="", with_text=with_text)
    reader = _Reader(scope, source.cheapest())
    statement, review = queries.statement(fingerprint), reviews.of(fingerprint)
    whole, span = reader.whole(scope)
    if whole is None and not is_known(fingerprint):
        return None
    page = Slice(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    return Dossier(
        **head(span),
        fingerprint=fingerprint,
        statement=statement,
        review=review,
        whole=whole,
        points=reader.points(),
        origins={name: reader.parts(name)[:ORIGINS_MAX] for name in ORIGINS} | {"call_site": reader.places()},
        releases=reader.releases(),
        around_review=reader.around(review.at) if review and span.begin < review.at < span.end else [],
        samples=queries.samples(scope.records, scope.ring, with_text=False),
        suspects=repeats.read_repeats(request, scope, page).results,
    )


def is_known(fingerprint: str) -> bool:
    """Tell whether there is, or was, such a statement."""
    return bool(
        queries.statement(fingerprint)
        or reviews.of(fingerprint)
        or queries.is_counted(fingerprint)
        or queries.count(SQLLog.objects.filter(fingerprint=fingerprint), queries.ring(), 1)
    )


class _Reader:
    """Reads one statement's figures."""

    def __init__(self, scope: Scope, chosen: Source) -> None:
        self._scope = scope
        self._chosen = chosen

    def whole(self, scope: Scope) -> tuple[Group | None, Any]:
        found = stats.read_groups(scope, "fingerprint", self._chosen)
        return next(iter(found.groups), None), found.span

    def points(self) -> Sequence[Point]:
        graph = Graph(group_by=None, top=1, step_s=None)
        return series.read_series(self._scope, graph, self._chosen).results

    def parts(self, group_by: str) -> list[Part]:
        found = stats.read_groups(self._scope, group_by, self._chosen)
        return _parts(found.groups, found.total_ms)

    def releases(self) -> list[Part]:
        return sorted(self.parts("release"), key=lambda part: stats.last_seen(part.figures), reverse=True)

    def places(self) -> list[Part]:
        """Return call sites, of the records that are still kept."""
        groups, total_ms = queries.groups(self._scope.records, self._scope.ring, "call_site")
        return _parts(groups, total_ms)[:ORIGINS_MAX]

    def around(self, time: datetime) -> list[Part]:
        """Return the figures since a time and before it."""
        asked, records = self._scope.asked, self._scope.records
        since = replaced(self._scope, asked={**asked, "from": time}, records=records.filter(time__gte=time))
        before = replaced(self._scope, asked={**asked, "to": time}, records=records.filter(time__lt=time))
        found = [("Since the review", self.whole(since)[0]), ("Before it", self.whole(before)[0])]
        total_ms = sum(figures.total_ms for _, figures in found if figures)
        return [_part(label, figures, total_ms) for label, figures in found if figures]


def _parts(groups: Sequence[Group], total_ms: float) -> list[Part]:
    ranked = sorted(groups, key=lambda group: -group.total_ms)
    return [_part(group.group, group, total_ms) for group in ranked]


def _part(label: Any, figures: Group, total_ms: float) -> Part:
    share = 100 * figures.total_ms / total_ms if total_ms else 0.0
    return Part(label=label, figures=figures, share=share)
