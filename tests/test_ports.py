"""Ports for servers are free, and not of the kind that clients are given."""

import socket

from tests.ports import FIRST, LAST, SHARES, ports_of_worker


def test_port_is_free_and_below_those_of_clients(free_port):
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert 1024 < server.getsockname()[1] < 32_768


def test_workers_of_a_parallel_run_have_ports_of_their_own(monkeypatch):
    found = []
    for worker in range(SHARES):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        found += ports_of_worker()
    assert found == sorted(set(found))
    assert FIRST <= found[0] <= found[-1] <= LAST
