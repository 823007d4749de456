"""What `make peers` calls a difference, and that each intended one is documented."""

from pathlib import Path

from tests.peers.__main__ import differences, report
from tests.peers.intended import INTENDED
from tests.peers.suites import Run

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENTED = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))


def ended(**outcomes):
    return Run(outcomes=outcomes, captured=1, stored=1)


def test_each_other_outcome_and_each_lost_test_is_a_difference():
    without, beside = ended(a="passed", b="passed", c="failed"), ended(a="passed", b="failed")
    assert differences(without, beside) == {"b": "passed -> failed", "c": "failed -> absent"}


def test_difference_is_bad_unless_it_is_intended(capsys):
    intended = next(iter(INTENDED))
    assert list(report({intended: "passed -> failed", "x": "passed -> error"})) == [
        "NOT INTENDED: x: passed -> error"
    ]
    assert f"{intended}: passed -> failed. {INTENDED[intended]}" in capsys.readouterr().out


def test_every_intended_difference_is_documented():
    assert [test for test in INTENDED if f"`{test.rpartition('.')[2]}`" not in DOCUMENTED] == []
