"""Let the processes of a site share one folder of metrics, each in a numbered slot, and one of them serve it.

`share` is called in the settings, `slot` by any thread that creates the first metric. Used by
`sqllogs.metrics.sink` and prometheus_client for the names of their files.

Each server process has a thread that tries to lock a file: the holder serves the metrics on one port of this
machine, and when its process ends or is killed, the system frees the lock for the next. Fed by
`sqllogs.metrics.collector`. Started when the middleware is constructed, which servers do and management
commands do not.
"""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from sqllogs import guard, threads

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

ENVIRONMENT = "PROMETHEUS_MULTIPROC_DIR"
RESERVED_BYTES = 1 << 20
"""Size of each file that prometheus_client maps into memory, enough for some 7,000 series. It would create
sparse files, and writing to a hole kills the process (SIGBUS) when the disk is full."""
RESERVED = ("counter", "histogram")
FILE_SUFFIXES = (".db", ".json", ".lock", ".new")


class Slots:
    """The shared folder, and the slot of this process.

    prometheus_client names files by process id, so each dead worker would leave files behind. A slot is a
    locked file, which the system frees when the process ends in any way. The next process continues the
    counts: no sum decreases, and there are never more files than there were processes at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reset()

    def _reset(self) -> None:
        self._number: int | None = None
        self._lock_file = -1
        self._claiming = threads.RLock()

    def slot(self) -> int:
        """Return the number of this process, unique among live processes; raise OSError."""
        if self._number is None:
            with self._claiming:
                if self._number is None:
                    self._number = self._claim()
        return self._number

    def leave(self) -> None:
        """Leave the slot to the parent after a fork."""
        if self._lock_file >= 0:
            os.close(self._lock_file)  # the parent keeps the lock: its descriptor is open
        self._reset()

    def live(self) -> set[int]:
        """Return the slots of live processes."""
        with self._exclusive():
            return self._live()

    def _claim(self) -> int:
        with self._exclusive():
            if not self._live():
                self._clean()
            for number in count():
                if (lock_file := _try_lock(self._lock_path(number))) is None:
                    continue
                try:
                    self._prepare(number)
                except OSError:
                    os.close(lock_file)
                    raise
                self._lock_file = lock_file
                return number
        raise AssertionError  # count() has no end

    def _prepare(self, number: int) -> None:
        for path in self.folder.glob(f"gauge_live*_{number}.db"):
            path.unlink(missing_ok=True)
        for kind in RESERVED:
            _reserve(self.folder / f"{kind}_{number}.db")

    def _clean(self) -> None:
        """Start from zero when no other process runs: series of old code must not stay forever."""
        for pattern in ("*.db", "*.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _live(self) -> set[int]:
        live = set()
        for path in self.folder.glob("slot-*.lock"):
            number = int(path.stem.removeprefix("slot-"))
            # The system frees a lock when its process ends, whether it exits or is killed.
            if number == self._number or (free := _try_lock(path)) is None:
                live.add(number)
            else:
                os.close(free)
        return live

    def _lock_path(self, number: int) -> Path:
        return self.folder / f"slot-{number}.lock"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one process at a time look for a slot, which takes well under a millisecond.

        Otherwise two that start at once would each find no live process, and one would delete the files of
        the other.
        """
        lock_file = os.open(self.folder / "door.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock_file)  # releases the lock


def _reserve(path: Path) -> None:
    """Fill a file with zeros, which mean no series to prometheus_client; raise OSError on a full disk."""
    with open(path, "ab", buffering=0, opener=_open_private) as file:
        if (missing := RESERVED_BYTES - file.tell()) > 0 and file.write(bytes(missing)) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_private_folder(path: Path) -> None:
    """Create the folder for its owner only, because prometheus_client creates files with the umask's mode.

    A folder created by an earlier version becomes private too. One with other files is not changed: a web
    server may need access to a socket in it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_own = path.stat().st_uid == os.geteuid()
    if is_own and all(file.suffix in FILE_SUFFIXES for file in path.iterdir()):
        path.chmod(0o700)


def _try_lock(path: Path) -> int | None:
    """Open and lock a file; return None if another process holds the lock."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if _lock_if_free(file):
        return file
    os.close(file)
    return None


def _lock_if_free(file: int) -> bool:
    """Lock an open file; return False if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


slots: Slots | None = None
"""The slots of this process; None if it shares no folder."""


def share(folder: str | os.PathLike[str]) -> None:
    """Sum metrics over all processes that share a folder. Call it in the settings, before any metric exists.

    Without prometheus_client, or if the folder is not writable, each process has its own metrics.
    """
    global slots
    path = Path(folder)
    if slots is not None and slots.folder == path:
        return
    try:
        from prometheus_client import values
    except ImportError:
        return
    try:
        _make_private_folder(path)
        made = Slots(path)
        # Now, because at the first metric an unusable folder would raise into the application.
        made.slot()
    except OSError as exc:
        logger.warning("Metrics are not shared between processes: %s", exc)
        return
    slots = made
    os.environ[ENVIRONMENT] = str(path)
    # prometheus_client names its files by slot then, as it documents for uWSGI's worker ids.
    values.ValueClass = values.MultiProcessValue(process_identifier=made.slot)  # type: ignore[no-untyped-call]
    os.register_at_fork(after_in_child=made.leave)


ADDRESS = "127.0.0.1"
"""Other machines use /metrics of the site, with a token."""
LOOPBACK_HOSTS = ("localhost", ADDRESS, "[::1]")
TURN_S = 1.0
"""How often to try the lock. A blocking call would block a whole gevent worker: its threads are greenlets."""
RETRY_S = 5.0
"""How often to try a port that another program uses."""
SETTLE_S = 0.5
"""A process that forks within this time is gunicorn's master, whose workers should serve instead."""
AFTER_FORK_S = 5.0
"""How long a process that has forked lets its child take the lock first."""
FORK_TIMEOUT_S = 1.0
"""How long a fork waits at most for a scrape: if a thread imports or holds a lock during the fork, the
child's copy of that lock is never released."""


class MetricsServer:
    """The thread of this process that serves metrics, or waits until it can."""

    def __init__(self, port: int, scrapes: tuple[threads.SerialCalls, ...]) -> None:
        self._port = port
        self._scrapes = scrapes
        self._reset()

    def _reset(self) -> None:
        self._starting = threads.Lock()
        self._not_before_s = time.monotonic() + SETTLE_S
        self._server: WSGIServer | None = None
        self._lock_file = -1

    def start(self) -> None:
        """Start the thread, once per process."""
        if self._starting.acquire(blocking=False):
            try:
                Thread(target=self._run, name="sqllogs-exporter", daemon=True).start()
            except RuntimeError as exc:  # no more threads, or none that are daemons: the site starts anyway
                if guard.is_interruption(exc):
                    raise
                guard.fault("exporter", exc)

    def before_fork(self) -> None:
        """Wait until no scrape is running."""
        until_s = time.monotonic() + FORK_TIMEOUT_S
        for scrape in self._scrapes:
            scrape.pause(max(0, until_s - time.monotonic()))

    def after_fork_in_parent(self) -> None:
        """Continue, but let the child serve if no process serves yet."""
        self._not_before_s = time.monotonic() + AFTER_FORK_S
        for scrape in self._scrapes:
            scrape.resume()

    def after_fork_in_child(self) -> None:
        """Leave port and lock to the parent, and start a new thread that waits for them."""
        server, lock_file = self._server, self._lock_file
        self._reset()
        if server is not None:
            server.socket.close()  # otherwise the port stays in use after the parent's end
        if lock_file >= 0:
            os.close(lock_file)
        if not threads.is_fork_of_thread():
            self.start()

    def _run(self) -> None:
        while True:
            try:
                return self._serve()
            except OSError as exc:  # no more descriptors, a folder that is gone, a file system without locks
                guard.fault("exporter", exc)
                time.sleep(RETRY_S)

    def _serve(self) -> None:
        shared = slots
        if shared is None:
            return  # check sqllogs.W030 reports it
        while (left_s := self._not_before_s - time.monotonic()) > 0:
            time.sleep(left_s)
        # In the attribute before it is locked: if this process forks in between, the child must find its
        # copy and close it, or it would hold the lock too.
        if self._lock_file < 0:
            self._lock_file = os.open(shared.folder / "exporter.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while not _lock_if_free(self._lock_file):
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
        # Not at the top, for processes that serve nothing. `serve` has imported all with the collector.
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

    If the name of an attacker's page is changed to resolve to 127.0.0.1, a browser lets the page read this
    port, but still sends that name as Host. The names in ALLOWED_HOSTS are accepted, for a proxy or a tunnel;
    "*" is not, because it would accept the page's name too. A request without Host comes from no browser.
    """

    # Not at the top, because the project's settings import this module.
    from django.conf import settings
    from django.http.request import split_domain_port, validate_host

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        domain, _ = split_domain_port(environ.get("HTTP_HOST", LOOPBACK_HOSTS[0]))
        hosts = [*LOOPBACK_HOSTS, *(host for host in settings.ALLOWED_HOSTS if host != "*")]
        if domain and validate_host(domain, hosts):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Invalid Host header: use localhost, or add the name to ALLOWED_HOSTS.\n"]

    return guarded


exporter: MetricsServer | None = None
"""The server of this process; None if no port is set or the process is no server."""


def serve(port: int) -> None:
    """Start the thread that serves; called when a web server or a Celery worker is ready."""
    global exporter
    if not port or slots is None:
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
