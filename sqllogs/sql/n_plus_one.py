"""Distinguish an N+1 from an intended loop, and read from a statement what the rules and remedies need.

Reads normalized statements. Called by `sqllogs.read.n_plus_one` in the reader's thread, by
`sqllogs.metrics.requests` and `sqllogs.pipeline.resolver` in the writer's, and by `sqllogs.testing` in the
test's. `sqllogs.sql.remedies` suggests how to replace an N+1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from sqllogs.conf import Conf
from sqllogs.sql.normalize import StatementInfo

INTERVAL_MAX_S = 1.0
"""A loop whose queries are further apart than this, on average, waits for something and is no N+1."""

_OPERATIONS = frozenset(["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"])
"""Others, such as savepoints, COMMIT and SET, repeat only because something else does."""

_EQUAL = re.compile(r"(?<![<>!]) = \?")
_BEYOND = re.compile(r" (?:<|>|<=|>=) \(?\?")
_STRUCTURE = re.compile(r'"[^"]*"|`[^`]*`|[()]| WHERE ')
_COLUMNS = re.compile(r"\AINSERT [^(]*\(([^)]*)\) VALUES ")

CANDIDATES = {"error__isnull": True, "many": False, "repeats_allowed": False}
"""The same rule as `can_be_n_plus_one`, as a filter of the ring."""


class Sent(Protocol):
    """The fields of a record that decide whether it can belong to an N+1."""

    @property
    def error(self) -> str | None: ...
    @property
    def many(self) -> bool: ...
    @property
    def repeats_allowed(self) -> bool: ...


class End(Protocol):
    """The fields of the first and the last record of a repetition that the rules use."""

    @property
    def time(self) -> datetime: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def sql_length(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """How often one line of one unit of work sent one statement, with its first and last record.

    Averages over all records would be slow to read from the ring, and metrics and tests must apply the same
    rules as readers do.
    """

    times: int
    first: End
    last: End
    asked_by: str | None = None
    """The part of Django's ORM that sent it, see `sqllogs.capture.askers`."""

    @property
    def span_s(self) -> float:
        return abs((self.last.time - self.first.time).total_seconds())

    @property
    def rows_each(self) -> float | None:
        """Rows returned or changed, if the driver reported it."""
        rows = [end.rows for end in (self.first, self.last) if end.rows is not None]
        return sum(rows) / len(rows) if rows else None

    @property
    def characters_each(self) -> float:
        """Length as sent."""
        return (self.first.sql_length + self.last.sql_length) / 2


def can_be_n_plus_one(sent: Sent) -> bool:
    """Return False for failures, which are retried, executemany, which is no loop, and allowed repeats."""
    return sent.error is None and not sent.many and not sent.repeats_allowed


class Rules:
    """The rules for a suspected N+1, with the thresholds of the settings."""

    def __init__(self, settings: Conf) -> None:
        self._threshold = settings.n_plus_one_threshold
        self._ignored = tuple(settings.n_plus_one_ignore)

    def is_suspect(self, statement: StatementInfo, call_site: str | None, repetition: Repetition) -> bool:
        return (
            # The cheap tests first; the last one searches the text.
            repetition.times >= self._threshold
            and statement.operation in _OPERATIONS
            and repetition.span_s <= INTERVAL_MAX_S * (repetition.times - 1)
            and not self._is_ignored(statement.fingerprint, call_site)
            and not _is_intended(statement, repetition)
        )

    def _is_ignored(self, fingerprint: str, call_site: str | None) -> bool:
        names = (fingerprint, call_site or "")
        return any(fnmatchcase(name, pattern) for pattern in self._ignored for name in names)


def _is_intended(statement: StatementInfo, repetition: Repetition) -> bool:
    sql = statement.sql
    if statement.operation == "INSERT":
        return _has_many_rows(sql, repetition)
    if "SKIP LOCKED" in sql:
        return True  # a worker that takes jobs from a queue
    condition = condition_of(sql)
    if " IN (?)" in condition and not _EQUAL.search(condition):
        # A list of values is read in chunks, unless it is known to have only one value or instance.
        return not {"one", "single"} & set((repetition.asked_by or "").split(" "))
    return statement.operation == "SELECT" and (_is_page(sql, repetition) or _is_chunk(sql, repetition))


def _has_many_rows(sql: str, repetition: Repetition) -> bool:
    """Recognize bulk_create: its statement has one row of placeholders for each object."""
    if repetition.rows_each is not None and repetition.rows_each > 1:
        return True
    columns = _COLUMNS.match(sql)
    if columns is None:
        return False
    count = columns[1].count(",") + 1
    # As sent, a statement with one row is longer than the normalized text by the quotes around names and the
    # s of each %s. Each further row adds its placeholders.
    one_row = len(sql) + 2 * (count + 2) + count
    return repetition.characters_each > one_row + 3 * count


def _is_page(sql: str, repetition: Repetition) -> bool:
    """Distinguish a page of a longer list from a single row that a loop reads."""
    if " LIMIT " not in sql or not (" OFFSET " in sql or (" ORDER BY " in sql and _BEYOND.search(sql))):
        return False
    if repetition.rows_each is not None:
        return repetition.rows_each > 1
    return not _EQUAL.search(sql)


def _is_chunk(sql: str, repetition: Repetition) -> bool:
    """Recognize a loop that processes rows in chunks: each time it reads the first rows that are left."""
    is_same = (repetition.asked_by or "").endswith(" same")
    return is_same and " LIMIT " in sql and repetition.rows_each is not None and repetition.rows_each > 1


