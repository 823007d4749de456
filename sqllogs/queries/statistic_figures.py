"""Add up rows of statistics, and tell what readers ask for: means, percentiles, maxima.

Used by `sqllogs.queries.statistics`, in the reader's thread.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqllogs.queries.statistic_rows import Sums
from sqllogs.statistics import durations

SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one group."""

    group: str | None
    """What the group has in common; None where it is not known, as the route of a command."""
    calls: int
    errors: int
    rows: int
    """Returned or changed, where the driver told."""
    total_ms: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    last_seen: datetime
    """To the second."""
    top_route: str | None
    """The route with most calls, where statements are the groups."""


class Point(NamedTuple):
    """Figures of a group in one step of time."""

    time: datetime
    """The step's begin."""
    figures: Figures
    is_other: bool = False
    """Of all groups that are not among the top."""


class Total:
    """A sum under way."""

    __slots__ = ("calls", "durations", "errors", "last_seen", "max_us", "routes", "rows", "total_us")

    def __init__(self) -> None:
        self.calls = self.errors = self.rows = self.total_us = self.max_us = self.last_seen = 0
        self.durations: list[bytes] = []
        self.routes: dict[str, int] = {}

    def add(self, sums: Sums, *, route: str | None = None) -> None:
        # PostgreSQL's sum of bigint is numeric.
        self.calls += int(sums.calls)
        self.errors += int(sums.errors)
        self.rows += int(sums.rows)
        self.total_us += int(sums.total_us)
        self.max_us = max(self.max_us, sums.max_us)
        self.last_seen = max(self.last_seen, sums.last_seen)
        self.durations.append(sums.durations)
        if route is not None:
            self.routes[route] = self.routes.get(route, 0) + int(sums.calls)

    def figures(self, group: str | None) -> Figures:
        calls = durations.calls_by_range(b"".join(self.durations))
        p50_us, p95_us, p99_us = durations.percentiles_us(calls, SHARES, self.max_us)
        return Figures(
            group=group,
            calls=self.calls,
            errors=self.errors,
            rows=self.rows,
            total_ms=self.total_us / 1000,
            mean_ms=self.total_us / 1000 / self.calls if self.calls else 0.0,
            p50_ms=p50_us / 1000,
            p95_ms=p95_us / 1000,
            p99_ms=p99_us / 1000,
            max_ms=self.max_us / 1000,
            last_seen=datetime.fromtimestamp(self.last_seen, UTC),
            top_route=max(self.routes, key=self.routes.__getitem__) if self.routes else None,
        )
