"""Run the programs of `tests.faults.programs` on a site, once with sqllogs, and read what they stored.

Feeds `tests.faults.rows`, in the harness's process.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from tests import servers
from tests.celery_worker import sending, working
from tests.faults.lab import Lab, Site
from tests.faults.outages import CuttingProxy
from tests.faults.outcome import Measured
from tests.faults.store import ServerStore, accounts, ring
from tests.pgbouncer import pooling
from tests.ports import free_port
from tests.receiver import receiving

TIMEOUT_S = 180.0
WARNINGS = "ignore:This process:DeprecationWarning"
"""Since Python 3.12 a process that has a thread, as the writer's, is warned of forking."""
MODULE = "tests.faults.programs"


def start(site: Site, name: str, *arguments: int, environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            WARNINGS,
            "-m",
            MODULE,
            name,
            *map(str, arguments),
        ],
        cwd=servers.ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for the end; return what the program said and what it complained of."""
    try:
        said, complaint = process.communicate(timeout=TIMEOUT_S)
    finally:
        servers.kill(process)
    lines = said.splitlines()
    if process.returncode or not lines:
        raise RuntimeError(f"ended with {process.returncode}: {complaint}")
    return json.loads(lines[-1]) | {"traceback": "Traceback" in complaint, "complaint": complaint}


def until_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(process.communicate()[1])


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A row: the program and its numbers, the store, changed settings, and what happens while it waits."""

    name: str
    arguments: tuple[int, ...] = ()
    short: tuple[int, ...] | None = None
    """The numbers of a short run."""
    vendor: str = "sqlite"
    processes: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    during: Callable[[Site], None] | None = None
    after: Callable[[Site], dict[str, Any]] | None = None

    def __call__(self, lab: Lab) -> Measured:
        with lab.site(self.vendor, **self.changes) as site:
            return self.run(lab, site, site.environment)

    def run(self, lab: Lab, site: Site, environment: dict[str, str]) -> Measured:
        arguments = self.short if lab.short and self.short is not None else self.arguments
        environment = environment | self.environment | {"TOKEN": site.token}
        started = [start(site, self.name, *arguments, environment=environment) for _ in range(self.processes)]
        try:
            if self.during or self.processes > 1:
                for one in started:
                    until_ready(one)
                if self.during:
                    self.during(site)
                for one in started:
                    go(one)
            figures = [finish(one) for one in started]
        finally:
            for one in started:
                servers.kill(one)
        more = self.after(site) if self.after else {}
        numbers = " ".join(f"{one:,}" for one in arguments)
        return Measured(
            load=f"{self.processes} x {self.name} {numbers}".strip().removeprefix("1 x "),
            accounts=accounts(site.store),
            ring=ring(site.store),
            figures=figures[0] | more,
        )


def pause_store(site: Site) -> None:
    assert isinstance(site.store, ServerStore)
    site.store.cluster.pause()


def resume_store(site: Site) -> dict[str, Any]:
    assert isinstance(site.store, ServerStore)
    site.store.cluster.resume()
    return {}


def fork_while_store_hangs(lab: Lab) -> Measured:
    """Let the store answer again when the program has ended: it must be read then."""
    row = Program(name="fork_while_hung", vendor="postgresql", during=pause_store, after=resume_store)
    try:
        with lab.site("postgresql") as site:
            return row.run(lab, site, site.environment)
    finally:
        lab.cluster.resume()


def commit_not_confirmed(lab: Lab) -> Measured:
    """Cut the connection between COMMIT and its answer, again and again."""
    with lab.site("postgresql") as site:
        proxy = CuttingProxy(lab.cluster, site.port)
        environment = site.environment | {"PGPORT": str(site.port), "PGSSLMODE": "disable"}
        process = start(site, "wrap", 20, 100, environment=environment)
        try:
            until_ready(process)
            proxy.cut_left = 5
            go(process)
            figures = finish(process)
        finally:
            servers.kill(process)
            proxy.close()
        return Measured(
            load="20 x 100 queries",
            accounts=accounts(site.store),
            ring=ring(site.store),
            figures=figures | {"cut": proxy.cut},
        )


def new_release_behind_pgbouncer(lab: Lab) -> Measured:
    """Let one session be shared by two releases: the tables have one column more while it is used."""
    with lab.site("postgresql") as site, pooling(lab.cluster) as port:
        environment = site.environment | {"PGPORT": str(port)}
        row = Program(
            name="across_release", arguments=(20, 100), short=(10, 100), processes=2, during=add_columns
        )
        return row.run(lab, site, environment)


def add_columns(site: Site) -> None:
    for table in ("sqllogs_query", "sqllogs_unit", "sqllogs_statistic", "sqllogs_process"):
        site.store.execute(f"ALTER TABLE {table} ADD COLUMN later integer NOT NULL DEFAULT 5")


def celery_stopped(lab: Lab) -> Measured:
    """Stop a prefork worker right after its last task."""
    tasks = 50 if lab.short else 200
    with lab.site("sqlite") as site:
        done = site.folder / "done"
        with (
            working(site.folder, site.environment, "--loglevel=WARNING") as worker,
            sending(site.folder) as send,
        ):
            for _ in range(tasks):
                send("ask", 3)
            send("ask", 1, str(done))
            until_s = time.monotonic() + TIMEOUT_S
            while not done.exists() and time.monotonic() < until_s:
                time.sleep(0.05)
            worker.terminate()
            worker.wait(60)
        return Measured(
            load=f"{tasks} tasks x 3 queries", accounts=accounts(site.store), ring=ring(site.store)
        )


@contextmanager
def backend(kind: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Give the URL of an OTLP backend, and how many log records it has."""
    if kind == "away":
        yield f"http://127.0.0.1:{free_port()}/v1/logs", lambda: 0
        return
    with receiving() as receiver:
        receiver.status = 302 if kind == "redirects" else 200
        yield f"{receiver.url}/v1/logs", lambda: len(receiver.logs)


def otlp(kind: str, count: int = 1_200) -> Callable[[Lab], Measured]:
    """Return a row: a program sends some queries and ends, with such a backend."""

    def run(lab: Lab) -> Measured:
        with backend(kind) as (url, received), lab.site("sqlite", OTLP=url) as site:
            row = Program(name="send_and_end", arguments=(count,))
            measured = row.run(lab, site, site.environment)
            time.sleep(0.5)
            exported = sum((one.exported for one in measured.accounts or ()), Counter())
            measured.figures |= {"received": received(), "exported": dict(exported)}
            server = servers.Server(
                ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--no-control-socket"),
                site.environment,
                site.folder / "server.log",
            )
            try:
                server.wait("/healthz")
                headers = {"Authorization": f"Bearer {site.token}"}
                health = requests.get(f"{server.url}/sql-logs/health/", headers=headers, timeout=30).json()
            finally:
                servers.kill(server.process)
            measured.figures |= {"status": health["status"]}
            return measured

    return run
