"""How far the duration of a request's row is from what its client measures, over a keep-alive connection.

gunicorn and uvicorn answer each kind of request in turn. The client is a bare socket: what it measures ends
with the last byte, and has the server's own work in it, its queue of connections, parsing and sending, which
no middleware sees. A client that goes away is one of uvicorn's only: a WSGI application does not notice.
"""

import os
import socket
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from benchmarks.report import at_least, table
from benchmarks.saturation import prepare
from tests.servers import Server

REQUESTS = 50 if "BENCHMARKS_SHORT" in os.environ else 150
"""Of each kind, by each server."""
WITHIN_MS = 2.0
SHARE_MIN = 100.0
CANCELLED_AFTER_S = 0.02
SERVERS = {
    "gunicorn": (
        "-m", "gunicorn", "benchmarks.project_wsgi", "--bind={address}", "--worker-class=gthread",
        "--threads=2", "--keep-alive=60", "--no-control-socket",
    ),
    "uvicorn": (
        "-m", "uvicorn", "--factory", "benchmarks.project_wsgi:asgi", "--port={port}",
        "--log-level=warning", "--timeout-keep-alive=60",
    ),
}  # fmt: skip
CANCELLED = "client goes away"
KINDS = {
    "sync, 30 queries": ("/thirty-gets/", 200),
    "async": ("/asynchronous/", 200),
    "streamed": ("/streamed/", 200),
    "streamed, async": ("/streamed-async/", 200),
    "answers 500": ("/failing/", 500),
    "raises": ("/raising/", 500),
    "without SQL": ("/without-sql/", 200),
    CANCELLED: ("/sleeping/", 0),
}
"""Each with its path and status, 0 if it is cancelled."""


def main() -> None:
    rows = [row for name in SERVERS for row in _rows(name)]
    table(
        f"What the client measures beyond the row's duration, {REQUESTS} requests each, ms",
        ("server", "requests", "least", "p50", "p95", "p99", "most", f"within {WITHIN_MS:g} ms, %", "goal"),
        rows,
    )


def _rows(name: str) -> Iterator[tuple[object, ...]]:
    kinds = [kind for kind in KINDS if kind != CANCELLED or name == "uvicorn"]
    with _serving(name) as server, _connected(server) as connection:
        for kind in kinds:
            _send(connection, server, kind, "")  # imports and caches
        seen = [_send(connection, server, kind, uuid4().hex) for kind in kinds * REQUESTS]
    durations = _durations()
    surplus: defaultdict[str, list[float]] = defaultdict(list)
    for kind, request_id, elapsed_ms in seen:
        # Django may see that a client has gone before it has called the first middleware.
        if request_id in durations or kind != CANCELLED:
            surplus[kind].append(elapsed_ms - durations[request_id])
    for kind in kinds:
        found = sorted(surplus[kind])
        points = [found[len(found) * percent // 100] for percent in (0, 50, 95, 99)]
        share = 100 * sum(abs(ms) <= WITHIN_MS for ms in found) / len(found)
        yield name, kind, *points, found[-1], share, at_least(share, SHARE_MIN)


@contextmanager
def _serving(name: str) -> Iterator[Server]:
    environment = prepare("sqllogs", {})
    server = Server(SERVERS[name], environment, Path(os.environ["BENCHMARKS_DIR"], "server.log"))
    try:
        server.wait("/without-sql/")
        yield server
    finally:
        server.stop()


@contextmanager
def _connected(server: Server) -> Iterator[socket.socket]:
    with _connection(server) as connection:
        yield connection


def _connection(server: Server) -> socket.socket:
    host, port = server.address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _send(connection: socket.socket, server: Server, kind: str, request_id: str) -> tuple[str, str, float]:
    path, status = KINDS[kind]
    request = f"GET {path} HTTP/1.1\r\nHost: {server.address}\r\nX-Request-ID: {request_id}\r\n\r\n".encode()
    if not status:
        return kind, request_id, _cancel(server, request)
    begin_s = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(1 << 16)
    while not _is_whole(answer):
        answer += connection.recv(1 << 16)
    elapsed_ms = 1000 * (time.perf_counter() - begin_s)
    if not answer.startswith(f"HTTP/1.1 {status} ".encode()):
        raise RuntimeError(f"{answer[:200]!r}\n{server.output}")
    return kind, request_id, elapsed_ms


def _cancel(server: Server, request: bytes) -> float:
    """Send a request over a connection of its own, and close that before there is an answer."""
    with _connection(server) as connection:
        begin_s = time.perf_counter()
        connection.sendall(request)
        time.sleep(CANCELLED_AFTER_S)
    return 1000 * (time.perf_counter() - begin_s)


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    _, found, length = head.lower().partition(b"\r\ncontent-length: ")
    return len(body) >= int(length.split(b"\r\n")[0]) if found else body.endswith(b"0\r\n\r\n")


def _durations() -> dict[str, float]:
    """Return the durations of the rows by request id."""
    path = Path(os.environ["BENCHMARKS_DIR"], "sqllogs", "sqllogs.sqlite3")
    with closing(sqlite3.connect(path)) as store:
        return dict(store.execute("SELECT request_id, duration_ms FROM sqllogs_unit WHERE kind = 'request'"))


if __name__ == "__main__":
    main()
