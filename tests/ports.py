"""Ports for the servers that tests start."""

import random
import socket
from contextlib import suppress

import pytest

FIRST, LAST = 20_000, 32_767
"""Below the ports of clients: one of those may be taken by the time a server binds to it."""


def free_port():
    """Return a port of 127.0.0.1 that nothing listens on."""
    while True:
        port = random.randint(FIRST, LAST)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(name="free_port")
def _free_port():
    return free_port
