"""Percentiles and counts of durations that come in sorted runs, as the blocks of the ring give them."""

from array import array
from itertools import chain
from random import Random

import pytest

from sqllogs.read.aggregates import SEARCHED_RUN, AggregatePart, Figures


def part(durations_us):
    return AggregatePart((), len(durations_us), 0, 0.0, 0.0, array("I", sorted(durations_us)))


# Lengths of the runs: none, one, short ones that are merged, long ones that are searched, both.
@pytest.mark.parametrize(
    "lengths", [(), (0, 0), (1,), (3, 0, 5), (SEARCHED_RUN * 2, SEARCHED_RUN * 3), (1, SEARCHED_RUN * 9, 7)]
)
def test_percentiles_and_counts_are_those_of_all_durations_together(lengths):
    random = Random(sum(lengths))
    runs = [[int(random.lognormvariate(3, 1)) for _ in range(length)] for length in lengths]
    figures = Figures()
    for run in runs:
        figures.add(part(run))
    together = sorted(chain.from_iterable(runs))

    def rank(percent):
        return together[-(-percent * len(together) // 100) - 1] / 1000 if together else None

    assert [figures.p50_ms, figures.p95_ms, figures.p99_ms] == [rank(50), rank(95), rank(99)]
    ends_us = (0, 20, 10_000_000)
    assert figures.calls_upto(ends_us) == [sum(one <= end for one in together) for end in ends_us]


def test_part_added_after_a_percentile_was_read_counts():
    figures = Figures()
    figures.add(part([1_000, 2_000]))
    assert figures.p99_ms == 2
    figures.add(part([9_000]))
    assert figures.p99_ms == 9
