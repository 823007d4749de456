"""Read everything about one statement: figures by origin and sample records.

`fingerprints/<fingerprint>/` is made of the ring alone; the admin's page of a statement, for its review, of
the statistics' figures besides. Runs in the reader's thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any, NamedTuple

from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _

from sqllogs.models import Review, SQLLog, Statement, StatisticKey
from sqllogs.read import aggregates, n_plus_one, reviews, ring, series, statistics, stats
from sqllogs.read import records as read_records
from sqllogs.read.aggregates import AggregatePart, Figures, Group, GroupValue, Records, parts, times_by_seq
from sqllogs.read.n_plus_one import RepeatRow
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.records import records, rfc3339, rows
from sqllogs.read.ring import Ordering, RingSnapshot, Window, in_ring
from sqllogs.read.scope import Answer, Scope, Source, head
from sqllogs.read.series import SeriesOptions, SeriesPoint
from sqllogs.read.stats import StatsGroup
from sqllogs.record import RecordJSON

ORIGINS_MAX = 20

ORIGINS = ("route", "view", "alias")
"""What statistics know of where a statement came from; call sites are known of records alone."""


PARTS = (*ORIGINS, "release")
"""All that follows from one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrigin:
    """All calls from one place; durations in milliseconds."""

    value: str | None
    calls: int
    errors: int
    total_ms: float
    mean_ms: float | None
    p95_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    slowest: list[RecordJSON]
    newest: list[RecordJSON]
    failing: list[RecordJSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementAnswer(Answer):
    """The answer, in the order of its JSON; what matches of the statement is in the ring."""

    fingerprint: str
    sql: str | None
    operation: str | None
    tables: list[str]
    first_seen: str | None
    """When its text was first stored; None where it is not kept."""
    last_seen: str | None
    calls: int
    errors: int
    calls_per_s: float
    total_ms: float
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    rows: int | None
    call_sites: list[CallOrigin]
    routes: list[CallOrigin]
    releases: list[CallOrigin]
    aliases: list[CallOrigin]
    samples: Samples
    repeats: list[RepeatRow]
    """The N+1 that it is a suspect of."""
    series: str
    """Address of its figures over time."""
    records: str
    """Address of its records."""


def read_statement(request: HttpRequest, scope: Scope, fingerprint: str) -> StatementAnswer | None:
    """Return None for a statement that neither a text nor a matching record is known of."""
    chosen = scope.records.filter(fingerprint=fingerprint)
    text = statement(fingerprint)
    whole, by = breakdown(chosen, scope.ring)
    if text is None and not whole.calls:
        return None
    span = scope.span
    last_seen = times_by_seq(scope.ring, [whole.last_seq]).get(whole.last_seq) if whole.calls else None
    page = OffsetPage(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    suspects = n_plus_one.read_repeats(request, replaced(scope, records=chosen), page).results
    return StatementAnswer(
        **head(span),
        fingerprint=fingerprint,
        sql=text.sql if text and scope.with_text else None,
        operation=text.operation if text else None,
        tables=text.tables.split(",") if text and text.tables else [],
        first_seen=rfc3339(text.first_seen) if text else None,
        last_seen=rfc3339(last_seen) if last_seen else None,
        calls=whole.calls,
        errors=whole.errors,
        calls_per_s=whole.calls / span.seconds,
        total_ms=whole.total_ms,
        mean_ms=whole.mean_ms,
        p50_ms=whole.p50_ms,
        p95_ms=whole.p95_ms,
        p99_ms=whole.p99_ms,
        max_ms=whole.max_ms,
        rows=whole.rows,
        call_sites=_origins(by["call_site"]),
        routes=_origins(by["route"]),
        releases=_origins(by["release"]),
        aliases=_origins(by["alias"]),
        samples=Samples(**samples(chosen, scope.ring, with_text=scope.with_text)),
        repeats=suspects,
        series=_address(request, "sqllogs:series", fingerprint),
        records=_address(request, "sqllogs:list", fingerprint),
    )


def _origins(groups: Sequence[Group]) -> list[CallOrigin]:
    return [
        CallOrigin(
            value=group.group,
            calls=group.calls,
            errors=group.errors,
            total_ms=group.total_ms,
            mean_ms=group.mean_ms,
            p95_ms=group.p95_ms,
            max_ms=group.max_ms,
        )
        for group in groups[:ORIGINS_MAX]
    ]


def _address(request: HttpRequest, name: str, fingerprint: str) -> str:
    """Return the address of the same filters elsewhere."""
    query = request.GET.copy()
    query["fingerprint"] = fingerprint
    query.pop("format", None)
    return request.build_absolute_uri(f"{reverse(name)}?{query.urlencode()}")


SAMPLES = 5
BY = ("call_site", "route", "release", "alias")


class Breakdown(NamedTuple):
    """The figures of one statement, as a whole and by where it came from."""

    whole: Figures
    by: dict[str, list[Group]]
    """For each of BY, the groups that took most time first."""


def statement(fingerprint: str) -> Statement | None:
    return Statement.objects.filter(fingerprint=fingerprint).first()


def is_counted(fingerprint: str) -> bool:
    """Whether the statistics have a statement, at any time."""
    return StatisticKey.objects.filter(fingerprint=fingerprint).exists()


def breakdown(filtered: Records, ring: RingSnapshot) -> Breakdown:
    """Add the records of one statement up, in one scan."""
    found = list(parts(in_ring(filtered, ring), *BY))
    whole = Figures()
    for part in found:
        whole.add(part)
    return Breakdown(whole, {name: _by(found, number) for number, name in enumerate(BY)})


def _by(found: Iterable[AggregatePart], number: int) -> list[Group]:
    groups: dict[GroupValue, Group] = {}
    for part in found:
        value = part.keys[number]
        (groups.get(value) or groups.setdefault(value, Group(group=value))).add(part)
    return sorted(groups.values(), key=lambda group: -group.total_ms)


def samples(filtered: Records, ring: RingSnapshot, *, with_text: bool) -> dict[str, list[RecordJSON]]:
    """Return the slowest, newest and last failing records."""
    slowest = Window(ordering=Ordering(column="duration_ms"), limit=SAMPLES)
    newest = Window(ordering=Ordering(), limit=SAMPLES)
    failing = filtered.filter(error__isnull=False)
    found = {
        "slowest": rows(filtered, ring, slowest),
        "newest": rows(filtered, ring, newest),
        "failing": rows(failing, ring, newest),
    }
    return {name: records(rows, with_text=with_text) for name, rows in found.items()}


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
    review = reviews.get_review(fingerprint)
    whole, span = reader.whole, reader.span
    if whole is None and not is_known(fingerprint):
        return None
    page = OffsetPage(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    return StatementDetail(
        **head(span),
        fingerprint=fingerprint,
        statement=statement(fingerprint),
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
        statement(fingerprint)
        or reviews.get_review(fingerprint)
        or is_counted(fingerprint)
        or read_records.count(SQLLog.objects.filter(fingerprint=fingerprint), ring.ring(), 1)
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
