"""Ports for servers are free, and not of the kind that clients are given."""

import socket

from tests.ports import FIRST, LAST, SHARES, SHARES_OF_MATRIX, ports_of_worker


def test_port_is_free_and_below_those_of_clients(free_port):
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert 1024 < server.getsockname()[1] < 32_768


def test_workers_of_a_parallel_run_have_ports_of_their_own(monkeypatch):
    monkeypatch.delenv("FIRST_SHARE_OF_PORTS", raising=False)
    found = []
    for worker in range(SHARES):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        found += ports_of_worker()
    assert found == sorted(set(found))
    assert FIRST <= found[0] <= found[-1] <= LAST


def test_matrix_beside_the_tests_has_ports_of_its_own(monkeypatch):
    found = []
    for first in (0, SHARES - SHARES_OF_MATRIX):
        monkeypatch.setenv("FIRST_SHARE_OF_PORTS", str(first))
        for worker in range(SHARES_OF_MATRIX):
            monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
            found += ports_of_worker()
    assert len(found) == len(set(found))
