"""Serve the metrics of a site on one port of this machine, from one of its processes.

Each server process has a thread that tries to lock a file: the holder serves, and when its process ends
or is killed, the system frees the lock for the next. Fed by `sqllogs.metrics.collector`. Started when
the middleware is constructed, which servers do and management commands do not.
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
"""Other machines use /metrics of the site, with a token."""
LOOPBACK_HOSTS = ("localhost", ADDRESS, "[::1]")
TURN_S = 1.0
"""How often to try the lock. A blocking call would block a whole gevent worker: its threads are greenlets."""
RETRY_S = 5.0
SETTLE_S = 0.5
"""A process that forks within this time is gunicorn's master, whose workers should serve instead."""
AFTER_FORK_S = 5.0
FORK_TIMEOUT_S = 1.0
"""How long a fork waits at most for a scrape: if a thread imports or holds a lock during the fork, the
child's copy of that lock is never released."""


class MetricsServer:
    """The thread of this process that serves metrics, or waits until it can."""

    def __init__(self, port: int, scrape_locks: "tuple[Lock, ...]") -> None:
        self._port = port
        self._scrape_locks = scrape_locks
        self._reset()

    def _reset(self) -> None:
        self._starting = Lock()
        self._not_before_s = time.monotonic() + SETTLE_S
        self._locks_held: list[Lock] = []
        self._server: WSGIServer | None = None
        self._lock_file = -1

    def start(self) -> None:
        """Start the thread, once per process."""
        if self._starting.acquire(blocking=False):
            Thread(target=self._run, name="sqllogs-exporter", daemon=True).start()

    def before_fork(self) -> None:
        """Wait until no scrape is running."""
        until_s = time.monotonic() + FORK_TIMEOUT_S
        self._locks_held = [
            lock for lock in self._scrape_locks if lock.acquire(timeout=max(0, until_s - time.monotonic()))
        ]

    def after_fork_in_parent(self) -> None:
        """Continue, but let the child serve if no process serves yet."""
        self._not_before_s = time.monotonic() + AFTER_FORK_S
        self._release()

    def after_fork_in_child(self) -> None:
        """Leave port and lock to the parent, and start a new thread that waits for them."""
        self._release()
        server, lock_file = self._server, self._lock_file
        self._reset()
        if server is not None:
            server.socket.close()  # otherwise the port stays in use after the parent's end
        if lock_file >= 0:
            os.close(lock_file)
        self.start()

    def _release(self) -> None:
        for lock in self._locks_held:
            lock.release()
        self._locks_held = []

    def _run(self) -> None:
        shared = multiprocess.slots
        if shared is None:
            return  # check sqllogs.W030 reports it
        while (left_s := self._not_before_s - time.monotonic()) > 0:
            time.sleep(left_s)
        self._lock_file = os.open(shared.folder / "exporter.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while not _try_lock(self._lock_file):
            time.sleep(TURN_S)
        has_warned = False
        while not self._bind():
            if not has_warned:
                has_warned = True
                logger.warning(
                    "Port %s is in use by another program: metrics are not served, the site runs. "
                    "Trying again every %g s; set SQLLOGS['METRICS_PORT'] to use another port.",
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


def _try_lock(lock_file: int) -> bool:
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


exporter: MetricsServer | None = None
"""The server of this process; None if no port is set or the process is no server."""


def serve(port: int) -> None:
    """Start the thread that serves; called when a web server or a Celery worker is ready."""
    global exporter
    if not port or multiprocess.slots is None:
        return
    if exporter is None:
        # Imported here and not in the thread: see FORK_TIMEOUT_S.
        from sqllogs.metrics import collector

        exporter = MetricsServer(port, (collector.collecting, collector.querying))
        os.register_at_fork(
            before=exporter.before_fork,
            after_in_parent=exporter.after_fork_in_parent,
            after_in_child=exporter.after_fork_in_child,
        )
    exporter.start()
