"""Lines of several processes stay whole and all arrive."""

import logging
import subprocess
import sys
from collections import Counter

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


def test_file_that_was_moved_away_is_begun_anew_and_a_surrogate_is_written(tmp_path):
    handler = LogFile(tmp_path / "webapp.log")
    handler.emit(logging.makeLogRecord({"msg": "before"}))
    (tmp_path / "webapp.log").rename(tmp_path / "webapp.log.1")
    handler.emit(logging.makeLogRecord({"msg": "after \ud800"}))
    handler.close()
    assert (tmp_path / "webapp.log.1").read_text() == "before\n"
    assert (tmp_path / "webapp.log").read_text() == "after \\ud800\n"
