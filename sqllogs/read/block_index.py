"""Find matching records by the columns of a large ring's blocks, instead of reading all records.

Blocks are read in the requested order until the page is full. Blocks without columns, mostly the newest, are
scanned by SQL. Conditions are read from the WHERE of a queryset, so that the filters of API, page, admin and
commands are defined once; if a WHERE cannot be translated, the ring is scanned. Used by
`sqllogs.read.records`, in the reader's thread.
"""

import heapq
import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import chain, islice
from math import inf
from typing import Any, Protocol

import orjson
from django.db import connections
from django.db.models import Lookup
from django.db.models.sql import Query
from django.db.models.sql.where import AND, OR, WhereNode

from sqllogs.models import BlockColumn
from sqllogs.read.ring import Records, RingSnapshot, Window, between, numbers
from sqllogs.storage import blocks
from sqllogs.storage.blocks import NAMES, NUMBERS

COMPARED = ("time", "duration_ms")
"""Numbers that are never NULL, which cannot be compared."""

NEEDLES_MAX = 10
"""Maximum values searched for in the stored bytes of a block's names, before these are parsed."""

Name = str | None


class Condition(Protocol):
    """A condition on records, which the columns of blocks can answer."""

    def possible(self, block: int) -> bool:
        """Return, without reading it, whether a block can have matching records."""

    def load(self, found: Sequence[int]) -> None:
        """Read what `records` needs to know of some blocks."""

    def records(self, block: int, among: int) -> int:
        """Return those records of a block's set that match."""


Extremes = dict[str, dict[int, tuple[float, float]]]
"""By name of a number, its minimum and maximum in each indexed block."""


def read_extremes(alias: str) -> Extremes:
    """Read the extremes of all numbers in one query.

    `time` has the blocks with all columns, see NEWEST_NAME.
    """
    # In one query: a block overwritten between two queries would be missing in some of them.
    rows: Any = BlockColumn.objects.using(alias).filter(name__in=(*NUMBERS, blocks.NEWEST_NAME))
    found: Extremes = {name: {} for name in (*NUMBERS, blocks.NEWEST_NAME)}
    for name, block, low, high in rows.values_list("name", "block", "low", "high"):
        found[name][block] = low, high
    whole = found.pop(blocks.NEWEST_NAME)
    found["time"] = {block: ends for block, ends in found["time"].items() if block in whole}
    return found


class And:
    """All of several conditions; without any, every record matches."""

    def __init__(self, conditions: Iterable[Condition]) -> None:
        # Numbers last, so that they are tested on few records.
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
    """At least one of several conditions."""

    def possible(self, block: int) -> bool:
        return any(condition.possible(block) for condition in self._conditions)

    def records(self, block: int, among: int) -> int:
        met = 0
        for condition in self._conditions:
            met |= condition.records(block, among)
        return met


class NumberCondition:
    """A comparison of a number."""

    def __init__(self, name: str, meets: Callable[[float], bool], extremes: Extremes, alias: str) -> None:
        self._name, self._meets = name, meets
        self._extremes = extremes[name]
        self._alias = alias
        self._values: dict[int, array[float]] = {}

    def _outcomes(self, block: int) -> tuple[bool, bool]:
        """Return whether a block's minimum meets the condition, and whether its maximum does."""
        low, high = self._extremes[block]
        return self._meets(low), self._meets(high)

    def possible(self, block: int) -> bool:
        return any(self._outcomes(block))

    def load(self, found: Sequence[int]) -> None:
        # If both extremes meet it, or neither does, all records agree and nothing has to be read.
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
        if values is None:  # the block was overwritten in the meantime
            return 0
        return blocks.matching_numbers(among, values, self._meets)


class NameCondition:
    """A test of a name. A block with a match contains at least one of the `needles`, which are JSON."""

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
        # If the block was overwritten in the meantime there are no names, so no matches.
        values, codes = self._columns.get(block, (b"[]", b""))
        # Most blocks lack a rare name: searching the bytes is cheaper than parsing their JSON.
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
    # psycopg 2 gives a memoryview.
    return [(block, bytes(values), bytes(codes)) for block, values, codes in rows]


class NotUnderstoodError(Exception):
    """Raised for a WHERE that cannot be answered from the columns of blocks."""


