"""A port for a server that a test starts."""

import random
import socket


def free_port():
    """Return a free port below 32768: a higher one may be a client's by the time it is used."""
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
