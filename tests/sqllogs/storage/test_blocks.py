"""Columns of a block are encoded, and sets of its records are numbers."""

import random

import pytest

from sqllogs.storage import blocks


@pytest.mark.parametrize("values", [1, 2, 256, 257, 700, blocks.ROWS])
def test_names_are_found_in_their_codes(values):
    chance = random.Random(values)
    known = [None, *(f"n{number}" for number in range(values - 1))]
    column = [chance.choice(known) for _ in range(blocks.ROWS)]
    stored = blocks._encode_names("view", 0, column)
    names = blocks.orjson.loads(stored.values)
    for wanted in ({None}, {"n0"}, {"n1", "n255", "n300"}, set(column[:500]), {"nothing"}):
        found = blocks.matching_names(names, stored.codes, wanted.__contains__)
        assert list(blocks.positions(found)) == [place for place, name in enumerate(column) if name in wanted]
        assert blocks.count_records(found) == sum(name in wanted for name in column)


def test_places_outside_of_a_range_are_left_out():
    for first, last in ((1, blocks.ROWS), (5, 9), (0, 5_000), (2_048, 2_048), (2_049, 3_000)):
        found = list(blocks.positions(blocks.within(blocks.ALL, 0, first, last)))
        assert found == [place for place in range(blocks.ROWS) if first <= place + 1 <= last]


def test_whole_blocks_of_a_ring():
    assert list(blocks.complete_blocks(0, 9_000)) == []
    assert list(blocks.complete_blocks(2_047, 9_000)) == []
    assert list(blocks.complete_blocks(2_048, 9_000)) == [0]
    assert list(blocks.complete_blocks(11_048, 9_000)) == [1, 2, 3, 4]
    assert list(blocks.complete_blocks(11_049, 9_000)) == [2, 3, 4]
    for first, rows in ((1, 2_048), (2_048, 1), (2_049, 4_096), (5, 10)):
        ended = [block for block in range(9) if first <= blocks.first_of(block + 1) - 1 < first + rows]
        assert list(blocks.completed_by(first, rows)) == ended
