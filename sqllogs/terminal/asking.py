"""Ask the reports of the API for what a subcommand shows, without a request.

Fed by the subcommands' options; runs in the command's thread.
"""

from django.http import HttpRequest, QueryDict

from sqllogs import aggregation, queries
from sqllogs.aggregation import Slice
from sqllogs.filters import SQLLogFilter
from sqllogs.reports import repeats, source, stats
from sqllogs.reports.repeats import Repeats
from sqllogs.reports.scope import Scope
from sqllogs.reports.stats import Stats

STATS = ("group_by", "source", *aggregation.PAGE)


class _NoRequest(HttpRequest):
    """Reports tell addresses of further pages; here they are query strings."""

    def __init__(self, query: QueryDict) -> None:
        super().__init__()
        self.GET = query  # type: ignore[assignment]

    def build_absolute_uri(self, location: str | None = None) -> str:
        return location or ""


def scope(query: QueryDict, known: tuple[str, ...] = ()) -> Scope:
    """Read the filters, of a query that may have the parameters `known` beside them; raise ParameterError."""
    return Scope.of(SQLLogFilter.of(query, known), version=queries.version(), with_text=True)


def read_stats(query: QueryDict) -> Stats:
    """Return the answer of `stats/`; raise ParameterError."""
    asked = scope(query, STATS)
    group_by = aggregation.group_by(query) or "fingerprint"
    page = Slice.of(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
    chosen = source.choose(asked, aggregation.source(query), group_by)
    return stats.read_stats(_NoRequest(query), asked, group_by, page, chosen)


def read_repeats(query: QueryDict) -> Repeats:
    """Return the answer of `repeats/`; raise ParameterError."""
    page = Slice.of(query, repeats.ORDERINGS, repeats.DEFAULT_ORDERING)
    return repeats.read_repeats(_NoRequest(query), scope(query, aggregation.PAGE), page)
