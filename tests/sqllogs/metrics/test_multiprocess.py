"""Processes that share a folder have a slot each, and the next one takes that of a dead one."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from sqllogs.metrics import multiprocess
from sqllogs.metrics.multiprocess import RESERVED, RESERVED_BYTES, Slots

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from sqllogs.metrics.multiprocess import Slots
slots = Slots(Path(sys.argv[1]))
print(slots.slot(), flush=True)
sys.stdin.read()
"""


@contextmanager
def process(folder):
    """A process that holds a slot until the block's end, which kills it; give its number."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], cwd=ROOT, **pipes) as holder:
        yield int(holder.stdout.readline())
        holder.kill()


def test_processes_have_slots_of_their_own(tmp_path):
    with process(tmp_path) as first, process(tmp_path) as second:
        assert Slots(tmp_path).slot() not in {first, second}
        assert first != second


def test_slot_of_a_killed_process_goes_to_the_next(tmp_path):
    with process(tmp_path):
        with process(tmp_path) as killed:
            pass
        with process(tmp_path) as following:
            assert following == killed


def test_live_slots_are_those_of_live_processes(tmp_path):
    slots = Slots(tmp_path)
    own = slots.slot()
    with process(tmp_path) as other:
        assert slots.live() == {own, other}
    assert slots.live() == {own}


def test_first_process_begins_from_zero_and_another_leaves_what_is_there(tmp_path):
    left = tmp_path / "counter_7.db"
    left.touch()
    with process(tmp_path):
        assert not left.exists()
        left.touch()
        with process(tmp_path):
            assert left.exists()


def test_live_gauges_of_the_slots_last_process_are_gone(tmp_path):
    with process(tmp_path):
        left = tmp_path / "gauge_livesum_1.db"
        left.touch()
        with process(tmp_path) as number:
            assert number == 1
            assert not left.exists()


def test_forked_child_takes_another_slot_and_the_parent_keeps_its_slot(tmp_path):
    slots = Slots(tmp_path)
    own = slots.slot()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        slots.leave()
        os.write(writing, b"%d" % slots.slot())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert int(os.read(reading, 10)) != own
    assert slots.live() == {own}


def test_files_that_are_mapped_have_no_holes(tmp_path):
    """prometheus_client would create sparse files; writing to one on a full disk kills the process."""
    number = Slots(tmp_path).slot()
    for kind in RESERVED:
        status = (tmp_path / f"{kind}_{number}.db").stat()
        assert status.st_size == RESERVED_BYTES
        assert status.st_blocks * 512 >= RESERVED_BYTES


def test_full_disk_raises_when_a_slot_is_taken_and_leaves_it_free(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    slots = Slots(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(multiprocess, "_reserve", full)
        with pytest.raises(OSError, match="No space left"):
            slots.slot()
    assert slots.slot() == 0


def test_prometheus_client_counts_in_a_file_that_was_filled_before(tmp_path):
    code = (
        "import sys; from sqllogs.metrics import multiprocess; multiprocess.share(sys.argv[1])\n"
        "from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess\n"
        "Counter('calls', 'Calls.').inc(3)\n"
        "registry = CollectorRegistry()\n"
        "multiprocess.MultiProcessCollector(registry)\n"
        "print(generate_latest(registry).decode())"
    )
    command = [sys.executable, "-c", code, tmp_path / "shared"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "calls_total 3.0" in done.stdout
    assert (tmp_path / "shared" / "counter_0.db").stat().st_size == RESERVED_BYTES


SHARE = """
import os, sys; os.umask(0)
from sqllogs.metrics import multiprocess; multiprocess.share(sys.argv[1])
from prometheus_client import Counter, Gauge
Counter("calls", "Calls.").inc(3); Gauge("size", "Size.").set(3)
"""


@pytest.mark.parametrize("existing", [(), ("counter_7.db", "slot-7.lock")], ids=["new", "of-earlier-version"])
def test_folder_is_accessible_to_its_owner_only(existing, tmp_path):
    """Whatever the umask; metrics name views, tasks and databases."""
    folder = tmp_path / "shared"
    if existing:
        folder.mkdir(mode=0o755)
    for name in existing:
        (folder / name).touch()
    subprocess.run([sys.executable, "-c", SHARE, folder], cwd=ROOT, check=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir() if path.name not in existing}
    assert {name for name, mode in modes.items() if mode} <= {"gauge_all_0.db"}  # prometheus_client's
    assert {"counter_0.db", "slot-0.lock", "door.lock"} <= set(modes)


def test_folder_with_other_files_keeps_its_mode(tmp_path):
    """It may be another program's too, such as /run/site with a socket."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "site.sock").touch()
    subprocess.run([sys.executable, "-c", SHARE, folder], cwd=ROOT, check=True)
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("folder", ["", "/proc/nowhere"])
def test_unusable_folder_is_logged_and_the_site_runs(folder, tmp_path):
    """Each process then has its own metrics."""
    folder = folder or tmp_path / "file" / "folder"
    (tmp_path / "file").touch()
    code = "import sys; from sqllogs.metrics import multiprocess as m; m.share(sys.argv[1]); print(m.slots)"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": ""}
    command = [sys.executable, "-c", code, folder]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert done.stderr.startswith("Metrics are not shared between processes: ")
