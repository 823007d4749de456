"""Read the rows of one resolution, added up by the database as far as it can.

Used by `sqllogs.queries.statistics`, in the reader's thread.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db.models import Aggregate, BinaryField, F, Max, Q, QuerySet, Sum

from sqllogs.models import Statistic
from sqllogs.queries.figures import fetch, joins
from sqllogs.queries.statistic_filter import Where
from sqllogs.statistics.resolution import MINUTE_S, Span


class Sums(NamedTuple):
    """Rows that are alike in what is asked for, as one."""

    calls: int
    errors: int
    rows: int
    total_us: int
    max_us: int
    last_seen: int
    durations: bytes
    """Packed, and not yet one count for each range: see `sqllogs.statistics.durations`."""


Row = tuple[tuple[Any, ...], Sums]
"""The columns asked for, and the sums of what has them in common."""


class _Joined(Aggregate):
    """Packed durations one behind the other, which is their sum."""

    function = "string_agg"
    template = "%(function)s(%(expressions)s, ''::bytea)"
    output_field = BinaryField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "CAST(%(function)s(%(expressions)s, '') AS BLOB)"
        return self.as_sql(compiler, connection, function="group_concat", template=template, **extra)


def rows(
    where: Where, span: Span, *columns: str, keys: Q | None = None, step_s: int = MINUTE_S
) -> Iterator[Row]:
    """Add rows up by columns, among which can be `time` and the begin of its `step`.

    Only those of some keys, if these are given.
    """
    found = _chosen(where, span, keys).annotate(step=F("time") - F("time") % step_s)
    if joins(found):
        sums = (Sum("calls"), Sum("errors"), Sum("rows"), Sum("total_us"), Max("max_us"), Max("last_seen"))
        found = found.values(*columns).values_list(*columns, *sums, _Joined("durations"))
    else:
        found = found.values_list(*columns, *Sums._fields)
    width = len(columns)
    for row in fetch(found):
        yield row[:width], Sums._make(row[width:])


def totals_us(where: Where, span: Span, column: str) -> Iterator[tuple[Any, int]]:
    """Yield the total time of each value of a column; without the durations, most of the work."""
    for value, total_us in fetch(_chosen(where, span).values(column).values_list(column, Sum("total_us"))):
        yield value, int(total_us)


def _chosen(where: Where, span: Span, keys: Q | None = None) -> QuerySet[Statistic, Any]:
    return where.narrow(Statistic.objects.order_by(), keys).filter(
        resolution_s=span.resolution_s, time__gte=span.since_s, time__lt=span.until_s
    )
