"""Find the records that match by the columns of a large ring's blocks, instead of reading all records.

Blocks are read in the order asked for, as many as are needed; those that have no columns yet, the
newest above all, are scanned by SQL. Used by `sqllogs.read.records`, in the reader's thread.
"""

import heapq
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from math import inf

from django.db import connections

from sqllogs.read import block_conditions
from sqllogs.read.block_conditions import Condition, Extremes, NotUnderstoodError
from sqllogs.read.ring import Records, RingSnapshot, Window, between, numbers
from sqllogs.storage import blocks

CHUNK_BLOCKS = 8
CHUNK_BLOCKS_MAX = 128
"""Blocks whose columns are read at once; each time twice as many, since most readers need the first few."""
INDEXED_SHARE_MIN = 0.75
"""With fewer blocks indexed a scan of the whole is faster than many scans of its parts."""


class Index:
    """What the blocks of a ring say of the records that a filter chooses."""

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
        """Return None for a ring that is small or hardly indexed, and for what only SQL understands."""
        connection = connections[filtered.db]
        if not blocks.is_indexed(ring.capacity):
            return None
        extremes = block_conditions.extremes(filtered.db)
        whole = blocks.complete_blocks(ring.seq, ring.capacity)
        if not whole or len(extremes["time"].keys() & set(whole)) < INDEXED_SHARE_MIN * len(whole):
            return None
        try:
            where = filtered.query.where
            condition = block_conditions.condition(
                where, extremes, alias=filtered.db, vendor=connection.vendor
            )
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
            """Return the best that a block can have; of one that is not indexed that is not known."""
            ends = blocks.first_of(block), blocks.first_of(block + 1) - 1
            value = sign * extremes[block][sign > 0] if block in self._indexed else inf
            return value, sign * ends[sign > 0]

        behind = (inf, 0.0)
        if window.after is not None and window.after.value is not None:
            behind = (sign * window.after.value, sign * window.after.seq)
        want = window.offset + window.limit
        best: list[tuple[float, float]] = []
        possible = self._possible(self._ring.oldest, self._ring.seq)
        for chunk in _chunks(sorted(possible, key=promise, reverse=True)):
            beyond: Callable[[float], bool] | None = None
            if len(best) == want:
                if promise(chunk[0]) < best[-1]:
                    break
                beyond = partial(operator.le if sign > 0 else operator.ge, sign * best[-1][0])
            valued = ((sign * value, sign * seq) for value, seq in self._valued(name, chunk, beyond))
            best = heapq.nlargest(want, [*best, *(one for one in valued if one < behind)])
        return [int(sign * seq) for _, seq in best[window.offset :]]

    def _matching(self, first: int, last: int, *, descending: bool) -> Iterator[tuple[int, int]]:
        """Yield blocks in order, each as the number of its first record and the set of those that match."""
        possible = self._possible(first, last)
        for chunk in _chunks(possible[::-1] if descending else possible):
            self._load(chunk)
            for block in chunk:
                if records := blocks.within(self._records(block), block, first, last):
                    yield blocks.first_of(block), records

    def _possible(self, first: int, last: int) -> list[int]:
        """Return the blocks of some numbers that can have records that match."""
        return [
            block
            for block in range(blocks.block_of(first), blocks.block_of(last) + 1 if first <= last else 0)
            if block not in self._indexed or self._condition.possible(block)
        ]

    def _load(self, chunk: Sequence[int]) -> None:
        self._condition.load([block for block in chunk if block in self._indexed])

    def _records(self, block: int) -> int:
        """Return the set of a block's records that match."""
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
        """Yield value and number of the records of some blocks that match, or beyond what is found."""
        self._load(chunk)
        indexed = [block for block in chunk if block in self._indexed]
        columns = {
            block: blocks.numbers(values)
            for block, values, _ in block_conditions.condition_columns(name, indexed, self._filtered.db)
        }
        for block in chunk:
            if block not in self._indexed:
                for value, seq in self._scanned(block).values_list(name, "seq"):
                    yield blocks.UNKNOWN if value is None else value, seq
            elif block in columns:
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
