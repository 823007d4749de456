"""Servers on loopback that run in a thread of this process for the time of a block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from threading import Thread
from typing import Any

from tests.ports import free_port


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Run a server."""
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(wait: Callable[[], object]) -> Iterator[int]:
    """Answer HTTP requests with an empty 200 after a call of `wait`; yield the port."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wait()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    port = free_port()
    with serving(ThreadingHTTPServer(("127.0.0.1", port), Service)):
        yield port
