"""Write what is wrong with a test's queries: which, how often, from where, and the remedy.

Feeds the assertions of `sqllogs.testing`; queries nothing.
"""

from collections.abc import Collection, Iterator, Sequence

from sqllogs.sql.format import truncate_sql
from sqllogs.sql.remedies import Remedies
from sqllogs.testing.budget import UPDATE_VARIABLE, Budget, kind
from sqllogs.testing.query import QueryGroup

GROUPS_SHOWN = 20
SQL_SHOWN = 200
"""Characters of a statement."""


def too_many(groups: Sequence[QueryGroup], limit: int) -> str:
    """Return the message for more queries than a limit allows."""
    count = sum(group.times for group in groups)
    head = f"{plural(count, 'query', 'queries')}, and {limit} at most {_are(limit)} allowed."
    return "\n".join([head, "", *_listed(groups, _tables(groups))])


def repeated(groups: Sequence[QueryGroup], others: Sequence[QueryGroup]) -> str:
    """Return the message for lines that send one statement again and again."""
    what = "A statement is" if len(groups) == 1 else f"{len(groups)} statements are"
    return "\n".join(
        [f"{what} sent again and again from the same line.", "", *_listed(groups, _tables(others))]
    )


def over_budget(test: str, groups: Sequence[QueryGroup], spent: Budget, allowed: Budget) -> str:
    """Return the message for a test that sends more than its budget: what has changed, and by whom."""
    count, limit = sum(spent.values()), sum(allowed.values())
    more = {what for what, times in spent.items() if times > allowed.get(what, 0)}
    sent = plural(count, "query", "queries")
    return "\n".join(
        [
            f"{test}: {sent}, {count - limit:,} more than its budget of {limit:,}.",
            "",
            *_compared(spent, allowed),
            "",
            "What there is more of:",
            *_listed([group for group in groups if kind(group.first) in more], _tables(groups)),
            "",
            f"Is it meant? {UPDATE_HINT}",
        ]
    )


def no_budget(test: str, groups: Sequence[QueryGroup]) -> str:
    """Return the message for a test that has no line in the budget file yet."""
    count = sum(group.times for group in groups)
    head = f"{test} has no budget yet; it has sent {plural(count, 'query', 'queries')}. {UPDATE_HINT}"
    return "\n".join([head, "", *_listed(groups, _tables(groups))])


UPDATE_HINT = f"Run it with --sqllogs-update-budget, or with {UPDATE_VARIABLE}=1 in the environment."


def _compared(spent: Budget, allowed: Budget) -> Iterator[str]:
    yield "  budget   now"
    for what in sorted(spent.keys() | allowed.keys()):
        before, now = allowed.get(what, 0), spent.get(what, 0)
        sign = "+" if now > before else "-" if now < before else " "
        yield f"{sign} {_number(before):>6} {_number(now):>5}  {what}"


def _number(times: int) -> str:
    return f"{times:,}" if times else "-"


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(groups: Sequence[QueryGroup], seen: Collection[str]) -> Iterator[str]:
    width = len(f"{max((group.times for group in groups), default=1):,}")
    indent = " " * (width + 3)
    remedies = Remedies()
    for group in groups[:GROUPS_SHOWN]:
        yield f"{group.times:>{width},} x {truncate_sql(group.first.sql, SQL_SHOWN)}"
        yield f"{indent}{_where(group)}"
        if group.times > 1 and (advice := _advice(remedies, group, seen)):
            yield f"{indent}-> {advice}"
    if len(groups) > GROUPS_SHOWN:
        rest = groups[GROUPS_SHOWN:]
        yield f"... and {sum(group.times for group in rest):,} more of {len(rest):,} other statements."


def _advice(remedies: Remedies, group: QueryGroup, seen: Collection[str]) -> str | None:
    query = group.first
    if query.operation == "SELECT" and "?" not in query.sql:
        return "It is the same each time: ask once, before the loop."
    remedy = remedies.remedy(query.operation, query.sql, query.tables, seen)
    return remedy.advice if remedy is not None else None


def _tables(groups: Sequence[QueryGroup]) -> set[str]:
    return {table for group in groups for table in group.first.tables}


def _where(group: QueryGroup) -> str:
    first = group.first
    place = f"from {first.call_site}" if first.call_site else "from no line of the application"
    unit = first.unit
    route, view = unit.destination() if unit is not None else (None, None)
    within = f", in {unit.kind} {route or view}" if unit is not None and (route or view) else ""
    error = f", raised {first.error}" if first.error else ""
    return f"{place}{within} ({first.alias}, {group.total_ms:.1f} ms{error})"
