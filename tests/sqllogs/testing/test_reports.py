"""SARIF and JUnit reports are valid whatever stands in the texts of a project."""

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import Group

from sqllogs.pytest_plugin import _checkout
from sqllogs.testing import record_queries
from sqllogs.testing.queries import ReportedQuery, junit, reported_queries, sarif
from tests.sqllogs.testing.reports import check_junit, find_sarif_problems

PLAIN = ReportedQuery(
    path="shop/pages.py",
    line=6,
    function="names",
    fingerprint="f" * 16,
    times=6,
    message="N+1: this line sends the same statement 6 times. SELECT a FROM b WHERE c = ?",
    ignored=None,
    test="shop/test_pages.py::test_names[6]",
)
HOSTILE = "a b\x00\x1b[31m\ud800\ufffe é 名 <&\"'>]]>"
RUNS = {
    "nothing": [],
    "one": [PLAIN],
    "ignored": [PLAIN._replace(ignored="the export")],
    "several": [PLAIN, PLAIN._replace(line=9, ignored="known"), PLAIN._replace(fingerprint="0" * 16)],
    "hostile": [
        PLAIN._replace(path=f"shop/{HOSTILE}.py", function=HOSTILE, message=HOSTILE, test=HOSTILE),
        PLAIN._replace(ignored=HOSTILE),
    ],
    "no function": [PLAIN._replace(function="")],
}
runs = pytest.mark.parametrize("findings", RUNS.values(), ids=RUNS)


@runs
def test_sarif_is_valid_by_its_schema(findings):
    assert find_sarif_problems(sarif(findings)) == []


@runs
def test_junit_has_the_expected_structure(findings):
    root = check_junit(junit(findings))
    assert int(root.get("tests")) == len({(one.path, one.line, one.fingerprint) for one in findings})


@runs
def test_reports_can_be_written_as_utf8(findings):
    for report in (sarif(findings), junit(findings)):
        report.encode()


def test_reports_are_in_order_of_the_lines():
    findings = [PLAIN._replace(line=line) for line in (10, 9, 100)]
    results = json.loads(sarif(findings))["runs"][0]["results"]
    regions = [one["locations"][0]["physicalLocation"]["region"] for one in results]
    assert [region["startLine"] for region in regions] == [9, 10, 100]


@pytest.mark.parametrize("report", [sarif, junit])
def test_reports_are_the_same_in_whatever_order_tests_have_run(report):
    findings = [PLAIN, PLAIN._replace(test="shop/test_pages.py::test_names[é]")]
    assert report(findings) == report(findings[::-1])


def test_checkout_is_the_nearest_folder_with_git(tmp_path):
    root = tmp_path / "site" / "backend"
    root.mkdir(parents=True)
    assert _checkout(root) == root
    (tmp_path / ".git").write_text("gitdir: elsewhere")  # a worktree
    assert _checkout(root) == tmp_path
    (tmp_path / "site" / ".git").mkdir()
    assert _checkout(root) == tmp_path / "site"


@pytest.mark.django_db
def test_paths_are_relative_to_the_checkout_and_not_to_the_root_of_pytest():
    root = Path(__file__).parents[3]
    with record_queries() as log:
        for number in range(6):
            Group.objects.filter(name=str(number)).exists()
    name = "tests/sqllogs/testing/test_reports.py"
    for checkout, path in ((root, name), (root.parent, f"{root.name}/{name}"), (root / "docs", "../{name}")):
        (found,) = reported_queries(log.repeats(), log.groups(), f"{name}::test", root, checkout)
        one = ReportedQuery(*found)
        assert one.path == path.format(name=name)
        assert one.test == f"{name}::test"


def test_schema_refuses_what_is_wrong():
    """The tests above can fail."""
    wrong = json.loads(sarif([PLAIN]))
    wrong["runs"][0]["results"][0]["level"] = "bad"
    wrong["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    assert len(find_sarif_problems(json.dumps(wrong))) == 2
    with pytest.raises(AssertionError):
        check_junit(junit([PLAIN]).replace('failures="1"', 'failures="2"', 1))
