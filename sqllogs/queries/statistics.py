"""Read the statistics: figures by group, and by group and time.

One query for each run of rows of one resolution, which are five at most: of a
month, some minutes and hours, the days between, and hours and minutes again.
Counts, sums and maxima are exact, percentiles within 5 %. Fed with what
`sqllogs.statistics` counts; runs in the reader's thread.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connections
from django.db.models import Aggregate, BinaryField, F, Max, Min, QuerySet, Sum

from sqllogs.models import RollUp, Statement, Statistic
from sqllogs.queries.statistic_figures import Figures, Point, Total
from sqllogs.queries.statistic_filter import SUPPORTED, Where, unsupported
from sqllogs.statistics.resolution import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    RESOLUTIONS_S,
    Oldest,
    Span,
    ceil_to,
    floor_to,
    spans,
)

__all__ = [
    "GROUPS", "SUPPORTED", "Answer", "Figures", "Point", "Series", "Where", "aggregate", "auto_step_s",
    "complete_since", "series", "unsupported",
]  # fmt: skip

GROUPS = (
    "fingerprint", "route", "view", "alias", "vendor", "kind", "method", "release", "operation", "table",
)  # fmt: skip
"""What figures can be grouped by. A statement on several tables counts in each of them."""

OTHER = "other"
"""The group of all that are not among the top."""

_STEPS_S = ((3 * HOUR_S, MINUTE_S), (12 * HOUR_S, 300), (36 * HOUR_S, 900), (10 * DAY_S, HOUR_S))

Labels = Callable[[Any], tuple[str | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Figures by group, those first that took most time."""

    groups: list[Figures]
    since: datetime
    """What is counted began here: the time asked for, or before it, where the row that holds it begins."""
    until: datetime
    complete_since: datetime | None
    """Calls before this are not, or no longer, counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Figures by time and group; a time without a call has no point."""

    points: list[Point]
    step_s: int
    """As asked for, or more, where finer rows are no longer kept."""
    since: datetime
    until: datetime
    complete_since: datetime | None


def aggregate(where: Where, group_by: str | None = "fingerprint") -> Answer:
    """Return the figures of each group; of None, those of all calls as one."""
    oldest = _oldest()
    since_s, until_s = _asked(where, oldest)
    columns = ("fingerprint", "route") if group_by == "fingerprint" else _columns(group_by)
    labels = _labels(group_by)
    totals: dict[str | None, Total] = {}
    for span in spans(since_s, until_s, oldest):
        for key, figures in _read(where, span, columns):
            for label in labels(key[0] if key else None):
                total = totals.get(label) or totals.setdefault(label, Total())
                total.add(*figures, route=key[1] if len(key) > 1 else None)
    groups = sorted(totals.items(), key=lambda item: -item[1].total_us)
    since_s, until_s = oldest.outward(since_s, until_s)
    return Answer(
        groups=[total.figures(label) for label, total in groups],
        since=_datetime(since_s),
        until=_datetime(until_s),
        complete_since=_complete_since(oldest),
    )


def series(where: Where, step_s: int, group_by: str | None = None, top: int = 10) -> Series:
    """Return figures for each step of time and each of the `top` groups, and for all others as one."""
    oldest = _oldest()
    since_s, until_s = _asked(where, oldest)
    since_s, step_s = _aligned(since_s, step_s, oldest)
    coarsest_s = max(length_s for length_s in RESOLUTIONS_S if step_s % length_s == 0)
    labels = _labels(group_by)
    totals: dict[tuple[int, str | None], Total] = {}
    for span in spans(since_s, until_s, oldest, coarsest_s):
        for (bucket_s, *key), figures in _read(where, span, _columns(group_by), step_s):
            for label in labels(key[0] if key else None):
                total = totals.get((bucket_s, label)) or totals.setdefault((bucket_s, label), Total())
                total.add(*figures)
    kept = _top(totals, top if group_by is not None else 1)
    return Series(
        points=_points(totals, kept),
        step_s=step_s,
        since=_datetime(since_s),
        until=_datetime(oldest.outward(since_s, until_s)[1]),
        complete_since=_complete_since(oldest),
    )


def complete_since() -> datetime | None:
    """Return from when on every call is counted; None before the first."""
    return _complete_since(_oldest())


def auto_step_s(since: datetime, until: datetime) -> int:
    """Return a step that makes a readable number of points, and a fast answer, of a range."""
    range_s = (until - since).total_seconds()
    return next((step_s for upto_s, step_s in _STEPS_S if range_s <= upto_s), DAY_S)


