"""Metrics are bounded, add up over processes, and keep the newest exemplars."""

import os

import pytest

from sqllogs.metrics import values
from sqllogs.metrics.values import LABEL_CHARS_MAX, Exemplar, Family, MetricValues, ObservationContext

CALLS = Family(name="calls", kind="counter", help="", labels=("alias", "name"), fixed=1, series_max=2)
SECONDS = Family(name="seconds", kind="histogram", help="", labels=("name",), buckets=(1.0, 2.0))
WAITING = Family(name="waiting", kind="sum", help="")
LAG = Family(name="lag", kind="max", help="")


def made():
    return MetricValues((CALLS, SECONDS, WAITING, LAG))


def test_series_beyond_the_bound_are_counted_as_other():
    one = made()
    for name in ("a", "b", "c", "d"):
        one.add(CALLS, ("default", name), 1)
    one.add(CALLS, ("default", "a"), 1)
    assert one.series(CALLS) == {("default", "a"): 2, ("default", "b"): 1, ("default", "other"): 2}


def test_labels_that_should_be_fixed_are_bounded_too():
    one = made()
    for number in range(20):
        one.add(CALLS, (f"alias-{number}", "x"), 1)
    assert len(one.series(CALLS)) == 5
    assert sum(one.series(CALLS).values()) == 20


def test_long_label_is_cut_and_stays_one_series():
    one = made()
    for end in ("a", "b"):
        one.observe(SECONDS, ("x" * 10_000 + end,), 0.5)
    assert {labels: value.counts for labels, value in one.series(SECONDS).items()} == {
        ("x" * LABEL_CHARS_MAX,): [2, 0, 0]
    }


def test_label_that_is_not_valid_unicode_is_escaped(tmp_path):
    """Otherwise neither the file could be written nor the scrape answered."""
    one = made()
    one.add(CALLS, ("default", "task \ud800"), 1)
    values.write(tmp_path / "x.json", one.snapshot())
    assert values.read(tmp_path / "x.json") == {"calls": [[["default", "task \\ud800"], 1]]}


@pytest.mark.parametrize("umask", [0, 0o022], ids=oct)
def test_file_is_readable_by_its_owner_only(umask, tmp_path):
    before = os.umask(umask)
    try:
        values.write(tmp_path / "x.json", made().snapshot())
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o600


def test_value_on_an_edge_is_in_the_bucket_of_that_edge():
    one = made()
    for value in (0.5, 1.0, 1.5, 3.0):
        one.observe(SECONDS, ("x",), value)
    assert one.histogram(SECONDS, ("x",)).counts == [2, 1, 1]
    assert one.histogram(SECONDS, ("x",)).sum == 6.0


def test_processes_add_up_through_their_files(tmp_path):
    total = made()
    for number in (1, 2):
        one = made()
        one.add(CALLS, ("default", "a"), number)
        one.observe(SECONDS, ("x",), 0.5, ObservationContext("f" * 32, float(number)))
        one.set(WAITING, (), number)
        one.set(LAG, (), number)
        values.write(tmp_path / f"{number}.json", one.snapshot())
        total.absorb(values.read(tmp_path / f"{number}.json"))
    assert total.series(CALLS) == {("default", "a"): 3}
    assert total.histogram(SECONDS, ("x",)).counts == [2, 0, 0]
    assert total.histogram(SECONDS, ("x",)).exemplars == [Exemplar("f" * 32, 0.5, 2.0), None, None]
    assert (total.series(WAITING), total.series(LAG)) == ({(): 3}, {(): 2})


def test_gauges_of_a_dead_process_are_left_out():
    one, total = made(), made()
    one.set(WAITING, (), 5)
    one.add(CALLS, ("default", "a"), 1)
    total.absorb(one.snapshot(), gauges=False)
    assert (total.series(WAITING), total.series(CALLS)) == ({}, {("default", "a"): 1})


def test_values_of_another_version_are_ignored():
    total = made()
    total.absorb({"unknown": [[["x"], 1]], "calls": [[["one label"], 1]], "seconds": [[["x"], [[1], 1, []]]]})
    assert total.snapshot() == {}


def test_invalid_file_is_an_empty_snapshot(tmp_path):
    path = tmp_path / "x.json"
    assert values.read(path) == {}
    for content in ("", "[1]", "{"):
        path.write_text(content)
        assert values.read(path) == {}
