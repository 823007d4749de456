"""One process of those that share a folder serves the metrics, as long as it lives."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import pytest
import requests
from prometheus_client import CollectorRegistry, Gauge

from sqllogs.metrics import collector, multiprocess
from sqllogs.metrics.multiprocess import MetricsServer, Slots, refuse_foreign_hosts
from sqllogs.threads import SerialCalls
from tests.ports import free_port
from tests.sqllogs.pipeline.test_writer import wait_until
from tests.sqllogs.recording import TIMEOUT_S


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A shared folder, of processes that do not wait for forks or for each other's turn."""
    monkeypatch.setattr(multiprocess, "slots", Slots(tmp_path))
    registry = CollectorRegistry()
    Gauge("sqllogs_test", "Stands for what the collector reads.", registry=registry).set(7)
    monkeypatch.setattr(collector, "registry", lambda: registry)
    for name in ("SETTLE_S", "AFTER_FORK_S", "TURN_S", "RETRY_S"):
        monkeypatch.setattr(multiprocess, name, 0.02)
    return tmp_path


@contextmanager
def serving(port, locks=()):
    """A server that has the port; it ends with the block."""
    one = MetricsServer(port, locks)
    one.start()
    one.start()  # a second request of the middleware
    try:
        wait_until(lambda: one._server is not None)
        yield one
    finally:
        one._server.shutdown()
        one._server.server_close()
        os.close(one._lock_file)


def get(port, host=None):
    headers = {"Host": host} if host else {}
    return requests.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=TIMEOUT_S)


def test_metrics_are_served_to_this_machine_alone(folder, settings):
    settings.ALLOWED_HOSTS = ["metrics.internal", "*"]
    port = free_port()
    with serving(port):
        assert "sqllogs_test 7.0" in get(port).text
        assert get(port, "metrics.internal").status_code == 200
        refused = get(port, "attacker.example")
        assert (refused.status_code, "ALLOWED_HOSTS" in refused.text) == (421, True)


def test_next_process_serves_when_the_first_has_ended(folder):
    ports = free_port(), free_port()
    following = MetricsServer(ports[1], ())
    with serving(ports[0]):
        following.start()
        time.sleep(0.1)
        assert following._server is None  # the lock is the first one's
    wait_until(lambda: following._server is not None)
    assert get(ports[1]).ok
    following._server.shutdown()
    following._server.server_close()
    os.close(following._lock_file)


def test_port_in_use_is_warned_of_once_and_tried_again(folder, caplog):
    port = free_port()
    one = MetricsServer(port, ())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        one.start()
        wait_until(lambda: "in use" in caplog.text)
        time.sleep(0.1)
        assert one._server is None
    wait_until(lambda: one._server is not None)
    assert get(port).ok
    one._server.shutdown()
    one._server.server_close()
    os.close(one._lock_file)
    assert caplog.text.count(f"Port {port} is in use by another program") == 1


def test_folder_that_is_gone_is_warned_of_and_tried_again(folder, caplog):
    moved = folder.rename(folder.with_name("moved"))
    one = MetricsServer(free_port(), ())
    one.start()
    wait_until(lambda: "exporter.lock" in caplog.text)
    moved.rename(folder)
    wait_until(lambda: one._server is not None)
    one._server.shutdown()
    one._server.server_close()
    os.close(one._lock_file)


def test_fork_waits_for_a_scrape_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(multiprocess, "FORK_TIMEOUT_S", 0.05)
    free, busy, go = SerialCalls(), SerialCalls(), SimpleQueue()
    one = MetricsServer(free_port(), (free, busy))
    with ThreadPoolExecutor(2) as executor:
        scrape = executor.submit(busy.call, lambda: go.get(timeout=TIMEOUT_S))
        wait_until(lambda: busy.is_busy)
        one.before_fork()
        other = executor.submit(free.call, int)
        time.sleep(0.02)
        assert not other.done()
        one.after_fork_in_parent()
        assert other.result(TIMEOUT_S) == 0
        assert not scrape.done()
        go.put(None)


def test_fork_leaves_port_and_lock_to_its_parent(folder):
    port = free_port()
    with serving(port) as one:
        child = MetricsServer(port, one._scrapes)
        # Copies of what a child of a fork has.
        child._server = type("Copy", (), {"socket": one._server.socket.dup()})
        child._lock_file = os.dup(one._lock_file)
        copies = child._server.socket, child._lock_file
        child._starting.acquire()
        child.after_fork_in_child()  # waits for the lock in a thread of its own
        assert copies[0].fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(copies[1])
        assert get(port).ok
        assert child._server is None
    wait_until(lambda: child._server is not None)
    child._server.shutdown()
    child._server.server_close()
    os.close(child._lock_file)


def test_process_that_shares_no_folder_serves_nothing(monkeypatch):
    monkeypatch.setattr(multiprocess, "slots", None)
    monkeypatch.setattr(multiprocess, "exporter", None)
    multiprocess.serve(free_port())
    assert multiprocess.exporter is None
    assert MetricsServer(free_port(), ())._run() is None


def test_server_is_made_once_and_follows_forks(folder, monkeypatch):
    registered = []
    monkeypatch.setattr(multiprocess, "exporter", None)
    monkeypatch.setattr(multiprocess.os, "register_at_fork", lambda **hooks: registered.append(sorted(hooks)))
    started = []
    monkeypatch.setattr(MetricsServer, "start", lambda one: started.append(one))
    for _ in range(2):
        multiprocess.serve(free_port())
    assert registered == [["after_in_child", "after_in_parent", "before"]]
    assert started == [multiprocess.exporter] * 2


def test_folder_that_cannot_be_used_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(multiprocess, "slots", None)
    (tmp_path / "file").touch()
    multiprocess.share(tmp_path / "file" / "below")
    assert multiprocess.slots is None
    assert "Metrics are not shared between processes" in caplog.text


def test_folder_is_shared_once(tmp_path, monkeypatch):
    from prometheus_client import values

    monkeypatch.setattr(multiprocess, "slots", None)
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv(multiprocess.ENVIRONMENT, "")
    registered = []
    monkeypatch.setattr(multiprocess.os, "register_at_fork", lambda **hooks: registered.append(sorted(hooks)))
    (tmp_path / "public").mkdir(mode=0o755)
    for _ in range(2):
        multiprocess.share(tmp_path / "public")
    assert multiprocess.slots.slot() == 0
    assert os.environ[multiprocess.ENVIRONMENT] == str(tmp_path / "public")
    assert registered == [["after_in_child"]]
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o700


def test_request_without_host_comes_from_no_browser():
    asked = []
    guarded = refuse_foreign_hosts(lambda environ, start_response: asked.append(environ) or [b"metrics"])
    assert guarded({}, None) == [b"metrics"]
    assert asked == [{}]
