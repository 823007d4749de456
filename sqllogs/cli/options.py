"""Shared by the subcommands: their definition, and options made from the parameters of the API.

A new filter of the API becomes an option of every subcommand that reads. Runs in the command's thread.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import HttpRequest, QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.errors import ParameterError
from sqllogs.read import comparison, n_plus_one, pagination, parameters, stats
from sqllogs.read.aggregates import GROUPS
from sqllogs.read.n_plus_one import RepeatsAnswer
from sqllogs.read.pagination import LIMIT_MAX, OffsetPage
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.scope import Scope, choose_source
from sqllogs.read.stats import StatsAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """One subcommand of `manage.py sqllogs`."""

    help: Promise
    add_arguments: Callable[[CommandParser], None]
    handle: Callable[[BaseCommand, Mapping[str, Any]], None]
    """Writes to the command's stdout, and notes to its stderr; raises CommandError or SQLLogsError."""


_HELP = {
    "from": gettext_lazy(
        "Start of the time range: RFC 3339, seconds or milliseconds since the epoch, or now-5m."
    ),
    "to": gettext_lazy("End of the time range, exclusive; same format as --from."),
    "search": gettext_lazy("Part of the SQL text."),
}
"""Help texts that differ from the API's: options begin with dashes, and the user may read all texts."""
_DESTINATION_PREFIX = "filter_"
"""Keeps filters apart from the options that every Django command has, such as --settings."""

TABLE_ROWS = 20
WATCH_INTERVAL_S = 2.0


def add_json(parser: CommandParser, help: str = "") -> None:
    parser.add_argument(
        "--json", action="store_true", help=help or _("print JSON, with the field names of the API")
    )


def add_filters(parser: CommandParser) -> None:
    """Add an option for each filter of the API."""
    group = parser.add_argument_group(
        _("filters"), _("Most take several values, separated by commas or by repeating the option.")
    )
    for name in dict.fromkeys(("from", "to", *SQLLogFilter.base_filters)):
        help = _HELP.get(name) or SQLLogFilter.base_filters[name].extra["help_text"]
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"{_DESTINATION_PREFIX}{name}",
            # Appended, so that a filter can be repeated as in a query string.
            action="append",
            metavar="VALUE",
            help=str(help),
        )


def add_limit(parser: CommandParser, default: int, help: str) -> None:
    parser.add_argument("-n", "--limit", type=int, default=default, metavar="N", help=f"{help} [%(default)s]")


def add_watch(parser: CommandParser) -> None:
    parser.add_argument(
        "--watch", type=float, nargs="?", const=WATCH_INTERVAL_S, metavar="SECONDS",
        help=_("refresh every SECONDS until Ctrl-C [%(const)s]"),
    )  # fmt: skip


def add_group_by(parser: CommandParser) -> None:
    parser.add_argument(
        "--group-by", choices=GROUPS, default=GROUPS[0], help=_("column to group by [%(default)s]")
    )


def add_ordering(parser: CommandParser, names: Iterable[str], default: str) -> None:
    parser.add_argument(
        "--ordering",
        metavar="NAME",
        # With =, because argparse takes a value that begins with - for an option.
        help=_("%(names)s; a leading - sorts descending [--ordering=%(default)s]")
        % {"names": ", ".join(names), "default": default},
    )


def add_table_options(parser: CommandParser, orderings: Iterable[str], default: str, limit_help: str) -> None:
    """Add what all tables have: their order, size and form, and the filters."""
    add_ordering(parser, orderings, default)
    add_limit(parser, TABLE_ROWS, limit_help)
    add_json(parser)
    add_watch(parser)
    add_filters(parser)


def query(options: Mapping[str, Any], *names: str) -> QueryDict:
    """Return the filters, and the options `names`, as a query string of the API."""
    query = QueryDict(mutable=True)
    for name in SQLLogFilter.base_filters:
        if values := options.get(f"{_DESTINATION_PREFIX}{name}"):
            query.setlist(name, values)
    for name in names:
        if options.get(name) is not None:
            query[name] = str(options[name])
    return query


def filters(options: Mapping[str, Any]) -> SQLLogFilter:
    """Parse the filters; raise ParameterError."""
    return SQLLogFilter.from_query(query(options))


def option_error(exc: ParameterError) -> str:
    """Return the message of a parameter error, with the option's name instead of the parameter's."""
    return f"--{exc.field.replace('_', '-')}: {exc.message.removeprefix(f'{exc.field}: ')}"


def check_limit(options: Mapping[str, Any], *, minimum: int = 1) -> int:
    limit = int(options["limit"])
    if not minimum <= limit <= LIMIT_MAX:
        message = _("--limit: Must be a number from %(minimum)s to %(maximum)s.")
        raise CommandError(message % {"minimum": minimum, "maximum": f"{LIMIT_MAX:,}"})
    return limit


STATS_PARAMETERS = ("compare", "group_by", "source", *pagination.PAGE)


class QueryRequest(HttpRequest):
    """A request for readers, from which they build links to other pages.

    Here these are only query strings.
    """

    def __init__(self, query: QueryDict) -> None:
        super().__init__()
        self.GET = query  # type: ignore[assignment]

    # Django's method needs a host, which a command does not have.
    def build_absolute_uri(self, location: str | None = None) -> str:
        return location or ""


def parse_scope(query: QueryDict, other_parameters: tuple[str, ...] = ()) -> Scope:
    """Parse the filters of a query that may have `other_parameters` too; raise ParameterError."""
    filterset = SQLLogFilter.from_query(query, other_parameters)
    # With texts, because anyone who can run manage.py can read the database.
    return Scope.from_filters(filterset, with_text=True)


def read_stats(query: QueryDict) -> StatsAnswer:
    """Return the answer of `stats/`; raise ParameterError."""
    scope = parse_scope(query, STATS_PARAMETERS)
    wanted = parameters.read_source(query)
    group_by = parameters.read_group_by(query) or stats.default_group(wanted)
    if compare := parameters.read_compare(query):
        page = OffsetPage.from_query(query, comparison.ORDERINGS, comparison.DEFAULT_ORDERING)
        ranges = comparison.read_ranges(query, scope, wanted, group_by, compare)
        return comparison.read_comparison(QueryRequest(query), ranges, group_by, page)
    page = OffsetPage.from_query(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
    source = choose_source(scope, wanted, group_by)
    return stats.read_stats(QueryRequest(query), scope, group_by, page, source)


def read_repeats(query: QueryDict) -> RepeatsAnswer:
    """Return the answer of `repeats/`; raise ParameterError."""
    page = OffsetPage.from_query(query, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING)
    return n_plus_one.read_repeats(QueryRequest(query), parse_scope(query, pagination.PAGE), page)
