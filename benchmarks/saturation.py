"""What a busy site loses: requests per second and p99 of gunicorn with two workers at saturation.

The servers of all variants run at once and get requests in turn, for a few seconds each, in alternating
rounds; a ratio is that to the server that nothing watches, in the same round. The client runs on the same
cores.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

from benchmarks.report import at_least, at_most, table
from tests.postgresql import Cluster
from tests.servers import ROOT, Server

WORKERS = 2
CONNECTIONS = 4
ROUNDS, SECONDS = (3, 1.0) if "BENCHMARKS_SHORT" in os.environ else (10, 3.0)
VARIANTS = ("nothing", "sqllogs", "OpenTelemetry dbapi", "django-silk")
PAGES = {
    "SQLite": ("/thirty-gets/", "30 get() on SQLite", 0.93),
    "PostgreSQL": ("/twenty-queries/", "20 queries and a template on PostgreSQL", 0.97),
}
"""With the requests/s to keep, of those without."""
P99_MAX = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a server answered in one turn."""

    requests_s: float
    p99_ms: float
    cpu_ms: float
    """CPU of its workers, per request."""


def main() -> None:
    for database, (path, title, kept) in PAGES.items():
        with ExitStack() as stack:
            databases = _databases(database, stack)
            servers = {
                name: stack.enter_context(_serving(name, databases.get(name, {}), path)) for name in VARIANTS
            }
            rounds = [_round(servers, path, number) for number in range(ROUNDS)]
        _print(title, rounds, kept)


def _databases(database: str, stack: ExitStack) -> dict[str, dict[str, Any]]:
    """Return the entries of DATABASES by variant; none are files of SQLite."""
    if database == "SQLite":
        return {}
    cluster = stack.enter_context(Cluster())
    cluster.execute("ALTER SYSTEM SET log_statement = 'none'")
    cluster.execute("SELECT pg_reload_conf()")
    found = {}
    for number, name in enumerate(VARIANTS):
        found[name] = {"default": cluster.create_database(f"site_{number}") | {"CONN_MAX_AGE": 600}}
        if name == "sqllogs":
            found[name]["sqllogs"] = cluster.create_database("sqllogs")
    return found


@contextmanager
def _serving(variant: str, databases: dict[str, Any], path: str) -> Iterator[Server]:
    environment = prepare(variant, databases)
    log_path = Path(os.environ["BENCHMARKS_DIR"], "server.log")
    arguments = [
        "-m", "gunicorn", "benchmarks.project_wsgi", "--bind={address}", f"--workers={WORKERS}",
        "--no-control-socket",
    ]  # fmt: skip
    server = Server(arguments, environment, log_path)
    try:
        server.wait(path)
        yield server
    finally:
        server.stop()


def prepare(variant: str, databases: dict[str, Any]) -> dict[str, str]:
    """Create and fill the databases of the project; return the environment of its processes."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "benchmarks.project",
        "WATCHED_BY": variant,
        "SERVERS": json.dumps(databases, default=str),
    }
    for command in (("migrate",), ("migrate", "--database=sqllogs"), ("shell", "--command", FILL)):
        if variant == "sqllogs" or "--database=sqllogs" not in command:
            _run("-m", "django", *command, environment=environment)
    return environment


FILL = """
from django.contrib.auth.models import User
from benchmarks.project_urls import USERS
User.objects.bulk_create(
    (User(pk=pk, username=f"user{pk}") for pk in range(1, USERS + 1)), ignore_conflicts=True
)
"""


def _run(*arguments: str, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )


def _round(servers: dict[str, Server], path: str, number: int) -> dict[str, Load]:
    names = list(servers)
    turned = names[number % len(names) :] + names[: number % len(names)]
    return {name: _load(servers[name], path) for name in turned}


def _load(server: Server, path: str) -> Load:
    """Send requests over some connections for a while, each after the answer to the one before."""
    _requests(server, path, time.perf_counter() + SECONDS / 5, [])  # caches, and queues of the one before
    took_s: list[float] = []
    before_s, started_s = _cpu_s(server.process.pid), time.perf_counter()
    threads = [
        Thread(target=_requests, args=(server, path, started_s + SECONDS, took_s)) for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - started_s
    cpu_s = _cpu_s(server.process.pid) - before_s
    return Load(
        requests_s=len(took_s) / elapsed_s,
        p99_ms=sorted(took_s)[len(took_s) * 99 // 100] * 1000,
        cpu_ms=cpu_s / len(took_s) * 1000,
    )


def _requests(server: Server, path: str, until_s: float, took_s: list[float]) -> None:
    """Send requests; a bare socket takes less of the cores that the servers need than an HTTP client."""
    request = f"GET {path} HTTP/1.1\r\nHost: {server.address}\r\nConnection: close\r\n\r\n".encode()
    host, port = server.address.split(":")
    while (started_s := time.perf_counter()) < until_s:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(request)
            answer = connection.recv(1 << 16)
            while connection.recv(1 << 16):
                pass
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{answer[:200]!r}\n{server.output}")
        took_s.append(time.perf_counter() - started_s)


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a server and its workers so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for process in (pid, *children):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / os.sysconf("SC_CLK_TCK")


def _print(title: str, rounds: list[dict[str, Load]], kept: float) -> None:
    rows = []
    for name in VARIANTS:
        loads, bases = [one[name] for one in rounds], [one["nothing"] for one in rounds]
        rate = median(load.requests_s / base.requests_s for load, base in zip(loads, bases, strict=True))
        p99 = median(load.p99_ms / base.p99_ms for load, base in zip(loads, bases, strict=True))
        cpu = median(load.cpu_ms / base.cpu_ms for load, base in zip(loads, bases, strict=True))
        is_ours = name == "sqllogs"
        rows.append(
            (
                name,
                median(load.requests_s for load in loads),
                rate,
                at_least(rate, kept) if is_ours else "",
                median(load.p99_ms for load in loads),
                p99,
                at_most(p99, P99_MAX) if is_ours else "",
                cpu,
            )
        )
    table(
        f"At saturation: {title}, gunicorn with {WORKERS} workers, {len(rounds)} rounds of {SECONDS:g} s",
        (
            "watched by", "requests/s", "of without", "goal", "p99 ms", "of without", "goal",
            "CPU a request, of without",
        ),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
