"""Add the ring up by time and group: the points of a graph.

One scan; times without calls are filled in, so that a gap is seen as one. Runs
in the reader's thread.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sqllogs.queries.figures import Bucket, Figures, Part, Records, parts
from sqllogs.queries.groups import Value, Values, column
from sqllogs.queries.places import Ring, live

OTHER = ("other", "all others")
"""What the line of all groups below the top is called; the second where a group has the first name."""


AnyFigures = TypeVar("AnyFigures")


@dataclass(slots=True, kw_only=True)
class Line(Generic[AnyFigures]):
    """The points of one group."""

    value: Value
    total_ms: float = 0.0
    points: dict[int, AnyFigures] = field(default_factory=dict)
    """By bucket: steps since the epoch."""


def _add(line: Line[Figures], part: Part) -> None:
    bucket = int(part.keys[0])
    line.total_ms += part.total_ms
    (line.points.get(bucket) or line.points.setdefault(bucket, Figures())).add(part)


def series(
    filtered: Records, ring: Ring, *, step_s: int, group_by: str | None, top: int
) -> list[Line[Figures]]:
    """Return the lines of the `top` groups by total time, and one for all others."""
    records = live(filtered, ring).annotate(bucket=Bucket("time", step_s=step_s))
    keys = ("bucket",) if group_by is None else ("bucket", column(group_by))
    found = list(parts(records, *keys, more=False))
    if group_by is None:
        line: Line[Figures] = Line(value=None)
        for part in found:
            _add(line, part)
        return [line]
    return _top(found, Values(group_by, {part.keys[1] for part in found}), top)


def _top(found: Iterable[Part], value_of: Values, top: int) -> list[Line[Figures]]:
    totals: dict[Value, float] = defaultdict(float)
    for part in found:
        for value in value_of[part.keys[1]]:
            totals[value] += part.total_ms
    ranked = sorted(totals, key=lambda value: (-totals[value], value or ""))
    lines: dict[Value, Line[Figures]] = {value: Line(value=value) for value in ranked[:top]}
    others: Line[Figures] = Line(value=next(name for name in OTHER if name not in lines))
    for value, part in _by_value(found, value_of):
        _add(lines.get(value, others), part)
    return [*lines.values(), *([others] if others.points else [])]


def _by_value(found: Iterable[Part], value_of: Values) -> Iterator[tuple[Value, Part]]:
    for part in found:
        for value in value_of[part.keys[1]]:
            yield value, part
