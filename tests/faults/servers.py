"""Faults of running servers: a site under load, something happens to it, and what is in the store after.

Each row runs twice, with and without sqllogs, so that errors and p99 can be compared; a short run has
no second time. In the harness's process.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.faults.lab import DISK, Lab, NotRunError, Site
from tests.faults.load import Load
from tests.faults.outcome import Measured
from tests.faults.store import accounts, ring, traces
from tests.servers import Server, kill

GUNICORN = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=2", "--no-control-socket")
UVICORN = ("-m", "uvicorn", "core.asgi:application", "--port={port}")
GEVENT = (*GUNICORN, "--worker-class=gevent")
THREADS = (*GUNICORN, "--threads=4")
PATHS = ("/transactions/fast/", "/transactions/streaming/")
SETTLE_S = 35.0
"""How long a row waits for the store to be written again."""
STOP_TIMEOUT_S = 45.0
"""gunicorn gives its workers 30 s."""
LAG_MAX_MS = 2_500.0


@dataclass(slots=True, kw_only=True)
class Running:
    """A site under load, for what is done to it."""

    lab: Lab
    site: Site
    server: Server
    load: Load
    with_app: bool
    fault_s: float = 0.0
    """When it happened, and when it was over."""
    over_s: float = 0.0
    figures: dict[str, Any]

    @property
    def workers(self) -> list[int]:
        return children(self.server.process.pid)

    def health(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.site.token}"}
        answer = requests.get(f"{self.server.url}/sql-logs/health/", headers=headers, timeout=30)
        return {"http": answer.status_code} | (answer.json() if answer.ok else {})


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A row: the server, the store, and what happens."""

    command: tuple[str, ...]
    happen: Callable[[Running], None]
    vendor: str = "sqlite"
    to_store: bool = False
    """It happens to the store: without sqllogs the load alone runs as long."""
    at_end: bool = False
    """It ends the server, so there is nothing to recover."""
    signum: int = signal.SIGTERM
    small_disk: bool = False
    """The store is on a disk of a few MiB."""
    program: str = ""
    """It is started by this, which must be there."""

    def __call__(self, lab: Lab) -> Measured:
        if self.program and not shutil.which(self.program):
            raise NotRunError(f"{self.program} is missing")
        measured = self._run(lab, with_app=True)
        if not lab.short:
            without = self._run(lab, with_app=False)
            measured.errors_without, measured.p99_without_ms = without.errors, without.p99_ms
        return measured

    def _run(self, lab: Lab, *, with_app: bool) -> Measured:
        with ExitStack() as ends:
            site = ends.enter_context(lab.site(self.vendor, **({} if with_app else {"ENABLED": False})))
            if self.small_disk:
                ends.enter_context(small_disk(site.folder / DISK))
            server = Server(self.command, site.environment, site.folder / "server.log")
            ends.callback(kill, server.process)
            server.wait("/healthz")
            load = Load(server.url, PATHS)
            return self._measure(
                Running(lab=lab, site=site, server=server, with_app=with_app, figures={}, load=load)
            )

    def _measure(self, running: Running) -> Measured:
        lab, site, load = running.lab, running.site, running.load
        began_s = time.monotonic()
        recovery_s = None
        with load:
            time.sleep(lab.load_s)
            running.fault_s = running.over_s = time.monotonic()
            if running.with_app or not self.to_store:
                self.happen(running)
            else:
                time.sleep(lab.outage_s)
            running.over_s = max(running.over_s, time.monotonic())
            if self.at_end:
                end(running.server, self.signum)
            elif running.with_app:
                recovery_s = recovered(running)
            else:
                time.sleep(lab.load_s)
        if not self.at_end:
            end(running.server, self.signum)
        stored = traces(site.store) if running.with_app else set()
        answered = {one.trace: one.at_s for one in load.answers if one.trace and running.with_app}
        seconds = time.monotonic() - began_s
        return Measured(
            load=f"{len(load.answers)} requests in {seconds:.0f} s",
            accounts=accounts(site.store) if running.with_app else None,
            ring=ring(site.store) if running.with_app else None,
            lost_ages_s=[running.fault_s - answered[one] for one in answered.keys() - stored],
            answers=len(load.answers) - load.errors,
            errors=load.errors,
            p99_ms=load.p99_ms,
            recovery_s=recovery_s,
            figures=running.figures | {"max_ms": load.max_ms, "output": running.server.output},
        )


def end(server: Server, signum: int) -> None:
    if server.process.poll() is None:
        server.process.send_signal(signum)
        try:
            server.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            raise RuntimeError(f"the server does not end within {STOP_TIMEOUT_S:g} s") from exc


def recovered(running: Running) -> float | None:
    """Wait until every living worker's records are stored without delay; return after how many seconds."""
    store = running.site.store
    before = {one.uuid: one.stored for one in accounts(store) or ()}
    while time.monotonic() < running.over_s + SETTLE_S:
        living = {running.server.process.pid, *running.workers}
        now = [one for one in accounts(store) or () if one.pid in living]
        if now and all(one.stored > before.get(one.uuid, 0) and one.lag_ms < LAG_MAX_MS for one in now):
            return time.monotonic() - running.over_s
        time.sleep(0.2)
    return None


def nothing(running: Running) -> None:
    """The end of the server is all that happens."""


def kill_worker(running: Running) -> None:
    os.kill(running.workers[0], signal.SIGKILL)
    running.over_s = time.monotonic()
    time.sleep(running.lab.load_s)


@contextmanager
def small_disk(folder: Path, mebibytes: int = 16) -> Iterator[Path]:
    """Mount a small disk there, with what is in the folder now."""
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise NotRunError("only root can mount a small disk")
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


UWSGI = (
    shutil.which("uwsgi", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "uwsgi"
)
EXECUTE = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
"""uWSGI is a program, not a module; the harness starts Python."""


def uwsgi(*options: str) -> tuple[str, ...]:
    return (
        *(
            "-c",
            EXECUTE,
            UWSGI,
            "--http-socket={address}",
            f"--virtualenv={sys.prefix}",
            "--module=core.wsgi",
        ),
        *("--master", "--need-app", "--hook-master-start=unix_signal:15 gracefully_kill_them_all", *options),
    )


def reload_uwsgi(running: Running) -> None:
    before = set(running.workers)
    running.server.process.send_signal(signal.SIGHUP)
    until_s = time.monotonic() + SETTLE_S
    while time.monotonic() < until_s and not (running.workers and before.isdisjoint(running.workers)):
        time.sleep(0.1)
    time.sleep(running.lab.load_s + 2)  # a signal that comes while uWSGI starts is lost
    running.figures["reloaded"] = before.isdisjoint(running.workers)
