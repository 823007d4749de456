"""What a busy machine must not make fail: a second try does not judge the first one's servers again."""

import subprocess
import sys
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import ROOT


@given(st.none())
@settings(max_examples=1)
def test_example_may_take_longer_than_the_default_deadline(nothing):
    time.sleep(0.25)


TESTS = """
import pytest

STARTED = []

@pytest.fixture(scope="module")
def server():
    STARTED.append("started")
    yield len(STARTED)
    STARTED.append("stopped")

@pytest.fixture(scope="module", params=["a"])
def run(server, request):
    yield server, request.param

def test_passes(run):
    assert run == (1, "a")

def test_fails_of_the_first_run(run):
    assert run == (3, "a")

def test_has_the_second_run_too(run):
    assert run == (3, "a")

def test_module_s_end_is_one(server):
    assert STARTED == ["started", "stopped", "started"]
"""


def test_test_that_is_run_once_more_has_a_new_server(tmp_path):
    (tmp_path / "test_shared.py").write_text(TESTS)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:cacheprovider", "--reruns=1",
            "-p", "tests.reruns", f"--rootdir={tmp_path}", "-c", "/dev/null", "test_shared.py",
        ],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "4 passed, 1 rerun" in done.stdout, done.stdout
