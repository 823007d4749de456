"""Add the ring up by time and group: the points of a graph.

One scan; times without calls are filled in, so that a gap is seen as one. Runs
in the reader's thread.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqllogs.queries.figures import Bucket, Figures, Part, Records, parts
from sqllogs.queries.groups import Value, Values, column
from sqllogs.queries.records import Ring, live

OTHER = ("other", "all others")
"""What the line of all groups below the top is called; the second where a group has the first name."""


@dataclass(slots=True, kw_only=True)
class Line:
    """The points of one group."""

    value: Value
    total_ms: float = 0.0
    points: dict[int, Figures] = field(default_factory=lambda: defaultdict(Figures))
    """By bucket: steps since the epoch."""

    def add(self, bucket: int, part: Part) -> None:
        self.total_ms += part.total_ms
        self.points[bucket].add(part)


def series(filtered: Records, ring: Ring, *, step_s: int, group_by: str | None, top: int) -> list[Line]:
    """Return the lines of the `top` groups by total time, and one for all others."""
    records = live(filtered, ring).annotate(bucket=Bucket("time", step_s=step_s))
    keys = ("bucket",) if group_by is None else ("bucket", column(group_by))
    found = list(parts(records, *keys))
    if group_by is None:
        line = Line(value=None)
        for part in found:
            line.add(int(part.keys[0]), part)
        return [line]
    return _top(found, Values(group_by, {part.keys[1] for part in found}), top)


def _top(found: Iterable[Part], value_of: Values, top: int) -> list[Line]:
    totals: dict[Value, float] = defaultdict(float)
    for part in found:
        for value in value_of[part.keys[1]]:
            totals[value] += part.total_ms
    ranked = sorted(totals, key=lambda value: (-totals[value], value or ""))
    lines = {value: Line(value=value) for value in ranked[:top]}
    others = Line(value=next(name for name in OTHER if name not in lines))
    for value, part in _by_value(found, value_of):
        lines.get(value, others).add(int(part.keys[0]), part)
    return [*lines.values(), *([others] if others.points else [])]


def _by_value(found: Iterable[Part], value_of: Values) -> Iterator[tuple[Value, Part]]:
    for part in found:
        for value in value_of[part.keys[1]]:
            yield value, part
