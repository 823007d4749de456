"""Ports for the servers that tests start; without pytest, which switches capture off in a process."""

import os
import random
import socket
from contextlib import suppress

FIRST, LAST = 20_000, 32_767
"""Below the ports of clients: one of those may be taken by the time a server binds to it."""
SHARES = 8
SHARES_OF_MATRIX = 4
"""The last ones, since `make test` may run beside it."""


def ports_of_worker():
    """Return this process's ports: no other pytest-xdist worker takes one before our server binds to it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    worker += int(os.environ.get("FIRST_SHARE_OF_PORTS", "0"))
    count = (LAST + 1 - FIRST) // SHARES
    first = FIRST + worker % SHARES * count
    return range(first, first + count)


def free_port():
    """Return a port of 127.0.0.1 that nothing listens on."""
    while True:
        port = random.choice(ports_of_worker())
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
