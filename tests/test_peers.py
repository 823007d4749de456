"""What `make peers` calls a difference; the intended ones and the loops of `make advice` are documented."""

import ast
import re
from pathlib import Path

from tests.peers.__main__ import differences, lasting, report
from tests.peers.intended import INTENDED
from tests.peers.suites import Run

ADVICE = Path(__file__).parent / "peers" / "advice"
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


def test_difference_that_does_not_come_twice_is_named_only(capsys):
    intended = next(iter(INTENDED))
    first = {intended: "passed -> failed", "x": "passed -> failed", "y": "passed -> failed"}
    assert lasting(first, {"y": "passed -> error"}).keys() == {intended, "y"}
    assert "In one of two runs: x: passed -> failed." in capsys.readouterr().out


def test_every_intended_difference_is_documented():
    assert [test for test in INTENDED if f"`{test.rpartition('.')[2]}`" not in DOCUMENTED] == []


def test_every_loop_of_a_package_is_documented():
    """They are not run here, because they need their packages."""
    trees = [ast.parse(path.read_text()) for path in ADVICE.glob("*.py")]
    decorators = [one for tree in trees for node in tree.body for one in getattr(node, "decorator_list", [])]
    loops = [[ast.literal_eval(word) for word in one.args[:2]] for one in decorators if one.func.id == "loop"]
    table = (DOCS / "explanation" / "advice.md").read_text()
    rows = set(re.findall(r"(?m)^\| (\S+) \S+ \| `([^`]+)`", table))
    missing = [place for package, place in loops if (package, place) not in rows]
    assert len(loops) == 81
    assert missing == []