def make_condition(where: WhereNode, extremes: Extremes, *, alias: str, vendor: str) -> Condition:
    """Return the condition of a WHERE; raise NotUnderstoodError."""
    reader = _ConditionReader(extremes, alias=alias, vendor=vendor)
    return reader.node(where)


class _ConditionReader:
    def __init__(self, extremes: Extremes, *, alias: str, vendor: str) -> None:
        self._extremes = extremes
        self._alias = alias
        # SQLite's LIKE ignores the case of ASCII letters.
        self._fold: Callable[[str], str] = _ascii_lower if vendor == "sqlite" else str

    def node(self, node: Any) -> Condition:
        if not isinstance(node, WhereNode):
            return self._lookup(node)
        # In SQL, NOT of NULL is NULL, so a negated condition is not the complement of a set.
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
        if name == "source" and kind == "in" and isinstance(value, Query):
            return self.node(value.where)  # a record has the columns of its source
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
        """Return the values that a subquery selects, such as fingerprints of statements."""
        rows = chain.from_iterable(query.get_compiler(using=self._alias).execute_sql())
        return [row[0] for row in rows]


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.lt,
    "gte": operator.le,
    "lt": operator.gt,
    "lte": operator.ge,
}
"""With the bound as the left operand, where `partial` puts it."""

_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def _ascii_lower(text: str) -> str:
    return text.translate(_LOWER)


CHUNK_BLOCKS = 8
CHUNK_BLOCKS_MAX = 128
"""Blocks whose columns are read at once, doubled each time, because most readers need the first few."""
HEAP_BELOW = 2_000
"""A heap of more values takes longer than sorting: 543 ms instead of 304 from the 10,000th record on."""
INDEXED_SHARE_MIN = 0.75
"""If fewer blocks are indexed, one scan of the ring is faster than many scans of its parts."""


