"""Under gevent's monkey-patching a store that is locked or hangs stops neither requests nor a fork."""

import sqlite3
import subprocess
import sys
from threading import Timer

import pytest

from tests.servers import ROOT

PROGRAM = """
import {patch}
import os, sqlite3, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
import django
django.setup()
from django.db import connection, connections
from sqllogs import recorder

def ask(count):
    with connection.cursor() as cursor:
        for _ in range(count):
            cursor.execute("SELECT 1")

# What waits for the store does so until the test fails.
connections.settings["sqllogs"]["OPTIONS"][{option!r}] = 3600
from sqllogs.pipeline import writer
writer.FORK_FILE_TIMEOUT_S = 3600
ask(10)
assert recorder.flush()
print("stored", flush=True)
sys.stdin.readline()
until = time.monotonic() + 2  # several flush intervals
while time.monotonic() < until:
    ask(1)
    time.sleep(0.001)
if os.fork() == 0:
    ask(5)
    os._exit(0)
assert os.wait()[1] == 0
print("forked", flush=True)
sys.stdin.readline()
assert recorder.flush(15)
print(recorder.recorder.delivery.counts().queued, flush=True)
"""
HANG_S = 60
"""Only a program that waits for the store takes this long."""
PATCHES = {
    "gevent": "gevent.monkey; gevent.monkey.patch_all()",
    "threads": "os",
}


class Program:
    def __init__(self, patch, option, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(patch=PATCHES[patch], option=option)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def step(self, line=""):
        if line:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        timer = Timer(HANG_S, self.process.kill)
        timer.start()
        answer = self.process.stdout.readline()
        timer.cancel()
        assert answer, self.process.communicate()[1]
        return answer.split()


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_requests_and_forks_go_on_while_the_file_is_locked(patch, site, ring_alias, ring_database, tmp_path):
    site = site | {"DATA_DIR": str(tmp_path)}
    (tmp_path / "ring.sqlite3").rename(tmp_path / "sqllogs.sqlite3")
    program = Program(patch, "timeout", site)
    program.step()
    lock = sqlite3.connect(tmp_path / "sqllogs.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert program.step("locked") == ["forked"]
    lock.execute("ROLLBACK")
    lock.close()
    assert program.step("free") == ["0"]
    _, complaint = program.process.communicate()
    (tmp_path / "sqllogs.sqlite3").rename(tmp_path / "ring.sqlite3")
    # The child ended with os._exit() while the file was locked; that is all there is to say.
    (warning,) = complaint.splitlines()
    assert "5 SQL log records of process" in warning
    assert program.process.returncode == 0


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)
def test_requests_and_forks_go_on_while_the_server_hangs(patch, site, ring_alias, fragile_postgresql):
    cluster = fragile_postgresql
    address = {"PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.user}
    program = Program(patch, "connect_timeout", site | address | {"SQLLOGS_DATABASE_NAME": "ring"})
    program.step()
    cluster.pause()
    assert program.step("hangs") == ["forked"]
    cluster.resume()
    assert program.step("answers") == ["0"]
    program.process.communicate()
    assert program.process.returncode == 0
