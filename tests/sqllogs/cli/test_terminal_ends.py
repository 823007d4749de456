"""The other end of stdout: a real terminal, and a pipe whose reader leaves early."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.servers import ROOT

WIDTH = 100
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A site whose ring holds what its own migrations have sent."""
    made = os.environ | {"DATA_DIR": str(tmp_path_factory.mktemp("site")), "TERM": "xterm"}
    for name in ("COLUMNS", "NO_COLOR"):
        made.pop(name, None)
    for arguments in (["--database", "sqllogs"], ["contenttypes"]):
        command = [sys.executable, "manage.py", "migrate", "-v0", *arguments]
        subprocess.run(command, cwd=ROOT, env=made, check=True)
    return made


class Terminal:
    """A pseudo-terminal that a command has for stdin, stdout and stderr."""

    def __init__(self, environment, *arguments):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, WIDTH, 0, 0))
        command = [sys.executable, "manage.py", "sqllogs", *arguments]
        ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **ends)
        os.close(theirs)
        self.text = ""

    def read(self, until=lambda text: False):
        """Read until there is enough, or to the end."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not until(self.text) and (left_s := deadline_s - time.monotonic()) > 0:
            if not select.select([self._ours], [], [], left_s)[0]:
                break
            try:
                chunk = os.read(self._ours, 65_536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not chunk:
                break
            self.text += chunk.decode()
        return self.text

    def interrupt(self):
        """Press Ctrl-C; return how the command ended."""
        self.process.send_signal(signal.SIGINT)
        self.read()
        return self.process.wait(TIMEOUT_S)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(environment):
    opened = []

    def start(*arguments):
        opened.append(Terminal(environment, *arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_in_a_terminal_lines_fit_are_coloured_and_follow_until_ctrl_c(terminal):
    tail = terminal("tail", "-n", "20")
    tail.read(until=lambda text: text.count("\n") >= 21)
    assert tail.interrupt() == 130
    assert "Traceback" not in tail.text
    lines = [re.sub(r"\033\[[0-9;]*m", "", line) for line in tail.text.splitlines() if line.strip()]
    assert len(lines) >= 21
    assert max(len(line.removeprefix("^C")) for line in lines) <= WIDTH
    assert "\033[1m" in tail.text
    assert any("command migrate" in line for line in lines)


def test_watched_health_is_refreshed_and_ends_quietly(terminal):
    health = terminal("health", "--watch", "0.2")
    health.read(until=lambda text: text.count("stored  ") >= 3)
    assert health.interrupt() == 130
    assert "Traceback" not in health.text
    assert health.text.count("\033[H\033[2J") >= 3


def test_reader_that_leaves_early_is_no_error(environment):
    command = f"set -o pipefail; {sys.executable} manage.py sqllogs health --watch 0.2 | head -n 1"
    ends = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, check=False, timeout=TIMEOUT_S, **ends
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("arguments", [["top"], ["repeats"], ["health"]], ids=" ".join)
def test_output_without_the_characters_of_charts_has_question_marks(environment, arguments):
    """A pipe of Windows, or a locale without UTF-8; a terminal too if PYTHONIOENCODING says so."""
    command = [sys.executable, "manage.py", "sqllogs", *arguments]
    strict = environment | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, cwd=ROOT, env=strict, capture_output=True, text=True, check=False)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    assert done.stdout.isascii()
    assert done.stdout
