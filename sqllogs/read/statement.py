"""Read everything about one statement: figures by origin and sample records.

`fingerprints/<fingerprint>/` reads the ring alone; the admin's page of a statement, for its review, also
reads the statistics. Runs in the reader's thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any

from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _

from sqllogs.models import Event, Review, SQLLog, Statement, StatisticKey
from sqllogs.read import aggregates, decisions, n_plus_one, ring, series, statistics, stats
from sqllogs.read import records as read_records
from sqllogs.read.aggregates import AggregatePart, Figures, Group, GroupValue, parts, times_by_seq
from sqllogs.read.comparison import WorseFigure
from sqllogs.read.decisions import ReviewRow
from sqllogs.read.n_plus_one import RepeatRow
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.plans import PlanLink, plan_link, stored_plans
from sqllogs.read.records import read_marks, record_json, rfc3339, rows, table_names
from sqllogs.read.ring import Ordering, Records, RingSnapshot, Window, in_ring
from sqllogs.read.scope import Answer, Scope, Source, head, statistics_filter
from sqllogs.read.series import SeriesOptions, SeriesPoint
from sqllogs.read.stats import StatsGroup
from sqllogs.record import RecordJSON
from sqllogs.sql.normalize import StatementInfo
from sqllogs.statistics.resolution import MINUTE_S, floor_to

ORIGINS_MAX = 20
"""Maximum values of each origin, those with most time first."""
SAMPLES_MAX = 5
"""Maximum records of each kind of sample."""
RING_ORIGINS = ("call_site", "route", "release", "alias")
"""Columns of the ring by which the calls of a statement are summed."""
ORIGINS = ("route", "view", "alias")
"""The same of the statistics, except for `release`; only records have call sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrigin:
    """All calls with the same call site, route, release or alias; durations in milliseconds."""

    value: str | None
    calls: int
    errors: int
    total_ms: float
    mean_ms: float | None
    p95_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Records of a statement: the slowest, the newest, and the last that failed; at most five of each."""

    slowest: list[RecordJSON]
    newest: list[RecordJSON]
    failing: list[RecordJSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementAnswer(Answer):
    """The answer of `fingerprints/<fingerprint>/`, in the order of its JSON; figures are of the ring."""

    fingerprint: str
    sql: str | None
    operation: str | None
    tables: list[str]
    first_seen: str | None
    """When its text was first stored; None if the text is not stored."""
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
    review: ReviewRow | None
    """What people have decided about it."""
    plans: list[PlanLink]
    """Those that are kept, the newest first; see `plans/<id>/`."""
    series: str
    """Address of its figures over time."""
    records: str
    """Address of its records."""


def read_statement(request: HttpRequest, scope: Scope, fingerprint: str) -> StatementAnswer | None:
    """Return None if the statement has neither a text nor a matching record."""
    chosen = scope.records.filter(fingerprint=fingerprint)
    text = _read_text(fingerprint)
    info = _info(text)
    whole, by = _read_figures(chosen, scope.ring)
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
        tables=table_names(info) if info else [],
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
        samples=_read_samples(chosen, scope.ring, with_text=scope.with_text, text=text),
        repeats=suspects,
        review=decisions.read_review(fingerprint),
        plans=[plan_link(plan) for plan in stored_plans(fingerprint)],
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
    query.pop("format", None)  # of this answer only
    return request.build_absolute_uri(f"{reverse(name)}?{query.urlencode()}")


def _read_text(fingerprint: str) -> Statement | None:
    return Statement.objects.filter(fingerprint=fingerprint).first()


def _read_figures(filtered: Records, ring: RingSnapshot) -> tuple[Figures, dict[str, list[Group]]]:
    """Add up the records of one statement, all of them and by each of RING_ORIGINS, most time first."""
    # Grouped by all columns at once and summed here: one scan instead of four.
    found = list(parts(in_ring(filtered, ring), *RING_ORIGINS))
    whole = Figures()
    for part in found:
        whole.add(part)
    return whole, {name: _group(found, number) for number, name in enumerate(RING_ORIGINS)}


def _group(found: Iterable[AggregatePart], column: int) -> list[Group]:
    groups: dict[GroupValue, Group] = {}
    for part in found:
        value = part.keys[column]
        (groups.get(value) or groups.setdefault(value, Group(group=value))).add(part)
    return sorted(groups.values(), key=lambda group: -group.total_ms)


def _read_samples(
    filtered: Records,
    ring: RingSnapshot,
    *,
    with_text: bool,
    text: Statement | None,
    has_failed: bool = True,
) -> Samples:
    """Return the slowest, newest and last failing records of one statement, whose text is known."""
    info = _info(text)
    slowest = Window(ordering=Ordering(column="duration_ms"), limit=SAMPLES_MAX)
    newest = Window(ordering=Ordering(), limit=SAMPLES_MAX)

    def read(records: Records, window: Window) -> list[RecordJSON]:
        return [record_json(row, info, with_text=with_text) for row in rows(records, ring, window)]

    return Samples(
        slowest=read(filtered, slowest),
        newest=read(filtered, newest),
        # If there is no failed record, searching for one reads all others.
        failing=read(filtered.filter(error__isnull=False), newest) if has_failed else [],
    )


def _info(text: Statement | None) -> StatementInfo | None:
    return StatementInfo(text.pk, text.sql, text.operation, text.tables) if text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailPart:
    """The calls of a statement that share an origin or a release, or are since or before its review."""

    label: Any
    figures: StatsGroup
    share: float
    """Percent of the statement's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementDetail(Answer):
    """A statement with its review; figures are of the chosen time range."""

    fingerprint: str
    statement: Statement | None
    """None where its text is not kept."""
    review: Review | None
    worse: Sequence[WorseFigure]
    """What has become worse since the review."""
    whole: StatsGroup | None
    points: Sequence[SeriesPoint]
    events: Sequence[Event]
    """To mark in a chart of the points."""
    origins: dict[str, list[DetailPart]]
    """By ORIGINS, and `call_site`; those with most time first."""
    releases: list[DetailPart]
    """The one seen last first."""
    around_review: list[DetailPart]
    """Since the review, and before it; empty if it was not in the chosen range."""
    samples: Samples
    suspects: list[RepeatRow]
    """The N+1 that it is a suspect of."""


