"""Count a request's queries for its span, where somebody records that span.

Fed by `sqllogs.recorder` in the thread that queries; read by `sqllogs.middleware`
when the request is answered. What a streamed body asks later is not in it.
"""

from typing import Any

from sqllogs.record import Captured

SITES_MAX = 1_000
"""Statements told apart in a request, each at its line; beyond it only the known ones are counted on."""


class SpanCounts:
    """Not locked: where threads share a request, a count may lag behind by some."""

    __slots__ = ("_execute_ns", "_queries", "_sites", "_span")

    def __init__(self, span: Any) -> None:
        self._span = span
        self._queries = self._execute_ns = 0
        self._sites: dict[int, int] = {}

    def add(self, captured: Captured) -> None:
        self._queries += 1
        self._execute_ns += captured[1]
        # Hashes, not texts: nothing of the statements is kept here. The code object by its id,
        # because hashing one walks its bytecode.
        site = hash((captured[2], id(captured[14]), captured[15]))
        count = self._sites.get(site, 0)
        if count or len(self._sites) < SITES_MAX:
            self._sites[site] = count + 1

    def tell(self) -> None:
        """Put the counts on the span, which has not ended yet."""
        self._span.set_attributes(
            {
                "sqllogs.queries": self._queries,
                "sqllogs.execute_ms": self._execute_ns // 1000 / 1000,
                "sqllogs.repeats": max(self._sites.values(), default=0),
            }
        )
