"""The options that the reading subcommands share, made from the parameters of the API.

A new filter of the API is an option here too. Runs in the command's thread.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.http import HttpRequest, QueryDict
from django_filters import Filter

from sqllogs.errors import ParameterError
from sqllogs.read import n_plus_one, pagination, parameters, ring, stats
from sqllogs.read.aggregates import GROUPS
from sqllogs.read.n_plus_one import RepeatsAnswer
from sqllogs.read.pagination import LIMIT_MAX, OffsetPage
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.scope import Scope, choose_source
from sqllogs.read.stats import StatsAnswer

_DESTINATION = "filter_"
"""Before a filter's name: Django's commands have options of their own."""

WATCH_S = 2.0


def add_json(parser: CommandParser, help: str = "print JSON with the names of the API") -> None:
    parser.add_argument("--json", action="store_true", help=help)


def add_filters(parser: CommandParser, without: Iterable[str] = ()) -> None:
    """Add an option for each filter of the API."""
    group = parser.add_argument_group(
        "filters", "Those of the API. Several values: separate them by commas or repeat the option."
    )
    for name, one in SQLLogFilter.base_filters.items():
        if name not in without:
            group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=f"{_DESTINATION}{name}",
                action="append",
                metavar="VALUE",
                help=_help(one),
            )


def _help(one: Filter) -> str:
    shown = {"Instant": "2026-01-31T12:00, epoch seconds, now-5m", "Slow": "true or false"}
    detail = shown.get(type(one).__name__)
    return f"{one.label}: {detail}" if detail else str(one.label)


def add_limit(parser: CommandParser, default: int, what: str) -> None:
    parser.add_argument("-n", "--limit", type=int, default=default, metavar="N", help=f"{what} ({default})")


def add_watch(parser: CommandParser) -> None:
    parser.add_argument(
        "--watch", type=float, nargs="?", const=WATCH_S, metavar="SECONDS",
        help=f"refresh every N seconds ({WATCH_S:g}) until Ctrl-C",
    )  # fmt: skip


def add_group_by(parser: CommandParser) -> None:
    parser.add_argument(
        "--group-by", choices=GROUPS, default=GROUPS[0], help=f"what to group by ({GROUPS[0]})"
    )


def add_ordering(parser: CommandParser, names: Iterable[str], default: str) -> None:
    listed = ", ".join(names)
    parser.add_argument(
        "--ordering",
        metavar="NAME",
        help=f"{listed}; - before a name is descending, as in --ordering={default}",
    )


def query(options: Mapping[str, Any], *names: str) -> QueryDict:
    """Return the filters, and further options by name, as the API's query string would have them."""
    made = QueryDict(mutable=True)
    for name in SQLLogFilter.base_filters:
        if values := options.get(f"{_DESTINATION}{name}"):
            made.setlist(name, values)
    for name in names:
        if options.get(name) is not None:
            made[name] = str(options[name])
    return made


def filters(options: Mapping[str, Any]) -> SQLLogFilter:
    """Read the filters given; raise ParameterError."""
    return SQLLogFilter.from_query(query(options))


def complaint(exc: ParameterError) -> str:
    """Say what is wrong with a parameter, by the name of its option."""
    return f"--{exc.field.replace('_', '-')}: {exc.message.removeprefix(f'{exc.field}: ')}"


def check_limit(options: Mapping[str, Any], *, least: int = 1) -> int:
    limit = int(options["limit"])
    if not least <= limit <= LIMIT_MAX:
        raise CommandError(f"--limit: Give a number from {least} to {LIMIT_MAX:,}.")
    return limit


STATS = ("group_by", "source", *pagination.PAGE)


class _NoRequest(HttpRequest):
    """Reports contain URLs of further pages; here they are query strings."""

    def __init__(self, query: QueryDict) -> None:
        super().__init__()
        self.GET = query  # type: ignore[assignment]

    def build_absolute_uri(self, location: str | None = None) -> str:
        return location or ""


def scope(query: QueryDict, known: tuple[str, ...] = ()) -> Scope:
    """Read the filters, of a query that may have the parameters `known` beside them; raise ParameterError."""
    return Scope.from_filters(SQLLogFilter.from_query(query, known), version=ring.version(), with_text=True)


def read_stats(query: QueryDict) -> StatsAnswer:
    """Return the answer of `stats/`; raise ParameterError."""
    asked = scope(query, STATS)
    group_by = parameters.read_group_by(query) or "fingerprint"
    page = OffsetPage.from_query(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
    chosen = choose_source(asked, parameters.read_source(query), group_by)
    return stats.read_stats(_NoRequest(query), asked, group_by, page, chosen)


def read_repeats(query: QueryDict) -> RepeatsAnswer:
    """Return the answer of `repeats/`; raise ParameterError."""
    page = OffsetPage.from_query(query, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING)
    return n_plus_one.read_repeats(_NoRequest(query), scope(query, pagination.PAGE), page)