def read_statement_detail(
    request: HttpRequest, fingerprint: str, begin: str, *, with_text: bool
) -> StatementDetail | None:
    """Return None for an unknown statement; raise ParameterError for an invalid time."""
    query = QueryDict(mutable=True)
    query.update({"from": begin, "fingerprint": fingerprint})
    scope = Scope.from_filters(SQLLogFilter.from_query(query), with_text=with_text)
    kept = scope.kept
    # Statistics even if the ring has the whole range, so that no figure scans the ring.
    reader = _DetailReader(scope, "ring" if kept.complete_since_s is None else "statistics")
    review = decisions.get_review(fingerprint)
    whole, span = reader.whole, reader.span
    if whole is None and not is_known(fingerprint):
        return None
    text = _read_text(fingerprint)
    info = _info(text)
    known = {fingerprint: info} if info else {}
    worse = decisions.worse_since_review({fingerprint: review}, kept) if review else {}
    page = OffsetPage(ordering="-total_ms", limit=ORIGINS_MAX, offset=0)
    return StatementDetail(
        **head(span),
        fingerprint=fingerprint,
        statement=text,
        review=review,
        worse=worse.get(fingerprint, ()),
        whole=whole,
        points=reader.points(),
        events=read_marks(span.begin, span.end),
        origins={name: reader.parts(name)[:ORIGINS_MAX] for name in ORIGINS}
        | {"call_site": reader.call_sites()},
        releases=reader.releases(),
        around_review=reader.around(review.at) if review and span.begin < review.at < span.end else [],
        samples=_read_samples(
            # The page shows the text once, above.
            scope.records,
            scope.ring,
            with_text=False,
            text=text,
            has_failed=bool(whole and whole.errors),
        ),
        # The text is read already.
        suspects=n_plus_one.read_repeats(request, scope, page, lambda _: known).results,
    )


