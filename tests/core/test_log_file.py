"""Lines of several processes stay whole and all arrive."""

import logging
import os
import subprocess
import sys
from collections import Counter

import pytest

from core.log_file import LogFile
from tests.servers import ROOT

WRITE = """
import logging, sys
from core.log_file import LogFile
handler = LogFile(sys.argv[1], delay=True)
for number in range(200):
    text = "x" * (40_000 if number % 5 == 0 else 40)
    handler.emit(logging.makeLogRecord({"msg": f"{sys.argv[2]} {number} {text}"}))
"""


def test_long_lines_of_several_processes_are_not_mixed(tmp_path):
    path = tmp_path / "webapp.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, path, name], cwd=ROOT) for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = path.read_text().splitlines()
    assert Counter(line.split(" x")[0] for line in lines) == Counter(
        f"{name} {number}" for name in "abc" for number in range(200)
    )
    assert {len(line) - len(line.rstrip("x")) for line in lines} == {40, 40_000}


@pytest.mark.parametrize("umask", [0, 0o022], ids=oct)
def test_new_file_is_readable_by_its_owner_only(umask, tmp_path):
    before = os.umask(umask)
    try:
        LogFile(tmp_path / "webapp.log").close()
    finally:
        os.umask(before)
    assert (tmp_path / "webapp.log").stat().st_mode & 0o777 == 0o600


def test_mode_that_the_operator_has_set_stays(tmp_path):
    (tmp_path / "webapp.log").touch(mode=0o640)
    LogFile(tmp_path / "webapp.log").close()
    assert (tmp_path / "webapp.log").stat().st_mode & 0o777 == 0o640


def test_moved_file_is_created_again_and_a_surrogate_is_escaped(tmp_path):
    handler = LogFile(tmp_path / "webapp.log")
    handler.emit(logging.makeLogRecord({"msg": "before"}))
    (tmp_path / "webapp.log").rename(tmp_path / "webapp.log.1")
    handler.emit(logging.makeLogRecord({"msg": "after \ud800"}))
    handler.close()
    assert (tmp_path / "webapp.log.1").read_text() == "before\n"
    assert (tmp_path / "webapp.log").read_text() == "after \\ud800\n"
