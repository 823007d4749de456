"""Serve the metrics of a site on one port of this machine, from one of its processes.

Every process of a server has a thread that tries for the exporter's lock: the one that has it
serves, and when that process ends, however it does, the system frees the lock for the next.
Started by the middleware's construction, which only servers do, never by a management command.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterable
from threading import Lock, Thread
from typing import TYPE_CHECKING

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from sqllogs.metrics import multiprocess

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
"""Not the world's: /metrics on the site, with a token, is for other machines."""
LOOPBACK_HOSTS = ("localhost", ADDRESS, "[::1]")
TURN_S = 1.0
"""How often the lock is tried for. To wait for it would take a call that blocks, which under
gevent, where a thread is a greenlet, would block all of the worker."""
RETRY_S = 5.0
SETTLE_S = 0.5
"""A process that forks within this time is gunicorn's master: its workers go first."""
AFTER_FORK_S = 5.0
FORK_TIMEOUT_S = 1.0
"""How long a fork waits, at most, for a scrape: a thread that imports or holds a lock would
leave the child with an import or a lock that never ends."""


class MetricsServer:
    """The one thread of this process that serves, or waits for its turn to."""

    def __init__(self, port: int, busy: "tuple[Lock, ...]") -> None:
        self._port = port
        self._busy = busy
        self._begin()

    def _begin(self) -> None:
        self._starting = Lock()
        self._not_before_s = time.monotonic() + SETTLE_S
        self._paused: list[Lock] = []
        self._server: WSGIServer | None = None
        self._held = -1

    def start(self) -> None:
        """Start the thread, once in a process."""
        if self._starting.acquire(blocking=False):
            Thread(target=self._run, name="sqllogs-exporter", daemon=True).start()

    def before_fork(self) -> None:
        """Let no scrape be under way while this process forks."""
        until_s = time.monotonic() + FORK_TIMEOUT_S
        self._paused = [
            lock for lock in self._busy if lock.acquire(timeout=max(0, until_s - time.monotonic()))
        ]

    def after_fork_in_parent(self) -> None:
        """Go on, and let the child serve if nobody does yet."""
        self._not_before_s = time.monotonic() + AFTER_FORK_S
        self._release()

    def after_fork_in_child(self) -> None:
        """Leave port and lock to the parent, and wait for a turn of one's own."""
        self._release()
        server, held = self._server, self._held
        self._begin()
        if server is not None:
            server.socket.close()  # else the port stays taken when the parent ends
        if held >= 0:
            os.close(held)
        self.start()

    def _release(self) -> None:
        for lock in self._paused:
            lock.release()
        self._paused = []

    def _run(self) -> None:
        shared = multiprocess.slots
        if shared is None:
            return  # a system check says so
        while (left_s := self._not_before_s - time.monotonic()) > 0:
            time.sleep(left_s)
        self._held = os.open(shared.folder / "exporter.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while not _is_ours(self._held):
            time.sleep(TURN_S)
        is_told = False
        while not self._bind():
            if not is_told:
                is_told = True
                logger.warning(
                    "Port %s is in use by another program: metrics are not served there, the site runs all "
                    "the same. Tried again every %g s; SQLLOGS['METRICS_PORT'] chooses another.",
                    self._port,
                    RETRY_S,
                )
            time.sleep(RETRY_S)
        if self._server is not None:
            self._server.serve_forever()

    def _bind(self) -> bool:
        """Bind the port, without answering yet; return whether it was free."""
        from wsgiref.simple_server import WSGIRequestHandler, make_server

        from prometheus_client import make_wsgi_app
        from prometheus_client.exposition import ThreadingWSGIServer

        from sqllogs.metrics.collector import registry

        class SilentHandler(WSGIRequestHandler):
            def log_message(self, format: str, *arguments: object) -> None:
                """A scrape every few seconds would fill the site's log."""

        app = refuse_foreign_hosts(make_wsgi_app(registry()))
        try:
            self._server = make_server(ADDRESS, self._port, app, ThreadingWSGIServer, SilentHandler)
        except OSError:
            return False
        logger.info("Metrics are at http://%s:%s/metrics", ADDRESS, self._port)
        return True


def refuse_foreign_hosts(app: "WSGIApplication") -> "WSGIApplication":
    """Wrap a WSGI application, so that a web page cannot read it through DNS rebinding.

    A page whose name now resolves to 127.0.0.1 is of the same origin as this port for a browser, which
    still sends that name as Host. The names in ALLOWED_HOSTS are accepted, for a proxy or a tunnel;
    "*" is not, because it would accept the page's name too. A request without Host comes from no browser.
    """

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        domain, _ = split_domain_port(environ.get("HTTP_HOST", LOOPBACK_HOSTS[0]))
        hosts = [*LOOPBACK_HOSTS, *(host for host in settings.ALLOWED_HOSTS if host != "*")]
        if domain and validate_host(domain, hosts):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Invalid Host header: use localhost, or add the name to ALLOWED_HOSTS.\n"]

    return guarded


def _is_ours(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


exporter: MetricsServer | None = None
"""That of this process; None where it is no server, or no port is set."""


def serve(port: int) -> None:
    """Serve or wait for a turn, in a thread; called when a server, or Celery's worker, is ready to work."""
    global exporter
    if not port or multiprocess.slots is None:
        return
    if exporter is None:
        # Imported here and not in the thread: see FORK_TIMEOUT_S.
        from sqllogs.metrics import collector

        exporter = MetricsServer(port, (collector.collecting, collector.asking))
        os.register_at_fork(
            before=exporter.before_fork,
            after_in_parent=exporter.after_fork_in_parent,
            after_in_child=exporter.after_fork_in_child,
        )
    exporter.start()
