"""The format of a large ring's index, and the arithmetic of slots (`slot = seq % capacity`).

Records are indexed in blocks of consecutive numbers, with one row per block and column.
`sqllogs.storage.ring` encodes a block in the writer's thread once it is complete;
`sqllogs.read.block_index` decodes it in the reader's thread.
"""

import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import orjson

ROWS = 2_048
"""Records per block; block 0 holds the numbers 1 to ROWS."""

SCAN_BELOW_ROWS = 256
"""Up to this many records of a block are tested individually instead of the whole block at once."""

INDEXED_FROM_ROWS = 200_000
"""Smallest capacity that is indexed; scanning a smaller ring takes less than 50 ms."""

UNKNOWN = -1.0
"""Sort value of NULL."""

NAMES = (
    "fingerprint", "alias", "vendor", "error", "trace_id", "request_id", "kind", "route", "view", "method",
    "call_site", "release", "host", "service", "sqlstate",
)  # fmt: skip
NEWEST_NAME = "sqlstate"
"""The column added last. A block indexed by an earlier release lacks it, so it counts as not indexed."""
NUMBERS = ("time", "duration_ms", "rows")
COLUMNS = (*NAMES, *NUMBERS)

ALL = int.from_bytes(b"\1" * ROWS, "little")
"""The set of all records of a block.

A set is an integer with one byte per record, 1 if the record is in it: `&` and `|` combine sets.
"""


class ColumnRow(NamedTuple):
    """A row of `BlockColumn`."""

    name: str
    block: int
    low: float | None
    high: float | None
    values: bytes
    codes: bytes


def block_of(seq: int) -> int:
    return (seq - 1) // ROWS


def first_of(block: int) -> int:
    """Return the number of a block's first record."""
    return block * ROWS + 1


def completed_by(first_seq: int, rows: int) -> range:
    """Return the blocks that are complete once `rows` records from `first_seq` are written."""
    return range(block_of(first_seq), block_of(first_seq + rows))


def complete_blocks(seq: int, capacity: int) -> range:
    """Return the blocks that are entirely in a ring written up to `seq`."""
    # ROWS is added to round up: a block whose first records have been overwritten is not complete.
    return range(block_of(max(0, seq - capacity) + ROWS), block_of(seq + 1))


def encode_columns(block: int, columns: Iterable[Sequence[Any]]) -> Iterator[ColumnRow]:
    """Yield one row per column; `columns` has the values of COLUMNS, in the order of the records' numbers."""
    for name, column in zip(COLUMNS, columns, strict=True):
        yield _encode_numbers(name, block, column) if name in NUMBERS else _encode_names(name, block, column)
        time.sleep(0)  # lets the application's threads run, as in the resolver


def _encode_names(name: str, block: int, column: Sequence[Any]) -> ColumnRow:
    codes = {value: code for code, value in enumerate(dict.fromkeys(column))}
    # One byte per record for up to 256 values, two for more, none for a single value. A filter tests the few
    # distinct values and finds their records in the codes at the speed of `bytes.translate`.
    coded = b""
    if len(codes) > 256:
        found = [codes[value] for value in column]
        coded = bytes([code & 255 for code in found] + [code >> 8 for code in found])
    elif len(codes) > 1:
        coded = bytes(map(codes.__getitem__, column))
    return ColumnRow(name, block, None, None, orjson.dumps(list(codes)), coded)


def _encode_numbers(name: str, block: int, column: Sequence[Any]) -> ColumnRow:
    if name == "time":  # seconds since the epoch; the store has microseconds
        column = [time_us / 1e6 for time_us in column]
    # Doubles, which distinguish microseconds in seconds since the epoch.
    values = array("d", [UNKNOWN if value is None else value for value in column])
    low, high = min(values), max(values)
    # Little-endian in the store: another machine may read the block.
    if sys.byteorder == "big":
        values.byteswap()
    return ColumnRow(name, block, low, high, values.tobytes(), b"")


def numbers(values: bytes) -> "array[float]":
    """Return the numbers of a block's records."""
    found = array("d", values)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def matching_numbers(records: int, values: "array[float]", test: Callable[[float], bool]) -> int:
    """Return the subset of records whose number passes a test."""
    if count_records(records) > SCAN_BELOW_ROWS:
        # A set has one byte per record, so the results of the test are one already.
        return records & int.from_bytes(bytes(map(test, values)), "little")
    return sum(1 << 8 * position for position in positions(records) if test(values[position]))


def matching_names(values: Sequence[str | None], codes: bytes, test: Callable[[str | None], bool]) -> int:
    """Return the set of records whose name passes a test."""
    chosen = [code for code, value in enumerate(values) if test(value)]
    if not chosen or not codes:
        return ALL if chosen else 0
    # The low bytes of all records come first, then the high ones, if there are more than 256 names.
    low, high = codes[:ROWS], codes[ROWS:]
    if not high:
        return _records_with_codes(low, chosen)
    found = 0
    for plane, page in groupby(chosen, lambda code: code >> 8):
        found |= _records_with_codes(high, [plane]) & _records_with_codes(low, [code & 255 for code in page])
    return found


def _records_with_codes(codes: bytes, wanted: Iterable[int]) -> int:
    table = bytearray(256)
    for code in wanted:
        table[code] = 1
    return int.from_bytes(codes.translate(table), "little")


def within(records: int, block: int, first: int, last: int) -> int:
    """Return the records of a block's set with a number from `first` to `last`."""
    begin, end = first_of(block), first_of(block + 1) - 1
    if first > begin:
        # Shifting right and back clears the bytes of the records before `first`.
        records = records >> 8 * (first - begin) << 8 * (first - begin)
    return records & (1 << 8 * (last - begin + 1)) - 1 if last < end else records


def positions(records: int) -> Iterator[int]:
    """Yield the positions in the block of the records of a set, in order."""
    marks = records.to_bytes(ROWS, "little")
    position = marks.find(1)
    while position >= 0:
        yield position
        position = marks.find(1, position + 1)


def count_records(records: int) -> int:
    return records.bit_count()


def is_indexed(capacity: int) -> bool:
    return capacity >= INDEXED_FROM_ROWS
