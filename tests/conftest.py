"""Fixtures that start programs; one module for each kind of program."""

import os
import signal

pytest_plugins = [
    "sqllogs.pytest_plugin",
    "tests.ports",
    "tests.postgresql",
    "tests.browser",
    "tests.servers",
]


def pytest_configure():
    """End as after a Ctrl-C when SIGTERM comes, so that nothing that a fixture has started is left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
