"""Answer what a queryset of records asks from the columns of blocks, without reading the records.

Made of the queryset's own WHERE, so filters of API, page, admin and commands need no second
description; what is not understood here makes no condition, and the ring is scanned.
Used by `sqllogs.read.block_index`, in the reader's thread.
"""

import operator
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Protocol

import orjson
from django.db.models import Lookup
from django.db.models.sql import Query
from django.db.models.sql.where import AND, OR, WhereNode

from sqllogs.models import BlockColumn
from sqllogs.storage import blocks
from sqllogs.storage.blocks import NAMES, NUMBERS

COMPARED = ("time", "duration_ms")
"""Numbers that are never NULL, which is neither more nor less than another."""

NEEDLES_MAX = 10
"""Values that are looked for in a block's names as they are stored, before these are taken apart."""

Name = str | None


class Condition(Protocol):
    """What a block's columns are asked."""

    def possible(self, block: int) -> bool:
        """Say, without reading it, whether a block can have records that meet it."""

    def load(self, found: Sequence[int]) -> None:
        """Read what `records` needs to know of some blocks."""

    def records(self, block: int, among: int) -> int:
        """Return those of a set of a block's records that meet it."""


Extremes = dict[str, dict[int, tuple[float, float]]]
"""By name of a number, the least and the greatest value in each indexed block."""


def extremes(alias: str) -> Extremes:
    """Read them all at once: a block that is overwritten meanwhile would else be in some of them.

    `time` has the blocks with all columns, see NEWEST_NAME.
    """
    rows: Any = BlockColumn.objects.using(alias).filter(name__in=(*NUMBERS, blocks.NEWEST_NAME))
    found: Extremes = {name: {} for name in (*NUMBERS, blocks.NEWEST_NAME)}
    for name, block, low, high in rows.values_list("name", "block", "low", "high"):
        found[name][block] = low, high
    whole = found.pop(blocks.NEWEST_NAME)
    found["time"] = {block: ends for block, ends in found["time"].items() if block in whole}
    return found


class And:
    """All conditions at once; none is met by every record."""

    def __init__(self, conditions: Iterable[Condition]) -> None:
        # Numbers last: they are tried on what is left of the records.
        self._conditions = sorted(conditions, key=lambda condition: isinstance(condition, NumberCondition))

    def possible(self, block: int) -> bool:
        return all(condition.possible(block) for condition in self._conditions)

    def load(self, found: Sequence[int]) -> None:
        for condition in self._conditions:
            condition.load(found)

    def records(self, block: int, among: int) -> int:
        for condition in self._conditions:
            if not among:
                break
            among = condition.records(block, among)
        return among


class Or(And):
    """One condition or another."""

    def possible(self, block: int) -> bool:
        return any(condition.possible(block) for condition in self._conditions)

    def records(self, block: int, among: int) -> int:
        met = 0
        for condition in self._conditions:
            met |= condition.records(block, among)
        return met


class NumberCondition:
    """A number that is compared with another one."""

    def __init__(self, name: str, meets: Callable[[float], bool], extremes: Extremes, alias: str) -> None:
        self._name, self._meets = name, meets
        self._extremes = extremes[name]
        self._alias = alias
        self._values: dict[int, array[float]] = {}

    def _outcomes(self, block: int) -> tuple[bool, bool]:
        """Say whether a block's least value meets it, and the greatest."""
        low, high = self._extremes[block]
        return self._meets(low), self._meets(high)

    def possible(self, block: int) -> bool:
        return any(self._outcomes(block))

    def load(self, found: Sequence[int]) -> None:
        wanted = [block for block in found if len({*self._outcomes(block)}) == 2]
        self._values = {
            block: blocks.numbers(values)
            for block, values, _ in condition_columns(self._name, wanted, self._alias)
        }

    def records(self, block: int, among: int) -> int:
        outcomes = self._outcomes(block)
        if outcomes[0] == outcomes[1]:
            return among if outcomes[0] else 0
        values = self._values.get(block)
        if values is None:  # the block has been overwritten meanwhile
            return 0
        return blocks.matching_numbers(among, values, self._meets)


