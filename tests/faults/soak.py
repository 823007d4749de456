"""One site under load while random faults happen: `python -m tests.faults.soak MINUTES`.

Workers are killed, the store is locked, taken away and left without room. At the end, per process,
captured == stored + sampled out + dropped + queued, and memory and disk are bounded. Harness's process.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import outages
from tests.faults.lab import DISK, Lab, NotRunError
from tests.faults.load import Load
from tests.faults.servers import PATHS, THREADS, Running, children, end, recovered, small_disk
from tests.faults.store import UNREADABLE, Account, accounts, ring
from tests.servers import Server, kill

CAPACITY_ROWS = 20_000
RSS_GROWTH_MB = 64
"""BUFFER_BYTES is 32 MiB per process."""
STORE_MB_MAX = 15
"""A ring of 20,000 rows, and the file beside it that SQLite writes first."""
PAUSE_S = (1.0, 4.0)
OUTAGE_S = 3.0


Faults = dict[str, Callable[[Running], None]]


@dataclass(slots=True, kw_only=True)
class Soaked:
    """What happened, and what does not hold."""

    seconds: float
    requests: int = 0
    errors: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    processes: list[Account] = field(default_factory=list)
    rss_mb: tuple[float, float] = (0.0, 0.0)
    """Of the largest worker, after a few seconds and at the end."""
    store_mb: float = 0.0
    left_out: str = ""
    problems: list[str] = field(default_factory=list)


def soak(lab: Lab, *, seconds: float, seed: int) -> Soaked:
    chooser = random.Random(seed)
    soaked = Soaked(seconds=seconds)
    with ExitStack() as ends:
        site = ends.enter_context(lab.site("sqlite", CAPACITY_ROWS=CAPACITY_ROWS))
        faults = dict(FAULTS)
        try:
            ends.enter_context(small_disk(site.folder / DISK, mebibytes=32))
        except NotRunError as exc:
            soaked.left_out = f"disk full: {exc}"
            del faults["disk full"]
        server = Server(THREADS, site.environment, site.folder / "server.log")
        ends.callback(kill, server.process)
        server.wait("/healthz")
        load = Load(server.url, PATHS)
        running = Running(lab=lab, site=site, server=server, load=load, with_app=True, figures={})
        with load:
            _let_happen(running, faults, chooser, soaked)
            if recovered(running) is None:
                soaked.problems.append("the store was not written again after the last fault")
            soaked.rss_mb = (soaked.rss_mb[0], _rss_mb(running))
        end(server, signal.SIGTERM)
        soaked.requests, soaked.errors = len(load.answers), load.errors
        soaked.store_mb = site.store.size_bytes() / 2**20
        _judge(running, soaked)
    return soaked


def _let_happen(running: Running, faults: Faults, chooser: random.Random, soaked: Soaked) -> None:
    until_s = time.monotonic() + soaked.seconds
    time.sleep(min(5.0, soaked.seconds / 3))
    soaked.rss_mb = (_rss_mb(running), 0.0)
    while time.monotonic() < until_s:
        name = chooser.choice(sorted(faults))
        faults[name](running)
        soaked.happened[name] += 1
        time.sleep(chooser.uniform(*PAUSE_S))
    running.over_s = time.monotonic()


def _kill_worker(running: Running) -> None:
    with suppress(ProcessLookupError, IndexError):
        os.kill(random.choice(running.workers), signal.SIGKILL)


def _take_away(running: Running) -> None:
    """Rename the folder of the files: what is open stays so, and nothing new can be opened or made."""
    folder = outages.sqlite(running).path.parent
    away = folder.rename(folder.with_name("away"))
    time.sleep(OUTAGE_S)
    away.rename(folder)


def _lock(running: Running) -> None:
    outages.lock_for(outages.sqlite(running).path, OUTAGE_S)


def _fill_disk(running: Running) -> None:
    ballast = outages.fill(outages.sqlite(running).path.parent)
    time.sleep(OUTAGE_S)
    ballast.unlink()


FAULTS: Faults = {
    "worker killed": _kill_worker,
    "store away": _take_away,
    "store locked": _lock,
    "disk full": _fill_disk,
}


def _rss_mb(running: Running) -> float:
    sizes = [0.0]
    for pid in children(running.server.process.pid):
        with suppress(OSError, IndexError):
            status = Path(f"/proc/{pid}/status").read_text()
            sizes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    return max(sizes)


def _judge(running: Running, soaked: Soaked) -> None:
    found = accounts(running.site.store)
    soaked.processes = found or []
    if not found:
        soaked.problems.append("the store cannot be read")
    for one in soaked.processes:
        if not one.is_balanced:
            soaked.problems.append(f"process {one.pid} captured {one.captured} and does not balance: {one}")
    counted = ring(running.site.store)
    if counted is None or counted.rows != counted.distinct or counted.rows > counted.capacity:
        soaked.problems.append(f"the ring is not whole: {counted}")
    if soaked.rss_mb[1] - soaked.rss_mb[0] > RSS_GROWTH_MB:
        soaked.problems.append(f"a worker grew from {soaked.rss_mb[0]:.0f} to {soaked.rss_mb[1]:.0f} MB")
    if soaked.store_mb > STORE_MB_MAX:
        soaked.problems.append(f"the store takes {soaked.store_mb:.1f} MB")
    with suppress(*UNREADABLE):
        if running.site.store.rows("PRAGMA integrity_check") != [("ok",)]:
            soaked.problems.append("SQLite finds the file damaged")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"Seed {options.seed}, {options.minutes:g} minutes", flush=True)
    with Lab(short=False, load_s=1.0) as lab:
        soaked = soak(lab, seconds=60 * options.minutes, seed=options.seed)
    print(f"{soaked.requests:,} requests, {soaked.errors:,} errors; happened: {dict(soaked.happened)}")
    captured, stored, dropped, queued = (
        sum(one.captured for one in soaked.processes),
        sum(one.stored for one in soaked.processes),
        sum((one.dropped for one in soaked.processes), Counter[str]()),
        sum(one.queued for one in soaked.processes),
    )
    print(
        f"{len(soaked.processes)} processes: captured {captured:,}, stored {stored:,}, queued {queued:,}, "
        f"dropped {dict(dropped)}"
    )
    print(
        f"Largest worker {soaked.rss_mb[0]:.0f} MB, then {soaked.rss_mb[1]:.0f} MB; "
        f"store {soaked.store_mb:.1f} MB"
    )
    if soaked.left_out:
        print(f"Left out: {soaked.left_out}")
    print("\n".join(f"NOT MET: {one}" for one in soaked.problems) or "met")
    sys.exit(bool(soaked.problems))


if __name__ == "__main__":
    main()