def is_known(fingerprint: str) -> bool:
    """Whether such a statement exists or existed."""
    return bool(
        # Cheapest first; the last one scans the ring.
        _read_text(fingerprint)
        or decisions.get_review(fingerprint)
        or StatisticKey.objects.filter(fingerprint=fingerprint).exists()
        or read_records.count(SQLLog.objects.filter(fingerprint=fingerprint), ring.ring(), 1)
    )


class _DetailReader:
    """Reads one statement's figures from one source; all but those over time by one query."""

    _COLUMNS = (*ORIGINS, "release")

    def __init__(self, scope: Scope, chosen: Source) -> None:
        self._scope = scope
        self._chosen = chosen
        self._parts, self.span = stats.read_parts(scope, chosen, *self._COLUMNS)

    @property
    def whole(self) -> StatsGroup | None:
        return next(iter(stats.group_parts(self._parts, None)), None)

    def points(self) -> Sequence[SeriesPoint]:
        options = SeriesOptions(group_by=None, top=1, step_s=None)
        return series.read_series(self._scope, options, self._chosen).results

    def parts(self, group_by: str) -> list[DetailPart]:
        total_ms = sum(part.total_ms for part in self._parts)
        return _detail_parts(stats.group_parts(self._parts, self._COLUMNS.index(group_by)), total_ms)

    def releases(self) -> list[DetailPart]:
        return sorted(self.parts("release"), key=lambda part: stats.last_seen(part.figures), reverse=True)

    def call_sites(self) -> list[DetailPart]:
        """Return the call sites, which only the records in the ring have."""
        groups, total_ms = aggregates.groups(self._scope.records, self._scope.ring, "call_site")
        return _detail_parts(groups, total_ms)[:ORIGINS_MAX]

    def around(self, time: datetime) -> list[DetailPart]:
        """Return the figures since a time and before it."""
        if self._chosen == "statistics":
            return self._counted_around(time)
        filters, records = self._scope.filters, self._scope.records
        since = replaced(
            self._scope, filters={**filters, "from": time}, records=records.filter(time__gte=time)
        )
        before = replaced(self._scope, filters={**filters, "to": time}, records=records.filter(time__lt=time))
        return _around(
            *(
                next(iter(stats.read_groups(scope, "fingerprint", self._chosen).groups), None)
                for scope in (since, before)
            )
        )

    def _counted_around(self, time: datetime) -> list[DetailPart]:
        """Return the same from statistics in one query, since rows of different spans are kept apart."""
        at_s = floor_to(int(time.timestamp()), MINUTE_S)
        where = statistics_filter(self._scope, self._chosen)
        return _around(
            *(total.figures("") if total else None for total in statistics.read_around(where, at_s))
        )


def _around(since: StatsGroup | None, before: StatsGroup | None) -> list[DetailPart]:
    found = ((_("Since the review"), since), (_("Before the review"), before))
    total_ms = sum(figures.total_ms for _, figures in found if figures)
    return [_detail_part(label, figures, total_ms) for label, figures in found if figures]


def _detail_parts(groups: Sequence[StatsGroup], total_ms: float) -> list[DetailPart]:
    ranked = sorted(groups, key=lambda group: -group.total_ms)
    return [_detail_part(group.group, group, total_ms) for group in ranked]


def _detail_part(label: Any, figures: StatsGroup, total_ms: float) -> DetailPart:
    share = 100 * figures.total_ms / total_ms if total_ms else 0.0
    return DetailPart(label=label, figures=figures, share=share)