class NameCondition:
    """A name that passes a test; `needles` are texts of which one is in it then, as JSON has them."""

    def __init__(self, name: str, test: Callable[[Name], bool], needles: Sequence[bytes], alias: str) -> None:
        self._name, self._test, self._needles = name, test, needles
        self._alias = alias
        self._columns: dict[int, tuple[bytes, bytes]] = {}

    def possible(self, block: int) -> bool:
        return True

    def load(self, found: Sequence[int]) -> None:
        self._columns = {
            block: (values, codes)
            for block, values, codes in condition_columns(self._name, found, self._alias)
        }

    def records(self, block: int, among: int) -> int:
        values, codes = self._columns.get(block, (b"[]", b""))
        if self._needles and not any(needle in values for needle in self._needles):
            return 0
        return among & blocks.matching_names(orjson.loads(values), codes, self._test)


def condition_columns(name: str, found: Sequence[int], alias: str) -> Iterable[tuple[int, bytes, bytes]]:
    """Read the values and codes of a column in some blocks."""
    if not found:
        return []
    chosen = BlockColumn.objects.using(alias).filter(name=name, block__in=found)
    compiler = chosen.values_list("block", "values", "codes").query.get_compiler(using=alias)
    rows: Iterable[Any] = chain.from_iterable(compiler.execute_sql())
    return [(block, bytes(values), bytes(codes)) for block, values, codes in rows]


class NotUnderstoodError(Exception):
    """A WHERE asks what the columns of blocks cannot answer."""


def condition(where: WhereNode, extremes: Extremes, *, alias: str, vendor: str) -> Condition:
    """Return what a WHERE asks; raise NotUnderstoodError."""
    reader = _ConditionReader(extremes, alias=alias, vendor=vendor)
    return reader.node(where)


class _ConditionReader:
    def __init__(self, extremes: Extremes, *, alias: str, vendor: str) -> None:
        self._extremes = extremes
        self._alias = alias
        # LIKE of SQLite ignores case, in ASCII.
        self._fold: Callable[[str], str] = _ascii_lower if vendor == "sqlite" else str

    def node(self, node: Any) -> Condition:
        if not isinstance(node, WhereNode):
            return self._lookup(node)
        if node.negated or node.connector not in (AND, OR):
            raise NotUnderstoodError
        children = [self.node(child) for child in node.children]
        if len(children) == 1:
            return children[0]
        return And(children) if node.connector == AND else Or(children)

    def _lookup(self, lookup: Any) -> Condition:
        if not isinstance(lookup, Lookup):
            raise NotUnderstoodError
        name = getattr(getattr(lookup.lhs, "target", None), "column", None)
        kind, value = str(lookup.lookup_name), lookup.rhs
        if name in COMPARED and kind in _COMPARISONS:
            meets = partial(_COMPARISONS[kind], value.timestamp() if isinstance(value, datetime) else value)
            return NumberCondition(name, meets, self._extremes, self._alias)
        if name not in NAMES:
            raise NotUnderstoodError
        if kind == "in" and isinstance(value, Query):
            value = self._selected(value)
        test, needles = self._test(kind, value)
        return NameCondition(name, test, needles, self._alias)

    def _test(self, kind: str, value: Any) -> tuple[Callable[[Name], bool], list[bytes]]:
        match kind:
            case "exact" | "in":
                wanted = {value} if kind == "exact" else {*value}
                few = len(wanted) <= NEEDLES_MAX
                return wanted.__contains__, [orjson.dumps(name) for name in wanted] if few else []
            case "isnull":
                return (lambda name: (name is None) is value), [b"null"] if value else []
            case "contains":
                return partial(self._contains, self._fold(value)), []
        raise NotUnderstoodError

    def _contains(self, part: str, name: Name) -> bool:
        return name is not None and part in self._fold(name)

    def _selected(self, query: Query) -> list[str]:
        """Return what a subquery selects: the fingerprints of statements that are asked for."""
        rows = chain.from_iterable(query.get_compiler(using=self._alias).execute_sql())
        return [row[0] for row in rows]


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.lt,
    "gte": operator.le,
    "lt": operator.gt,
    "lte": operator.ge,
}
"""With the bound on the left, as `partial` has it."""

_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def _ascii_lower(text: str) -> str:
    return text.translate(_LOWER)
