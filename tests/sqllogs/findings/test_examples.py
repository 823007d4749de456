"""Each kind of finding is right: bad and good examples on each database, and those that are judged wrongly.

docs/explanation/findings.md has the figures; a change of them is a change of these lists.
"""

import pytest

from tests.sqllogs.findings.examples.running import Judged, databases_of, figures, judge

EXAMPLES_MIN = {"sqlite": 10, "postgresql": 10, "mariadb": 2}
"""Bad and good ones of each kind. On MariaDB all were run once, with the same result as on PostgreSQL."""
PRECISION_MIN = 0.95
RECALL_MIN = 0.9
KINDS = {
    "sqlite": (
        "n_plus_one", "same_values", "count_and_list", "unbounded", "rendering", "connection_per_query",
        "idle_transaction", "outside_call", "lock_timeout",
    ),
    "postgresql": (
        "n_plus_one", "same_values", "count_and_list", "unbounded", "rendering", "connection_per_query",
        "idle_transaction", "outside_call", "deadlock", "lock_timeout", "serialization",
        "serialization_retried",
    ),
    "mariadb": (
        "n_plus_one", "same_values", "count_and_list", "unbounded", "idle_transaction", "outside_call",
        "deadlock", "lock_timeout",
    ),
}  # fmt: skip
MISSED = {
    "rendering": [
        "length_of_a_relation"
    ],  # as the length of a list that is shown, which needs no other query
    "idle_transaction": ["autocommit_switched_off"],  # only atomic() is known to be a transaction
}
WRONG: dict[str, list[str]] = {}
ELSEWHERE: dict[str, list[str]] = {}


@pytest.fixture(scope="module", params=KINDS)
def judged(request, tmp_path_factory):
    """What is found in each example, by the real way in a process of its own."""
    vendor = request.param
    server = None if vendor == "sqlite" else request.getfixturevalue(vendor)
    return vendor, judge(vendor, databases_of(vendor, tmp_path_factory.mktemp("examples"), server))


@pytest.mark.parametrize("kind", KINDS["postgresql"])
def test_kind_is_found_in_bad_examples_and_in_no_others(kind, judged):
    vendor, rows = judged
    found = figures(rows)
    assert set(found) == set(KINDS[vendor])
    if kind not in KINDS[vendor]:
        return
    one = found[kind]
    assert (one.missed, one.wrong, one.elsewhere) == (
        [name for name in MISSED.get(kind, []) if name in {row.name for row in rows}],
        WRONG.get(kind, []),
        ELSEWHERE.get(kind, []),
    )
    assert min(one.bad, one.good) >= EXAMPLES_MIN[vendor]
    assert one.recall >= RECALL_MIN
    assert one.precision >= PRECISION_MIN


def test_finding_names_the_line_of_the_example(judged):
    _, rows = judged
    lines = [line for row in rows if row.is_bad for line in row.found.get(row.kind, [])]
    assert [line for line in lines if line.startswith("/") or "running.py" in line] == []


def test_figures_count_what_is_missed_and_what_is_wrong():
    rows = [
        Judged(kind="a", name="one", is_bad=True, also=[], found={"a": ["x.py:1 f"]}),
        Judged(kind="a", name="two", is_bad=True, also=[], found={}),
        Judged(kind="a", name="three", is_bad=False, also=[], found={"a": []}),
        Judged(kind="b", name="four", is_bad=True, also=["a"], found={"a": [], "b": []}),
        Judged(kind="b", name="five", is_bad=False, also=[], found={"a": []}),
    ]
    one = figures(rows)["a"]
    assert (one.bad, one.found, one.good) == (2, 1, 1)
    assert (one.missed, one.wrong, one.elsewhere) == (["two"], ["three"], ["five"])
    assert (one.recall, one.precision) == (0.5, pytest.approx(1 / 3))