def condition_of(sql: str) -> str:
    """Return what follows the statement's own WHERE, and not that of a subquery in its SELECT list."""
    depth = 0
    for found in _STRUCTURE.finditer(sql):
        word = found[0]
        if word == " WHERE " and depth == 0:
            return sql[found.end() :]
        depth += (word == "(") - (word == ")")
    return ""


LIMITED = re.compile(r" (?:LIMIT|FETCH FIRST) ")
COUNTED_MAX_CHARACTERS = 4_096
_COUNT = re.compile(r"SELECT COUNT\((?:\*|\?|[\w.\"]*\bid\"?)\)(?: AS [\w\"]+)? FROM (.+)", re.DOTALL)
# DISTINCT with its first column, because another column has another number of distinct values.
_COUNT_DISTINCT = re.compile(
    r"SELECT COUNT\(\*\) FROM \(SELECT (DISTINCT [\w.\"]+(?![\w.\"(]))(?:(?! FROM ).)* FROM (.+)\) subquery",
    re.DOTALL,
)
_LIST = re.compile(
    r"SELECT (?:(DISTINCT [\w.\"]+(?![\w.\"(]))|(?!DISTINCT |[\w.]+\())(?:(?! FROM )[^?])* FROM (.+)",
    re.DOTALL,
)
_THROUGH = re.compile(r"([\w\"]+) INNER JOIN ([\w\"]+) ON \(\1\.[\w\"]+ = \2\.[\w\"]+\)(.*)", re.DOTALL)
"""Rows read through the table of a many-to-many relation. Django counts only the rows of that table."""
_JOIN_LAST = re.compile(r" (?:INNER|LEFT OUTER) JOIN [\w\"]+(?: \w+)? ON \([\w.\"]+ = [\w\"]+\.\"?id\"?\)\Z")


class RowsRead(NamedTuple):
    """Which rows a SELECT lists or counts."""

    is_counted: bool
    keys: tuple[int, ...]
    """Hashes of tables and conditions; several for a list, because its COUNT is sent without some joins."""


def rows_read(sql: str) -> RowsRead | None:
    """Return which rows a normalized statement counts or lists; None if it does something else.

    None also for a list with values outside its conditions, because its COUNT is sent without these, and for
    a list that begins with a function, because that is most often the single row of aggregate().
    """
    if not sql.startswith("SELECT ") or len(sql) > COUNTED_MAX_CHARACTERS:
        return None
    if " OFFSET " in sql or LIMITED.search(sql):
        return None
    if (count := _COUNT_DISTINCT.fullmatch(sql) or _COUNT.fullmatch(sql)) is not None:
        return RowsRead(True, (hash("".join(count.groups())),))
    if (rows := _LIST.fullmatch(sql)) is None:
        return None
    part, _, order = rows[2].rpartition(" ORDER BY ")
    if not part or {"(", ")"} & set(order):
        part = rows[2]
    texts = [part, *_without_joins(part)]
    texts += [f"{through[2]}{through[3]}" for text in texts if (through := _THROUGH.fullmatch(text))]
    # Hashes and not texts: with 130 joins, these would be a hundred times as long as the statement.
    return RowsRead(False, tuple(hash(f"{rows[1] or ''}{text}") for text in texts))


def _without_joins(part: str) -> Iterator[str]:
    """Yield the text without the last, the last two, ... joins of select_related(): they add no rows."""
    tables, where, conditions = part.partition(" WHERE ")
    while join := _JOIN_LAST.search(tables):
        tables = tables[: join.start()]
        yield tables + where + conditions


_LISTED = re.compile(
    r" WHERE (\([\w.\"`]+ = \? AND )?[\"`]?(\w+)[\"`]?\.[\"`]?(\w+)[\"`]? IN \(\?\)\)?"
    r"(?: ORDER BY [^()]*)?\Z"
)
"""The WHERE of prefetch_related(): a list of values, for a generic relation after another condition."""
_COLUMN = r"[\"`]?(\w+)[\"`]?\.[\"`]?(\w+)[\"`]?"
_JOIN = re.compile(rf" JOIN [\"`]?(\w+)[\"`]?(?: (?:AS )?[\"`]?(\w+)[\"`]?)? ON \({_COLUMN} = {_COLUMN}\)")
_OF_ORM = re.compile(rf"\ASELECT (?:DISTINCT )?(?:{_COLUMN}|\* FROM \()")
"""A queryset names the table of each column; raw() rarely does."""


class SeenStatement(NamedTuple):
    """A statement that the same unit of work or trace has sent, from one line."""

    tables: tuple[str, ...]
    """Its tables, beginning with the one that it reads first."""
    rows: int | None
    asked_by: str | None
    call_site: str | None
    column: str | None = None
    """The column that is compared with a list of values, as table.column."""
    has_condition: bool = False
    """It has one more condition: the content type of a generic relation, or one of a Prefetch()."""
    joins: frozenset[tuple[str, str]] = frozenset()
    """The columns that joins compare, each as table.column; that of the joined table is the second."""
    is_raw: bool = False
    """It was not written by a queryset."""

    @classmethod
    def of_statement(
        cls, sql: str | None, tables: Collection[str], rows: int | None, asker: str | None, site: str | None
    ) -> SeenStatement:
        found = _LISTED.search(sql or "")
        column = found and f"{found[2]}.{found[3]}"
        is_raw = sql is not None and not _OF_ORM.match(sql)
        joins = _joins(sql or "")
        return cls(tuple(tables), rows, asker, site, column, bool(found and found[1]), joins, is_raw)


def _joins(sql: str) -> frozenset[tuple[str, str]]:
    found = _JOIN.findall(sql)
    tables = {alias: table for table, alias, *_ in found if alias}
    return frozenset(
        (f"{tables.get(owner, owner)}.{column}", f"{table}.{joined}")
        for table, _, owner, column, _, joined in found
    )
