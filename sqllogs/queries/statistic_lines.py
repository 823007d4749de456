"""Say which rows of statistics are read together, and in which lines of a series they count.

Planned for `sqllogs.queries.statistics`, in the reader's thread, by sums alone: the
durations of all that is not among the top are then added up by the database, by time.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple

from django.db.models import Q

from sqllogs.models import Statement
from sqllogs.queries.groups import OF_STATEMENT
from sqllogs.queries.places import VARIABLES_MAX
from sqllogs.queries.statistic_filter import Where
from sqllogs.queries.statistic_rows import totals_us
from sqllogs.statistics.resolution import Span

GROUPS = (
    "fingerprint", "route", "view", "alias", "vendor", "kind", "method", "release", "operation", "table",
)  # fmt: skip
"""What figures can be grouped by. A statement on several tables counts in each of them."""

OTHER = "other"
"""The group of all that are not among the top."""

Labels = Callable[[Any], tuple[str | None, ...]]


class Line(NamedTuple):
    """What the points of a series have in common."""

    group: str | None
    is_other: bool = False


class Read(NamedTuple):
    """Rows of a series that are read together."""

    columns: tuple[str, ...]
    keys: Q | None
    lines: Callable[..., Iterable[Line]]
    """The lines that a row counts in, by the value of its column."""


_OTHERS = Line(OTHER, is_other=True)


def columns(group_by: str | None) -> tuple[str, ...]:
    if group_by is None:
        return ()
    return (f"key__{'fingerprint' if group_by in OF_STATEMENT else group_by}",)


def labels(group_by: str | None) -> Labels:
    """Return what names the groups that a row counts in, by its first column."""
    if group_by not in OF_STATEMENT:
        return lambda value: (value,)
    found = Statement.objects.values_list("fingerprint", "operation" if group_by == "operation" else "tables")
    split = {fingerprint: tuple(text.split(",")) if text else (None,) for fingerprint, text in found}
    return lambda fingerprint: split.get(fingerprint, (None,))


def reads(where: Where, spans: list[Span], group_by: str | None, top: int) -> list[Read]:
    """Plan to read the `top` groups one by one and all others as one; without a group, all as one."""
    if group_by is None:
        return [Read((), None, lambda: [Line(None)])]
    (column,), labels_of = columns(group_by), labels(group_by)
    sums_us: dict[Any, int] = defaultdict(int)
    for value, total_us in chain.from_iterable(totals_us(where, span, column) for span in spans):
        sums_us[value] += total_us
    kept = _top(sums_us, labels_of, top)

    def lines(value: Any) -> list[Line]:
        return [Line(label) if label in kept else _OTHERS for label in labels_of(value)]

    # A statement on several tables counts among the others as often as it has tables, so it is one of these.
    apart = [value for value in sums_us if lines(value) != [_OTHERS]]
    if len(apart) == len(sums_us) or len(apart) > VARIABLES_MAX:
        return [Read((column,), None, lines)]
    keys = _having(column.removeprefix("key__"), apart)
    return [Read((column,), keys, lines), Read((), ~keys, lambda: [_OTHERS])]


def _top(sums_us: Mapping[Any, int], labels_of: Labels, top: int) -> set[str | None]:
    totals_us: dict[str | None, int] = defaultdict(int)
    for value, sum_us in sums_us.items():
        for label in labels_of(value):
            totals_us[label] += sum_us
    return set(sorted(totals_us, key=lambda label: (-totals_us[label], label or ""))[:top])


def _having(column: str, values: Collection[Any]) -> Q:
    known = Q(**{f"{column}__in": [value for value in values if value is not None]})
    return known | Q(**{f"{column}__isnull": True}) if None in values else known
