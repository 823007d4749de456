"""Ports for servers are free, and not of the kind that clients are given."""

import socket


def test_port_is_free_and_below_those_of_clients(free_port):
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert 1024 < server.getsockname()[1] < 32_768
