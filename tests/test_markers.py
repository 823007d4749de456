"""The marker `programs` is on the tests that start programs, and on no other."""

import pytest

from tests.markers import FIXTURES, LONGEST, ROOT


@pytest.mark.usefixtures("site")
def test_test_with_a_site_has_the_marker(request):
    assert request.node.get_closest_marker("programs")


def test_other_test_has_no_marker(request):
    assert request.node.get_closest_marker("programs") is None


def test_each_fixture_that_the_marker_looks_for_exists(request):
    # One that was renamed would be found in no test.
    assert [name for name in FIXTURES if not request._fixturemanager.getfixturedefs(name, request.node)] == []


def test_files_that_go_first_exist():
    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []
