"""Choose between the ring, which has the records, and the statistics, which outlive them."""

from datetime import datetime

from sqllogs import conf
from sqllogs.api_errors import ParameterError
from sqllogs.queries import statistics
from sqllogs.reports.scope import Scope, Source, Span


def choose(scope: Scope, wanted: str | None, group_by: str | None) -> Source:
    """Return what answers: the statistics if they can and the ring does not have all of the range.

    Raise ParameterError when they are asked for by name and cannot.
    """
    if wanted == "ring":
        return "ring"
    needs_ring = statistics.unsupported(scope.asked)
    if group_by is not None and group_by not in statistics.GROUPS:
        needs_ring.append("group_by")
    if wanted == "statistics":
        if needs_ring:
            message = f"The statistics do not keep what {needs_ring[0]} asks for; the ring does."
            raise ParameterError(needs_ring[0], message)
        return "statistics"
    if needs_ring:
        return "ring"
    return "statistics" if _is_sampled() or _is_older(scope) else "ring"


def cheapest() -> Source:
    """Return what answers fastest of what they both can answer: statistics, if any are kept."""
    return "ring" if statistics.complete_since() is None else "statistics"


def _is_sampled() -> bool:
    """Tell whether the ring has a share of the records only; the statistics count all."""
    return conf.load().sample < 1 and statistics.complete_since() is not None


def _is_older(scope: Scope) -> bool:
    """Tell whether the range begins before the ring, and the statistics know something of that time."""
    since = scope.asked["from"]
    if scope.oldest is not None and (since is None or since >= scope.oldest or scope.oldest_seq == 1):
        return False  # number 1 is in the ring: nothing has been overwritten
    known_since = statistics.complete_since()
    return known_since is not None and (scope.oldest is None or known_since < scope.oldest)


def where(scope: Scope) -> statistics.Where:
    return statistics.Where.of(scope.asked)


def span(scope: Scope, since: datetime, until: datetime, complete_since: datetime | None) -> Span:
    """Return the span of an answer from statistics, whose rows begin and end with the minute."""
    begin = since if complete_since is None else max(since, complete_since)
    begin = min(begin, scope.now)
    end = max(begin, min(until, scope.now))
    return Span(source="statistics", complete_since=complete_since, begin=begin, end=end)
