"""The queries of a `QueryLog`, and the messages about them: which queries, how often, from where, the remedy.

Made by `sqllogs.testing.log`, read by its assertions in the test's thread; sends no query. The messages are
not translated, because developers read and search for them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqllogs.context import UnitOfWork
from sqllogs.sql.format import truncate_sql
from sqllogs.sql.n_plus_one import Remedies, Repetition


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query, after it was executed."""

    sql: str
    """The normalized statement, as it would be stored: every literal and placeholder is a `?`."""
    fingerprint: str
    operation: str
    """SELECT, INSERT, ..."""
    tables: tuple[str, ...]
    alias: str
    time: datetime
    """Time at which it was sent, UTC."""
    duration_ms: float
    rows: int | None
    sql_length: int
    """Length of the statement as sent, characters."""
    many: bool
    """Sent by executemany."""
    error: str | None
    """Name of the class of the exception raised."""
    call_site: str | None
    """`path/file.py:line function` of the application or the test."""
    unit: UnitOfWork | None
    """The request, command or task that it belongs to."""

    @property
    def summary(self) -> str:
        """Operation and tables, as in `SELECT shop_book, shop_author`: the key of the budget file."""
        return f"{self.operation} {', '.join(self.tables)}".strip()

    @property
    def repeats_allowed(self) -> bool:
        return self.unit is not None and self.unit.repeats_allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryGroup:
    """Queries with the same statement from the same line."""

    queries: tuple[Query, ...]

    @property
    def times(self) -> int:
        return len(self.queries)

    @property
    def first(self) -> Query:
        return self.queries[0]

    @property
    def repetition(self) -> Repetition:
        """The facts that the N+1 rules decide on."""
        return Repetition(times=self.times, first=self.first, last=self.queries[-1])

    @property
    def total_ms(self) -> float:
        return sum(query.duration_ms for query in self.queries)


GROUPS_SHOWN = 20
SQL_CHARACTERS_SHOWN = 200
UPDATE_VARIABLE = "SQLLOGS_UPDATE_BUDGET"
UPDATE_HINT = f"run it with --sqllogs-update-budget, or with {UPDATE_VARIABLE}=1 in the environment."


def too_many(groups: Sequence[QueryGroup], limit: int) -> str:
    """Return the message for more queries than a limit allows."""
    count = sum(group.times for group in groups)
    title = (
        f"{plural(count, 'query', 'queries')}, but at most {limit:,} {'is' if limit == 1 else 'are'} allowed."
    )
    return "\n".join([title, "", *_group_lines(groups, _tables(groups))])


def repeated(repeats: Sequence[QueryGroup], groups: Sequence[QueryGroup]) -> str:
    """Return the message for lines that send the same statement repeatedly; `groups` are all queries."""
    statements = "A statement is" if len(repeats) == 1 else f"{len(repeats)} statements are"
    title = f"N+1: {statements} sent repeatedly from the same line."
    return "\n".join([title, "", *_group_lines(repeats, _tables(groups))])


def over_budget(
    test: str, groups: Sequence[QueryGroup], sent: Mapping[str, int], allowed: Mapping[str, int]
) -> str:
    """Return the message for a test that sends more than its budget: the changes and their origins."""
    count, limit = sum(sent.values()), sum(allowed.values())
    queries = plural(count, "query", "queries")
    increased = {summary for summary, times in sent.items() if times > allowed.get(summary, 0)}
    return "\n".join(
        [
            f"{test}: {queries}, {count - limit:,} more than its budget of {limit:,}.",
            "",
            *_comparison(sent, allowed),
            "",
            "Queries beyond the budget:",
            *_group_lines([group for group in groups if group.first.summary in increased], _tables(groups)),
            "",
            f"If this is intended, {UPDATE_HINT}",
        ]
    )


def no_budget(test: str, groups: Sequence[QueryGroup]) -> str:
    """Return the message for a test that has no line in the budget file yet."""
    count = sum(group.times for group in groups)
    sent = plural(count, "query", "queries")
    title = f"{test} has no budget yet; it sent {sent}. To set its budget, {UPDATE_HINT}"
    return "\n".join([title, "", *_group_lines(groups, _tables(groups))])


def _comparison(sent: Mapping[str, int], allowed: Mapping[str, int]) -> Iterator[str]:
    yield "  budget   now"
    for summary in sorted(sent.keys() | allowed.keys()):
        before, now = allowed.get(summary, 0), sent.get(summary, 0)
        sign = "+" if now > before else "-" if now < before else " "
        yield f"{sign} {_number(before):>6} {_number(now):>5}  {summary}"


def _number(times: int) -> str:
    return f"{times:,}" if times else "-"


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _group_lines(groups: Sequence[QueryGroup], tables: Collection[str]) -> Iterator[str]:
    """Yield the lines for some groups; `tables` are those that the whole test has queried."""
    width = len(f"{max((group.times for group in groups), default=1):,}")
    indent = " " * (width + 3)
    remedies = Remedies()
    for group in groups[:GROUPS_SHOWN]:
        yield f"{group.times:>{width},} x {truncate_sql(group.first.sql, SQL_CHARACTERS_SHOWN)}"
        yield f"{indent}{_origin(group)}"
        if group.times > 1 and (advice := _advice(remedies, group, tables)):
            yield f"{indent}-> {advice}"
    if len(groups) > GROUPS_SHOWN:
        rest = groups[GROUPS_SHOWN:]
        yield f"... and {sum(group.times for group in rest):,} more of {len(rest):,} other statements."


def _advice(remedies: Remedies, group: QueryGroup, tables: Collection[str]) -> str | None:
    query = group.first
    if query.operation == "SELECT" and "?" not in query.sql:
        return "It has no parameters: run it once, before the loop."
    remedy = remedies.remedy(query.operation, query.sql, query.tables, tables)
    return remedy.advice if remedy is not None else None


def _tables(groups: Sequence[QueryGroup]) -> set[str]:
    return {table for group in groups for table in group.first.tables}


def _origin(group: QueryGroup) -> str:
    first = group.first
    call_site = f"from {first.call_site}" if first.call_site else "from no line of the application"
    unit = first.unit
    route, view = unit.destination() if unit is not None else (None, None)
    unit_name = f", in {unit.kind} {route or view}" if unit is not None and (route or view) else ""
    error = f", raised {first.error}" if first.error else ""
    return f"{call_site}{unit_name} ({first.alias}, {group.total_ms:.1f} ms{error})"