def _top(totals: dict[tuple[int, str | None], Total], top: int) -> set[str | None]:
    sums: dict[str | None, int] = {}
    for (_, label), total in totals.items():
        sums[label] = sums.get(label, 0) + total.total_us
    return set(sorted(sums, key=lambda label: -sums[label])[:top])


def _points(totals: dict[tuple[int, str | None], Total], kept: set[str | None]) -> list[Point]:
    others: dict[int, Total] = {}
    points = []
    for (bucket_s, label), total in totals.items():
        if label in kept:
            points.append(Point(_datetime(bucket_s), total.figures(label)))
        else:
            others.setdefault(bucket_s, Total()).join(total)
    points += (
        Point(_datetime(bucket_s), total.figures(OTHER), is_other=True) for bucket_s, total in others.items()
    )
    return sorted(points, key=lambda point: (point.time, point.is_other, -point.figures.total_ms))


def _asked(where: Where, oldest: Oldest) -> tuple[int, int]:
    """Return the range in whole seconds, outward; open ends are the first call and this moment."""
    # No row is of before the epoch, and no step of time begins before the year 1.
    since_s = max(0, int(where.since.timestamp())) if where.since else oldest.complete_since_s or 0
    until_s = (
        ceil_to(int(where.until.timestamp() * 1000), 1000) // 1000 if where.until else int(time.time()) + 1
    )
    return since_s, until_s


def _aligned(since_s: int, step_s: int, oldest: Oldest) -> tuple[int, int]:
    """Return where the first step begins, and a step no finer than the rows that are kept from there on."""
    step_s = ceil_to(max(step_s, MINUTE_S), MINUTE_S)
    while True:
        first_s = floor_to(since_s, step_s)
        kept_s = ceil_to(step_s, oldest.finest_s(first_s))
        if kept_s == step_s:
            return first_s, step_s
        step_s = kept_s


def _oldest() -> Oldest:
    found = {
        length_s: Statistic.objects.filter(resolution_s=length_s).aggregate(oldest=Min("time"))["oldest"]
        for length_s in RESOLUTIONS_S
    }
    rolled_up_s = RollUp.objects.filter(id=1).values_list("until_s", flat=True).first() or 0
    return Oldest(minute_s=found[MINUTE_S], hour_s=found[HOUR_S], day_s=found[DAY_S], rolled_up_s=rolled_up_s)


def _complete_since(oldest: Oldest) -> datetime | None:
    return None if oldest.complete_since_s is None else _datetime(oldest.complete_since_s)


def _columns(group_by: str | None) -> tuple[str, ...]:
    if group_by is None:
        return ()
    return ("fingerprint",) if group_by in ("operation", "table") else (group_by,)


def _labels(group_by: str | None) -> Labels:
    """Return what names the groups that a row counts in, by its first column."""
    if group_by not in ("operation", "table"):
        return lambda value: (value,)
    found = Statement.objects.values_list("fingerprint", "operation" if group_by == "operation" else "tables")
    split = {fingerprint: tuple(text.split(",")) if text else (None,) for fingerprint, text in found}
    return lambda fingerprint: split.get(fingerprint, (None,))


class _Joined(Aggregate):
    """Packed durations one behind the other, which is their sum."""

    function = "string_agg"
    template = "%(function)s(%(expressions)s, ''::bytea)"
    output_field = BinaryField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "CAST(%(function)s(%(expressions)s, '') AS BLOB)"
        return self.as_sql(compiler, connection, function="group_concat", template=template, **extra)


def _read(
    where: Where, span: Span, columns: tuple[str, ...], step_s: int | None = None
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield the sums of rows that are alike in time, if a step is given, and in the key's columns."""
    statistics = where.narrow(Statistic.objects.all()).filter(
        resolution_s=span.resolution_s, time__gte=span.since_s, time__lt=span.until_s
    )
    names = [f"key__{column}" for column in columns]
    if step_s is not None:
        statistics = statistics.annotate(bucket=F("time") - F("time") % step_s)
        names.insert(0, "bucket")
    for row in _summed(statistics, names).iterator(chunk_size=2_000):
        yield row[: len(names)], row[len(names) : len(names) + 7]


def _summed(statistics: QuerySet[Statistic], names: list[str]) -> Any:
    sums = (Sum("calls"), Sum("errors"), Sum("rows"), Sum("total_us"), Max("max_us"), Max("last_seen"))
    if connections[statistics.db].vendor in ("sqlite", "postgresql"):
        return statistics.values(*names).values_list(*names, *sums, _Joined("durations"))
    # Others are left to join what belongs together here, row by row.
    alone = ("calls", "errors", "rows", "total_us", "max_us", "last_seen", "durations")
    return statistics.values_list(*names, *alone)


def _datetime(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