class Index:
    """Finds the records that a filter chooses by the columns of the ring's blocks."""

    def __init__(
        self, filtered: Records, ring: RingSnapshot, condition: Condition, extremes: Extremes
    ) -> None:
        self._filtered = filtered
        self._ring = ring
        self._condition = condition
        self._extremes = extremes
        self._indexed = extremes["time"].keys()

    @classmethod
    def for_filters(cls, filtered: Records, ring: RingSnapshot) -> "Index | None":
        """Return None if the ring is small or mostly not indexed, or if only SQL can answer the filter."""
        connection = connections[filtered.db]
        if not blocks.is_indexed(ring.capacity):
            return None
        if filtered.db not in ring.extremes:
            ring.extremes[filtered.db] = read_extremes(filtered.db)
        extremes = ring.extremes[filtered.db]
        whole = blocks.complete_blocks(ring.seq, ring.capacity)
        if not whole or len(extremes["time"].keys() & set(whole)) < INDEXED_SHARE_MIN * len(whole):
            return None
        try:
            where = filtered.query.where
            condition = make_condition(where, extremes, alias=filtered.db, vendor=connection.vendor)
        except NotUnderstoodError:
            return None
        return cls(filtered, ring, condition, extremes)

    def count(self, first: int, last: int, cap: int) -> int:
        """Count up to `cap` of the numbers from `first` to `last`."""
        counted = 0
        for _, records in self._matching(first, last, descending=True):
            counted += blocks.count_records(records)
            if counted >= cap:
                break
        return min(counted, cap)

    def window(self, window: Window) -> list[int]:
        """Return the numbers of a window, in an order by number or by one of blocks.NUMBERS."""
        return self._by_number(window) if window.ordering.column == "seq" else self._by_value(window)

    def _by_number(self, window: Window) -> list[int]:
        descending = window.ordering.descending
        behind = numbers(self._ring, window.ordering, window.after)
        found = (
            first + place
            for first, records in self._matching(*behind, descending=descending)
            for place in (reversed([*blocks.positions(records)]) if descending else blocks.positions(records))
        )
        return list(islice(found, window.offset, window.offset + window.limit))

    def _by_value(self, window: Window) -> list[int]:
        name, sign = window.ordering.column, 1 if window.ordering.descending else -1
        extremes = self._extremes[name]

        def promise(block: int) -> tuple[float, float]:
            """Return the best sort value that a block can contain; infinity if it is not indexed."""
            ends = blocks.first_of(block), blocks.first_of(block + 1) - 1
            value = sign * extremes[block][sign > 0] if block in self._indexed else inf
            return value, sign * ends[sign > 0]

        # Ascending order is descending order of negated values, so nlargest() serves both.
        behind = (inf, 0.0)
        if window.after is not None and window.after.value is not None:
            behind = (sign * window.after.value, sign * window.after.seq)
        want = window.offset + window.limit
        best: list[tuple[float, float]] = []
        possible = self._possible(self._ring.oldest, self._ring.seq)
        for chunk in _chunks(sorted(possible, key=promise, reverse=True)):
            beyond: Callable[[float], bool] | None = None
            if len(best) == want:
                # Blocks come in the order of what they promise: none of the rest can be better.
                chunk = [block for block in chunk if promise(block) >= best[-1]]
                if not chunk:
                    break
                # Skip values worse than the worst of the page; equal ones are ordered by number. The slowest
                # of a million records take 25 ms instead of 98.
                beyond = partial(operator.le if sign > 0 else operator.ge, sign * best[-1][0])
            valued = ((sign * value, sign * seq) for value, seq in self._valued(name, chunk, beyond))
            found = [*best, *(one for one in valued if one < behind)]
            best = heapq.nlargest(want, found) if want < HEAP_BELOW else sorted(found, reverse=True)[:want]
        return [int(sign * seq) for _, seq in best[window.offset :]]

    def _matching(self, first: int, last: int, *, descending: bool) -> Iterator[tuple[int, int]]:
        """Yield blocks in order, each as its first number and the set of its matching records."""
        possible = self._possible(first, last)
        for chunk in _chunks(possible[::-1] if descending else possible):
            self._load(chunk)
            for block in chunk:
                if records := blocks.within(self._records(block), block, first, last):
                    yield blocks.first_of(block), records

    def _possible(self, first: int, last: int) -> list[int]:
        """Return the blocks of a range of numbers that can have matching records."""
        return [
            block
            for block in range(blocks.block_of(first), blocks.block_of(last) + 1 if first <= last else 0)
            if block not in self._indexed or self._condition.possible(block)
        ]

    def _load(self, chunk: Sequence[int]) -> None:
        self._condition.load([block for block in chunk if block in self._indexed])

    def _records(self, block: int) -> int:
        """Return the set of a block's matching records."""
        if block in self._indexed:
            return self._condition.records(block, blocks.ALL)
        begin = blocks.first_of(block)
        marks = bytearray(blocks.ROWS)
        for seq in self._scanned(block).values_list("seq", flat=True):
            marks[seq - begin] = 1
        return int.from_bytes(marks, "little")

    def _scanned(self, block: int) -> Records:
        begin = blocks.first_of(block)
        last = min(begin + blocks.ROWS - 1, self._ring.seq)
        return between(self._filtered, self._ring, max(begin, self._ring.oldest), last)

    def _valued(
        self, name: str, chunk: Sequence[int], beyond: Callable[[float], bool] | None
    ) -> Iterator[tuple[float, int]]:
        """Yield value and number of the matching records of some blocks; `beyond` excludes worse values."""
        self._load(chunk)
        indexed = [block for block in chunk if block in self._indexed]
        columns = {
            block: blocks.numbers(values)
            for block, values, _ in condition_columns(name, indexed, self._filtered.db)
        }
        for block in chunk:
            if block not in self._indexed:
                for value, seq in self._scanned(block).values_list(name, "seq"):
                    yield blocks.UNKNOWN if value is None else value, seq
            elif block in columns:  # otherwise it was overwritten after its extremes were read
                begin, values = blocks.first_of(block), columns[block]
                records = blocks.within(self._records(block), block, self._ring.oldest, self._ring.seq)
                if beyond is not None:
                    records = blocks.matching_numbers(records, values, beyond)
                for place in blocks.positions(records):
                    yield values[place], begin + place


def _chunks(found: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut blocks into portions that are read at once."""
    begin, size = 0, CHUNK_BLOCKS
    while begin < len(found):
        yield found[begin : begin + size]
        begin, size = begin + size, min(2 * size, CHUNK_BLOCKS_MAX)
