"""How a large ring is indexed: by blocks of numbers, and in a block by column.

Written by `sqllogs.storage` in the writer's thread once all records of a block are
there, which then never changes; read by `sqllogs.read.block_index`. A column of
names is its distinct values and one code a record, so that a filter is tried on
the few values, and found in the codes at the speed of `bytes.translate`.

Where the ring keeps a number: `slot = seq % capacity`. Used by its writers and its readers.
"""

import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import orjson

ROWS = 2_048
"""Records in a block: numbers 1 to ROWS are in block 0."""

SCAN_BELOW_ROWS = 256
"""Records of a block that are rather looked at one by one than all at once."""

INDEXED_FROM_ROWS = 200_000
"""Capacity of a ring that is indexed; to scan a smaller one takes less than 50 ms."""

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (of what SQLite keeps, which is UTC and does not say so)

UNKNOWN = -1.0
"""What NULL counts as where records are ordered by a column."""

NAMES = (
    "fingerprint", "alias", "vendor", "error", "trace_id", "request_id", "kind", "route", "view", "method",
    "call_site", "release", "host",
)  # fmt: skip
NUMBERS = ("time", "duration_ms", "rows")
COLUMNS = (*NAMES, *NUMBERS)

ALL = int.from_bytes(b"\1" * ROWS, "little")
"""Every record of a block; a set of records has a byte of 1 for each that is in it."""


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


def ended_by(first_seq: int, rows: int) -> range:
    """Return the blocks whose last number is one of so many from `first_seq` on."""
    return range(block_of(first_seq), block_of(first_seq + rows))


def whole(seq: int, capacity: int) -> range:
    """Return the blocks that a ring written up to `seq` holds from end to end."""
    return range(block_of(max(0, seq - capacity) + ROWS), block_of(seq + 1))


def encoded(block: int, columns: Iterable[Sequence[Any]]) -> Iterator[ColumnRow]:
    """Yield what is kept of a block: of COLUMNS, the values of its records in the order of their numbers."""
    for name, column in zip(COLUMNS, columns, strict=True):
        yield _numbers(name, block, column) if name in NUMBERS else _names(name, block, column)
        time.sleep(0)  # for the application's threads, as the resolver does


def _names(name: str, block: int, column: Sequence[Any]) -> ColumnRow:
    codes = {value: code for code, value in enumerate(dict.fromkeys(column))}
    # A byte a record for up to 256 values, a second one for more, none for a single value.
    coded = b""
    if len(codes) > 256:
        found = [codes[value] for value in column]
        coded = bytes([code & 255 for code in found] + [code >> 8 for code in found])
    elif len(codes) > 1:
        coded = bytes(map(codes.__getitem__, column))
    return ColumnRow(name, block, None, None, orjson.dumps(list(codes)), coded)


def _numbers(name: str, block: int, column: Sequence[Any]) -> ColumnRow:
    known = _seconds(column) if name == "time" else [UNKNOWN if value is None else value for value in column]
    values = array("d", known)
    low, high = min(values), max(values)
    if sys.byteorder == "big":
        values.byteswap()
    return ColumnRow(name, block, low, high, values.tobytes(), b"")


def _seconds(times: Sequence[Any]) -> Iterable[float]:
    """Return times as seconds since the epoch, be they texts of UTC as SQLite keeps them."""
    if isinstance(times[0], datetime):
        return map(datetime.timestamp, times)
    return ((datetime.fromisoformat(time) - EPOCH).total_seconds() for time in times)


def numbers(values: bytes) -> "array[float]":
    """Return the numbers of a block's records."""
    found = array("d", values)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def passing(records: int, values: "array[float]", test: Callable[[float], bool]) -> int:
    """Return those of a set whose number passes a test."""
    if size(records) > SCAN_BELOW_ROWS:
        return records & int.from_bytes(bytes(map(test, values)), "little")
    return sum(1 << 8 * place for place in places(records) if test(values[place]))


def named(values: Sequence[str | None], codes: bytes, test: Callable[[str | None], bool]) -> int:
    """Return the set of records whose name passes a test."""
    chosen = [code for code, value in enumerate(values) if test(value)]
    if not chosen or not codes:
        return ALL if chosen else 0
    low, high = codes[:ROWS], codes[ROWS:]
    if not high:
        return _coded(low, chosen)
    found = 0
    for plane, page in groupby(chosen, lambda code: code >> 8):
        found |= _coded(high, [plane]) & _coded(low, [code & 255 for code in page])
    return found


def _coded(codes: bytes, wanted: Iterable[int]) -> int:
    table = bytearray(256)
    for code in wanted:
        table[code] = 1
    return int.from_bytes(codes.translate(table), "little")


def between(records: int, block: int, first: int, last: int) -> int:
    """Return those of a block's set whose numbers are from `first` to `last`."""
    begin, end = first_of(block), first_of(block + 1) - 1
    if first > begin:
        records = records >> 8 * (first - begin) << 8 * (first - begin)
    return records & (1 << 8 * (last - begin + 1)) - 1 if last < end else records


def places(records: int) -> Iterator[int]:
    """Yield the places in the block of the records of a set, in order."""
    marks = records.to_bytes(ROWS, "little")
    place = marks.find(1)
    while place >= 0:
        yield place
        place = marks.find(1, place + 1)


def size(records: int) -> int:
    return records.bit_count()


def is_indexed(capacity: int) -> bool:
    return capacity >= INDEXED_FROM_ROWS
